#!/bin/sh
# Prints the toolchain to use instead of the pinned one, or nothing when the pin works as it stands.
#
# rust-toolchain.toml pins a version number. A machine that has that very compiler under another name
# (usually "stable") would download it a second time, or fail where it cannot; this finds it by version.
set -u
cd "$(dirname "$0")/.." || exit 1
pin=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml)
command -v rustup >/dev/null 2>&1 || exit 0
rustup toolchain list 2>/dev/null | grep -q "^$pin-" && exit 0
# Asked from "/", where no rust-toolchain.toml applies, so that nothing is downloaded by asking.
cd /
rustc --version 2>/dev/null | grep -qF "rustc $pin " || exit 0
rustup show active-toolchain | cut -d ' ' -f 1
