use super::signs::{
    DISK_DAMAGED, DISK_IN_USE, GUEST_DISK_FULL, GUEST_MEMORY, HOST_DISK_FULL, HOST_MEMORY, KVM, NO_INIT, NO_ROOT,
    NO_WORKSPACE, OPEN_FILES, PORT_TAKEN, UNIT_FAILED,
};
use super::*;

fn evidence() -> Evidence {
    Evidence {
        console: String::new(),
        virtiofsd: String::new(),
        journal: String::new(),
        ending: Ending::Exited,
        is_out_of_memory: false,
    }
}

/// Lines as the programs print them: the kernel, systemd, QEMU and the guest's first program.
const CONSOLES: [(&str, &str); 22] = [
    ("qemu-system-x86_64: ioctl(KVM_CREATE_VM) failed: 16 Device or resource busy", KVM),
    ("qemu-system-x86_64: failed to initialize kvm: Permission denied", KVM),
    ("Could not access KVM kernel module: No such file or directory", KVM),
    ("KVM: entry failed, hardware error 0x80000021", KVM),
    ("error: kvm run failed Bad address", KVM),
    ("qemu-system-x86_64: -nic user: Could not set up host forwarding rule 'tcp:127.0.0.1:2222-:22'", PORT_TAKEN),
    ("qemu-system-x86_64: cannot set up guest memory 'agent-vm-ram': Cannot allocate memory", HOST_MEMORY),
    ("qemu-system-x86_64: -drive file=disk.qcow2: Failed to get \"write\" lock", DISK_IN_USE),
    ("qemu-system-x86_64: -drive file=disk.qcow2: Image is not in qcow2 format", DISK_DAMAGED),
    (
        "qcow2: Marking image as corrupt: L2 table offset 0x2a unaligned; further corruption events will be suppressed",
        DISK_DAMAGED,
    ),
    ("[   12.3] EXT4-fs error (device vda): ext4_lookup:1855: inode #2: comm sh: iget: checksum invalid", DISK_DAMAGED),
    ("agent-vm: cannot mount the machine's disk; run e2fsck on the host to check it", DISK_DAMAGED),
    ("[  101.2] Out of memory: Killed process 812 (node) total-vm:4194304kB", GUEST_MEMORY),
    ("[    1.2] Kernel panic - not syncing: System is deadlocked on memory", GUEST_MEMORY),
    ("systemd-journald[201]: Failed to open system journal: No space left on device", GUEST_DISK_FULL),
    ("[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", NO_ROOT),
    ("[    1.1] VFS: Cannot open root device \"vda\" or unknown-block(0,0): error -6", NO_ROOT),
    ("An error occurred in stage 1 of the boot process, which must mount the root filesystem", NO_ROOT),
    ("[    4.5] virtio-fs: tag <workspace> not found", NO_WORKSPACE),
    ("[FAILED] Failed to mount workspace.mount - /workspace.", NO_WORKSPACE),
    ("[    3.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", NO_INIT),
    ("[FAILED] Failed to start agent-mcp.service - MCP servers.", UNIT_FAILED),
];

#[test]
fn each_line_of_a_console_shows_its_cause() {
    for (line, cause) in CONSOLES {
        let console = format!("[    0.1] Linux version 6.12\r\n{line}\r\n[    9.9] reboot: Restarting system\n");
        let found = Evidence { console, ..evidence() }.cause();
        assert_eq!(found.map(|found| found.text), Some(cause), "{line}");
    }
    // Control: a guest that is well shows none.
    let console = "[    0.1] Linux version 6.12\nWelcome to Debian GNU/Linux 13!\nagent login:".to_owned();
    assert_eq!(Evidence { console, ..evidence() }.cause(), None);
}

#[test]
fn the_other_logs_show_causes_too() {
    for (line, cause) in [
        ("agent-mcp.service: Failed with result 'oom-kill'.", GUEST_MEMORY),
        ("OSError: [Errno 28] No space left on device: '/home/agent/x'", GUEST_DISK_FULL),
        ("agent-mcp.service: Start request repeated too quickly.", UNIT_FAILED),
    ] {
        let found = Evidence { journal: line.to_owned(), ..evidence() }.cause();
        assert_eq!(found.map(|found| found.text), Some(cause), "{line}");
    }
    for (line, cause) in [
        ("[ERROR virtiofsd] write failed: No space left on device (os error 28)", HOST_DISK_FULL),
        ("[ERROR virtiofsd] Too many open files (os error 24)", OPEN_FILES),
    ] {
        let found = Evidence { virtiofsd: line.to_owned(), ..evidence() }.cause();
        assert_eq!(found.map(|found| found.text), Some(cause), "{line}");
    }
}

#[test]
fn an_earlier_cause_wins_over_what_follows_from_it() {
    let console = "[FAILED] Failed to start agent-mcp.service\nNo space left on device\n".to_owned();
    assert_eq!(Evidence { console, ..evidence() }.cause().unwrap().text, GUEST_DISK_FULL);
}

/// The guest can print anything; a signal that ended QEMU is not the guest's.
#[test]
fn a_signal_is_not_explained_by_the_guest() {
    let console = "[  101.2] Out of memory: Killed process 812 (node)\n".to_owned();
    let of = |signal, is_out_of_memory| {
        let ending = Ending::Killed(signal);
        Evidence { console: console.clone(), ending, is_out_of_memory, ..evidence() }.cause().map(|cause| cause.text)
    };
    assert_eq!(of(Some(11), false), Some("QEMU crashed"));
    assert_eq!(of(Some(SIGKILL), true), Some(OUT_OF_MEMORY));
    assert!(of(Some(SIGKILL), false).unwrap().contains("was killed"));
    assert!(of(Some(31), false).unwrap().contains("seccomp"));
    assert_eq!(of(None, false), None);
    let killed = Ending::Killed(None);
    let console = "qemu-system-x86_64: KVM: entry failed, hardware error 0x0\n".to_owned();
    assert_eq!(Evidence { console, ending: killed, ..evidence() }.cause().unwrap().text, KVM);
}

#[test]
fn each_sign_can_be_found_and_each_cause_is_documented() {
    let page = include_str!("../../../../docs/troubleshooting.md");
    for Sign { place, words, cause, remedy } in SIGNS {
        let mut evidence = Evidence { ending: Ending::Running, ..evidence() };
        let text = match place {
            Place::Qemu | Place::Console => &mut evidence.console,
            Place::Journal => &mut evidence.journal,
            Place::Virtiofsd => &mut evidence.virtiofsd,
        };
        *text = words.join(" x ");
        let found = evidence.cause().unwrap();
        assert_eq!((found.text, found.remedy), (*cause, *remedy), "{words:?} is hidden by an earlier sign");
        assert!(page.contains(&format!("| {cause} |")), "docs/troubleshooting.md lacks: {cause}");
        assert!(found.remedy("app-main").contains("agent-vm "), "{remedy}");
        assert!(!found.remedy("app-main").contains('{'), "{remedy}");
    }
}
