//! Removes what killed commands left in the state directory. Every command about machines does this beside its own
//! work; files that a running command uses are not touched.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::host::files::{TEMPORARY, is_absent, remove_any};
use crate::host::interrupt;
use crate::host::lock::Lock;
use crate::machine::Machine;
use crate::machine::left_processes::left_processes_of;
use crate::machine::name::VmName;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::{end_processes_of, end_those};
use crate::machine::scratch_elsewhere;
use crate::machine::state_dir::StateDir;
use crate::term::error::{hint_of, on_one_line};
use crate::term::progress::note;

/// Prefix of a machine's directory that is being removed.
pub const GONE: &str = ".gone-";
/// Prefix of a machine that is still being created.
const NEW: &str = ".new-";
/// Prefix of a removed machine that no command uses.
const SWEPT: &str = ".swept-";
/// Directories in a machine's directory that files are written to, as to that itself. The guest writes to none of them.
const WRITTEN: [MachinePath; 5] =
    [MachinePath::Ssh, MachinePath::Tls, MachinePath::Flake, MachinePath::Egress, MachinePath::EgressRulesDir];
/// How long a command that has done its work waits for the sweep. The next command removes what is left then.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A sweep that runs beside a command.
pub struct Sweeper {
    state: StateDir,
    done: Receiver<()>,
}

/// Starts a sweep in a thread.
#[must_use]
pub fn begin(state: &StateDir) -> Sweeper {
    let (end, done) = channel();
    let ours = state.clone();
    std::thread::spawn(move || {
        for error in sweep(&ours) {
            let hint = hint_of(&error).map_or_else(String::new, |hint| format!("; {}", on_one_line(&hint)));
            note(&format!("notice: {error:#}{hint}"));
        }
        drop(end);
    });
    Sweeper { state: state.clone(), done }
}

impl Sweeper {
    /// Waits up to [`TIMEOUT`] for the end of the sweep.
    pub fn finish(self) {
        let end = Instant::now() + TIMEOUT;
        let moment = Duration::from_millis(20);
        while interrupt::check().is_ok() && Instant::now() < end {
            if self.done.recv_timeout(moment) != Err(RecvTimeoutError::Timeout) {
                // The command itself may have removed a machine. Errors were already reported by the sweep.
                drop(sweep_locks(&self.state));
                return;
            }
        }
    }
}

/// Removes what killed commands left; returns the errors.
fn sweep(state: &StateDir) -> Vec<anyhow::Error> {
    // The command itself reports a state directory that cannot be read.
    let Ok(entries) = fs::read_dir(state.path()) else { return Vec::new() };
    let names: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let mut swept: Vec<_> = names.iter().map(|name| sweep_entry(state, name)).collect();
    let machines = names.iter().filter_map(|name| name.parse::<VmName>().ok());
    swept.extend(machines.map(|name| sweep_machine(&Machine::new(state, name))));
    swept.push(sweep_locks(state));
    swept.into_iter().filter_map(Result::err).collect()
}

/// Removes a machine that was not completely created or not completely removed.
fn sweep_entry(state: &StateDir, entry: &str) -> Result<()> {
    let path = state.path().join(entry);
    if entry.starts_with(SWEPT) {
        return remove_unless_held(&path);
    }
    let name = [NEW, GONE].iter().find_map(|prefix| entry.strip_prefix(prefix));
    let Some(Ok(name)) = name.map(str::parse::<VmName>) else { return Ok(()) };
    // A command that creates or removes the machine holds the lock.
    let Some(lock) = Lock::try_take(&state.lock_file(&name))? else { return Ok(()) };
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    tracing::info!("removing {entry}, which a killed command left");
    end_processes_of(&path)?;
    // The lock is released before a large tree is removed, because other commands may wait for it.
    let swept = state.path().join(format!("{SWEPT}{}{entry}", std::process::id()));
    fs::rename(&path, &swept)
        .with_context(|| format!("failed to remove {}, which a killed command left", path.display()))?;
    drop(lock);
    remove_unless_held(&swept)
}

/// Removes a machine's temporary files, and ends the processes of a start that was killed before QEMU ran.
fn sweep_machine(machine: &Machine) -> Result<()> {
    let left = left_in(&machine.dir);
    let half_started = left.has_run && is_half_started(machine) && !left_processes_of(&machine.dir).is_empty();
    if left.scratch.is_empty() && !left.has_record && !half_started {
        return Ok(());
    }
    let Some(_lock) = Lock::try_take(&machine.state.lock_file(&machine.name))? else { return Ok(()) };
    // A start that held the lock may have ended meanwhile.
    if half_started && is_half_started(machine) {
        // The next start or stop removes its files.
        end_those(&machine.dir, || left_processes_of(&machine.dir))?;
    }
    scratch(&machine.dir).and_then(|()| scratch_elsewhere::remove(machine))
}

