#!/bin/sh
# tools/gates.sh lint|check|test
#
# Runs the gates of one level, all of them even after a failure, prints what each said and how long it
# took, and ends non-zero if any failed.
set -u
level=$1
cd "$(dirname "$0")/.." || exit 1
if [ -z "${MACHINE_LOCK_HELD:-}" ]; then
    exec tools/lock.sh shared tools/gates.sh "$level"
fi
cargo=${CARGO:-cargo}
failed=0
summary=
begin=$(date +%s)

# gate NAME COMMAND…
gate() {
    name=$1
    shift
    echo "=== $name: $*"
    from=$(date +%s)
    if "$@"; then
        verdict=ok
    else
        verdict="FAILED ($?)"
        failed=$((failed + 1))
    fi
    summary="$summary$(printf '  %-8s %5s s  %s' "$name" "$(($(date +%s) - from))" "$verdict")
"
}

rustdoc() {
    RUSTDOCFLAGS="-D warnings" "$cargo" doc --locked --workspace --no-deps --keep-going --quiet
}

# cargo_test ARGUMENTS…: the tests, then how many there were and the names of those that failed.
cargo_test() {
    log=$(mktemp) || return 1
    { "$cargo" test --locked --workspace --no-fail-fast "$@" 2>&1; echo $? >"$log.status"; } | tee "$log"
    awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
        END { printf "tests: %d passed, %d failed, %d ignored\n", passed, failed, ignored; exit passed == 0 }' "$log" ||
        { echo "tests: none passed"; echo 1 >"$log.status"; }
    grep -E '^test .* FAILED$' "$log"
    status=$(cat "$log.status")
    rm -f "$log" "$log.status"
    return "$status"
}

# The fuzz targets are a workspace of their own; without libFuzzer they are only type-checked.
fuzz_targets() {
    "$cargo" fmt --manifest-path tools/fuzz/Cargo.toml --check &&
        "$cargo" clippy --locked --manifest-path tools/fuzz/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}" \
            --no-default-features --quiet -- -D warnings
}

gate fmt "$cargo" fmt --all --check
gate clippy "$cargo" clippy --locked --workspace --all-targets --keep-going -- -D warnings
gate fuzz fuzz_targets
gate rustdoc rustdoc
# Without `-p`, so that it is built with the workspace's features as all else here, and nothing a second time.
gate tidy "$cargo" run --locked --quiet --bin tidy

case $level in
lint) ;;
check)
    gate unit cargo_test --lib --bins
    ;;
test)
    # All programs first: a test may start one that is not its own crate's. With the tests' targets, because these ask
    # for more features of some dependencies: without them, half of all would be built a second time.
    gate build "$cargo" build --locked --workspace --all-targets
    # The longest tests wait for calls to go on.
    RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
    export RUST_TEST_THREADS
    # The page's types; a browser looks at it among the tests (peers, the_page_shows_what_goes_on).
    gate web npm run --silent --prefix control/web types
    gate tests cargo_test
    gate demo "${CARGO_TARGET_DIR:-target}/debug/demo"
    ;;
*)
    echo "gates: unknown level '$level'; one of lint, check, test" >&2
    exit 2
    ;;
esac

echo "=== $level: summary ($(($(date +%s) - begin)) s)"
printf '%s' "$summary"
if [ "$failed" -gt 0 ]; then
    echo "$level: FAILED, $failed gate(s)"
    exit 1
fi
echo "$level: OK"
