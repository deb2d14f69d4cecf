#!/bin/sh
# tools/fuzz/run.sh SECONDS: runs every fuzz target for that long, starting from the committed corpora.
#
# What it finds interesting goes to target/fuzz/corpus, which stays between runs; a crash to
# target/fuzz/artifacts. Add what is worth keeping to the crate's corpus, where tests replay it.
set -u
seconds=$1
cd "$(dirname "$0")/../.." || exit 1
if ! rustup toolchain list 2>/dev/null | grep -q ^nightly; then
    echo "fuzz: no nightly compiler; install it with: rustup toolchain install nightly" >&2
    exit 1
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing; install it with: cargo install --locked cargo-fuzz" >&2
    exit 1
fi
# Cargo.lock must be right as committed; cargo-fuzz has no --locked of its own.
cargo +nightly fetch --quiet --locked --manifest-path tools/fuzz/Cargo.toml || exit 1

failed=
for source in tools/fuzz/fuzz_targets/*.rs; do
    name=$(basename "$source" .rs)
    grown=target/fuzz/corpus/$name
    artifacts=target/fuzz/artifacts/$name
    mkdir -p "$grown" "$artifacts"
    # libFuzzer writes to the first folder and only reads the others.
    committed=$(find . -type d -path "*/corpus/$name" -not -path './target/*' -not -path './*/target/*')
    echo "=== fuzz $name: $seconds s from" $committed
    # shellcheck disable=SC2086 # a list of folders without spaces
    cargo +nightly fuzz run --fuzz-dir tools/fuzz --target-dir target/fuzz/build "$name" \
        "$grown" $committed -- \
        "-max_total_time=$seconds" "-artifact_prefix=$artifacts/" -rss_limit_mb=1024 -timeout=5 -print_final_stats=1 ||
        failed="$failed $name"
done
if [ -n "$failed" ]; then
    echo "fuzz: FAILED:$failed; the inputs are in target/fuzz/artifacts" >&2
    exit 1
fi
echo "fuzz: OK"
