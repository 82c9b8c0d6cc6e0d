# Completion of agent-vm for fish. `agent-vm completions fish` prints this file.

function __agent_vm_complete
    set -l typed (commandline --current-token --cut-at-cursor)
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    for line in (command agent-vm complete -- $words "$typed" 2>/dev/null)
        if test "$line" = :files
            set -l flag (string match --regex -- '^--[^=]*=' "$typed")
            for file in (__fish_complete_path (string replace --regex -- '^--[^=]*=' '' "$typed"))
                echo "$flag$file"
            end
        else
            echo "$line"
        end
    end
end

complete --command agent-vm --no-files --keep-order --arguments '(__agent_vm_complete)'
