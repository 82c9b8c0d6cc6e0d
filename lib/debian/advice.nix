# Stand-ins for programs that only root can use in the guest: each prints what works instead.
{ python }:
let
  inherit (builtins) listToAttrs map;

  script = ''
    #!/bin/sh
    # The image's build runs as root and needs Debian's own program.
    program=''${0##*/}
    if [ "$(id -u)" = 0 ] && [ -x "/usr/bin/$program" ]; then
      exec "/usr/bin/$program" "$@"
    fi
    cat >&2 <<END
    $program: nobody in this machine can become root, so nothing is installed from here.
    On the host, a new machine gets a package of Debian with
      agent-vm create --package NAME
    and this one once NAME is in "packages" of its config.json, which is beside the workspace that "agent-vm status" shows, with
      agent-vm restart
    Packages of Python, Node and others go into the project: python3 -m venv .venv, npm install.
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
    Error=This Python is the machine's own, and nobody in it can become root. Install packages into an environment of the project:

        python3 -m venv .venv
        .venv/bin/pip install NAME

     If the index is refused, allow it on the host: agent-vm egress allow @pypi
  '';
}
