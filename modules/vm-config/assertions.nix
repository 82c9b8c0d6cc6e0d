{
  config,
  lib,
  options,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  cfg = config.agentVm;
  inherit (import ../types { inherit lib; }) shown;
  fixed = import ./fixed.nix { inherit lib; };

  # Tests and `system.build.vm` have another disk.
  isQemuVm = options.virtualisation ? diskImage;
  root = config.fileSystems."/";
  # The setting that shows that this system is a host and not an agent machine, or null.
  hostSign =
    if config.services.agent-vms.enable or false then
      "services.agent-vms.enable is true"
    else if !isQemuVm && root.device != "/dev/disk/by-label/${policy.disk.label}" then
      "fileSystems.\"/\".device is ${shown root.device}"
    else if config.boot.loader.grub.enable then
      "boot.loader.grub.enable is true"
    else if config.boot.loader.systemd-boot.enable then
      "boot.loader.systemd-boot.enable is true"
    else
      null;

  brief =
    value:
    let
      text = shown value;
    in
    if lib.stringLength text > 80 then "${lib.substring 0 77 text}…" else text;
  held =
    {
      path,
      value,
      why,
    }:
    let
      option = lib.showOption path;
      actual = lib.attrByPath path null config;
    in
    {
      assertion = actual == value;
      message = ''
        ${option} is ${brief actual}, but an agent machine needs ${brief value}: ${why}. Remove that definition, or write
          ${option} = ${brief value};
      '';
    };

  rootGroups = lib.intersectLists config.users.users.${policy.user.name}.extraGroups [
    "adm"
    "disk"
    "docker"
    "incus-admin"
    "kmem"
    "libvirtd"
    "lxd"
    "nixbld"
    "podman"
    "root"
    "shadow"
    "sudo"
    "wheel"
  ];
  firewall = config.networking.firewall;
  inherit (pkgs.stdenv.hostPlatform) system;
  extraPorts = lib.subtractLists [ policy.ports.ssh policy.ports.mcp ] firewall.allowedTCPPorts;
in
{
  config = {
    assertions = [
      {
        assertion = hostSign == null;
        message = ''
          ${toString hostSign}, so this system is a host, but vm-config turns the whole system into an agent machine. On a host, write
            imports = [ agent-vm.nixosModules.host ];
          instead of nixosModules.vm-config. For the MCP servers without a machine, import nixosModules.agent-service.
        '';
      }
    ]
    # On a host, other differences are not reported as mistakes.
    ++ lib.optionals (hostSign == null) (
      map held fixed.settings
      ++ [
        {
          assertion = rootGroups == [ ];
          message = ''
            users.users.${policy.user.name}.extraGroups contains ${toString rootGroups}, but the agent must not get root privileges. Write
              users.users.${policy.user.name}.extraGroups = [ ];
          '';
        }
        {
          assertion = cfg.sshPort == null || cfg.sshPort != cfg.mcpPort;
          message = ''
            agentVm.sshPort and agentVm.mcpPort are both ${toString cfg.sshPort}, but they must differ. Write
              agentVm.sshPort = ${toString (if cfg.sshPort == 65535 then 65534 else cfg.sshPort + 1)};
          '';
        }
        {
          assertion =
            config.services.openssh.authorizedKeysFiles == policy.sshd.authorizedKeysOf "sshd.service";
          message = ''
            services.openssh.authorizedKeysFiles is ${builtins.toJSON config.services.openssh.authorizedKeysFiles}, but the host
            provides the keys at boot, in files that the agent cannot write. Remove that definition.
          '';
        }
        {
          assertion = !config.security.sudo.enable && !(config.security.sudo-rs.enable or false);
          message = ''
            security.sudo.enable is true, but the agent must not get root privileges. Write
              security.sudo.enable = false;
          '';
        }
        {
          assertion = !config.security.doas.enable;
          message = ''
            security.doas.enable is true, but the agent must not get root privileges. Write
              security.doas.enable = false;
          '';
        }
      ]
    );
    warnings =
      lib.optional (extraPorts != [ ]) ''
        networking.firewall.allowedTCPPorts contains ${toString extraPorts}, but the agent machine's firewall allows only ssh
        and MCP.
      ''
      ++ lib.optional (cfg.hostAddress != "127.0.0.1") ''
        agentVm.hostAddress is ${cfg.hostAddress}: every client that reaches this address can connect to ssh and MCP.
      ''
      ++ lib.optional (system != "x86_64-linux") ''
        system.build.agentVm supports only x86_64-linux, not ${system}. Use system.build.vm instead.
      '';
  };
}
