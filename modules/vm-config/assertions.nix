{
  config,
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  cfg = config.agentVm;
  firewall = config.networking.firewall;
  inherit (pkgs.stdenv.hostPlatform) system;
  extraPorts = lib.subtractLists [ policy.ports.ssh policy.ports.mcp ] firewall.allowedTCPPorts;
in
{
  config = {
    assertions = [
      {
        assertion = !firewall.enable;
        message = ''
          networking.firewall.enable is true: the agent machine's firewall is the policy's own, and a second one would
          open what it closes. Write
            networking.firewall.enable = false;
        '';
      }
      {
        assertion = cfg.sshPort == null || cfg.sshPort != cfg.mcpPort;
        message = ''
          agentVm.sshPort and agentVm.mcpPort are both ${toString cfg.sshPort}, but one port leads to one service. Write
            agentVm.sshPort = ${toString (if cfg.sshPort == 65535 then 65534 else cfg.sshPort + 1)};
        '';
      }
      {
        assertion = config.services.openssh.authorizedKeysFiles == [ policy.sshd.authorizedKeys ];
        message = ''
          services.openssh.authorizedKeysFiles is ${builtins.toJSON config.services.openssh.authorizedKeysFiles}: keys come from
          the host, at boot, and are where the agent cannot write. Leave it to the module.
        '';
      }
      {
        assertion = !config.security.sudo.enable && !(config.security.sudo-rs.enable or false);
        message = ''
          security.sudo.enable is true: nothing in the agent machine may lead to root. Write
            security.sudo.enable = false;
        '';
      }
    ];
    warnings =
      lib.optional (extraPorts != [ ]) ''
        networking.firewall.allowedTCPPorts holds ${toString extraPorts}, which the agent machine's firewall does not open:
        it lets in ssh and MCP only.
      ''
      ++ lib.optional (cfg.hostAddress != "127.0.0.1") ''
        agentVm.hostAddress is ${cfg.hostAddress}: whoever reaches that address reaches the gate before MCP, and ssh.
      ''
      ++ lib.optional (system != "x86_64-linux") ''
        system.build.agentVm starts x86_64-linux machines only, not ${system}. system.build.vm does.
      '';
  };
}