/// Returns whether a start got no further than to its processes: it has recorded neither QEMU nor the facts of the run. Nothing
/// looks after such processes; without the lock, a start may be about to record them.
fn is_half_started(machine: &Machine) -> bool {
    is_absent(&machine.run().file(MachinePath::RunFacts)) && machine.run().qemu().is_none()
}

/// Removes what killed commands left in a machine's directory. The caller holds its lock.
///
/// # Errors
/// Something cannot be removed.
pub fn scratch(machine: &Path) -> Result<()> {
    left_in(machine).scratch.iter().try_for_each(|path| remove_unless_held(path))
}

/// What killed commands left of one machine.
#[derive(Default)]
struct Left {
    /// Temporary files and directories.
    scratch: Vec<PathBuf>,
    /// Whether there is a record of a directory elsewhere.
    has_record: bool,
    /// Whether there are files of a run.
    has_run: bool,
}

/// Looks for what killed commands left. Every command does it for every machine, so each directory is read once and no path is
/// examined that the entries already show to be missing.
fn left_in(machine: &Path) -> Left {
    let mut left = Left::default();
    let is_dir = machine.symlink_metadata().is_ok_and(|found| found.is_dir());
    let mut dirs: Vec<_> = is_dir.then(|| (String::new(), machine.to_owned())).into_iter().collect();
    while let Some((above, dir)) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                left.scratch.push(entry.path());
                continue;
            }
            let Some(name) = name.to_str() else { continue };
            let name = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
            left.has_record |= name == MachinePath::ScratchElsewhere.name();
            left.has_run |= name == MachinePath::Run.name();
            if WRITTEN.iter().any(|dir| dir.name() == name) && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push((name, entry.path()));
            }
        }
    }
    left
}

/// Returns the name of a temporary file or directory that one command makes, and that a sweep removes if it was killed.
#[must_use]
pub fn scratch_name(name: &str) -> String {
    format!("{TEMPORARY}{name}")
}

/// Removes a path unless a command uses it: such a command holds a lock on the directory (see [`Scratch`]).
fn remove_unless_held(path: &Path) -> Result<()> {
    let is_dir = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let held = is_dir.then(|| File::open(path)).transpose().ok().flatten();
    // No command uses a directory that cannot be opened.
    let free = held.as_ref().is_none_or(|dir| flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok());
    if free { remove_any(path) } else { Ok(()) }
}

/// A temporary directory of one command. No sweep removes it while the command runs; dropping it removes it.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
    // Declared after `dir`, so that the lock is held until the directory is removed.
    _held: File,
}

impl Scratch {
    /// Makes a temporary directory in `parent`.
    ///
    /// # Errors
    /// The directory cannot be made or locked.
    pub fn new_in(parent: &Path) -> Result<Self> {
        let failed = || format!("failed to make a scratch directory in {}", parent.display());
        loop {
            let dir = tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(parent).with_context(failed)?;
            // Until it is locked it looks like one that a killed command left, and may be swept.
            let held = match File::open(dir.path()) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                held => held.with_context(failed)?,
            };
            flock(&held, FlockOperation::LockShared).with_context(failed)?;
            if dir.path().exists() {
                return Ok(Self { dir, _held: held });
            }
        }
    }

    /// Returns the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Removes the locks of machines that are gone.
fn sweep_locks(state: &StateDir) -> Result<()> {
    let dir = state.locks();
    if !dir.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        return Ok(());
    }
    let entries = fs::read_dir(&dir).with_context(|| format!("failed to list {}", dir.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<VmName>().ok());
    for name in names {
        let gone = || {
            let places = [state.machine(&name), state.staging(&name), state.path().join(format!("{GONE}{name}"))];
            places.iter().all(|place| place.symlink_metadata().is_err())
        };
        // A command that creates a machine of this name holds the lock.
        if gone()
            && is_empty(&state.lock_file(&name))
            && let Some(lock) = Lock::try_take(&state.lock_file(&name))?
            && gone()
        {
            lock.retire()?;
        }
    }
    Ok(())
}

/// Returns whether a file is empty, as locks are.
fn is_empty(file: &Path) -> bool {
    file.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_scratch_directory_is_not_swept_while_it_is_used() {
        let machine = tempfile::tempdir().unwrap();
        let left = machine.path().join(scratch_name("left-by-a-killed-command"));
        fs::create_dir(&left).unwrap();
        let made = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let sweeping = scope.spawn(|| {
                while !made.load(Ordering::Relaxed) {
                    scratch(machine.path()).unwrap();
                }
            });
            for _ in 0..1000 {
                let used = Scratch::new_in(machine.path()).unwrap();
                fs::write(used.path().join("file"), "x").unwrap();
            }
            made.store(true, Ordering::Relaxed);
            sweeping.join().unwrap();
        });
        assert!(!left.exists());
        assert_eq!(fs::read_dir(machine.path()).unwrap().count(), 0);
    }
}
