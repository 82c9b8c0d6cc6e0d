# The service's account and workspace. Declarations of other modules take precedence.
{ config, lib, ... }:
let
  cfg = config.services.agent-mcp;
  user = config.users.users.${cfg.user};
in
{
  config = lib.mkIf cfg.enable {
    users.users.${cfg.user} = {
      # NixOS requires either isSystemUser or isNormalUser.
      isSystemUser = lib.mkIf (!user.isNormalUser) (lib.mkDefault true);
      group = lib.mkOverride 1250 cfg.group;
      home = lib.mkOverride 1250 "/var/lib/${cfg.user}";
      createHome = lib.mkOverride 1250 true;
      description = lib.mkOverride 1250 "MCP servers of the agent";
    };
    users.groups.${cfg.group} = { };

    systemd.tmpfiles.settings.agent-mcp = lib.mkIf (!(config.fileSystems ? ${cfg.workspaceDir})) {
      ${cfg.workspaceDir}.d = {
        inherit (cfg) user group;
        mode = "0755";
      };
    };
  };
}
