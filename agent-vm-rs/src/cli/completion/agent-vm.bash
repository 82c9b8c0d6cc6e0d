# shellcheck shell=bash
# Completion of agent-vm for bash. `agent-vm completions bash` prints this file.

_agent_vm() {
    local words=(agent-vm) word line prefix='' joined='' index
    # Bash splits words at "=". A flag and its value are one word for agent-vm.
    for ((index = 1; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        prefix=''
        if [[ $word == '=' && $index -gt 1 ]]; then
            words[${#words[@]} - 1]+='='
            prefix=${words[${#words[@]} - 1]} joined=yes
            continue
        fi
        # Only what is before the cursor.
        if ((index == COMP_CWORD)); then word=$2; fi
        if [[ $joined ]]; then
            prefix=${words[${#words[@]} - 1]}
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
        joined=''
    done
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == ':files' ]]; then
            compopt -o default
            return
        fi
        line=${line%%$'\t'*}
        COMPREPLY+=("${line#"$prefix"}")
    done < <(command agent-vm complete -- "${words[@]}" 2>/dev/null)
}

complete -F _agent_vm agent-vm
