# The run script of system.build.vm, by its text: what it must hold, and what it must not.
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
    "no way out" = "restrict=on";
    "ssh is forwarded on the loopback only" = "hostfwd=tcp:127.0.0.1:2222-:22";
    "MCP is forwarded on the loopback only" = "hostfwd=tcp:127.0.0.1:8000-:8000";
    "QEMU is sandboxed" = "elevateprivileges=deny";
    "the store is an image of its own" = "store.img";
    "the workspace is shared" = "SHARED_DIR";
    "there is no display" = "-nographic";
    "the memory is what is promised" = "-m 4096";
    "the processors are what is promised" = "-smp 4";
    "the disk is as large as promised" = "20480M";
    "the guest agent has its port" = "org.qemu.guest_agent.0";
  }
  // pkgs.lib.optionalAttrs (variant.qemu.enableSharedMemory or false) {
    "the memory can be shared with the workspace's daemon" = "share=on";
  }
  // pkgs.lib.optionalAttrs (variant.sharedDirectories.workspace ? securityModel) {
    "owners and modes of the guest are attributes on the host" = "security_model=mapped-xattr";
  };
  variant = machine.config.virtualisation.vmVariant.virtualisation;
  mustNot = {
    "the host's store" = "path=/nix/store";
    "a share that keeps the guest's modes and owners" = "security_model=none";
    "a share with the host's ids" = "security_model=passthrough";
    "a forward on every address" = "hostfwd=tcp::";
  };
  each =
    say: words:
    pkgs.lib.concatStrings (
      pkgs.lib.mapAttrsToList (
        claim: word:
        "${say} ${
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
  holds() { grep --quiet --fixed-strings -e "$2" "$script" || { echo "not so: $1 ($2)"; exit 1; }; }
  lacks() { if grep --quiet --fixed-strings -e "$2" "$script"; then echo "there is $1 ($2)"; exit 1; fi; }
  ${each "holds" must}
  ${each "lacks" mustNot}
  touch "$out"
''
