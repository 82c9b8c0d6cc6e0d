# Text of bin/run-agent-vm: QEMU with the policy's arguments; its run-time facts are in docs/contract.md.
{ init, initrd }:
let
  policy = import ../policy;
  inherit (builtins) concatStringsSep map replaceStrings;

  quote = word: "'" + replaceStrings [ "'" ] [ "'\\''" ] word + "'";

  # Marks that no argument of the policy's contains, replaced by shell variables after quoting.
  variables = {
    "@base@" = "base";
    "@disk@" = "disk";
    "@forwards@" = "forwards";
  };
  expand = replaceStrings (builtins.attrNames variables) (
    map (mark: "'\"\${${variables.${mark}}}\"'") (builtins.attrNames variables)
  );

  arguments = policy.qemu.args {
    base = "@base@";
    disk = "@disk@";
    forwards = "@forwards@";
  };
  parameters = concatStringsSep " " (
    [
      "root=${policy.qemu.rootDevice}"
      "rootfstype=ext4"
      "ro"
      "init=${init}"
      # Those that are used. systemd builds and loads a BPF program for the one left out, which takes a second or two.
      "lsm=lockdown,landlock,yama"
      # No escape sequences: the console is a log.
      "systemd.tty.term.console=dumb"
    ]
    ++ policy.kernelParams
  );
in
''
  #!/usr/bin/env bash
  # Starts QEMU in the foreground. Environment: NIX_DISK_IMAGE, TMPDIR with USE_TMPDIR=1, QEMU_OPTS, QEMU_NET_OPTS,
  # QEMU_KERNEL_PARAMS.
  set -eu
  # QEMU_OPTS is split at white space, but a * in it is no file name.
  set -f

  package=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
  : "''${NIX_DISK_IMAGE:?run-agent-vm: NIX_DISK_IMAGE must name the disk of the machine}"
  if [ "''${USE_TMPDIR:-0}" = 1 ]; then
    cd -- "''${TMPDIR:?run-agent-vm: USE_TMPDIR=1 needs TMPDIR}"
  fi

  # A comma ends a value of QEMU's options unless it is doubled.
  base=$package/base.img
  base=''${base//,/,,}
  disk=''${NIX_DISK_IMAGE//,/,,}
  forwards=''${QEMU_NET_OPTS:+,$QEMU_NET_OPTS}

  # shellcheck disable=SC2086
  exec ${quote policy.qemu.binary} \
    ${concatStringsSep " \\\n    " (map (word: expand (quote word)) arguments)} \
    -kernel "$package/vmlinux" ${if initrd then "-initrd \"$package/initrd\" " else ""}\
    -append ${quote parameters}"''${QEMU_KERNEL_PARAMS:+ $QEMU_KERNEL_PARAMS}" \
    ''${QEMU_OPTS:-}
''
