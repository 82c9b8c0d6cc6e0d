//! What the agent cannot do inside its own machine: become root, change its confinement, or modify the kernel.

use std::fs;

use crate::root::{Package, as_root};
use crate::site::{Done, Site, site};

const NOT_PERMITTED: &str = "Operation not permitted";
const DENIED: &str = "Permission denied";
const READ_ONLY: &str = "Read-only file system";

/// Loads a module and another kernel.
const KERNEL_TAKES: &str = include_str!("kernel_takes.py");

/// What the agent must not do, and the error that it gets. Root may do it, unless the file system is read-only.
const CHANGES: [(&str, &str); 15] = [
    ("systemctl set-property --runtime agent-mcp.service TasksMax=9", "Access denied"),
    ("systemctl stop agent-mcp.service", "Access denied"),
    ("mkdir /run/systemd/system/agent-mcp.service.d", DENIED),
    ("echo >> /etc/systemd/system.conf.d/agent-vm.conf", READ_ONLY),
    ("/usr/sbin/nft list ruleset", NOT_PERMITTED),
    ("/usr/sbin/nft flush ruleset", NOT_PERMITTED),
    ("echo >> /etc/nftables.conf", READ_ONLY),
    ("echo >> /etc/ssh/sshd_config", READ_ONLY),
    ("echo >> /run/agent-vm-egress/ca-certificates.crt", DENIED),
    ("echo 1 > /proc/sys/kernel/kptr_restrict", DENIED),
    ("mount -t tmpfs none /mnt", "must be superuser"),
    ("ls /run/credentials/@system", DENIED),
    ("cat /sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/agent-vm.ssh-host-key/raw", DENIED),
    ("ip link set eth0 down && ip link set eth0 up", NOT_PERMITTED),
    ("ip route add default via 10.0.2.2", NOT_PERMITTED),
];

fn sh(site: &Site, script: &str) -> Done {
    site.exec("main", &["sh", "-c", script])
}

/// Returns the output of a command, without the newline at its end.
fn says(site: &Site, script: &str) -> String {
    sh(site, script).ok().stdout.trim_end().to_owned()
}

