# The machine on nixpkgs' qemu-vm.nix: what `system.build.vm` and NixOS tests start. Its options differ between
# releases, so each is set where it exists.
{
  config,
  lib,
  options,
  ...
}:
let
  policy = import ../../lib/policy;
  cfg = config.agentVm;
  inherit (policy) workspace ports;

  share = options.virtualisation.sharedDirectories.type.getSubOptions [ ];
  # An option that was removed is still there, to say so, but not to be seen.
  has = set: name: set ? ${name} && set.${name}.visible or true != false;
  forward = host: guest: {
    from = "host";
    proto = "tcp";
    host.address = cfg.hostAddress;
    host.port = host;
    guest.port = guest;
  };
in
{
  config = {
    virtualisation = {
      memorySize = lib.mkDefault cfg.memorySize;
      cores = lib.mkDefault cfg.cores;
      diskSize = lib.mkDefault cfg.diskSize;
      graphics = false;

      # An image of the machine's own closure. The host's whole store is nothing for an agent to read.
      useNixStoreImage = true;
      mountHostNixStore = false;
      writableStore = false;

      # No way out; the forwards below work all the same.
      restrictNetwork = true;
      forwardPorts =
        lib.optional (cfg.sshPort != null) (forward cfg.sshPort ports.ssh)
        ++ lib.optional (cfg.mcpPort != null) (forward cfg.mcpPort ports.mcp);

      sharedDirectories = {
        workspace = {
          # SHARED_DIR is the run script's own variable for a directory to share.
          source = ''"''${SHARED_DIR:-$TMPDIR/xchg}"'';
          target = workspace.path;
        }
        # 9p, on releases that share by it: owners and modes go into attributes, so that nothing the guest makes is
        # a device or setuid file of the host's.
        // lib.optionalAttrs (has share "securityModel") { securityModel = "mapped-xattr"; }
        // lib.optionalAttrs (has share "writable") { writable = true; };
      };

      fileSystems.${workspace.path}.options = workspace.mountOptions;

      qemu = {
        options = [
          "-no-user-config"
          (lib.escapeShellArgs policy.qemu.sandbox)
        ]
        ++ lib.optional config.services.qemuGuest.enable (
          lib.concatStringsSep " " (policy.qemu.guestAgent ''"$TMPDIR"/qga.sock'')
        );
        guestAgent.enable = lib.mkDefault true;
      }
      // lib.optionalAttrs (has options.virtualisation.qemu "enableSharedMemory") {
        enableSharedMemory = true;
      };
    }
    // lib.optionalAttrs (has options.virtualisation "msize") { msize = lib.mkDefault 512000; };

    agentVm.claimWorkspace = has share "securityModel";
  };
}
