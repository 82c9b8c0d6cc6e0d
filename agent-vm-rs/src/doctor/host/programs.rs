//! The programs that machines need.

use std::time::Duration;

use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::guest::Guest;
use crate::host::process::{Invocation, find};
use crate::host::programs::{mitmdump_places, socket_proxyd_places};
use crate::machine::Machine;
use crate::machine::state_dir::StateDir;
use crate::vm::virtiofsd;

/// The oldest QEMU that is tested, of Debian 12.
const OLDEST_QEMU: (u32, u32) = (7, 2);
const TIMEOUT: Duration = Duration::from_secs(3);

/// Checks the QEMU that the machines start, or else this processor's.
pub fn check_qemu(_: &StateDir, machines: &[Machine]) -> Vec<Finding> {
    let of_guest = machines.iter().find_map(|machine| Some(Guest::of(machine).ok()?.manifest.qemu.binary));
    let program = of_guest.unwrap_or_else(|| format!("qemu-system-{}", std::env::consts::ARCH));
    let version = find(program.as_ref()).ok().map(|path| {
        let output = Invocation::new(path).arg("--version").time_limit(TIMEOUT).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    });
    vec![judge_qemu(&program, version.as_deref()), disk_tools()]
}

fn judge_qemu(program: &str, version: Option<&str>) -> Finding {
    const CHECK: &str = "qemu";
    let [debian, fedora, arch] = match std::env::consts::ARCH {
        "aarch64" => {
            ["qemu-system-arm qemu-utils", "qemu-system-aarch64-core qemu-img", "qemu-system-aarch64 qemu-img"]
        }
        _ => ["qemu-system-x86 qemu-utils", "qemu-system-x86-core qemu-img", "qemu-system-x86 qemu-img"],
    };
    let fault = |fault, message: String| {
        Finding::fault(CHECK, fault, message).with("debian", debian).with("fedora", fedora).with("arch", arch)
    };
    let Some(text) = version else { return fault(Fault::QemuMissing, format!("{program} is not installed")) };
    match numbers(text) {
        Some(version) if version >= OLDEST_QEMU => Finding::ok(CHECK, first_line(text)),
        Some(_) => {
            let (major, minor) = OLDEST_QEMU;
            fault(Fault::QemuOld, format!("{}, older than {major}.{minor}", first_line(text)))
        }
        None => fault(Fault::QemuMissing, format!("{program} does not print its version")),
    }
}

/// Returns the first two numbers of a program's version.
pub fn numbers(text: &str) -> Option<(u32, u32)> {
    let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let version = text.split_whitespace().find(is_number)?;
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// Returns the first line of a program's output.
pub fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

fn disk_tools() -> Finding {
    judge_tools(&["qemu-img", "mke2fs"].map(|name| (name, find(name.as_ref()).is_ok())))
}

fn judge_tools(found: &[(&str, bool)]) -> Finding {
    const CHECK: &str = "disk-tools";
    match found.iter().find(|(_, is_there)| !is_there) {
        None => Finding::ok(CHECK, found.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")),
        Some((name, _)) => {
            Finding::fault(CHECK, Fault::DiskToolsMissing, format!("{name} is not installed: no disk can be made"))
        }
    }
}

/// Checks virtiofsd, as a start does.
pub fn check_virtiofsd() -> Vec<Finding> {
    let found = virtiofsd::find().map(|daemon| daemon.program.display().to_string());
    vec![judge_virtiofsd(found.map_err(|error| format!("{error:#}")))]
}

fn judge_virtiofsd(found: Result<String, String>) -> Finding {
    const CHECK: &str = "virtiofsd";
    match found {
        Ok(program) => Finding::ok(CHECK, program),
        Err(why) if why.contains("namespaces") => Finding::fault(
            CHECK,
            Fault::NamespacesOff,
            format!("workspaces are shared over 9p, which is slower: {why}"),
        ),
        Err(why) => Finding::fault(
            CHECK,
            Fault::VirtiofsdUnusable,
            format!("workspaces are shared over 9p, which is slower: {why}"),
        ),
    }
}

/// Checks the programs that confine machines and pass on their connections.
pub fn check_others() -> Vec<Finding> {
    let is_there = |name: &str| find(name.as_ref()).is_ok();
    judge_others(
        is_there("bwrap"),
        socket_proxyd_places().iter().any(|place| place.is_file()),
        mitmdump_places().iter().any(|place| find(place.as_os_str()).is_ok()),
    )
}

fn judge_others(bubblewrap: bool, proxyd: bool, mitmproxy: bool) -> Vec<Finding> {
    let one = |check, is_there, fault, without: &str| {
        if is_there { Finding::ok(check, "installed") } else { Finding::fault(check, fault, without) }
    };
    vec![
        one("bubblewrap", bubblewrap, Fault::BubblewrapMissing, "not installed: QEMU runs without namespaces"),
        one(
            "socket-proxyd",
            proxyd,
            Fault::ProxydMissing,
            "systemd-socket-proxyd is missing: QEMU shares this host's network",
        ),
        one("mitmproxy", mitmproxy, Fault::MitmproxyMissing, "not installed: machines have no network access"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_is_judged_by_its_version() {
        for (version, fault) in [
            (Some("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright"), None),
            (Some("QEMU emulator version 10.0.2\n"), None),
            (Some("QEMU emulator version 6.2.0\n"), Some(Fault::QemuOld)),
            (Some(""), Some(Fault::QemuMissing)),
            (None, Some(Fault::QemuMissing)),
        ] {
            let found = judge_qemu("qemu-system-x86_64", version);
            assert_eq!(found.fault, fault, "{version:?}");
            assert!(found.commands.is_none_or(|commands| !format!("{commands:?}").contains("{debian}")));
        }
    }

    #[test]
    fn missing_programs_have_findings() {
        assert_eq!(judge_tools(&[("qemu-img", true), ("mke2fs", true)]).fault, None);
        assert_eq!(judge_tools(&[("qemu-img", true), ("mke2fs", false)]).fault, Some(Fault::DiskToolsMissing));
        assert_eq!(judge_virtiofsd(Ok("/usr/libexec/virtiofsd".to_owned())).fault, None);
        assert_eq!(judge_virtiofsd(Err("it is too old".to_owned())).fault, Some(Fault::VirtiofsdUnusable));
        let namespaces = "cannot confine virtiofsd: this host allows no user namespaces";
        assert_eq!(judge_virtiofsd(Err(namespaces.to_owned())).fault, Some(Fault::NamespacesOff));
        assert!(judge_others(true, true, true).iter().all(|found| found.fault.is_none()));
        let faults: Vec<_> = judge_others(false, false, false).into_iter().filter_map(|found| found.fault).collect();
        assert_eq!(faults, [Fault::BubblewrapMissing, Fault::ProxydMissing, Fault::MitmproxyMissing]);
    }
}
