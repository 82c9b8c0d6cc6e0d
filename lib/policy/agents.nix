# Presets of coding agents, by name. In JSON, because the Rust command reads them too. A file has:
#   command, arguments       the program, and arguments that it always gets
#   unattended               arguments with which it asks nothing (`--yolo`, and every `--task`)
#   task                     words after the command that begin a task, and those that hold its text
#   environment, prepare     variables, and shell commands that run before the agent
#   mcp                      how it learns the machine's MCP servers: a jq filter of [{name, url}], and where its output goes;
#                            null if it knows no MCP
#   groups, secrets          egress groups, and variables whose values the proxy inserts, each for one host
#   state                    paths below the home directory, which is on the machine's own disk
#   debian, nixos            the program (npm) or entry point (PyPI) in lib/debian/agents/NAME, and the package of nixpkgs
let
  inherit (builtins)
    attrNames
    fromJSON
    head
    listToAttrs
    match
    readDir
    readFile
    ;
in
listToAttrs (
  map (file: {
    name = head (match "(.*)[.]json" file);
    value = fromJSON (readFile (./agents + "/${file}"));
  }) (attrNames (readDir ./agents))
)
