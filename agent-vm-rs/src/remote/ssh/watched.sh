# shellcheck shell=sh
# Before a command in the session that sshd made for it: ends all of that session once the client is gone. Of a session
# without a terminal sshd then closes the pipes to standard input and output, and does no more.
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
    # By the one signal that a shell which is about to become tail cannot lose.
    trap '[ -z "$!" ] || kill -s KILL $!; exit' TERM
    exec 3>&1 </dev/null >/dev/null 2>&1
    [ -p /proc/self/fd/3 ] || exit
    # What tail follows never changes. It follows best what is no link.
    file=/usr/lib/os-release
    [ -f $file ] || file=/etc/os-release
    # tail ends by SIGPIPE when nobody reads its output any more; and, in a while, with the session's shell.
    tail -n 0 -s 0.5 --pid=$$ -f $file >&3 3>&- &
    exec 3>&-
    wait $!
    [ $? = 141 ] || exit
    trap '' TERM PIPE
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
