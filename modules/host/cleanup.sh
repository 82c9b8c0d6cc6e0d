# shellcheck shell=bash
# Destroys the machines of directories that have not changed for some days, as `agent-vm destroy` does: what only they have
# is kept, and what cannot be kept stays where it is. What fails is said, and the rest goes on.
#
#   cleanup.sh AGENT_VM STATE DAYS [DECLARED…]
#
# STATE holds a directory for each declared machine, and for those that were declared once.
set -uo pipefail
agent_vm=$1 state=$2 days=$3
shift 3
failed=0
fail() {
    echo "<3>$*"
    failed=1
}

# As the account that the directory belongs to, which need not be declared any more either.
agent_vm() {
    local as=()
    if [[ $uid != "$EUID" ]]; then
        as=(setpriv --reuid="$uid" --regid="$gid" --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all --)
    fi
    "${as[@]}" env HOME="$directory" XDG_CACHE_HOME="${TMPDIR:-/tmp}/cache-$uid" \
        "$agent_vm" --state-dir "$directory" --timeout 120 --color never "$@" </dev/null
}
names() { agent_vm --json list | jq --raw-output '.[].name'; }

for directory in "$state"/*/; do
    directory=${directory%/}
    name=${directory##*/}
    for declared in "$@"; do
        [[ $name != "$declared" ]] || continue 2
    done
    [[ -d $directory && ! -L $directory ]] || continue
    # A machine changes its directory whenever it starts; a lock is taken by whoever looks.
    if ! changed=$(find "$directory" -mindepth 2 -xdev ! -path "$directory/.locks/*" -newermt "-$days days" -print -quit); then
        fail "$directory cannot be read; it stays"
        continue
    fi
    [[ -z $changed ]] || continue
    read -r uid gid < <(stat --format '%u %g' -- "$directory")
    if ((uid == 0)); then
        echo "<4>$directory belongs to root, so it is of no machine's unit; it stays"
        continue
    fi
    if ! machines=$(names); then
        fail "the machines in $directory cannot be listed; they stay"
        continue
    fi
    for machine in $machines; do
        echo "destroying $machine in $directory, unchanged for $days days"
        agent_vm destroy --yes "$machine" || fail "$machine in $directory cannot be destroyed; it stays"
    done
    kept=$(find "$directory/.bundles" -mindepth 1 -maxdepth 1 2>/dev/null)
    if [[ -n $kept ]]; then
        [[ -z $machines ]] || echo "<5>commits of destroyed machines are kept: $kept"
    elif left=$(names) && [[ -z $left ]]; then
        # What the machine's unit wrote, and directories with nothing in them.
        find "$directory" -mindepth 1 -maxdepth 1 -type f \( -name '.declared-*.json' -o -name .settings \) -delete
        find "$directory" -depth -type d -empty -delete
    fi
done
exit "$failed"
