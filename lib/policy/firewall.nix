# nftables rules: incoming ssh and MCP connections only, and no outgoing connections.
let
  ports = import ./ports.nix;
in
{
  ruleset = ''
    flush ruleset

    table inet agent-vm {
      chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state established,related accept
        ct state invalid drop
        tcp dport { ${toString ports.ssh}, ${toString ports.mcp} } accept
      }

      chain forward {
        type filter hook forward priority filter; policy drop;
      }

      chain output {
        type filter hook output priority filter; policy drop;
        oifname "lo" accept
        ct state established,related accept
        # Reject instead of drop, so that a program fails at once and not by a timeout.
        reject with icmpx admin-prohibited
      }
    }
  '';
}
