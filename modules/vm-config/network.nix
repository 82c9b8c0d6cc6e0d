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
      enableIPv6 = lib.mkDefault false;
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
    services.timesyncd.enable = lib.mkDefault false;
    # There is no resolver to ask, and none to wait for.
    networking.resolvconf.enable = lib.mkDefault false;
    environment.etc."resolv.conf".text = lib.mkDefault "# The host's proxy looks names up.\n";
  };
}
