//! The kernel's limits of resources, and the systemd manager that sets them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::host::account;
use crate::host::process::Invocation;

const ROOT: &str = "/sys/fs/cgroup";
const CHECK: &str = "cgroups";
/// The controllers that limit a machine.
const WANTED: [&str; 4] = ["cpu", "io", "memory", "pids"];
const TIMEOUT: Duration = Duration::from_secs(2);

/// Checks that this account can limit its processes.
pub fn check_cgroups() -> Vec<Finding> {
    let root = Path::new(ROOT);
    let uid = rustix::process::geteuid();
    let own = format!("user.slice/user-{0}.slice/user@{0}.service", uid.as_raw());
    // Root sets its own limits; a user has what systemd delegates to the user's manager.
    let place = if uid.is_root() { root.to_owned() } else { root.join(own) };
    let read = |place: &Path| fs::read_to_string(place.join("cgroup.controllers")).ok();
    vec![judge(read(root).as_deref(), read(&place).as_deref(), is_booted_by_systemd())]
}

fn is_booted_by_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// `all` and `own` are the controllers of this host and of this account; None without cgroups of version 2 or without a manager.
fn judge(all: Option<&str>, own: Option<&str>, has_systemd: bool) -> Finding {
    let Some(all) = all else {
        // A kernel parameter is for systemd; elsewhere, what starts this host mounts the cgroups.
        let fault = if has_systemd { Fault::CgroupsOld } else { Fault::CgroupsElsewhere };
        return Finding::fault(
            CHECK,
            fault,
            format!(
                "{ROOT} is not of version 2: cpu_quota is not enforced, and other limits are those of single programs"
            ),
        );
    };
    let has = |controllers: &str, name: &str| controllers.split_whitespace().any(|one| one == name);
    let missing: Vec<_> =
        WANTED.into_iter().filter(|name| !has(all, name) || !own.is_some_and(|own| has(own, name))).collect();
    if missing.is_empty() {
        return Finding::ok(CHECK, format!("version 2, with {}", WANTED.join(", ")));
    }
    let whose =
        if own.is_some() { "are not delegated to this account" } else { "belong to no manager of this account" };
    Finding::fault(CHECK, Fault::CgroupsUndelegated, format!("the controllers {} {whose}", missing.join(", ")))
}

/// Asks the systemd manager of this account.
pub fn check_systemd() -> Finding {
    if !is_booted_by_systemd() {
        return Finding::ok("systemd", "this host was not started by systemd");
    }
    let asked = Invocation::new("systemctl");
    let asked = if rustix::process::geteuid().is_root() { asked } else { asked.arg("--user").with_our_environment() };
    let asked = asked.args(["show", "--property=Version"]).time_limit(TIMEOUT).read();
    judge_systemd(asked.map_err(|error| format!("{error:#}")).as_deref())
}

fn judge_systemd(answer: Result<&str, &String>) -> Finding {
    const CHECK: &str = "systemd";
    match answer.map(|text| text.trim().strip_prefix("Version=")) {
        Ok(Some(version)) => Finding::ok(CHECK, format!("the manager of this account answers, version {version}")),
        Ok(None) => silent("an unknown answer"),
        Err(why) => silent(why),
    }
}

fn silent(why: &str) -> Finding {
    Finding::fault(
        "systemd",
        Fault::SystemdSilent,
        format!("the systemd manager of this account does not answer: {why}"),
    )
    .with("user", account::name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_judged_by_their_controllers() {
        let all = "cpuset cpu io memory hugetlb pids rdma";
        assert_eq!(judge(Some(all), Some("cpu io memory pids"), true).fault, None);
        assert_eq!(judge(Some(all), Some("memory pids"), true).fault, Some(Fault::CgroupsUndelegated));
        assert_eq!(judge(Some(all), None, true).fault, Some(Fault::CgroupsUndelegated));
        assert_eq!(judge(None, None, true).fault, Some(Fault::CgroupsOld));
        assert_eq!(judge(None, None, false).fault, Some(Fault::CgroupsElsewhere));
        assert!(judge(Some(all), Some("memory pids"), true).message.contains("cpu, io are not delegated"));
        assert_eq!(judge_systemd(Ok("Version=257\n")).fault, None);
        assert_eq!(judge_systemd(Ok("")).fault, Some(Fault::SystemdSilent));
        assert_eq!(judge_systemd(Err(&"no bus".to_owned())).fault, Some(Fault::SystemdSilent));
    }
}
