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
in
{
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
  # What the NixOS module passes: any path, in place of this guest's.
  serviceTakesPaths = {
    expr =
      let
        service = policy.agentMcp.service {
          exe = {
            agentMcp = "/nix/store/x/bin/agent-mcp";
            mcpProxy = "/nix/store/y/bin/mcp-proxy";
            codemcp = "/nix/store/z/bin/codemcp";
          };
          path = "/nix/store/p/bin";
        };
      in
      any (contains "/usr/") (filter isString ([ service.ExecStart ] ++ service.Environment));
    expected = false;
  };
}
