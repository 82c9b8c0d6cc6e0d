# What the agent's account must not learn from the kernel or make it do.
{
  "kernel.dmesg_restrict" = 1;
  "kernel.kptr_restrict" = 2;
  "kernel.kexec_load_disabled" = 1;
  "kernel.perf_event_paranoid" = 3;
  "kernel.unprivileged_bpf_disabled" = 1;
  "kernel.sysrq" = 0;
  # 1: a debugger may trace its own children, which is what an agent does with one.
  "kernel.yama.ptrace_scope" = 1;
  "net.core.bpf_jit_harden" = 2;
  "net.ipv4.conf.all.accept_redirects" = 0;
  "net.ipv4.conf.all.send_redirects" = 0;
  "net.ipv4.conf.all.accept_source_route" = 0;
  # Nothing is reached over IPv6, so nothing needs it outside the loopback.
  "net.ipv6.conf.all.disable_ipv6" = 1;
  "net.ipv6.conf.lo.disable_ipv6" = 0;
  "fs.protected_fifos" = 2;
  "fs.protected_hardlinks" = 1;
  "fs.protected_regular" = 2;
  "fs.protected_symlinks" = 1;
  "fs.suid_dumpable" = 0;
  "dev.tty.ldisc_autoload" = 0;
  # User namespaces show unprivileged code most of the kernel that is otherwise root's.
  "user.max_user_namespaces" = 0;
}
