# Replacements for programs that need root, which the agent cannot become: each prints what to do instead.
{ python }:
let
  inherit (builtins) listToAttrs map;

  script = ''
    #!/bin/sh
    # Root runs Debian's program.
    program=''${0##*/}
    if [ "$(id -u)" = 0 ] && [ -x "/usr/bin/$program" ]; then
      exec "/usr/bin/$program" "$@"
    fi
    cat >&2 <<END
    error: $program is not available: you are not root in this machine
    To install a Debian package, run on the host, for a new machine:
      agent-vm create --package NAME
    For this machine, at once, until its image changes:
      agent-vm egress allow @debian
      agent-vm exec --root -- sh -c 'apt-get update && apt-get install -y NAME'
    For this machine for good (the list replaces the former one, so name all packages):
      agent-vm set packages=NAME,OTHER && agent-vm restart
    Install packages of Python, Node and other languages in the project: python3 -m venv .venv, npm install.
    END
    exit 100
  '';
in
listToAttrs (
  map
    (name: {
      name = "/usr/local/bin/${name}";
      value = {
        mode = "0755";
        text = script;
      };
    })
    [
      "apt"
      "apt-get"
      "sudo"
    ]
)
// {
  # pip's message outside a virtual environment.
  "/usr/lib/python${python}/EXTERNALLY-MANAGED".text = ''
    [externally-managed]
    Error=You are not root in this machine. Install packages in a virtual environment of the project:

        python3 -m venv .venv
        .venv/bin/pip install NAME

     If the package index is refused, run on the host: agent-vm egress allow @pypi
  '';
}
