# systemd itself.
{
  # Nothing here needs long to stop; a clean power-off is what stop waits for.
  DefaultTimeoutStopSec = "3s";
  # An emulated machine on a busy host is slow, not broken: a unit that is ended for that is started again, and again.
  DefaultTimeoutStartSec = "15min";
  ShowStatus = "error";
  # The console is for errors; the journal has the rest.
  LogTarget = "journal-or-kmsg";
  CtrlAltDelBurstAction = "poweroff-force";
}
