# The journal stays on the machine's disk, so that the logs of a crashed boot can be read after it.
{
  Storage = "persistent";
  SystemMaxUse = "64M";
  SystemMaxFileSize = "8M";
  RuntimeMaxUse = "16M";
  # Compressing and sealing cost more than they save on a log this small.
  Seal = "no";
  ForwardToSyslog = "no";
  ForwardToWall = "no";
  Audit = "no";
}
