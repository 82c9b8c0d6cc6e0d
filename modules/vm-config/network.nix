# The guest's side of QEMU's user network, and the policy's firewall: ssh and MCP in, nothing out.
{ config, lib, ... }:
let
  policy = import ../../lib/policy;
  inherit (policy) network;
  prefixLength = lib.last (lib.splitString "/" network.subnet);
in
{
  config = {
    networking = {
      # The host sets the machine's name by a credential. Weaker than a default, because a test sets its own name.
      hostName = lib.mkOverride 1250 "";
      usePredictableInterfaceNames = false;
      enableIPv6 = lib.mkDefault false;
      # The loopback has both addresses, and NixOS gives its name only to the first.
      hosts."::1" = lib.mkIf (!config.networking.enableIPv6) [ "localhost" ];
    };
    # The name of scripts and images. A test's machine name takes precedence.
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
    # The machine has no resolver.
    networking.resolvconf.enable = lib.mkDefault false;
    environment.etc."resolv.conf".text =
      lib.mkDefault "# The egress proxy on the host resolves names.\n";
  };
}
