# Tests of the policy.
{
  policy,
  contains,
  text,
  ...
}:
let
  inherit (builtins)
    all
    any
    concatStringsSep
    filter
    hasAttr
    isString
    ;

  programs = {
    agentMcp = "/nix/store/x/bin/agent-mcp";
    mcpProxy = "/nix/store/y/bin/mcp-proxy";
    codemcp = "/nix/store/z/bin/codemcp";
  };
in
{
  policyImportsNothingAboveIt = {
    expr = filter (file: contains "../" (builtins.readFile (../policy + "/${file}"))) (
      filter (file: (builtins.readDir ../policy).${file} == "regular") (
        builtins.attrNames (builtins.readDir ../policy)
      )
    );
    expected = [ ];
  };
  knownServersAreThoseOfTheDebianGuest = {
    expr = policy.agentMcp.knownServers.debian;
    expected = builtins.attrNames (import ../debian/servers.nix);
  };
  networkIsRestricted = {
    expr = contains ",restrict=on," (concatStringsSep " " (policy.qemu.net ""));
    expected = true;
  };
  sandboxed = {
    expr = all (word: contains word (concatStringsSep " " policy.qemu.sandbox)) [
      "obsolete=deny"
      "elevateprivileges=deny"
      "spawn=deny"
      "resourcecontrol=deny"
    ];
    expected = true;
  };
  sshd = {
    expr = all (line: contains line (text "/etc/ssh/sshd_config")) [
      "PasswordAuthentication no\n"
      "KbdInteractiveAuthentication no\n"
      "PermitRootLogin prohibit-password\n"
      "AllowUsers dev root\n"
      "AllowAgentForwarding no\n"
      # A file for each account, so that the agent's key is not root's.
      "AuthorizedKeysFile /run/agent-vm/authorized_keys/%u /run/credentials/ssh.service/agent-vm.keys.%u\n"
      "AllowStreamLocalForwarding no\n"
      "GatewayPorts no\n"
      "PermitListen 127.0.0.1:3128\n"
      "PermitOpen 127.0.0.1:* localhost:*\n"
      "Subsystem sftp internal-sftp\n"
    ];
    expected = true;
  };
  serviceIsHardened = {
    expr = filter (key: !hasAttr key policy.agentMcp.hardening) [
      "NoNewPrivileges"
      "ProtectSystem"
      "RestrictNamespaces"
      "SystemCallFilter"
    ];
    expected = [ ];
  };
  # The agent's account must not be able to read the token and the key.
  reverseProxyHasItsOwnAccount = {
    expr =
      policy.mcpReverseProxy.account != policy.user.name
      && policy.mcpReverseProxy.settings.User == policy.mcpReverseProxy.account;
    expected = true;
  };
  reverseProxyIsHardened = {
    expr = filter (key: !hasAttr key policy.mcpReverseProxy.hardening) [
      "CapabilityBoundingSet"
      "MemoryDenyWriteExecute"
      "NoNewPrivileges"
      "ProtectHome"
      "ProtectSystem"
      "RestrictNamespaces"
      "SystemCallFilter"
    ];
    expected = [ ];
  };
  onlyTheReverseProxyListensOnTheNetwork = {
    expr = [
      (contains "--host=127.0.0.1 --port=8001" (text "/etc/systemd/system/agent-mcp.service"))
      (contains "--listen=0.0.0.0:8000 --inner-port=8001" (
        text "/etc/systemd/system/agent-mcp-gate.service"
      ))
      (contains "8001" (text "/etc/nftables.conf"))
    ];
    expected = [
      true
      true
      false
    ];
  };
  hardwareClockFollowsTheHost = {
    expr = contains "-rtc base=utc,clock=host" (
      concatStringsSep " " (
        policy.qemu.args {
          base = "";
          disk = "";
          forwards = "";
        }
      )
    );
    expected = true;
  };
  # Values with spaces are one word of sshd's configuration, and a line of the units' environment file.
  javaGetsTheProxyInEverySession = {
    expr = [
      (contains "\"JAVA_TOOL_OPTIONS=%s\"" (text "/usr/lib/agent-vm/egress"))
      (contains "printf 'JAVA_TOOL_OPTIONS=%s\\n' \"$java\" >>/run/agent-vm-egress/environment" (
        text "/usr/lib/agent-vm/egress"
      ))
      (any (contains " ") policy.egress.environment)
    ];
    expected = [
      true
      true
      false
    ];
  };
  sshGoesThroughTheProxy = {
    expr = text "/etc/ssh/ssh_config.d/agent-vm.conf";
    expected = ''
      Host * !localhost !127.0.0.1 !::1
        ProxyCommand /bin/bash /usr/lib/agent-vm/ssh-connect 3128 %h %p
    '';
  };
  # Later lines of SystemCallFilter take precedence.
  onlyTheClockServiceMaySetTheClock = {
    expr =
      map
        (hardening: {
          capabilities = hardening.CapabilityBoundingSet;
          clock = builtins.elem "@clock" hardening.SystemCallFilter;
        })
        [
          policy.clock.hardening
          policy.agentMcp.hardening
          policy.mcpReverseProxy.hardening
        ];
    expected = [
      {
        capabilities = "CAP_SYS_TIME";
        clock = true;
      }
      {
        capabilities = "";
        clock = false;
      }
      {
        capabilities = "";
        clock = false;
      }
    ];
  };
  largeFilesNeedNoConfiguration = {
    expr =
      all (line: builtins.elem line (filter isString (builtins.split "\n" (text "/etc/gitconfig"))))
        [
          "[filter \"lfs\"]"
          "\tprocess = \"git-lfs filter-process\""
          "\trequired = \"true\""
          # Control: a section without a subsection.
          "[safe]"
        ];
    expected = true;
  };
  # The NixOS module passes store paths, so no path of the Debian guest may be fixed.
  serviceTakesPaths = {
    expr =
      let
        service = policy.agentMcp.service {
          exe = programs;
          path = "/nix/store/p/bin";
        };
      in
      any (contains "/usr/") (filter isString ([ service.ExecStart ] ++ service.Environment));
    expected = false;
  };
  # The interval must be long enough for StartLimitBurst slow failures, or systemd never reaches the limit.
  startLimitIsReached = {
    expr =
      let
        service = policy.agentMcp.service {
          exe = builtins.mapAttrs (_: _: "") programs;
          path = "";
        };
        inherit (policy.agentMcp.unitSection) StartLimitBurst StartLimitIntervalSec;
        start = service.TimeoutStartSec + service.TimeoutStopSec + service.RestartSec;
      in
      map (failing: StartLimitIntervalSec > StartLimitBurst * failing) [
        start
        # A start that succeeds and then fails by the watchdog.
        (start + service.WatchdogSec)
        # Control: the interval is not arbitrarily long.
        (2 * start)
      ];
    expected = [
      true
      true
      false
    ];
  };
}
