//! What the agent cannot do inside its own machine: become root, change what confines it, or reach into the kernel.

use crate::site::{Done, Site, site};

fn sh(site: &Site, script: &str) -> Done {
    site.exec("main", &["sh", "-c", script])
}

/// What a command prints, without the end of its last line.
fn says(site: &Site, script: &str) -> String {
    sh(site, script).ok().stdout.trim_end().to_owned()
}

#[test]
fn the_agent_finds_no_way_to_root_and_the_kernel_is_locked() {
    let Some(site) = site() else { return };
    site.create("main");
    site.start("main");

    // The kernel: settings that even root cannot take back, and those that keep its secrets.
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
    assert!(says(&site, "cat /proc/cmdline").split(' ').any(|word| word == "nohibernate"));
    // Control: it is this that refuses, not a missing program.
    says(&site, "unshare --version && dmesg --version");
    sh(&site, "unshare --user true").exits(1).says("unshare failed");
    sh(&site, "dmesg").exits(1).says("Operation not permitted");
    assert_eq!(says(&site, "sort -u /proc/kallsyms | cut -d' ' -f1 | sort -u"), "0000000000000000");

    // No program that runs as its owner. Control: the search finds one, which nosuid makes an ordinary program.
    let search = |place: &str| says(&site, &format!("find {place} -xdev -type f -perm /6000 2>/dev/null; true"));
    assert_eq!(search("/ /var /tmp /run /workspace"), "");
    says(&site, "cp /bin/id ~/id && chmod u+s,g+s ~/id");
    assert_eq!(search("/home"), "/home/dev/id");
    for place in ["/home", "/workspace", "/tmp", "/var/tmp", "/run", "/dev/shm"] {
        let options = says(&site, &format!("findmnt --noheadings --output OPTIONS --target {place}"));
        assert!(options.split(',').any(|option| option == "nosuid" || option == "ro"), "{place}: {options}");
    }
    assert!(!says(&site, "id; id -Gn").contains("root"));
    sh(&site, "command -v sudo doas pkexec").exits(127);

    // Its own confinement. Controls: what it asks for is there, and it may ask.
    assert_eq!(says(&site, "systemctl is-active agent-mcp.service"), "active");
    for change in [
        "systemctl stop agent-mcp.service",
        "systemctl set-property --runtime agent-mcp.service TasksMax=9",
        "echo >> /etc/systemd/system/agent-mcp.service",
        "mkdir /run/systemd/system/agent-mcp.service.d",
        "/usr/sbin/nft flush ruleset",
        "/usr/sbin/nft list ruleset",
        "echo >> /etc/nftables.conf",
        "echo >> /etc/ssh/sshd_config",
        "echo >> /run/agent-vm-egress/ca-certificates.crt",
        "echo 0 > /proc/sys/kernel/kptr_restrict",
        "mount -t tmpfs none /mnt",
        "ls /run/credentials/@system",
        "cat /sys/firmware/qemu_fw_cfg/by_name/opt/io.systemd.credentials/agent-vm.ssh-host-key/raw",
        "ip link set eth0 down",
        "ip route add default via 10.0.2.2",
    ] {
        let done = sh(&site, change);
        assert_ne!(done.code, Some(0), "{change} succeeded: {}", done.stdout);
        assert_ne!(done.code, Some(127), "{change}: {}", done.stderr);
    }

    let score = says(&site, "systemd-analyze security --no-pager agent-mcp.service");
    let exposure = score.lines().find_map(|line| line.split_once("service: ")).map(|(_, rest)| rest).unwrap();
    let exposure: f64 = exposure.split(' ').next().unwrap().parse().unwrap();
    assert!(exposure <= 1.3, "{score}");
}
