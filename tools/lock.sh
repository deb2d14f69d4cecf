#!/bin/sh
# tools/lock.sh shared|exclusive COMMAND…
#
# One lock for the machine: builds and tests share it, a benchmark has it alone, so that no build runs
# during a benchmark. MACHINE_LOCK names the file, for several checkouts on one machine.
set -u
mode=$1
shift
cd "$(dirname "$0")/.." || exit 1
lock=${MACHINE_LOCK:-target/.machine.lock}
mkdir -p "$(dirname "$lock")"

# Called from inside a holder: the lock is already ours.
case "${MACHINE_LOCK_HELD:-}/$mode" in
shared/exclusive)
    echo "lock: a benchmark cannot start from inside a build or test; run it by itself" >&2
    exit 1
    ;;
?*/*) exec "$@" ;;
esac

if ! flock --nonblock "--$mode" "$lock" true; then
    if [ "$mode" = shared ]; then
        echo "lock: waiting for a benchmark to finish ($lock)" >&2
    else
        echo "lock: waiting for builds and tests to finish ($lock)" >&2
    fi
fi
# --close: what the command leaves running does not keep the lock.
MACHINE_LOCK_HELD=$mode exec flock --close "--$mode" "$lock" "$@"
