# Checks which options the run script of system.build.vm passes to QEMU.
{ pkgs, nixosSystem }:
let
  machine = nixosSystem {
    modules = [
      ../modules/vm-config.nix
      {
        nixpkgs = { inherit pkgs; };
        system.stateVersion = pkgs.lib.trivial.release;
      }
    ];
  };
  must = {
    "no outgoing connections" = "restrict=on";
    "ssh is forwarded on loopback only" = "hostfwd=tcp:127.0.0.1:2222-:22";
    "MCP is forwarded on loopback only" = "hostfwd=tcp:127.0.0.1:8000-:8000";
    "QEMU is sandboxed" = "elevateprivileges=deny";
    "the store is an image" = "store.img";
    "the workspace is shared" = "SHARED_DIR";
    "no display" = "-nographic";
    "the default memory" = "-m 4096";
    "the default processors" = "-smp 4";
    "the default disk size" = "20480M";
    "a port for the guest agent" = "org.qemu.guest_agent.0";
  }
  // pkgs.lib.optionalAttrs (variant.qemu.enableSharedMemory or false) {
    "memory that virtiofsd can share" = "share=on";
  }
  // pkgs.lib.optionalAttrs (variant.sharedDirectories.workspace ? securityModel) {
    "the guest's owners and modes are stored in attributes" = "security_model=mapped-xattr";
  };
  variant = machine.config.virtualisation.vmVariant.virtualisation;
  mustNot = {
    "a share of the host's store" = "path=/nix/store";
    "a share without a mapping of modes" = "security_model=none";
    "a share without a mapping of owners" = "security_model=passthrough";
    "a port forward on every address" = "hostfwd=tcp::";
  };
  each =
    function: words:
    pkgs.lib.concatStrings (
      pkgs.lib.mapAttrsToList (
        claim: word:
        "${function} ${
          pkgs.lib.escapeShellArgs [
            claim
            word
          ]
        }\n"
      ) words
    );
in
pkgs.runCommand "run-script" { } ''
  script=$(echo ${machine.config.system.build.vm}/bin/run-*-vm)
  require() { grep --quiet --fixed-strings -e "$2" "$script" || { echo "error: the run script lacks: $1 ($2)"; exit 1; }; }
  forbid() { if grep --quiet --fixed-strings -e "$2" "$script"; then echo "error: the run script has $1 ($2)"; exit 1; fi; }
  ${each "require" must}
  ${each "forbid" mustNot}
  touch "$out"
''