#[test]
fn the_agent_cannot_become_root_and_the_kernel_is_locked() {
    let Some(site) = site() else { return };
    site.create("main");
    site.start("main");

    // Settings of the kernel: some that even root cannot change back, and some that protect its secrets.
    for (name, value) in [
        ("kernel/modules_disabled", "1"),
        ("kernel/kexec_load_disabled", "1"),
        ("kernel/kptr_restrict", "2"),
        ("kernel/dmesg_restrict", "1"),
        ("kernel/unprivileged_bpf_disabled", "1"),
        ("kernel/perf_event_paranoid", "3"),
        ("kernel/yama/ptrace_scope", "1"),
        ("kernel/sysrq", "0"),
        ("user/max_user_namespaces", "0"),
    ] {
        assert_eq!(says(&site, &format!("cat /proc/sys/{name}")), value, "{name}");
    }
    assert_eq!(says(&site, "cat /sys/kernel/security/lockdown"), "none [integrity] confidentiality");
    // Control: the kernel refuses, and no program is missing.
    says(&site, "unshare --version && dmesg --version");
    sh(&site, "unshare --user true").exits(1).says("No space left on device");
    sh(&site, "dmesg").exits(1).says("Operation not permitted");
    assert_eq!(says(&site, "sort -u /proc/kallsyms | cut -d' ' -f1 | sort -u"), "0000000000000000");

    // No program has the setuid bit. Control: the search finds a planted one, on which nosuid makes the bit useless.
    let search = |place: &str| says(&site, &format!("find {place} -xdev -type f -perm /6000 2>/dev/null; true"));
    assert_eq!(search("/ /var /tmp /run /workspace"), "");
    says(&site, "cp /bin/id ~/id && chmod u+s,g+s ~/id");
    assert_eq!(search("/home"), "/home/dev/id");
    for place in ["/home", "/workspace", "/tmp", "/var/tmp", "/run", "/dev/shm"] {
        let options = says(&site, &format!("findmnt --noheadings --output OPTIONS --target {place}"));
        assert!(options.split(',').any(|option| option == "nosuid" || option == "ro"), "{place}: {options}");
    }
    assert!(!says(&site, "id; id -Gn").contains("root"));
    sh(&site, "command -v doas pkexec").exits(127);
    // `sudo` is a script that names what works instead; the search above found no setuid program.
    let refused = sh(&site, "sudo id");
    assert!(refused.code != Some(0) && !refused.stdout.contains("uid="), "{}{}", refused.stdout, refused.stderr);

    // The agent cannot change its own confinement. Controls: the service runs, and root makes the same changes below.
    assert_eq!(says(&site, "systemctl is-active agent-mcp.service"), "active");
    for (change, refusal) in CHANGES {
        assert_ne!(sh(&site, change).says(refusal).code, Some(0), "{change}");
    }
    sh(&site, "echo >> /etc/systemd/system/agent-mcp.service").exits(2).says(READ_ONLY);

    let score = says(&site, "systemd-analyze security --no-pager agent-mcp.service");
    let exposure = score.lines().find_map(|line| line.split_once("service: ")).map(|(_, rest)| rest).unwrap();
    let exposure: f64 = exposure.split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= 1.3, "{score}");

    site.run(&["stop", "main"]).ok();
    fs::write(site.machine("app-main").join("workspace/kernel_takes.py"), KERNEL_TAKES).unwrap();
    Package::copy(&site, "app-main").give_root("python3 kernel_takes.py >unlocked");
    site.start("main");
    root_does_what_the_agent_cannot(&site);
    the_kernel_is_locked_for_root_too(&site);
}

/// Control: what the agent is refused exists, and root is allowed to do it.
fn root_does_what_the_agent_cannot(site: &Site) {
    for (change, refusal) in CHANGES {
        let done = as_root(site, "main", change);
        if refusal == READ_ONLY {
            done.exits(1).says(refusal);
        } else {
            done.ok();
        }
    }
    as_root(site, "main", "dmesg").ok().says("systemd");
    as_root(site, "main", "echo 9 > /proc/sys/user/max_user_namespaces && unshare --user true").ok();
}

fn the_kernel_is_locked_for_root_too(site: &Site) {
    // Control: before the lockdown the kernel loaded the module, and examined a file that is not a kernel.
    let unlocked = fs::read_to_string(site.machine("app-main").join("workspace/unlocked")).unwrap();
    assert_eq!(unlocked, "module: taken\nkernel: Exec format error\n");
    let locked = as_root(site, "main", "python3 /workspace/kernel_takes.py").ok().stdout;
    assert_eq!(locked, format!("module: {NOT_PERMITTED}\nkernel: {NOT_PERMITTED}\n"));

    // Hibernation is refused. Control: an unknown word gets another error.
    as_root(site, "main", "echo disk > /sys/power/state").exits(1).says(NOT_PERMITTED);
    as_root(site, "main", "echo disks > /sys/power/state").exits(1).says("Invalid argument");
    // The locks cannot be undone. Control: setting them once more is allowed.
    for lock in ["modules_disabled", "kexec_load_disabled"] {
        as_root(site, "main", &format!("echo 0 > /proc/sys/kernel/{lock}")).exits(1).says("Invalid argument");
        as_root(site, "main", &format!("echo 1 > /proc/sys/kernel/{lock}")).ok();
    }
    // Kernel memory cannot be read. The kernel itself names lockdown as the reason.
    as_root(site, "main", "head -c 1 /dev/mem").exits(1).says(NOT_PERMITTED);
    as_root(site, "main", "dmesg").ok().says("/dev/mem,kmem,port is restricted; see man kernel_lockdown.7");
}
