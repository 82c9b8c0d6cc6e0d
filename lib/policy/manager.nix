# systemd itself.
{
  # Nothing here needs long to stop; a clean power-off is what stop waits for.
  DefaultTimeoutStopSec = "3s";
  ShowStatus = "error";
  # The console is for errors; the journal has the rest.
  LogTarget = "journal-or-kmsg";
  CtrlAltDelBurstAction = "poweroff-force";
}
