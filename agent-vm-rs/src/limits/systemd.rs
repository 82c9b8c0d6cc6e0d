//! Limits by a slice of systemd: of the system's manager for root, else of the user's. Each process is a scope in it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Wanted, cgroup};
use crate::host::hex;
use crate::host::process::{Invocation, find};

/// Time for the manager to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Where the user's manager listens, and by which variable it is found.
const RUNTIME_DIR: &str = "XDG_RUNTIME_DIR";

/// The slice of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// Its name.
    pub name: String,
    /// The user's runtime directory, if the user's manager has it, and not the system's.
    pub user: Option<String>,
}

impl Slice {
    /// Makes the slice of the machine in `dir`, with these limits; None if no manager runs here. `planned` is called before.
    ///
    /// # Errors
    /// The manager does not answer, or refuses a limit; the error of `planned`.
    pub(super) fn make(dir: &Path, wanted: &Wanted, planned: &dyn Fn(&Self) -> Result<()>) -> Result<Option<Self>> {
        let Some(user) = manager() else { return Ok(None) };
        if find("systemd-run".as_ref()).is_err() || find("systemctl".as_ref()).is_err() {
            return Ok(None);
        }
        let slice = Self::of(dir, user);
        planned(&slice)?;
        // That its socket exists does not mean that it answers.
        let probe = slice.around(&Invocation::new("true").cwd("/")).time_limit(TIMEOUT);
        probe.checked().context("systemd does not start a scope for a machine's processes")?;
        slice.set(wanted).inspect_err(|_| slice.remove())?;
        Ok(Some(slice))
    }

    fn of(dir: &Path, user: Option<String>) -> Self {
        let hash = hex::hex(&Sha256::digest(dir.as_os_str().as_encoded_bytes()));
        // A dash would make it a part of another slice: all are parts of agentvm.slice.
        Self { name: format!("agentvm-{}.slice", hash.get(..12).unwrap_or_default()), user }
    }

    /// Returns a program of systemd that talks to the slice's manager.
    fn call(&self, program: &str) -> Invocation {
        let call = Invocation::new(program);
        match &self.user {
            Some(runtime) => call.arg("--user").env(RUNTIME_DIR, runtime),
            None => call.arg("--system"),
        }
    }

    /// Returns a program that runs in the slice.
    pub(super) fn around(&self, program: &Invocation) -> Invocation {
        let scope = ["--scope", "--quiet", "--collect", "--slice", &self.name, "--"];
        // The program itself does not need the variable that finds the manager.
        let run = self.call("systemd-run").args(scope).args(["env", &format!("--unset={RUNTIME_DIR}"), "--"]);
        let variables = run.env.clone();
        let mut within = program.within(run);
        within.env.extend(variables);
        within
    }

    /// Sets the limits.
    pub(super) fn set(&self, wanted: &Wanted) -> Result<()> {
        let set = self
            .call("systemctl")
            .args(["set-property", "--runtime", "--", &self.name])
            .args(properties(wanted, cgroup::disk_of(&wanted.disk).as_deref()));
        set.time_limit(TIMEOUT)
            .checked()
            .map(drop)
            .with_context(|| format!("failed to set the limits of {}", self.name))
    }

    /// Removes the slice, and all scopes in it.
    pub(super) fn remove(&self) {
        for words in [["stop", "--"], ["revert", "--"]] {
            let call = self.call("systemctl").args(words).arg(&self.name).time_limit(TIMEOUT);
            if let Err(error) = call.checked() {
                tracing::info!("{error:#}");
            }
        }
    }
}

/// Returns the manager of this user: None if none runs; the runtime directory of a user's own.
fn manager() -> Option<Option<String>> {
    if rustix::process::geteuid().is_root() {
        return fs::exists("/run/systemd/system").unwrap_or(false).then_some(None);
    }
    let runtime = std::env::var(RUNTIME_DIR).ok()?;
    let runs = fs::exists(Path::new(&runtime).join("systemd/private")).unwrap_or(false);
    (runs && lingers()).then_some(Some(runtime))
}

/// Returns whether this user's manager, and what it runs, outlives the user's last login: a machine does.
fn lingers() -> bool {
    let user = rustix::process::geteuid().as_raw().to_string();
    let show = Invocation::new("loginctl").args(["show-user", "--property=Linger", "--value", "--", &user]);
    show.time_limit(TIMEOUT).read().is_ok_and(|answer| answer.trim() == "yes")
}

