# Kernel settings that keep information and features from the agent's account.
{
  "kernel.dmesg_restrict" = 1;
  "kernel.kptr_restrict" = 2;
  "kernel.kexec_load_disabled" = 1;
  "kernel.perf_event_paranoid" = 3;
  "kernel.unprivileged_bpf_disabled" = 1;
  "kernel.sysrq" = 0;
  # 1: a debugger may trace only its own children, which is enough for an agent.
  "kernel.yama.ptrace_scope" = 1;
  "net.core.bpf_jit_harden" = 2;
  "net.ipv4.conf.all.accept_redirects" = 0;
  "net.ipv4.conf.all.send_redirects" = 0;
  "net.ipv4.conf.all.accept_source_route" = 0;
  # The machine has no IPv6 connections except on loopback.
  "net.ipv6.conf.all.disable_ipv6" = 1;
  "net.ipv6.conf.lo.disable_ipv6" = 0;
  "fs.protected_fifos" = 2;
  "fs.protected_hardlinks" = 1;
  "fs.protected_regular" = 2;
  "fs.protected_symlinks" = 1;
  "fs.suid_dumpable" = 0;
  "dev.tty.ldisc_autoload" = 0;
  # User namespaces would give unprivileged code access to kernel interfaces that otherwise only root can use.
  "user.max_user_namespaces" = 0;
}
