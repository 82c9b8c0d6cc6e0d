# shellcheck shell=sh
# Runs before a command, which `agent_vm_end` follows. When the client disconnects, ends every process of the ssh session:
# without a terminal, sshd only closes the pipes; with one, the kernel's hang-up ends only programs that do not ignore it.
agent_vm_terminal=
if [ -t 1 ]; then
    agent_vm_terminal=1
    # A hang-up must not end the subshell before its own trap, nor be lost: see below.
    trap '' HUP
fi
(
    # pass SIGNAL: sends a signal to every other process of the session; succeeds if there is one. It starts no program,
    # because the session may have reached its limit of processes.
    pass() {
        found=1
        for dir in /proc/[0-9]*; do
            { read -r line <"$dir/stat"; } 2>/dev/null || continue
            # The arguments: the signal, then the process's state, parent, process group and session.
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
    # SIGKILL, because the subshell may not have executed tail yet.
    trap '[ -z "$!" ] || kill -s KILL $!; exit' TERM
    exec 3>&1 </dev/null >/dev/null 2>&1
    terminal=$agent_vm_terminal
    if [ -n "$terminal" ]; then
        exec 3>/dev/null
        # The hang-up reaches this subshell, too.
        trap : HUP
    else
        [ -p /proc/self/fd/3 ] || exit
    fi
    # tail needs a file that does not change; it follows regular files most reliably.
    file=/usr/lib/os-release
    [ -f $file ] || file=/etc/os-release
    # SIGPIPE ends tail once its output has no reader. --pid ends it with the session's shell, which the hang-up of a terminal
    # ends. A shell that ends by itself ends this subshell first.
    tail -n 0 -s 0.5 --pid=$$ -f $file >&3 3>&- &
    exec 3>&-
    wait $!
    [ $? = 141 ] || [ -n "$terminal" ] || exit
    trap '' HUP TERM PIPE
    # shellcheck disable=SC2034
    read -r self rest </proc/self/stat
    pass TERM
    pass CONT
    until_gone 0
    pass STOP
    until_gone KILL
) &
agent_vm_watch=$!
if [ -n "$agent_vm_terminal" ]; then
    trap - HUP
    # The hang-up came before.
    [ -t 1 ] || exit 129
    # Otherwise a shell whose command ^C has ended would end by the signal, too, for which ssh returns 255.
    trap : INT QUIT
else
    trap 'kill $agent_vm_watch 2>/dev/null' EXIT
fi
agent_vm_end() {
    set -- $?
    kill $agent_vm_watch 2>/dev/null
    exit "$1"
}
