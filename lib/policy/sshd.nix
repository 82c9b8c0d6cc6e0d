# sshd: one user, keys only, and the keys are where that user cannot write.
let
  user = import ./user.nix;
  ports = import ./ports.nix;
  credentials = import ./credentials.nix;
  egress = import ./egress.nix;
in
rec {
  unit = "ssh.service";

  # systemd unpacks a unit's credentials here, readable by root alone.
  hostKeyOf = unit: "/run/credentials/${unit}/${credentials.sshHostKey}";
  hostKey = hostKeyOf unit;
  # sshd reads this as the user who logs in, so the unit copies the credential to a file that all may read.
  authorizedKeys = "/run/agent-vm/authorized_keys";

  settings = {
    Port = ports.ssh;
    AddressFamily = "inet";
    HostKey = hostKey;
    AuthorizedKeysFile = authorizedKeys;
    AllowUsers = user.name;
    AuthenticationMethods = "publickey";
    PubkeyAuthentication = true;
    PasswordAuthentication = false;
    KbdInteractiveAuthentication = false;
    HostbasedAuthentication = false;
    PermitEmptyPasswords = false;
    PermitRootLogin = "no";
    PermitUserEnvironment = false;
    PermitUserRC = false;
    AllowAgentForwarding = false;
    AllowStreamLocalForwarding = "no";
    # For the host: it has this port listen, and connects it with its proxy.
    AllowTcpForwarding = "remote";
    PermitListen = "127.0.0.1:${toString egress.port}";
    Include = egress.sshdConfig;
    GatewayPorts = "no";
    PermitTunnel = "no";
    X11Forwarding = false;
    # One connection carries many commands of the host's.
    MaxSessions = 64;
    # All connections come from one address, the host's end of QEMU's network: what one of them did (a poll for the
    # banner, a wrong key) must not shut out the others, as sshd's defaults would.
    MaxStartups = 64;
    PerSourcePenalties = false;
    ClientAliveInterval = 30;
    ClientAliveCountMax = 4;
    UseDNS = false;
    PrintMotd = false;
    PrintLastLog = false;
    LogLevel = "INFO";
  };

  # The login runs no PAM: there is no password, no session manager and no module that would have to be trusted.
  settingsWithoutPam = settings // {
    UsePAM = false;
    SetEnv = "LANG=${import ./locale.nix}";
  };

  /**
    Service settings of the sshd unit.

    `exe`: paths of the programs `sshd` and `install`.
  */
  service =
    { exe }:
    {
      Type = "notify";
      LoadCredential = [
        credentials.sshHostKey
        credentials.authorizedKeys
      ];
      RuntimeDirectory = [
        "agent-vm"
        "sshd"
      ];
      RuntimeDirectoryMode = "0755";
      ExecStartPre = "${exe.install} -m 0644 \${CREDENTIALS_DIRECTORY}/${credentials.authorizedKeys} ${authorizedKeys}";
      ExecStart = "${exe.sshd} -D -e";
      Restart = "always";
      RestartSec = 1;
      # Sessions end with the service: it stops at power-off only, which is not to wait for a shell.
      KillMode = "mixed";
      TimeoutStopSec = 2;
    };
}
