# shellcheck shell=sh
# Before a command in the session that sshd made for it: ends all of that session once nobody listens to it any more. sshd
# closes its pipes then and does no more, unless the session has a terminal.
(
    # Sends a signal to the session's processes but this one; tells whether there are any. In the shell itself: there may
    # be too many of them for one more program.
    pass() {
        found=1
        for dir in /proc/[0-9]*; do
            { read -r line <"$dir/stat"; } 2>/dev/null || continue
            # The signal; state, parent, process group and session.
            # shellcheck disable=SC2086
            set -- "$1" ${line##*) }
            case $2 in Z | X) continue ;; esac
            pid=${dir#/proc/}
            if [ "$5" = $$ ] && [ "$pid" != "$self" ] && kill -s "$1" "$pid"; then found=0; fi
        done
        return $found
    }
    until_gone() {
        tries=0
        while pass "$1" && [ $tries -lt 20 ]; do
            sleep 0.1
            tries=$((tries + 1))
        done
    }
    trap '[ -z "$!" ] || kill $!; exit' TERM
    exec </dev/null >/dev/null
    [ -p /proc/self/fd/2 ] || exit
    # tail ends by SIGPIPE when nobody reads its output any more; and, in a second, with the session's shell.
    tail -n 0 -s 1 --pid=$$ -f /etc/os-release >&2 2>/dev/null &
    wait $!
    [ $? = 141 ] || exit
    trap '' TERM PIPE
    exec 2>/dev/null
    # shellcheck disable=SC2034
    read -r self rest </proc/self/stat
    pass TERM
    pass CONT
    until_gone 0
    pass STOP
    until_gone KILL
) &
agent_vm_watch=$!
trap 'kill $agent_vm_watch 2>/dev/null' EXIT
