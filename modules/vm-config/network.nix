# The guest's end of QEMU's user network, and the policy's firewall: ssh and MCP in, nothing out.
{ config, lib, ... }:
let
  policy = import ../../lib/policy;
  inherit (policy) network;
  prefixLength = lib.last (lib.splitString "/" network.subnet);
in
{
  config = {
    networking = {
      # The host names the machine, by credential. Weaker than a default: a test has its own.
      hostName = lib.mkOverride 1250 "";
      usePredictableInterfaceNames = false;
      useDHCP = false;
      useNetworkd = true;
      enableIPv6 = lib.mkDefault false;
      # The whole rule set is the policy's; NixOS's own firewall would be a second one beside it.
      firewall.enable = false;
      nftables = {
        enable = true;
        ruleset = policy.firewall.ruleset;
      };
    };
    # Scripts and images are called after it; the name of a test's machine is the better one.
    system.name = lib.mkIf (config.networking.hostName == "") (lib.mkOverride 1250 "agent-vm");

    systemd.network = {
      wait-online.enable = false;
      networks."10-agent-vm" = {
        matchConfig.Name = network.interface;
        address = [ "${network.address}/${prefixLength}" ];
        networkConfig = {
          DHCP = "no";
          IPv6AcceptRA = false;
          LinkLocalAddressing = "no";
        };
        linkConfig.RequiredForOnline = "no";
      };
    };
    # There is no resolver to ask.
    services.resolved.enable = false;
    services.timesyncd.enable = lib.mkDefault false;
  };
}
