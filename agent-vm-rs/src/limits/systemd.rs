//! Limits by a slice of systemd: of the system's manager for root, else of the user's. Each process is a scope in it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Wanted;
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
    /// Makes the slice of the machine in `dir`, with these limits; None if no manager runs here.
    ///
    /// # Errors
    /// The manager does not answer, or refuses a limit.
    pub(super) fn make(dir: &Path, wanted: &Wanted) -> Result<Option<Self>> {
        let Some(user) = manager() else { return Ok(None) };
        if find("systemd-run".as_ref()).is_err() || find("systemctl".as_ref()).is_err() {
            return Ok(None);
        }
        let slice = Self::of(dir, user);
        // That its socket exists does not mean that it answers.
        let probe = slice.around(&Invocation::new("true").cwd("/")).time_limit(TIMEOUT);
        probe.checked().context("systemd does not start a scope for a machine's processes")?;
        slice.set(wanted)?;
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
        let set = self.call("systemctl").args(["set-property", "--runtime", "--", &self.name]).args(properties(wanted));
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
    fs::exists(Path::new(&runtime).join("systemd/private")).unwrap_or(false).then_some(Some(runtime))
}

/// Returns the limits as properties (systemd.resource-control(5)). An empty value is no limit.
fn properties(wanted: &Wanted) -> Vec<String> {
    let disk = format!("\"{}\"", wanted.disk.display().to_string().replace('\\', "\\\\").replace('"', "\\\""));
    let of_disk = |limit: Option<u32>| limit.map_or_else(String::new, |limit| format!("{disk} {limit}"));
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

    fn wanted() -> Wanted {
        Wanted {
            memory: Some(3 << 30),
            cpu_quota: Some(150),
            pids: Some(512),
            disk_iops: None,
            disk_bandwidth: Some(1 << 20),
            disk: "/state dir/a\"b".into(),
        }
    }

    #[test]
    fn calls_match_the_snapshot() {
        let program = Invocation::new("/usr/bin/qemu").arg("-m").env("A", "b").cwd("/run");
        let calls = |user| {
            let slice = Slice::of(Path::new("/state/app-main"), user);
            format!("{:#?}\n{:#?}", slice.around(&program), slice.call("systemctl").args(properties(&wanted())))
        };
        insta::assert_snapshot!("of_the_system", calls(None));
        insta::assert_snapshot!("of_a_user", calls(Some("/run/user/1000".to_owned())));
    }
}
