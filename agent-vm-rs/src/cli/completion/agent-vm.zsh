#compdef agent-vm
# Completion of agent-vm for zsh. `agent-vm completions zsh` prints this file.

_agent-vm() {
    local line
    local -a lines values
    lines=("${(@f)$(command agent-vm complete -- "${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for line in $lines; do
        if [[ $line == ':files' ]]; then
            compset -P '*='
            _files
            return
        fi
        values+=("${line/$'\t'/:}")
    done
    ((${#values})) && _describe -V agent-vm values
}

# The file is either loaded as a function of fpath, or sourced after compinit.
if [[ ${funcstack[1]} == _agent-vm ]]; then
    _agent-vm "$@"
else
    compdef _agent-vm agent-vm
fi
