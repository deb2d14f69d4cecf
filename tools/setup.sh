#!/bin/sh
# tools/setup.sh GROUP…
#
# Installs what the named groups need and this machine lacks. Quick when nothing is missing. Groups: build,
# test, bench, release. Debian and Ubuntu: apt, through sudo when not root. Elsewhere: names what to install.
# For group test also the packages of control/web that check the page, from npm, as its lock file has them.
set -u
cd "$(dirname "$0")/.." || exit 1

# The LLVM that the compiler was built with: what counts for it must be of the same.
llvm=$(rustc -vV 2>/dev/null | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
rustlib=$(rustc --print target-libdir 2>/dev/null)

# Command, Debian package, groups that need it, what for.
table() {
    cat <<END
cc                  gcc              build         linking, C code in crates
g++                 g++              build         C++ code in crates
make                make             build         this file's caller
cmake               cmake            build         libopus
flock               util-linux       build         the machine's lock
sipp                sip-tester       test          SIP peer
baresip             baresip-core     test          SIP peer
kamailio            kamailio         test          SIP proxy
age                 age              test          judge of encrypted recordings
chromium            chromium         test          browser before the page
node                nodejs           test          types of the page, and what drives the browser
npm                 npm              test          their packages
rtpengine           rtpengine-daemon test,bench    media peer
taskset             util-linux       bench,release pinning to a core
chrt                util-linux       bench,release priority of the measured process
setpriv             util-linux       bench,release servers end with the bench
ip                  iproute2         bench,release a network namespace of its own
llvm-profdata-$llvm llvm-$llvm       release       counts of what controld executes
END
}

# have COMMAND: also where Debian puts daemons, which is not on everyone's PATH, and rustup its component llvm-tools.
have() {
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] ||
        [ -x "$rustlib/../bin/${1%"-$llvm"}" ]
}

# The packages that check the page are there, and of the lock file's versions.
have_node_packages() {
    [ control/web/node_modules/.package-lock.json -nt control/web/package-lock.json ]
}

node_packages() {
    case $groups in *" test "*) ;; *) return 0 ;; esac
    have_node_packages && return 0
    echo "setup: missing here: packages of control/web (npm ci)" >&2
    if ! npm ci --prefix control/web --no-progress --loglevel error || ! touch control/web/node_modules/.package-lock.json; then
        echo "setup: could not install the packages of control/web; look at what npm said, then: npm ci --prefix control/web" >&2
        return 1
    fi
}

# Debian starts a daemon when its package is installed; /usr/sbin/policy-rc.d (101: forbidden) is its
# documented way to say no. Whatever stood there before is put back, also after an interrupted run.
policy=/usr/sbin/policy-rc.d
saved=/usr/sbin/policy-rc.d.before-setup

restore_policy() {
    if [ -e "$saved" ]; then
        mv -f "$saved" "$policy"
    else
        rm -f "$policy"
    fi
}

forbid_daemons() {
    # A run that was killed left its own file in place; what it saved is still the original.
    if [ -e "$policy" ] && ! grep -q 'written by tools/setup.sh' "$policy"; then
        mv -f "$policy" "$saved"
    fi
    trap restore_policy EXIT
    trap 'exit 130' INT TERM HUP
    printf '#!/bin/sh\n# written by tools/setup.sh for the time of one installation\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

install_as_root() {
    export DEBIAN_FRONTEND=noninteractive
    forbid_daemons
    apt-get update -q || echo "setup: apt-get update failed; trying with the lists at hand" >&2
    # No recommendations: rtpengine's would build a kernel module.
    apt-get install -q -y --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

if [ "${1:-}" = --install ]; then
    shift
    install_as_root "$@"
    exit $?
fi

groups=" $* "
missing=
packages=
while read -r command package needed_by purpose; do
    for group in $(echo "$needed_by" | tr ',' ' '); do
        case $groups in *" $group "*) ;; *) continue ;; esac
        have "$command" && continue
        case " $packages " in *" $package "*) continue ;; esac
        missing="$missing  $command (Debian package $package): $purpose
"
        packages="$packages $package"
    done
done <<END
$(table)
END

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: no Rust toolchain (cargo); install one from https://rustup.rs and try again" >&2
    exit 1
fi
if [ -z "$packages" ]; then
    node_packages
    exit $?
fi

printf 'setup: missing here:\n%s' "$missing" >&2
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: this is no Debian or Ubuntu; install the above with this system's package manager" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    root=
elif command -v sudo >/dev/null 2>&1; then
    root=sudo
else
    echo "setup: not root and no sudo; as root run: apt-get install --no-install-recommends$packages" >&2
    exit 1
fi
# shellcheck disable=SC2086 # both are lists of words
if ! $root tools/setup.sh --install $packages; then
    echo "setup: could not install:$packages" >&2
    exit 1
fi
node_packages
