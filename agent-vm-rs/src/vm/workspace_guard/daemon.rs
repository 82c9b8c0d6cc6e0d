//! Makes virtiofsd's writes fail.

use std::time::Duration;

use anyhow::{Context as _, Result};
use procfs::process::Process;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::confine::{Account, setpriv};
use crate::host::process::{Invocation, ProcessId};
use crate::machine::run_state::RunDir;

/// Time for prlimit.
const PRLIMIT: Duration = Duration::from_secs(5);
/// Largest number of virtiofsd's processes that are limited. It has two.
const MOST_PROCESSES: usize = 16;

/// Sets the limit of file sizes of a process; None for no limit. A process that has ended is skipped.
pub(super) fn set_file_limit(process: &ProcessId, most: Option<u64>) -> Result<()> {
    let Some(pid) = Pid::from_raw(process.pid).filter(|_| process.alive()) else { return Ok(()) };
    // The hard limit stays, which virtiofsd has from us.
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = match (most, maximum) {
        (Some(most), Some(maximum)) => Some(most.min(maximum)),
        (most, maximum) => most.or(maximum),
    };
    match prlimit(Some(pid), Resource::Fsize, Rlimit { current, maximum }) {
        Ok(_) => Ok(()),
        Err(_) if !process.alive() => Ok(()),
        // A root without CAP_SYS_RESOURCE, in a container, has to do it as the process's account.
        Err(Errno::PERM) if rustix::process::geteuid().is_root() => as_its_account(process, current),
        Err(error) => Err(anyhow::Error::new(error).context("failed to limit the size of files that virtiofsd writes")),
    }
}

/// Sets the limit of file sizes of a process with the account that it runs as.
fn as_its_account(process: &ProcessId, most: Option<u64>) -> Result<()> {
    let status = Process::new(process.pid).and_then(|process| process.status());
    let status = status.context("failed to read the account of virtiofsd")?;
    let account = Account { uid: status.ruid, gid: status.rgid, groups: Vec::new(), stage: None };
    let most = most.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
    let words = setpriv::drop_to(Some(&account));
    let (setpriv, words) = words.split_first().context("failed to change the account")?;
    let prlimit = Invocation::new(setpriv).args(words).args(["prlimit", "--pid", &process.pid.to_string()]);
    prlimit.arg(format!("--fsize={most}:")).time_limit(PRLIMIT).checked().map(drop)
}

/// Returns virtiofsd's processes: it serves the workspace from a child of the recorded one. None for a workspace over 9p.
pub(super) fn daemon(run: &RunDir) -> Vec<ProcessId> {
    let mut all: Vec<_> = run.virtiofsd().into_iter().collect();
    let mut next = 0;
    while let Some(process) = all.get(next).filter(|_| all.len() < MOST_PROCESSES) {
        let children = process.children();
        all.extend(children);
        next += 1;
    }
    all
}
