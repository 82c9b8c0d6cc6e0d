# Text of bin/run-agent-vm: QEMU with the policy's arguments; its run-time facts are in docs/reference/contract.md.
let
  policy = import ./policy;
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

in
/**
  Script that starts QEMU in the foreground.

  `interpreter`: of its first line. `binary`: QEMU, as the manifest has it. `kernel`, `initrd` (or null): files, as bash words in which
  `$package` is the guest package. `parameters`: kernel parameters. `guestAgent`: whether the guest has QEMU's agent, whose socket
  is then `qga.sock` beside QEMU's own.
*/
{
  interpreter,
  binary ? policy.qemu.binary,
  kernel,
  initrd ? null,
  parameters,
  guestAgent ? false,
}:
let
  arguments =
    policy.qemu.args {
      base = "@base@";
      disk = "@disk@";
      forwards = "@forwards@";
    }
    ++ (if guestAgent then policy.qemu.guestAgent "qga.sock" else [ ]);
in
''
  #!${interpreter}
  # Starts QEMU in the foreground; arguments are QEMU's. Environment: NIX_DISK_IMAGE, TMPDIR with USE_TMPDIR=1, AGENT_VM_QEMU,
  # QEMU_NET_OPTS, QEMU_KERNEL_PARAMS, and QEMU_OPTS as nixpkgs' own script has it.
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
  exec "''${AGENT_VM_QEMU:-${binary}}" \
    ${concatStringsSep " \\\n    " (map (word: expand (quote word)) arguments)} \
    -kernel ${kernel} ${if initrd == null then "" else "-initrd ${initrd} "}\
    -append ${quote (concatStringsSep " " parameters)}"''${QEMU_KERNEL_PARAMS:+ $QEMU_KERNEL_PARAMS}" \
    ''${QEMU_OPTS:-} "$@"
''