/// Returns the limits as properties (systemd.resource-control(5)). An empty value is no limit. `disk` is the disk's number.
fn properties(wanted: &Wanted, disk: Option<&str>) -> Vec<String> {
    let of_disk = |limit: Option<u32>| {
        let limit = limit.zip(disk).map(|(limit, disk)| format!("/dev/block/{disk} {limit}"));
        limit.unwrap_or_default()
    };
    let mut all = vec![
        format!("CPUQuota={}", wanted.cpu_quota.map_or_else(String::new, |quota| format!("{quota}%"))),
        format!("TasksMax={}", wanted.pids.map_or_else(|| "infinity".to_owned(), |pids| pids.to_string())),
        format!("IOReadIOPSMax={}", of_disk(wanted.disk_iops)),
        format!("IOWriteIOPSMax={}", of_disk(wanted.disk_iops)),
        format!("IOReadBandwidthMax={}", of_disk(wanted.disk_bandwidth)),
        format!("IOWriteBandwidthMax={}", of_disk(wanted.disk_bandwidth)),
    ];
    all.extend(wanted.memory.map(|memory| format!("MemoryMax={memory}")));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::interrupt::Deadline;
    use crate::host::process::ProcessId;
    use crate::limits::force::AllInForce;

    fn wanted() -> Wanted {
        Wanted {
            memory: Some(3 << 30),
            cpu_quota: Some(150),
            pids: Some(512),
            disk_iops: None,
            disk_bandwidth: Some(1 << 20),
            disk: "/state".into(),
        }
    }

    #[test]
    fn calls_match_the_snapshot() {
        let program = Invocation::new("/usr/bin/qemu").arg("-m").env("A", "b").cwd("/run");
        let calls = |user| {
            let slice = Slice::of(Path::new("/state/app-main"), user);
            format!(
                "{:#?}\n{:#?}",
                slice.around(&program),
                slice.call("systemctl").args(properties(&wanted(), Some("254:0")))
            )
        };
        insta::assert_snapshot!("of_the_system", calls(None));
        insta::assert_snapshot!("of_a_user", calls(Some("/run/user/1000".to_owned())));
    }

    /// Returns a slice with small limits; None if no manager runs here.
    fn small(dir: &Path) -> Option<Slice> {
        let wanted = Wanted {
            memory: Some(256 << 20),
            cpu_quota: Some(50),
            pids: Some(40),
            disk: dir.to_owned(),
            ..Wanted::default()
        };
        Slice::make(dir, &wanted, &|_| Ok(())).unwrap()
    }

    #[test]
    fn a_manager_limits_the_processes_of_a_slice() {
        let dir = tempfile::tempdir().unwrap();
        let Some(slice) = small(dir.path()) else { return };
        let forks = |count: u32| {
            let script =
                format!("for n in $(seq {count}); do sleep 9 >/dev/null 2>&1 & done; echo all; cat /proc/self/cgroup");
            slice.around(&Invocation::new("sh").args(["-c", &script]).cwd("/")).output().unwrap()
        };
        let said = String::from_utf8_lossy(&forks(10).stdout).into_owned();
        assert!(said.starts_with("all\n") && said.contains(&slice.name), "{said}");
        assert!(!String::from_utf8_lossy(&forks(60).stdout).contains("all"));
        let sleeper = slice.around(&Invocation::new("sleep").arg("100").cwd("/"));
        let sleeper = sleeper.start_beside_us().unwrap();
        let id = ProcessId::of(sleeper.pid().unwrap()).unwrap();
        let end = Deadline::after(Duration::from_secs(60));
        end.poll("the scope", Duration::from_millis(10), || {
            Ok(id.words().first().is_some_and(|word| word == "sleep").then_some(()))
        })
        .unwrap();
        let in_force = AllInForce::of(id.pid);
        let values = [&in_force.memory, &in_force.cpu_quota, &in_force.pids].map(|limit| limit.as_ref().unwrap().value);
        assert_eq!(values, [256 << 20, 50, 40]);
        slice
            .set(&Wanted { cpu_quota: Some(150), pids: Some(41), disk: dir.path().to_owned(), ..Wanted::default() })
            .unwrap();
        let in_force = AllInForce::of(id.pid);
        let values = [&in_force.memory, &in_force.cpu_quota, &in_force.pids].map(|limit| limit.as_ref().unwrap().value);
        assert_eq!(values, [256 << 20, 150, 41]);
        slice.remove();
        assert!(id.wait_gone(TIMEOUT));
        let show = slice.call("systemctl").args(["show", "--property", "ActiveState,DropInPaths", "--", &slice.name]);
        assert_eq!(show.read().unwrap(), "ActiveState=inactive\nDropInPaths=");
    }
}
