#!/bin/sh
# tools/fuzz/run.sh SECONDS: runs every fuzz target for that long, starting from the committed corpora.
#
# What it finds interesting goes to target/fuzz/corpus, which stays between runs; a crash to
# target/fuzz/artifacts. Add what is worth keeping to the crate's corpus, where tests replay it.
set -u
seconds=$1
cd "$(dirname "$0")/../.." || exit 1
# Coverage and the address sanitizer are for nightly compilers alone, unless the house's own is told that it is one.
export RUSTC_BOOTSTRAP=1
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: cargo-fuzz is missing; install it with: cargo install --locked cargo-fuzz" >&2
    exit 1
fi
# Cargo.lock must be right as committed; cargo-fuzz has no --locked of its own.
cargo fetch --quiet --locked --manifest-path tools/fuzz/Cargo.toml || exit 1

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
    cargo fuzz run --fuzz-dir tools/fuzz --target-dir target/fuzz/build "$name" \
        "$grown" $committed -- \
        "-max_total_time=$seconds" "-artifact_prefix=$artifacts/" -rss_limit_mb=1024 -timeout=5 -print_final_stats=1 ||
        failed="$failed $name"
done
if [ -n "$failed" ]; then
    echo "fuzz: FAILED:$failed; the inputs are in target/fuzz/artifacts" >&2
    exit 1
fi
echo "fuzz: OK"
