# The text of bin/run-agent-vm, which starts QEMU with the policy's arguments. docs/reference/contract.md describes its variables.
let
  policy = import ./policy;
  inherit (builtins) concatStringsSep map replaceStrings;

  quote = word: "'" + replaceStrings [ "'" ] [ "'\\''" ] word + "'";

  # Placeholders that no argument contains; after quoting, shell variables replace them.
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
  Returns a script that starts QEMU in the foreground.

  `interpreter`: interpreter for the #! line. `binary`: QEMU, as in the manifest. `kernel`, `initrd` (or null): files, as bash
  words in which `$package` is the guest package. `parameters`: kernel parameters. `guestAgent`: whether the guest runs QEMU's
  guest agent, whose socket is then `qga.sock` in QEMU's working directory.
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
  # Starts QEMU in the foreground and passes its arguments to QEMU. Environment: NIX_DISK_IMAGE, TMPDIR with USE_TMPDIR=1,
  # AGENT_VM_QEMU, QEMU_NET_OPTS, QEMU_KERNEL_PARAMS, and QEMU_OPTS as in nixpkgs' run scripts.
  set -eu
  # QEMU_OPTS is split at white space, but a * in it must not be expanded.
  set -f

  package=$(dirname -- "$(dirname -- "$(readlink -f -- "$0")")")
  : "''${NIX_DISK_IMAGE:?run-agent-vm: NIX_DISK_IMAGE must name the disk of the machine}"
  if [ "''${USE_TMPDIR:-0}" = 1 ]; then
    cd -- "''${TMPDIR:?run-agent-vm: USE_TMPDIR=1 needs TMPDIR}"
  fi

  # In QEMU's option values, a comma is written as two commas.
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
