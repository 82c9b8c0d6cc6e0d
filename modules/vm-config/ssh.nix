# sshd with the policy's settings. Host key and authorized keys are credentials that the host hands over at boot.
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
      allowSFTP = lib.mkDefault false;
      # The credential is the only one.
      hostKeys = [ ];
      authorizedKeysFiles = lib.mkForce [ sshd.authorizedKeys ];
    }
    # A unit that would have nothing to make.
    // lib.optionalAttrs (options.services.openssh ? generateHostKeys) { generateHostKeys = false; }
    // {
      settings = {
        HostKey = sshd.hostKeyOf unit;
        # The session's environment comes from PAM here. It checks no password: the account has none.
        UsePAM = true;
      };
    };

    systemd.services.sshd = {
      # A machine that nobody gave keys has no use for sshd.
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

    # It has sshd listen on vsock and Unix sockets, too, where a release comes with it.
    systemd.generators.systemd-ssh-generator = "/dev/null";

    # It would look for keys in places that do not exist here, and fails inside PrivateUsers=.
    programs.ssh = lib.optionalAttrs (options.programs.ssh ? systemd-ssh-proxy) {
      systemd-ssh-proxy.enable = lib.mkDefault false;
    };
  };
}
