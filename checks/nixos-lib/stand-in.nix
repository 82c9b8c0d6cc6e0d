# A stand-in for agent-vm: it uses the account, the repository and the settings as agent-vm does, but runs no machine.
{ pkgs }:
let
  # Reports to systemd as the unit's main process, and runs until SIGTERM or its "QEMU" ends.
  foreground = pkgs.writeText "foreground.py" ''
    import os
    import pathlib
    import signal
    import socket
    import subprocess

    machine = subprocess.Popen(["sleep", "infinity"], start_new_session=True)
    os.makedirs("run", exist_ok=True)
    pathlib.Path("run/qemu.pid").write_text(f"{machine.pid} 0 boot\n")


    def tell(state: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.sendto(state, os.environ["NOTIFY_SOCKET"])


    def stop(*_: object) -> None:
        tell(b"STOPPING=1")
        pathlib.Path("stopped").touch()
        machine.kill()


    signal.signal(signal.SIGTERM, stop)
    tell(b"READY=1")
    machine.wait()
  '';
in
pkgs.writeShellApplication {
  name = "agent-vm";
  runtimeInputs = [
    pkgs.coreutils
    pkgs.git
    pkgs.jq
    pkgs.python3
    pkgs.util-linux
  ];
  text = ''
    while [ $# -gt 0 ]; do
      case $1 in
        --state-dir) state=$2; shift 2 ;;
        --timeout | --color) shift 2 ;;
        *) break ;;
      esac
    done
    verb=$1
    shift
    flags=$*
    source="" config="" branch=""
    while [ $# -gt 0 ]; do
      case $1 in
        --source) source=$2; shift ;;
        --config) config=$2; branch=$(jq --raw-output .branch "$2"); shift ;;
        --branch=*) branch=''${1#--branch=} ;;
      esac
      shift
    done
    name=
    for file in "$state"/*/config.json; do
      [ -e "$file" ] || continue
      if [ "$(jq --raw-output '.source + " " + .branch' "$file")" = "$source $branch" ]; then
        name=$(basename -- "$(dirname -- "$file")")
      fi
    done
    case $verb in
      apply)
        if [ -z "$name" ]; then
          name=$(basename -- "$source")-$branch
          while [ -e "$state/$name" ]; do name=$name-x; done
          mkdir "$state/$name"
          git clone --quiet "file://$source" "$state/$name/workspace"
        fi
        echo "applied $config to $name"
        # Not cp, which would keep that the file is read-only.
        cat -- "$config" >"$state/$name/declared.json"
        jq --arg source "$source" '. + { $source }' "$config" >"$state/$name/config.json" ;;
      start)
        cd -- "$state/$name"
        id --user --name >./who
        cat /proc/self/status >status
        echo "$flags" >flags
        ls -A /home /home/alice >homes 2>&1 || :
        rm -f wrote-elsewhere
        for place in /etc /home /usr "$source"; do
          if touch "$place/probe" 2>/dev/null; then echo "$place" >>wrote-elsewhere; fi
        done
        exec python3 ${foreground} ;;
      prune)
        [ "$flags" = "--undeclared --older-than 30d --yes" ]
        cd -- "$state"
        id --user --name >pruned
        [ ! -e refuses ] ;;
      *) exit 2 ;;
    esac
  '';
}
