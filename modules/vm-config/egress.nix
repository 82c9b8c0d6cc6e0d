# The guest's side of egress: variables that name the proxy, and the host's certificate authority.
{
  lib,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  inherit (policy) egress;

  script = pkgs.writeShellScript "agent-vm-egress" (
    egress.script {
      java = "/run/current-system/sw/bin/java";
      makeTrustStore = "${pkgs.python3}/bin/python3 -I -S ${pkgs.writeText "java-trust-store.py" egress.trustStoreScript}";
    }
  );
  connect = pkgs.writeShellScript "agent-vm-ssh-connect" ''
    PATH=${lib.makeBinPath [ pkgs.coreutils ]}
    ${policy.sshClient.script}
  '';
in
{
  config = {
    systemd.services.${lib.removeSuffix ".service" egress.unit} = {
      description = egress.unitSection.Description;
      wantedBy = [ "multi-user.target" ];
      before = [
        "sshd.service"
        policy.agentMcp.unit
      ];
      path = [
        pkgs.coreutils
        pkgs.util-linux
      ];
      serviceConfig = egress.service { exec = "${script}"; };
    };

    programs.ssh.extraConfig = policy.sshClient.config "${connect}";

    services.agent-mcp.extraEnvironment = lib.mapAttrs (_: lib.mkDefault) (
      import ../../lib/environment.nix egress.environment
    );
    systemd.services.${policy.agentMcp.name}.serviceConfig.EnvironmentFile = [
      "-${egress.environmentFile}"
    ];
  };
}
