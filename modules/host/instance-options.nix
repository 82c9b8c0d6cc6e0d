# Options of one machine, as a module.
{ lib }:
let
  defaults = lib.importJSON ../../lib/policy/defaults.json;
  inherit (lib) mkOption types;
  policy = import ../../lib/policy;
  checked = import ../types { inherit lib; };
  # A machine's unit does not see the first two, and the others are not for repositories.
  notForRepositories = "/|(/tmp|/var/tmp|/dev|/nix|/proc|/sys)(/.*)?";
in
{ config, name, ... }:
{
  options = {
    enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to enable this machine. A disabled machine keeps its state.";
    };
    repository = mkOption {
      type = checked.absolutePath {
        description = "absolute path of a git repository";
        example = ''"/srv/git/app"'';
        # What has a meaning in an AppArmor profile; ] comes first and [ last in a bracket expression.
        characters = "]*?{}\\\"^[:cntrl:][:space:][";
        more = value: [
          {
            broken = builtins.match notForRepositories value != null;
            why =
              if lib.hasInfix "tmp" value then
                "but the machine's unit has a /tmp and a /var/tmp of its own"
              else
                "which is not a place for repositories";
            write = ''"/srv/git/app"'';
          }
        ];
      };
      apply = lib.removeSuffix "/";
      example = "/srv/git/app";
      description = ''
        Git repository on this host: its main work tree, or a bare one. The machine gets a clone of it; its account must be
        able to read it. The unit cannot access other files in home directories. With AppArmor it must be the real path, without links.
      '';
    };
    branch = mkOption {
      type = checked.branch;
      default = "main";
      description = "Branch of the repository. A branch that does not exist is created from HEAD, in the machine.";
    };
    autostart = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the machine starts with the host.";
    };
    user = mkOption {
      type = checked.accountName;
      # For an invalid name, any valid account.
      default =
        if builtins.match "[a-z][a-z0-9-]{0,20}" name == null then "agent-vm" else "agent-vm-${name}";
      defaultText = lib.literalExpression ''"agent-vm-''${name}"'';
      description = ''
        Account that the machine runs as. It is declared here unless another module does, and each machine needs its own.
        A guest that escapes from its machine has this account. Use a person's account only for repositories that no other
        account can read.
      '';
    };
    host = mkOption {
      type = checked.hostAddress;
      default = defaults.host;
      description = "Address of this host to bind the machine's ports to.";
    };
    port = mkOption {
      type = types.nullOr checked.port;
      default = null;
      example = 8000;
      description = "Port of this host for MCP; null for the first free one from ${toString defaults.mcpPort}.";
    };
    sshPort = mkOption {
      type = types.nullOr checked.port;
      default = null;
      example = 2222;
      description = "Port of this host for ssh; null for the first free one from ${toString defaults.sshPort}.";
    };
    tls = mkOption {
      type = types.bool;
      default = true;
      description = "Whether MCP requires TLS. Without it the token crosses the network of {option}`host` in plain text.";
    };
    auth = mkOption {
      type = types.bool;
      default = true;
      description = "Whether MCP requires the machine's token. Without it every user of this host can use the machine's tools.";
    };
    resources = {
      memory = checked.sizeOptions.memory (help: "${help}.");
      cores = checked.sizeOptions.cores (help: "${help}.");
      disk = checked.sizeOptions.disk (help: "${help}. An existing disk keeps its size.");
      cpuQuota = mkOption {
        type = types.nullOr checked.cpuQuota;
        default = null;
        example = "200%";
        description = "Processor time limit on this host, where 100% is one processor; null for no limit.";
      };
      memoryMax = mkOption {
        type = types.nullOr (checked.memoryLimit { percent = false; });
        default = "${toString (config.resources.memory + 2048)}M";
        defaultText = lib.literalMD "2 GiB above `memory`";
        example = "6G";
        description = ''
          Memory limit on this host, including QEMU and virtiofsd; null for no limit. Leave 1 GiB above {option}`memory`, and
          2 GiB without KVM: the kernel kills a process that exceeds the limit.
        '';
      };
      tasksMax = mkOption {
        type = checked.numberFrom {
          least = 32;
          most = 4 * 1024 * 1024;
          unit = "processes and threads";
          example = 512;
        };
        default = 512;
        description = "Maximum number of processes and threads.";
      };
      diskIops = checked.limitOption "disk_iops" 2000;
      diskBandwidth = checked.limitOption "disk_bandwidth" 104857600;
      networkBandwidth = checked.limitOption "network_bandwidth" 10485760;
      workspaceSize = checked.limitOption "workspace_size" 10240;
      keepFree = checked.limitOption "keep_free" 4096;
    };
    packages = mkOption {
      type = types.listOf checked.packageName;
      default = [ ];
      example = [
        "nodejs_22"
        "python3Packages.numpy"
      ];
      description = "Packages for the agent, by their names in nixpkgs.";
    };
    config = mkOption {
      type = types.nullOr (checked.systemModules { package = "guestPackage"; });
      default = null;
      example = lib.literalExpression ''
        { pkgs, ... }:
        {
          agentVm.packages = [ pkgs.nodejs_22 ];
          time.timeZone = "Europe/Berlin";
        }
      '';
      description = ''
        NixOS modules of the guest, beside `nixosModules.vm-config`, {option}`packages` and {option}`servers`. The guest is part
        of this host's closure and uses this host's nixpkgs, so that no start builds anything. With null and no
        {option}`guestPackage`, the first start builds the guest from this toolkit's nixpkgs.
      '';
    };
    guestPackage = mkOption {
      type = types.nullOr types.package;
      default = null;
      example = lib.literalExpression "agent-vm.lib.mkAgentVm { system = \"x86_64-linux\"; }";
      description = ''
        Built guest package to use instead of {option}`config`: the result of `lib.mkAgentVm`, or `system.build.agentVm` of a
        configuration that imports `nixosModules.vm-config`. It is part of this host's closure.
      '';
    };
    servers = mkOption {
      type = types.listOf (
        checked.oneOf {
          what = "the named servers";
          known = policy.agentMcp.knownServers.nixos;
        }
      );
      default = [ ];
      example = [ "nixos" ];
      description = "MCP servers in addition to codemcp, by name; see `docs/how-to/packages-and-servers.md`.";
    };
    agents = mkOption {
      type = types.listOf (
        checked.oneOf {
          what = "the coding agents";
          known = builtins.attrNames policy.agents;
        }
      );
      default = [ ];
      example = [ "claude" ];
      description = "Coding agents to install, by name; see `docs/how-to/agents.md`.";
    };
    nixArgs = mkOption {
      type = types.listOf checked.nixArgument;
      default = [ ];
      example = [
        "--override-input"
        "toolkit/nixpkgs"
        "github:NixOS/nixpkgs/nixos-unstable"
      ];
      description = "Arguments for every Nix command that builds the guest.";
    };
    egress = {
      mode = mkOption {
        type = types.enum (map (mode: mode.name) policy.egress.modes);
        default = defaults.egress;
        description = ''
          Which hosts the machine can reach; the list is {option}`allow`.

          ${lib.concatMapStringsSep "\n" (mode: "- `${mode.name}`: ${mode.reaches}") policy.egress.modes}
        '';
      };
      allow = mkOption {
        type = types.listOf checked.destination;
        default = [ ];
        example = [
          "@npm"
          "api.example.org"
          "*.example.net:8443"
        ];
        description = "Hosts that the machine can reach, and groups of hosts. A host without a port means ports 80 and 443.";
      };
      hostProxy = mkOption {
        type = types.strMatching "auto|none|https?://([^:@/]+@)?[^:@/]+(:[0-9]+)?/?";
        default = "auto";
        example = "http://proxy.example.org:3128";
        description = ''
          Proxy of this host that the machine's egress goes through: a URL without a password, `none`, or `auto` for that of
          `HTTPS_PROXY` in the environment of the machine's unit. A password is read from `HTTPS_PROXY` only.
        '';
      };
    };
    idleTimeout = mkOption {
      type = types.nullOr checked.timeLimit;
      default = "2h";
      example = "30m";
      description = ''
        Time without use after which the machine is stopped; null for never. The unit then ends and is not started again until
        {command}`systemctl start`. `docs/how-to/time-limits.md` says what counts as use.
      '';
    };
    ttl = mkOption {
      type = types.nullOr checked.timeLimit;
      default = null;
      example = "8h";
      description = "Time after its start at which the machine is stopped, as with {option}`idleTimeout`; null for never.";
    };
    startTimeout = mkOption {
      type = checked.seconds policy.agentMcp.timeouts.start;
      default = policy.agentMcp.timeouts.start;
      description = ''
        Seconds to wait until the machine answers. Without {option}`config` and {option}`guestPackage` the first start also builds the
        guest; {command}`systemctl start --no-block` does not wait for that.
      '';
    };
  };
}
