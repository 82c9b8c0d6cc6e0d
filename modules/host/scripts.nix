# What a machine's unit runs: `run` until the machine ends, `stop` to end it.
{
  lib,
  pkgs,
  package,
}:
name: instance:
let
  # What `agent-vm create --config` reads.
  declared = pkgs.writeText "agent-vm-${name}.json" (
    builtins.toJSON (
      lib.filterAttrs (_: value: value != null) {
        inherit (instance)
          host
          port
          tls
          auth
          packages
          servers
          ;
        inherit (instance.resources) memory cores disk;
        inherit (instance.egress) allow;
        ssh_port = instance.sshPort;
        nix_args = instance.nixArgs;
        egress = instance.egress.mode;
      }
    )
  );

  # Branches and paths stand for themselves in a unit file only once they are out of reach of its syntax.
  script =
    verb: timeout: text:
    pkgs.writeShellScript "agent-vm-${name}-${verb}" ''
      set -euo pipefail
      agent_vm() {
        ${lib.getExe package} --state-dir "$STATE_DIRECTORY" --timeout ${toString timeout} --color never "$@"
      }
      # Outside of any repository, where a name is a machine's and no branch's.
      cd -- "$STATE_DIRECTORY"
      ${text}
    '';
in
{
  run = script "run" instance.startTimeout ''
    repository=${lib.escapeShellArg instance.repository}
    branch=${lib.escapeShellArg instance.branch}
    declared=${declared}

    # agent-vm says which repository this is, as nothing that a repository says about itself is to be believed.
    find_machine() {
      agent_vm --json list --source "$repository" |
        jq --raw-output --arg branch "$branch" 'map(select(.branch == $branch))[0].name // empty'
    }
    machine=$(find_machine)
    if [ -z "$machine" ]; then
      (cd -- "$repository" && agent_vm create --config "$declared" --branch="$branch")
      machine=$(find_machine)
      install -m 0600 -- "$declared" ".declared-$machine.json"
    fi

    # What was declared when it was started last, so that a change of the declaration is one of the machine's.
    last=.declared-$machine.json
    [ -e "$last" ] || echo '{}' >"$last"
    if ! cmp --quiet -- "$declared" "$last"; then
      settings=$machine/config.json
      jq --slurpfile declared "$declared" --slurpfile last "$last" --from-file ${./take-over.jq} "$settings" >.settings
      jq --raw-output --slurpfile new .settings --arg name "$machine" \
        'to_entries[] | select(.value != $new[0][.key]) | "<5>\($name): \(.key) was \(.value | tojson), is \($new[0][.key] | tojson) from now on"' \
        "$settings"
      chmod 0600 .settings
      mv -- .settings "$settings"
      install -m 0600 -- "$declared" "$last"
    fi
    # Its file system is as large as it was made, so this is the one thing that only a new machine has.
    jq --raw-output --slurpfile declared "$declared" --arg name "$machine" --arg state "$STATE_DIRECTORY" --arg user "$(id -un)" '
      select(.disk != $declared[0].disk) |
      "<4>\($name): its disk has \(.disk) MiB and keeps them, though \($declared[0].disk) are declared. For a new machine, whose branch then " +
      "begins with what is in the repository: systemctl stop agent-vm-${name}; " +
      "cd \($state); sudo -u \($user) agent-vm --state-dir . destroy \($name) (which keeps commits in a bundle)"
    ' "$machine/config.json"
    agent_vm --json list | jq --raw-output --arg name "$machine" \
      '.[] | select(.name != $name) | "<5>\(.name), of branch \(.branch) of \(.source), is declared no more. It is kept, and not started"'

    agent_vm start "$machine"
    systemd-notify --ready
    # The unit lives as long as QEMU, whatever ends it.
    read -r qemu _ <"$machine/run/qemu.pid"
    exec tail --follow --pid="$qemu" /dev/null
  '';

  # Whichever runs, as the declaration may name another one by now. Less than systemd waits: a guest that does not power
  # off is then ended by agent-vm, which tidies up.
  stop = script "stop" 45 ''
    agent_vm --json list | jq --raw-output '.[] | select(.state == "running") | .name' | while read -r machine; do
      agent_vm stop "$machine"
    done
  '';

  # For both of them, beside what every unit has.
  path = [
    pkgs.diffutils
    pkgs.jq
  ];
}
