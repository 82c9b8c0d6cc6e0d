{ config, lib, ... }:
let
  policy = import ../../lib/policy;
  defaults = lib.importJSON ../../lib/policy/defaults.json;
  inherit (lib) mkOption types;
in
{
  options.agentVm = {
    share = mkOption {
      type = types.enum (builtins.attrNames policy.workspace.shares);
      default = "virtiofs";
      description = ''
        How `${policy.workspace.path}` comes into the machine that {option}`system.build.agentVm` starts. `9p` is slower by
        far; it is for hosts without virtiofsd. {option}`system.build.vm` shares as its release of nixpkgs does; where that is by
        virtiofs, the agent may be unable to write there (see `docs/nixos.md`).
      '';
    };

    claimWorkspace = mkOption {
      type = types.bool;
      internal = true;
      default = policy.workspace.shares.${config.agentVm.share}.claim;
      description = "Whether the guest gives the workspace's files to its user, because the host does not.";
    };

    packages = mkOption {
      type = types.listOf types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.nodejs ]";
      description = "Packages for the agent: in its shell, and found by its MCP servers.";
    };

    memorySize = mkOption {
      type = types.ints.positive;
      default = defaults.memoryMiB;
      description = ''
        Memory of the machine in MiB, where {option}`system.build.vm` starts it. With {command}`agent-vm` it is a
        setting of each machine; the same goes for the options below.
      '';
    };

    cores = mkOption {
      type = types.ints.positive;
      default = defaults.cores;
      description = "Virtual processors of {option}`system.build.vm`.";
    };

    diskSize = mkOption {
      type = types.ints.positive;
      default = defaults.diskMiB;
      description = "Size in MiB of the disk of {option}`system.build.vm`.";
    };

    hostAddress = mkOption {
      type = types.strMatching "[0-9]{1,3}(\\.[0-9]{1,3}){3}";
      default = "127.0.0.1";
      description = "IPv4 address of the host that {option}`system.build.vm` forwards from.";
    };

    sshPort = mkOption {
      type = types.nullOr types.port;
      default = defaults.sshPort;
      description = "Port of the host that {option}`system.build.vm` forwards to ssh; null forwards none.";
    };

    mcpPort = mkOption {
      type = types.nullOr types.port;
      default = defaults.mcpPort;
      description = "Port of the host that {option}`system.build.vm` forwards to MCP; null forwards none.";
    };
  };
}
