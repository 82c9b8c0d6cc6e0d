# shellcheck shell=bash
# Runs `agent-vm prune` in the state directory of each machine that is no longer declared, as the account that owns the
# directory. agent-vm alone removes machines, and keeps their commits. A failure in one directory does not stop the others.
#
#   cleanup.sh AGENT_VM STATE DAYS [DECLARED…]
#
# STATE has a directory for each instance that is or was declared. Machines unchanged for less than DAYS days stay.
set -uo pipefail
agent_vm=$1 state=$2 days=$3
shift 3
failed=0

for directory in "$state"/*/; do
    directory=${directory%/}
    [[ -d $directory && ! -L $directory ]] || continue
    for declared in "$@"; do
        [[ ${directory##*/} != "$declared" ]] || continue 2
    done
    # The account may no longer have a name.
    read -r uid gid < <(stat --format '%u %g' -- "$directory")
    as=()
    if [[ $uid != "$EUID" ]]; then
        as=(setpriv --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all --)
    elif ((uid == 0)); then
        echo "<4>skipped $directory: it belongs to root, and no unit creates such a directory"
        continue
    fi
    if ! "${as[@]}" env HOME="$directory" XDG_CACHE_HOME="${TMPDIR:-/tmp}/cache-$uid" \
        "$agent_vm" --state-dir "$directory" --timeout 120 --color never \
        prune --undeclared --older-than "${days}d" --yes </dev/null; then
        echo "<3>failed to remove the machines in $directory"
        failed=1
    fi
done
exit "$failed"
