//! A unit of systemd that runs `start --foreground`.

use super::{Exported, START, STOP};
use crate::term::error::EXIT_EXPIRED;

/// Hardening that every service manager can apply. QEMU and virtiofsd get a sandbox of their own, which needs user namespaces
/// with a new /proc, and openat2: what forbids those is missing here.
const HARDENING: [&str; 9] = [
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=user mnt pid net ipc uts cgroup",
    "SystemCallArchitectures=native",
    "SystemCallErrorNumber=EPERM",
    "SystemCallFilter=~@clock @cpu-emulation @debug @module @obsolete @raw-io @reboot @swap",
    "UMask=0077",
];
/// Hardening that only the system's service manager can apply.
const OF_SYSTEM: [&str; 12] = [
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "ProtectHome=tmpfs",
    "PrivateTmp=yes",
    "DevicePolicy=closed",
    "DeviceAllow=/dev/kvm rw",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectKernelModules=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
];

/// Returns a word for a command line of a unit: systemd.service(5), "Command lines". Not for its first word.
fn word(text: &str) -> String {
    quoted(text).replace('$', "$$")
}

/// Returns a word in which `$` has no meaning.
fn quoted(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| match c {
        '"' | '\\' => vec!['\\', c],
        '%' => vec!['%', '%'],
        '\n' => vec!['\\', 'n'],
        '\t' => vec!['\\', 't'],
        c => vec![c],
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Returns a path for `BindPaths=`: systemd.exec(5). A colon would end it.
fn path(text: &str) -> String {
    let escaped = text.chars().flat_map(|c| match c {
        '"' => vec!['\\', c],
        '\\' => vec!['\\', '\\'],
        ':' => vec!['\\', '\\', ':'],
        '%' => vec!['%', '%'],
        c => vec![c],
    });
    format!("\"{}\"", escaped.collect::<String>())
}

/// Returns a value that is one line.
fn value(text: &str) -> String {
    text.replace('%', "%%").replace('\n', " ")
}

/// Returns the unit. A unit of the user's own manager cannot hide files from the user.
pub fn unit(exported: &Exported, of_user: bool) -> String {
    let Exported { name, program, args, state, cache, source, toolkit, user, group, .. } = exported;
    let command: Vec<_> = std::iter::once(quoted(program)).chain(args.iter().map(|one| word(one))).collect();
    let mut lines = vec![
        "# Written by agent-vm export".to_owned(),
        "# No secret is here: the machine's keys and secrets stay in its directory.".to_owned(),
        "[Unit]".to_owned(),
        format!("Description=Agent machine {}", value(name)),
        format!("RequiresMountsFor={} {} {}", quoted(source), quoted(state), quoted(cache)),
        "StartLimitBurst=5".to_owned(),
        format!("StartLimitIntervalSec={}", 6 * (START + STOP)),
    ];
    if !of_user {
        lines.extend(["Wants=network-online.target", "After=network-online.target"].map(str::to_owned));
    }
    lines.extend(["", "[Service]", "Type=notify", "NotifyAccess=main"].map(str::to_owned));
    if !of_user {
        lines.extend([format!("User={user}"), format!("Group={group}"), "SupplementaryGroups=kvm".to_owned()]);
    }
    let variables = exported.environment.iter();
    lines.extend(variables.map(|(name, value)| format!("Environment={}", quoted(&format!("{name}={value}")))));
    lines.extend([
        format!("ExecStart={}", command.join(" ")),
        "# SIGTERM stops the machine.".to_owned(),
        format!("SuccessExitStatus=143 {EXIT_EXPIRED}"),
        "# A time limit has stopped it.".to_owned(),
        format!("RestartPreventExitStatus={EXIT_EXPIRED}"),
        "KillMode=mixed".to_owned(),
        "Restart=always".to_owned(),
        "RestartSec=30".to_owned(),
        format!("TimeoutStartSec={START}"),
        format!("TimeoutStopSec={STOP}"),
        format!("MemoryMax={}M", exported.memory()),
        format!("CPUQuota={}%", exported.processor_percent()),
        format!("TasksMax={}", exported.pids()),
    ]);
    lines.extend(HARDENING.map(str::to_owned));
    if !of_user {
        lines.extend(OF_SYSTEM.map(str::to_owned));
        lines.extend([state, cache].map(|dir| format!("BindPaths={}", path(dir))));
        let readable = [Some(source), Some(program), toolkit.as_ref()].into_iter().flatten();
        lines.extend(readable.map(|place| format!("BindReadOnlyPaths={}", path(place))));
        // They need not exist.
        let others = std::iter::once(&exported.config).chain(&exported.installation);
        lines.extend(others.map(|place| format!("BindReadOnlyPaths={}", path(&format!("-{place}")))));
    }
    let target = if of_user { "default.target" } else { "multi-user.target" };
    lines.extend([String::new(), "[Install]".to_owned(), format!("WantedBy={target}")]);
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::export::sample;

    #[test]
    fn words_are_escaped_for_systemd() {
        assert_eq!(word("a b\"$x%n\\"), r#""a b\"$$x%%n\\""#);
        assert_eq!(path("/a:b%"), r#""/a\\:b%%""#);
        let mut with_dollar = sample();
        with_dollar.program = "/opt/a$b".to_owned();
        with_dollar.source = "/src/a$b".to_owned();
        let text = unit(&with_dollar, false);
        // Variables are expanded in arguments only.
        assert!(
            text.contains("ExecStart=\"/opt/a$b\" ")
                && text
                    .contains("RequiresMountsFor=\"/src/a$b\" \"/home/me/state 100%%\" \"/home/me/.cache/agent-vm\"\n"),
            "{text}"
        );
        let text = unit(&sample(), false);
        let start = "ExecStart=\"/usr/bin/agent-vm\" \"--state-dir\" \"/home/me/state 100%%\" \"start\" \"--foreground\" \"app-main\"\n";
        assert!(text.contains(start), "{text}");
        let memory = sample().settings.memory + 2048;
        assert!(text.contains(&format!("MemoryMax={memory}M\n")), "{text}");
        assert!(text.contains("ProtectHome=tmpfs") && text.contains("BindPaths=\"/home/me/state 100%%\""));
        assert!(
            text.contains("SuccessExitStatus=143 75\n") && text.contains("RestartPreventExitStatus=75\n"),
            "{text}"
        );
        assert!(text.contains("BindReadOnlyPaths=\"-/home/me/.config/agent-vm\"\n"), "{text}");
        let mut limited = sample();
        (limited.settings.limits.cpu_quota, limited.settings.limits.pids) = (Some(150), Some(600));
        let text = unit(&limited, false);
        assert!(text.contains("CPUQuota=150%\n") && text.contains("TasksMax=600\n"), "{text}");
        let own = unit(&sample(), true);
        assert!(!own.contains("User=") && !own.contains("ProtectHome") && own.contains("WantedBy=default.target"));
    }
}
