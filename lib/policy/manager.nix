# Settings of systemd's manager (systemd-system.conf(5)).
{
  # `agent-vm stop` waits for a clean power-off, and no service needs long to stop.
  DefaultTimeoutStopSec = "3s";
  # An emulated machine on a busy host is slow. A shorter timeout would restart units that have not failed.
  DefaultTimeoutStartSec = "15min";
  ShowStatus = "error";
  # The console shows errors only; the journal has all messages.
  LogTarget = "journal-or-kmsg";
  CtrlAltDelBurstAction = "poweroff-force";
}
