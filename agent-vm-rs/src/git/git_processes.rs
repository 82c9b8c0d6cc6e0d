//! Finds processes of this host that may hold a lock of a repository.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use procfs::ProcError;
use procfs::process::{FDTarget, ProcState, Process, Stat, all_processes};
use rustix::io::Errno;

/// Difference between the clocks of files and processes.
const SLACK: Duration = Duration::from_secs(2);

/// Returns whether a process has a file of `paths` open, or is a git that may use the repository of `git_dir`. Git closes a lock
/// long before it removes it. Processes that started after `newest`, the time of the newest lock, hold none.
pub(super) fn in_use(git_dir: &Path, paths: &[PathBuf], newest: SystemTime) -> bool {
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (git_dir, paths): (_, Vec<_>) = (real(git_dir), paths.iter().map(|path| real(path)).collect());
    let own = std::process::id().cast_signed();
    let holds = |process: Process| {
        let Ok(stat) = process.stat() else { return false };
        let gone = matches!(stat.state(), Ok(ProcState::Zombie | ProcState::Dead));
        if gone || process.pid == own || started(&stat).is_some_and(|start| start > newest + SLACK) {
            return false;
        }
        let is_git = stat.comm == "git" || stat.comm.starts_with("git-");
        match process.fd() {
            Err(error) if has_ended(&error) => false,
            // That of another user.
            Err(_) => is_git,
            Ok(files) => {
                let is_one = |target: FDTarget| matches!(target, FDTarget::Path(path) if paths.contains(&path));
                files.flatten().any(|file| is_one(file.target)) || (is_git && uses(&process, &git_dir))
            }
        }
    };
    // Without a list of processes, nothing is known.
    all_processes().map_or(true, |mut all| all.any(|process| process.is_ok_and(holds)))
}

/// Returns when a process started.
fn started(stat: &Stat) -> Option<SystemTime> {
    let seconds = procfs::boot_time_secs().ok()? + stat.starttime / procfs::ticks_per_second();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Returns whether a git works in a repository: by its directory, its arguments and environment, or the packs that it reads.
fn uses(process: &Process, git_dir: &Path) -> bool {
    let is_inside = git_dir.file_name().is_some_and(|name| name == ".git");
    let top = git_dir.parent().filter(|_| is_inside).unwrap_or(git_dir);
    let name = git_dir.as_os_str().as_encoded_bytes();
    let names = |file: &str| match fs::read(format!("/proc/{}/{file}", process.pid)) {
        Ok(text) => text.windows(name.len()).any(|part| part == name),
        Err(error) => !has_ended(&ProcError::from(error)),
    };
    let works_here = match process.cwd() {
        Ok(cwd) => cwd.starts_with(top),
        Err(error) => !has_ended(&error),
    };
    works_here || ["cmdline", "environ", "maps"].into_iter().any(names)
}

/// Returns whether a process could not be read because it has ended.
fn has_ended(error: &ProcError) -> bool {
    let no_process = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
    };
    match error {
        ProcError::NotFound(_) => true,
        ProcError::Io(error, _) => no_process(error),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_may_hold_a_lock_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let git_dir = dir.path().join("app/.git");
        let other = dir.path().join("other");
        for dir in [&git_dir, &other] {
            fs::create_dir_all(dir).unwrap();
            assert!(Command::new("git").args(["init", "--quiet", "--bare"]).arg(dir).status().unwrap().success());
        }
        let lock = git_dir.join("packed-refs.lock");
        File::create(&lock).unwrap();
        let now = || SystemTime::now();
        let held = |at: SystemTime| in_use(&git_dir, std::slice::from_ref(&lock), at);
        let waits = |dir: &Path| {
            let mut git = Command::new("git");
            let git = git.arg("--git-dir").arg(dir).args(["cat-file", "--batch-check"]).current_dir(dir);
            let mut git = git.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // It answers, so it runs.
            std::io::Write::write_all(git.stdin.as_mut().unwrap(), b"x\n").unwrap();
            std::io::Read::read_exact(git.stdout.as_mut().unwrap(), &mut [0; 9]).unwrap();
            git
        };
        let ends = |mut process: std::process::Child| {
            process.kill().unwrap();
            process.wait().unwrap();
        };
        assert!(!held(now()));
        let in_other = waits(&other);
        assert!(!held(now()), "a git of another repository");
        ends(in_other);
        let git = waits(&git_dir);
        assert!(held(now()));
        assert!(!held(now() - Duration::from_secs(100)), "the lock is older than the process");
        ends(git);
        let opens = Command::new("sleep").arg("1000").stdin(File::open(&lock).unwrap()).spawn().unwrap();
        assert!(held(now()));
        ends(opens);
        assert!(!held(now()));
    }
}
