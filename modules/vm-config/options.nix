{ config, lib, ... }:
let
  policy = import ../../lib/policy;
  defaults = lib.importJSON ../../lib/policy/defaults.json;
  inherit (lib) mkOption types;
  checked = import ../types { inherit lib; };
in
{
  options.agentVm = {
    share = mkOption {
      type = types.enum (builtins.attrNames policy.workspace.shares);
      default = "virtiofs";
      description = ''
        How {option}`system.build.agentVm` mounts `${policy.workspace.path}`. `9p` is much slower and is for hosts without
        virtiofsd. {option}`system.build.vm` uses the share of its release of nixpkgs; if that is virtiofs, the agent may be
        unable to write there (see `docs/how-to/nixos.md`).
      '';
    };

    claimWorkspace = mkOption {
      type = types.bool;
      internal = true;
      default = policy.workspace.shares.${config.agentVm.share}.claim;
      description = "Whether the guest changes the owner of the workspace's files to its user, because the host does not map owners.";
    };

    packages = mkOption {
      type = types.listOf (checked.package "pkgs.nodejs");
      default = [ ];
      example = lib.literalExpression "[ pkgs.nodejs ]";
      description = "Packages for the agent's shell and its MCP servers.";
    };

    agents = mkOption {
      type = types.listOf (types.enum (builtins.attrNames policy.agents));
      default = [ ];
      example = [ "claude" ];
      description = ''
        Coding agents to install, from nixpkgs; see `docs/how-to/agents.md`. For an agent whose package is unfree
        (${
          lib.concatStringsSep ", " (
            builtins.filter (name: policy.agents.${name}.nixos.unfree) (builtins.attrNames policy.agents)
          )
        }),
        the machine's `nixpkgs.config.allowUnfreePredicate` permits that package and no other, unless
        {option}`nixpkgs.pkgs` is set: then allow it there.
      '';
    };

    memorySize = checked.sizeOptions.memory (help: ''
      ${help}, for {option}`system.build.vm`. For {command}`agent-vm`, memory, processors, disk size, address and ports are
      settings of each machine instead.
    '');

    cores = checked.sizeOptions.cores (help: "${help}, for {option}`system.build.vm`.");

    diskSize = checked.sizeOptions.disk (help: "${help}, for {option}`system.build.vm`.");

    hostAddress = mkOption {
      type = checked.hostAddress;
      apply = address: if address == "localhost" then "127.0.0.1" else address;
      default = "127.0.0.1";
      description = "IPv4 address of the host on which {option}`system.build.vm` listens for forwarded connections.";
    };

    sshPort = mkOption {
      type = types.nullOr checked.port;
      default = defaults.sshPort;
      description = "Port of the host that {option}`system.build.vm` forwards to ssh; null for none.";
    };

    mcpPort = mkOption {
      type = types.nullOr checked.port;
      default = defaults.mcpPort;
      description = "Port of the host that {option}`system.build.vm` forwards to MCP; null for none.";
    };
  };
}
