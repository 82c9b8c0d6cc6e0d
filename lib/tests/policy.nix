# What the policy says.
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
    mcpProxyPython = "/nix/store/w/bin/python3";
    codemcp = "/nix/store/z/bin/codemcp";
  };
in
{
  policyImportsNothingAboveIt = {
    expr = filter (file: contains "../" (builtins.readFile (../policy + "/${file}"))) (
      builtins.attrNames (builtins.readDir ../policy)
    );
    expected = [ ];
  };
  nothingGoesOut = {
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
      "PermitRootLogin no\n"
      "AllowUsers dev\n"
      "AllowAgentForwarding no\n"
      "AuthorizedKeysFile /run/"
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
  # The agent's own account would read the token and the key.
  gateIsAnotherAccount = {
    expr =
      policy.mcpGate.account != policy.user.name
      && policy.mcpGate.settings.User == policy.mcpGate.account;
    expected = true;
  };
  gateIsHardened = {
    expr = filter (key: !hasAttr key policy.mcpGate.hardening) [
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
  onlyTheGateListensOutside = {
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
  # What the NixOS module passes: any path, in place of this guest's.
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
  # So many failing starts fit in, however slow each of them is: else the limit is never reached.
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
        # One that came up, and answered no more.
        (start + service.WatchdogSec)
        # No limit at all would pass as well.
        (2 * start)
      ];
    expected = [
      true
      true
      false
    ];
  };
}
