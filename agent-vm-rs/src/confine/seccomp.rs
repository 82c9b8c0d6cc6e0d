//! A seccomp filter that refuses system calls which QEMU, the proxy, the forwarders and a reading git do not need, and which
//! would expose most of the kernel to a compromised one.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use libc::{c_int, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

/// System calls that fail with `EPERM`, by the groups of systemd.exec(5).
const REFUSED: &[c_long] = &[
    // @clock
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    // @debug, and access to other processes
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    // @keyring
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // @module, @reboot, @swap
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    // @mount, and namespaces
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // Programs and queues that the kernel runs or reads itself.
    libc::SYS_bpf,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    // Administration, and access to files without their paths.
    libc::SYS_acct,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// More of them, which only x86-64 has: @cpu-emulation, @raw-io and @obsolete.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] =
    &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt, libc::SYS_sysfs, libc::SYS_uselib, libc::SYS_ustat];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

/// Flags of clone(2) that create namespaces.
const NAMESPACES: [c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Allowed socket families. The others are rarely used, and they would expose much of the kernel.
const FAMILIES: [c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Applies the filter to this thread and everything that it executes or starts, permanently.
///
/// # Errors
/// The kernel has no seccomp filters, or none is defined for this processor.
pub fn apply() -> Result<()> {
    refuse(rules()?)
}

/// Refused system calls: always, or if one of the rules matches.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn refuse(rules: Rules) -> Result<()> {
    let processor: TargetArch =
        std::env::consts::ARCH.try_into().context("no seccomp filter is defined for this processor")?;
    let errno = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, processor).and_then(BpfProgram::try_from);
    let filter = filter.context("failed to compile the seccomp filter")?;
    for filter in [filter, absent()] {
        apply_filter(&filter).context("failed to apply the seccomp filter")?;
    }
    Ok(())
}

fn rules() -> Result<Rules> {
    let always = REFUSED.iter().chain(REFUSED_HERE).map(|call| (*call, Vec::new()));
    let mut rules: Rules = always.chain(devices()?).collect();
    let flags = NAMESPACES.iter().map(|flag| rule([(0, is_set(*flag))]));
    rules.insert(libc::SYS_clone, flags.collect::<Result<_>>()?);
    let others = FAMILIES.map(|family| (0, (SeccompCmpOp::Ne, family)));
    rules.insert(libc::SYS_socket, vec![rule(others)?]);
    Ok(rules)
}

/// Returns rules against creating devices. In a user namespace the kernel allows only 0:0, which overlayfs(5) takes for a
/// deleted file.
fn devices() -> Result<Rules> {
    let kinds = |argument| [libc::S_IFCHR, libc::S_IFBLK].map(|kind| rule([(argument, is_kind(kind))]));
    let mut rules = Rules::new();
    rules.insert(libc::SYS_mknodat, kinds(2).into_iter().collect::<Result<_>>()?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_mknod, kinds(1).into_iter().collect::<Result<_>>()?);
    Ok(rules)
}

/// Options of the command that executes a program which cannot create device files.
#[derive(Args, Clone, Debug)]
pub struct WithoutDevices {
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<std::ffi::OsString>,
}

impl WithoutDevices {
    /// Applies the filter and executes the program.
    ///
    /// # Errors
    /// The kernel has no seccomp filters, or the program does not exist.
    pub fn exec(&self) -> Result<std::convert::Infallible> {
        refuse(devices()?)?;
        let (program, args) = self.program.split_first().context("no program to execute was given")?;
        Err(Command::new(program).args(args).exec())
            .with_context(|| format!("failed to execute {}", program.to_string_lossy()))
    }
}

/// Matches an argument that has all bits of a flag.
fn is_set(flag: c_int) -> (SeccompCmpOp, c_int) {
    (SeccompCmpOp::MaskedEq(u64::from(flag.cast_unsigned())), flag)
}

/// Matches an argument that is a file mode of this kind.
fn is_kind(kind: libc::mode_t) -> (SeccompCmpOp, c_int) {
    (SeccompCmpOp::MaskedEq(libc::S_IFMT.into()), kind.cast_signed())
}

/// Returns a rule that matches if all conditions on the numbered arguments do.
fn rule<const COUNT: usize>(conditions: [(u8, (SeccompCmpOp, c_int)); COUNT]) -> Result<SeccompRule> {
    let condition = |(argument, (compare, value)): (u8, (SeccompCmpOp, c_int))| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value.cast_unsigned().into())
    };
    let conditions = conditions.into_iter().map(condition).collect::<Result<_, _>>();
    conditions.and_then(SeccompRule::new).context("failed to compile the seccomp filter")
}

/// Returns a filter for system calls that must fail as if the kernel lacked them (`ENOSYS`): clone3(2), whose flags a filter
/// cannot read, so that programs use clone(2); and on x86-64 the x32 ABI, which is a second number for each call.
fn absent() -> BpfProgram {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    const X32: u32 = 0x4000_0000;
    let word = |code: u32, jt, jf, k| sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt, jf, k };
    let errno = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    vec![
        // The system call's number is the first word of `struct seccomp_data` (seccomp(2)).
        word(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        word(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX)),
        word(BPF_JMP | BPF_JGE | BPF_K, 0, 1, X32),
        word(BPF_RET | BPF_K, 0, 0, errno),
        word(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
