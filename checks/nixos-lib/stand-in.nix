# A stand-in for agent-vm: it uses the account, the repository and the settings as agent-vm does, but runs no machine.
{ pkgs }:
pkgs.writeShellApplication {
  name = "agent-vm";
  runtimeInputs = [
    pkgs.coreutils
    pkgs.git
    pkgs.jq
    pkgs.util-linux
  ];
  text = ''
    while [ $# -gt 0 ]; do
      case $1 in
        --state-dir) state=$2; shift 2 ;;
        --timeout | --color) shift 2 ;;
        --json) shift ;;
        *) break ;;
      esac
    done
    verb=$1
    shift
    runs() {
      local pid
      [ -e "$1/run/qemu.pid" ] && read -r pid _ <"$1/run/qemu.pid" && [ -e "/proc/$pid" ]
    }
    case $verb in
      list)
        if [ "''${1-}" = --source ]; then only=$2; else only=; fi
        for machine in "$state"/*/; do
          [ -e "$machine/config.json" ] || continue
          if runs "$machine"; then now=running; else now=stopped; fi
          jq --arg name "$(basename -- "$machine")" --arg now "$now" \
            '{ $name, branch, source, state: $now }' "$machine/config.json"
        done | jq --slurp --arg only "$only" 'map(select($only == "" or .source == $only))' ;;
      create)
        config=$2 branch=''${3#--branch=} source=$PWD
        name=$(basename -- "$source")-$branch
        while [ -e "$state/$name" ]; do name=$name-x; done
        mkdir "$state/$name"
        git clone --quiet "file://$source" "$state/$name/workspace"
        jq --arg source "$source" --arg branch "$branch" \
          '. + { $source, $branch, egress: { mode: .egress, allow }, port_asked: false, ssh_port_asked: false } | del(.allow)' \
          "$config" >"$state/$name/config.json" ;;
      start)
        cd -- "$state/$1"
        mkdir -p run
        id --user --name >./who
        cat /proc/self/status >status
        ls -A /home /home/alice >homes 2>&1 || :
        source=$(jq --raw-output .source config.json)
        rm -f wrote-elsewhere
        for place in /etc /home /usr "$source"; do
          if touch "$place/probe" 2>/dev/null; then echo "$place" >>wrote-elsewhere; fi
        done
        setsid sleep infinity >/dev/null 2>&1 &
        echo "$! 0 boot" >run/qemu.pid ;;
      destroy)
        [ "$1" = --yes ]
        cd -- "$state"
        [ ! -e "$2/refuses" ]
        echo "$2 $(id --user --name)" >>destroyed
        rm -r -- "./$2" ;;
      stop)
        cd -- "$state/$1"
        touch stopped
        read -r pid _ <run/qemu.pid
        kill "$pid" ;;
    esac
  '';
}
