#!/bin/sh
# tools/release.sh
#
# Builds mediad, controld and mctl as they should be deployed, into target/dist: controld by a profile of its own
# work (PGO), with the code that calls run through laid together. Why, and what it gives: ARCHITECTURE.md.
#
#   1. controld that counts what it executes, in a folder of its own
#   2. registrations and calls, by `bench sip`
#   3. controld compiled for these counts
#
# Needs llvm-profdata of the compiler's LLVM: rustup's component llvm-tools, or Debian's package llvm-N.
set -eu
cd "$(dirname "$0")/.."
out=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
work=$out/profiled
host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')

# A profile is read only by the LLVM that its counters were compiled by.
find_profdata() {
    for candidate in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" "/usr/lib/llvm-$llvm/bin/llvm-profdata"; do
        [ -x "$candidate" ] && echo "$candidate" && return
    done
    command -v "llvm-profdata-$llvm"
}

if ! profdata=$(find_profdata); then
    echo "release: no llvm-profdata of LLVM $llvm, which this rustc was built with; install it by" >&2
    echo "release:   rustup component add llvm-tools    or    apt-get install llvm-$llvm" >&2
    exit 1
fi

# build_controld FLAGS: one target folder for both builds. With --target, what runs while building takes no flags.
build_controld() {
    CARGO_TARGET_DIR=$work RUSTFLAGS=$1 \
        "${CARGO:-cargo}" build --release --locked --workspace --bin controld --target "$host"
}

"${CARGO:-cargo}" build --release --locked --workspace --bin mediad --bin mctl --bin bench

rm -rf "$work/counts"
build_controld "-Cprofile-generate=$work/counts"
echo "release: calls to count by" >&2
"$out/release/bench" sip --quick --rounds 1 --only register --only plain --only signalling \
    --controld "$work/$host/release/controld" --mediad "$out/release/mediad" >"$work/bench.log" 2>&1 || {
    echo "release: the calls to count by failed; the last of $work/bench.log:" >&2
    tail -n 5 "$work/bench.log" >&2
    exit 1
}
"$profdata" merge -o "$work/calls.profdata" "$work/counts"

# What was executed, most often first: the linker lays it in this order, before all else.
"$profdata" show --all-functions --counts "$work/calls.profdata" | awk '
    /^  [^ ].*:$/ { name = substr($0, 3, length($0) - 3); sub(/^.*;/, "", name) }
    /^    Block counts: \[/ {
        most = 0
        gsub(/[^0-9 ]/, "")
        for (i = 1; i <= NF; i++) if ($i + 0 > most) most = $i + 0
        if (most) print most, name
    }' | sort -k1,1nr -k2 | cut -d' ' -f2 >"$work/order.txt"
[ -s "$work/order.txt" ] || { echo "release: $work/calls.profdata counts nothing" >&2; exit 1; }

build_controld "-Cprofile-use=$work/calls.profdata -Cllvm-args=-enable-split-machine-functions \
-Clink-arg=-Wl,--symbol-ordering-file=$work/order.txt -Clink-arg=-Wl,--no-warn-symbol-ordering"

mkdir -p "$out/dist"
cp "$work/$host/release/controld" "$out/release/mediad" "$out/release/mctl" "$out/dist/"
echo "release: mediad, controld and mctl are in $out/dist" >&2
