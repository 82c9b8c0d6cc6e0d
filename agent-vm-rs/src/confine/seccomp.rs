//! A filter of system calls: what neither a proxy, nor a forwarder, nor QEMU, nor a git that reads has to do, and what would
//! open the most of the kernel to whoever took one of them over.

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

/// Calls that fail with `EPERM`, by the groups that systemd.exec(5) has for them.
const REFUSED: &[c_long] = &[
    // @clock
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    // @debug, and looks into other processes
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
    // Programs and queues that the kernel runs or reads by itself.
    libc::SYS_bpf,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    // Administration, and files past their paths.
    libc::SYS_acct,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_vhangup,
];

/// More of them, which only this processor has: @cpu-emulation, @raw-io and @obsolete.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[c_long] =
    &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_modify_ldt, libc::SYS_sysfs, libc::SYS_uselib, libc::SYS_ustat];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[c_long] = &[];

/// Flags of clone(2) that make namespaces.
const NAMESPACES: [c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

/// Sockets of other families are refused: much of the kernel is behind them that hardly anything uses.
const FAMILIES: [c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Puts the filter around this thread and all that it becomes or starts, for good.
///
/// # Errors
/// The kernel has no such filters, or this processor is none that they are known for.
pub fn refuse_what_is_not_needed() -> Result<()> {
    refuse(rules()?)
}

/// Calls that are refused, all of them or those to which a rule applies.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn refuse(rules: Rules) -> Result<()> {
    let processor: TargetArch = std::env::consts::ARCH.try_into().context("no filter is known for this processor")?;
    let errno = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, processor).and_then(BpfProgram::try_from);
    let filter = filter.context("failed to make a filter of system calls")?;
    for filter in [filter, absent()] {
        apply_filter(&filter).context("failed to put a filter of system calls around it")?;
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

/// To make devices. In a user namespace the kernel allows none but 0:0, which overlayfs(5) takes for a file that is gone.
fn devices() -> Result<Rules> {
    let kinds = |argument| [libc::S_IFCHR, libc::S_IFBLK].map(|kind| rule([(argument, is_kind(kind))]));
    let mut rules = Rules::new();
    rules.insert(libc::SYS_mknodat, kinds(2).into_iter().collect::<Result<_>>()?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_mknod, kinds(1).into_iter().collect::<Result<_>>()?);
    Ok(rules)
}

/// A program that makes no devices, whatever else it does.
#[derive(Args, Clone, Debug)]
pub struct WithoutDevices {
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<std::ffi::OsString>,
}

impl WithoutDevices {
    /// Becomes the program.
    ///
    /// # Errors
    /// The kernel has no filters of system calls, or there is no such program.
    pub fn exec(&self) -> Result<std::convert::Infallible> {
        refuse(devices()?)?;
        let (program, args) = self.program.split_first().context("there is no program to become")?;
        Err(Command::new(program).args(args).exec())
            .with_context(|| format!("failed to become {}", program.to_string_lossy()))
    }
}

/// An argument has all the bits of a flag.
fn is_set(flag: c_int) -> (SeccompCmpOp, c_int) {
    (SeccompCmpOp::MaskedEq(u64::from(flag.cast_unsigned())), flag)
}

/// An argument is a mode of files of this kind.
fn is_kind(kind: libc::mode_t) -> (SeccompCmpOp, c_int) {
    (SeccompCmpOp::MaskedEq(libc::S_IFMT.into()), kind.cast_signed())
}

/// All of these are so, of the arguments with these numbers.
fn rule<const COUNT: usize>(conditions: [(u8, (SeccompCmpOp, c_int)); COUNT]) -> Result<SeccompRule> {
    let condition = |(argument, (compare, value)): (u8, (SeccompCmpOp, c_int))| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value.cast_unsigned().into())
    };
    let conditions = conditions.into_iter().map(condition).collect::<Result<_, _>>();
    conditions.and_then(SeccompRule::new).context("failed to make a filter of system calls")
}

/// Calls that are answered as by a kernel that has none (`ENOSYS`): clone3(2), whose flags no filter reads, so that clone(2) is
/// taken; and on x86-64 all of the x32 ABI, which would be another name for each call.
fn absent() -> BpfProgram {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    const X32: u32 = 0x4000_0000;
    let word = |code: u32, jt, jf, k| sock_filter { code: u16::try_from(code).unwrap_or(u16::MAX), jt, jf, k };
    let errno = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    vec![
        // The number is the first word of seccomp(2)'s `struct seccomp_data`.
        word(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        word(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX)),
        word(BPF_JMP | BPF_JGE | BPF_K, 0, 1, X32),
        word(BPF_RET | BPF_K, 0, 0, errno),
        word(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}
