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
  # A removed option still exists as an invisible placeholder.
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

      # An image of the machine's own closure, because an agent must not read the host's whole store.
      useNixStoreImage = true;
      mountHostNixStore = false;
      writableStore = false;

      # No outgoing connections; the forwards below still work.
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
        # On releases that share by 9p, owners and modes are stored in attributes, so that the guest cannot make
        # devices or setuid files on the host.
        // lib.optionalAttrs (has share "securityModel") { securityModel = "mapped-xattr"; }
        // lib.optionalAttrs (has share "writable") { writable = true; };
      };

      fileSystems.${workspace.path}.options = workspace.mountOptions;

      qemu = {
        options = [
          policy.qemu.noUserConfig
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
