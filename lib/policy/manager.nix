# Settings of systemd's manager (systemd-system.conf(5)).
let
  agentMcp = import ./agent-mcp.nix;
in
{
  # `agent-vm stop` waits for a clean power-off, and no service needs long to stop.
  DefaultTimeoutStopSec = "3s";
  # In seconds. An emulated machine on a busy host is slow. A shorter timeout would restart units that have not failed.
  DefaultTimeoutStartSec = agentMcp.timeouts.start;
  ShowStatus = "error";
  # The console shows errors only; the journal has all messages.
  LogTarget = "journal-or-kmsg";
  CtrlAltDelBurstAction = "poweroff-force";
}
