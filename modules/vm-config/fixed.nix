# Settings that an agent machine depends on. A configuration can override them, so that another value is one clear
# error of `assertions.nix` and not a conflict of definitions.
{ lib }:
let
  policy = import ../../lib/policy;
  inherit (policy) sshd user;

  # Weaker than a configuration's definition, stronger than any default.
  mkFixed = lib.mkOverride 900;
  setting = why: path: value: { inherit why path value; };
  network = setting "its network is restricted to ssh and MCP by the policy's firewall";
  ssh = setting "agent-vm connects by ssh, with the machine's keys only";
  account =
    name:
    setting "this account owns the workspace's files" [
      "users"
      "users"
      user.name
      name
    ];
  mcp = setting "agent-vm expects the MCP endpoint there";
  kernel = setting "programs in the machine must not change its kernel or create namespaces";
in
rec {
  settings = [
    (network [ "networking" "firewall" "enable" ] false)
    (network [ "networking" "nftables" "enable" ] true)
    (network [ "networking" "nftables" "ruleset" ] policy.firewall.ruleset)
    (network [ "networking" "useDHCP" ] false)
    (network [ "networking" "useNetworkd" ] true)
    (network [ "services" "resolved" "enable" ] false)
    (ssh [ "services" "openssh" "enable" ] true)
    (ssh [ "services" "openssh" "openFirewall" ] false)
    (ssh [ "services" "openssh" "startWhenNeeded" ] false)
    (ssh [ "services" "openssh" "authorizedKeysInHomedir" ] false)
    (ssh [ "services" "openssh" "ports" ] [ sshd.settings.Port ])
    (account "uid" user.uid)
    (account "home" user.home)
    (account "group" user.name)
    (account "isNormalUser" true)
    (setting "only the host's keys may log in" [ "users" "mutableUsers" ] false)
    (kernel [ "security" "lockKernelModules" ] true)
    (kernel [ "security" "protectKernelImage" ] true)
    (kernel [ "security" "allowUserNamespaces" ] false)
    (mcp [ "services" "agent-mcp" "enable" ] true)
    (mcp [ "services" "agent-mcp" "user" ] user.name)
    (mcp [ "services" "agent-mcp" "group" ] user.name)
    (mcp [ "services" "agent-mcp" "workspaceDir" ] policy.workspace.path)
    (mcp [ "services" "agent-mcp" "host" ] "0.0.0.0")
    (mcp [ "services" "agent-mcp" "port" ] policy.ports.mcp)
    (mcp [ "services" "agent-mcp" "gate" "enable" ] true)
    (mcp [ "services" "agent-mcp" "gate" "fromHost" ] true)
  ]
  ++
    lib.mapAttrsToList
      (
        name:
        ssh [
          "services"
          "openssh"
          "settings"
          name
        ]
      )
      (
        # Settings that NixOS has separate options for, or spells differently.
        removeAttrs sshd.settings [
          "AllowUsers"
          "AuthorizedKeysFile"
          "HostKey"
          "ListenAddress"
          "Port"
          "UseDNS"
        ]
        // {
          AllowUsers = sshd.accounts;
          UseDns = sshd.settings.UseDNS;
        }
      );

  config = lib.mkMerge (map ({ path, value, ... }: lib.setAttrByPath path (mkFixed value)) settings);
}
