//! The lines by which the cause of a failed run is known.

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The console: what QEMU itself prints. The guest could print the same.
    Qemu,
    /// The console: what the guest prints.
    Console,
    /// The guest's journal.
    Journal,
    /// The log of virtiofsd.
    Virtiofsd,
}

/// A line, and what it means.
#[derive(Debug)]
pub struct Sign {
    pub place: Place,
    /// Words that one line has, in this order.
    pub words: &'static [&'static str],
    pub cause: &'static str,
    /// What the user can do. `{name}` stands for the machine.
    pub remedy: &'static str,
}

const NEW_DISK: &str =
    "for a new disk beside the old one (the workspace is on neither): agent-vm start {name} --new-disk";
const DOCTOR: &str = "to see what this host lacks: agent-vm doctor {name}";
const RESTART: &str = "agent-vm restart {name}";
const MORE_MEMORY: &str = "give it more memory, in MiB: agent-vm set {name} memory=8192";
const LESS_MEMORY: &str = "give it less memory, in MiB: agent-vm set {name} memory=2048";
const LARGER_DISK: &str =
    "make the disk larger, in MiB: agent-vm set {name} disk=40960\nthen: agent-vm start {name} --new-disk";
const JOURNAL: &str = "to see its log: agent-vm logs {name}";
const CONSOLE: &str = "to see what the guest printed: agent-vm logs --console {name}";

pub const GUEST_MEMORY: &str = "the guest ran out of memory";
pub const GUEST_DISK_FULL: &str = "the guest's disk is full";
pub const NO_ROOT: &str = "the guest's kernel found no root file system";
pub const DISK_DAMAGED: &str = "the machine's disk is damaged";
pub const NO_WORKSPACE: &str = "the guest could not mount the workspace";
pub const UNIT_FAILED: &str = "a unit of the guest failed";
pub const KVM: &str = "KVM failed on this host";
pub const PORT_TAKEN: &str = "another program of this host uses a port of the machine";
pub const HOST_MEMORY: &str = "this host has too little memory for the machine";
pub const DISK_IN_USE: &str = "another QEMU uses the machine's disk";
pub const HOST_DISK_FULL: &str = "the file system of the machines is full";
pub const OPEN_FILES: &str = "virtiofsd reached its limit of open files";
pub const NO_INIT: &str = "the guest's first program ended";

macro_rules! sign {
    ($place:ident, [$($word:literal),+], $cause:expr, $remedy:expr) => {
        Sign { place: Place::$place, words: &[$($word),+], cause: $cause, remedy: $remedy }
    };
}

/// All signs. One that stands earlier is closer to the cause: what follows from a full disk comes after the full disk.
pub const SIGNS: &[Sign] = &[
    sign!(Qemu, ["ioctl(KVM_CREATE_VM) failed"], KVM, DOCTOR),
    sign!(Qemu, ["failed to initialize kvm"], KVM, DOCTOR),
    sign!(Qemu, ["Could not access KVM kernel module"], KVM, DOCTOR),
    sign!(Qemu, ["KVM: entry failed"], KVM, DOCTOR),
    sign!(Qemu, ["KVM internal error"], KVM, DOCTOR),
    sign!(Qemu, ["error: kvm run failed"], KVM, DOCTOR),
    sign!(Qemu, ["Could not set up host forwarding rule"], PORT_TAKEN, DOCTOR),
    sign!(Qemu, ["qemu", "Address already in use"], PORT_TAKEN, DOCTOR),
    sign!(Qemu, ["cannot set up guest memory"], HOST_MEMORY, LESS_MEMORY),
    sign!(Qemu, ["qemu", "Cannot allocate memory"], HOST_MEMORY, LESS_MEMORY),
    sign!(Qemu, ["Failed to get \"write\" lock"], DISK_IN_USE, RESTART),
    sign!(Qemu, ["Image is corrupt"], DISK_DAMAGED, NEW_DISK),
    sign!(Qemu, ["Marking image as corrupt"], DISK_DAMAGED, NEW_DISK),
    sign!(Qemu, ["Image is not in qcow2 format"], DISK_DAMAGED, NEW_DISK),
    sign!(Qemu, ["qcow2", "corrupt"], DISK_DAMAGED, NEW_DISK),
    sign!(Qemu, ["qemu", "No space left on device"], HOST_DISK_FULL, DOCTOR),
    sign!(Virtiofsd, ["No space left on device"], HOST_DISK_FULL, DOCTOR),
    sign!(Virtiofsd, ["Too many open files"], OPEN_FILES, DOCTOR),
    sign!(Console, ["System is deadlocked on memory"], GUEST_MEMORY, MORE_MEMORY),
    sign!(Console, ["Out of memory: Killed process"], GUEST_MEMORY, MORE_MEMORY),
    sign!(Console, ["invoked oom-killer"], GUEST_MEMORY, MORE_MEMORY),
    sign!(Journal, ["oom-kill"], GUEST_MEMORY, MORE_MEMORY),
    sign!(Journal, ["Cannot allocate memory"], GUEST_MEMORY, MORE_MEMORY),
    sign!(Console, ["EXT4-fs error"], DISK_DAMAGED, NEW_DISK),
    sign!(Console, ["I/O error, dev vda"], DISK_DAMAGED, NEW_DISK),
    sign!(Console, ["cannot mount the machine's disk"], DISK_DAMAGED, NEW_DISK),
    sign!(Console, ["No space left on device"], GUEST_DISK_FULL, LARGER_DISK),
    sign!(Journal, ["No space left on device"], GUEST_DISK_FULL, LARGER_DISK),
    sign!(Console, ["Unable to mount root fs"], NO_ROOT, NEW_DISK),
    sign!(Console, ["Cannot open root device"], NO_ROOT, NEW_DISK),
    sign!(Console, ["Timed out waiting for device", "by-label"], NO_ROOT, NEW_DISK),
    sign!(Console, ["An error occurred in stage 1"], NO_ROOT, NEW_DISK),
    sign!(Console, ["virtio-fs: tag", "not found"], NO_WORKSPACE, RESTART),
    sign!(Console, ["Failed to mount", "/workspace"], NO_WORKSPACE, RESTART),
    sign!(Console, ["cannot mount the workspace"], NO_WORKSPACE, RESTART),
    sign!(Journal, ["Failed to mount", "workspace"], NO_WORKSPACE, RESTART),
    sign!(Console, ["Attempted to kill init"], NO_INIT, CONSOLE),
    sign!(Console, ["No working init found"], NO_INIT, CONSOLE),
    sign!(Console, ["Failed to start "], UNIT_FAILED, CONSOLE),
    sign!(Console, ["Dependency failed for "], UNIT_FAILED, CONSOLE),
    sign!(Console, ["You are in emergency mode"], UNIT_FAILED, CONSOLE),
    sign!(Journal, ["Failed with result"], UNIT_FAILED, JOURNAL),
    sign!(Journal, ["Start request repeated too quickly"], UNIT_FAILED, JOURNAL),
];
