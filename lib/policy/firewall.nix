# nftables: ssh and MCP in, nothing else in, nothing out but the answers to it.
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
        # Refuse rather than drop: a program that tries learns so at once instead of at its own time-out.
        reject with icmpx admin-prohibited
      }
    }
  '';
}
