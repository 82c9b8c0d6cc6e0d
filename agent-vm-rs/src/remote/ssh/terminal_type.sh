# shellcheck shell=sh
# Replaces a terminal type that the machine does not know by one that fits.
case $TERM in
    xterm-256color | xterm | dumb) ;;
    '' | unknown) TERM=dumb ;;
    *)
        case $TERM in
            screen* | tmux*) agent_vm_types='screen-256color screen' ;;
            vt[0-9]*) agent_vm_types=vt100 ;;
            *) agent_vm_types='xterm-256color xterm' ;;
        esac
        for agent_vm_type in "$TERM" $agent_vm_types dumb; do
            TERM=$agent_vm_type
            if infocmp "$TERM" >/dev/null 2>&1; then break; fi
        done
        unset agent_vm_type agent_vm_types
        ;;
esac
export TERM
