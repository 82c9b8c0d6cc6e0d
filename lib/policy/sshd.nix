# sshd accepts the agent's account and root, each by a key of its own, from files that the agent cannot write.
let
  user = import ./user.nix;
  ports = import ./ports.nix;
  credentials = import ./credentials.nix;
  egress = import ./egress.nix;
in
rec {
  unit = "ssh.service";

  # systemd places a unit's credentials here, readable only by root.
  credentialsOf = unit: "/run/credentials/${unit}";
  hostKeyOf = unit: "${credentialsOf unit}/${credentials.sshHostKey}";
  hostKey = hostKeyOf unit;
  # Each account has files of its own: the agent's key does not log in as root. sshd reads them as the user who logs in. So the
  # unit copies the agent's credential to a world-readable file, and root's stays where only root can read it.
  authorizedKeysDirectory = "/run/agent-vm/authorized_keys";
  authorizedKeysOf = unit: [
    "${authorizedKeysDirectory}/%u"
    "${credentialsOf unit}/${builtins.replaceStrings [ ".root" ] [ ".%u" ] credentials.rootKeys}"
  ];
  accounts = [
    user.name
    "root"
  ];

  settings = {
    Port = ports.ssh;
    ListenAddress = "0.0.0.0";
    HostKey = hostKey;
    AuthorizedKeysFile = builtins.concatStringsSep " " (authorizedKeysOf unit);
    AllowUsers = builtins.concatStringsSep " " accounts;
    AuthenticationMethods = "publickey";
    PubkeyAuthentication = true;
    PasswordAuthentication = false;
    KbdInteractiveAuthentication = false;
    HostbasedAuthentication = false;
    PermitEmptyPasswords = false;
    # For the machine's owner on the host, whose key is not in the guest.
    PermitRootLogin = "prohibit-password";
    PermitUserEnvironment = false;
    PermitUserRC = false;
    AllowAgentForwarding = false;
    AllowStreamLocalForwarding = "no";
    # Towards the guest: to ports of its own loopback only. localhost is ::1, too, where some servers listen. From the guest:
    # only the host's reverse tunnel, which forwards the egress port to the host's proxy.
    AllowTcpForwarding = "yes";
    PermitOpen = "127.0.0.1:* localhost:*";
    PermitListen = "127.0.0.1:${toString egress.port}";
    Include = egress.sshdConfig;
    GatewayPorts = "no";
    PermitTunnel = "no";
    X11Forwarding = false;
    # agent-vm runs many commands over one connection.
    MaxSessions = 64;
    # All connections come from the same address, the host's side of QEMU's network. With sshd's defaults, one client's
    # failures (a probe for the banner, a wrong key) would block the others.
    MaxStartups = 64;
    PerSourcePenalties = false;
    ClientAliveInterval = 30;
    ClientAliveCountMax = 4;
    UseDNS = false;
    PrintMotd = false;
    PrintLastLog = false;
    LogLevel = "INFO";
  };

  # Serves SFTP inside sshd's own process, so that it needs no program.
  sftpServer = "internal-sftp";

  # For a guest without PAM, which needs no passwords and no session manager.
  settingsWithoutPam = settings // {
    Subsystem = "sftp ${sftpServer}";
    UsePAM = false;
    SetEnv = "LANG=${import ./locale.nix}";
  };

  /**
    The [Service] section of the sshd unit.

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
      # A host that lets nobody log in as root has none.
      ImportCredential = [ credentials.rootKeys ];
      RuntimeDirectory = [
        "agent-vm"
        "sshd"
      ];
      RuntimeDirectoryMode = "0755";
      ExecStartPre = "${exe.install} -D -m 0644 \${CREDENTIALS_DIRECTORY}/${credentials.authorizedKeys} ${authorizedKeysDirectory}/${user.name}";
      ExecStart = "${exe.sshd} -D -e";
      Restart = "always";
      RestartSec = 1;
      # A process of a session that runs out of memory does not end the other sessions.
      OOMPolicy = "continue";
      # The service stops only at power-off, which must not wait for open sessions.
      KillMode = "mixed";
      TimeoutStopSec = 2;
    };
}
