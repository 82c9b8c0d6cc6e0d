# sshd with the policy's settings. The host provides the host key and the authorized keys as credentials at boot.
{
  lib,
  options,
  pkgs,
  ...
}:
let
  policy = import ../../lib/policy;
  inherit (policy) sshd;
  unit = "sshd.service";
  service = sshd.service {
    exe = {
      sshd = "sshd";
      install = lib.getExe' pkgs.coreutils "install";
    };
  };
in
{
  config = {
    services.openssh = {
      allowSFTP = lib.mkDefault true;
      # Over nixpkgs' own default, and under a configuration's value.
      sftpServerExecutable = lib.mkOverride 900 sshd.sftpServer;
      # The credential is the only host key.
      hostKeys = [ ];
      listenAddresses = lib.mkDefault [ { addr = sshd.settings.ListenAddress; } ];
      authorizedKeysFiles = lib.mkForce (sshd.authorizedKeysOf unit);
    }
    # This unit would have no keys to generate.
    // lib.optionalAttrs (options.services.openssh ? generateHostKeys) { generateHostKeys = false; }
    // {
      settings = {
        HostKey = sshd.hostKeyOf unit;
        # Forwards also lead to ::1. Without IPv6 on the network, NixOS would restrict them to IPv4.
        AddressFamily = lib.mkOverride 900 "any";
        # PAM sets the session's environment. It checks no password, because the account has none.
        UsePAM = true;
      };
    };

    systemd.services.sshd = {
      # Without keys, nobody could log in.
      unitConfig.ConditionPathExists = "/run/credentials/@system/${policy.credentials.authorizedKeys}";
      serviceConfig =
        lib.mapAttrs (_: lib.mkForce) (
          removeAttrs service [
            "Type"
            "ExecStart"
            "ExecStartPre"
          ]
        )
        // {
          ExecStartPre = [ service.ExecStartPre ];
        };
    };

    # On newer releases this generator makes sshd listen on vsock and Unix sockets too.
    systemd.generators.systemd-ssh-generator = "/dev/null";

    # It looks for keys in places that do not exist here, and fails inside PrivateUsers=.
    programs.ssh = lib.optionalAttrs (options.programs.ssh ? systemd-ssh-proxy) {
      systemd-ssh-proxy.enable = lib.mkDefault false;
    };
  };
}
