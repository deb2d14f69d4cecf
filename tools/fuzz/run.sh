#!/bin/sh
# tools/fuzz/run.sh SECONDS: runs every fuzz target for that long, from the committed corpora.
set -u
cd "$(dirname "$0")" || exit 1
seconds=$1
# The pinned compiler is a stable one; libFuzzer's instrumentation needs nightly.
unset RUSTUP_TOOLCHAIN
if ! rustup toolchain list 2>/dev/null | grep -q ^nightly; then
    echo "fuzz: no nightly compiler; install it with: rustup toolchain install nightly" >&2
    exit 1
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing; install it with: cargo install --locked cargo-fuzz" >&2
    exit 1
fi
