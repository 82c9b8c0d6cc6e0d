//! One machine: its directory and what is in it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::error::Failure;
use crate::interrupt::Deadline;
use crate::lock::Lock;
use crate::run_state::RunDir;
use crate::settings::Settings;
use crate::state::{has_dir, has_file};
use crate::state_dir::StateDir;
use crate::vm_name::VmName;

/// A machine that has (or is to have) a directory.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The directory that holds it.
    pub state: StateDir,
    /// Its name.
    pub name: VmName,
    /// Its own directory.
    pub dir: PathBuf,
}

impl Machine {
    /// The machine of this name, existing or not.
    #[must_use]
    pub fn new(state: &StateDir, name: VmName) -> Self {
        Self { dir: state.machine(&name), state: state.clone(), name }
    }

    /// Whether it exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        has_dir(&self.dir).unwrap_or(false)
    }

    /// Refuses a machine in which something is missing, or stands in the place of something else, that no start makes
    /// again by itself: what is started would hang on it, or follow it elsewhere.
    ///
    /// # Errors
    /// The first wrong thing, and what to do about it.
    pub fn check(&self) -> Result<()> {
        type Is = fn(&Path) -> Result<bool>;
        let needed: [(&str, Is); 5] = [
            ("config.json", has_file),
            ("workspace", has_dir),
            ("ssh", has_dir),
            ("ssh/id_ed25519", has_file),
            ("ssh/known_hosts", has_file),
        ];
        let made: [(&str, Is); 6] = [
            ("run", has_dir),
            ("flake", has_dir),
            ("tls", has_dir),
            ("egress", has_dir),
            ("egress/rules", has_dir),
            ("disk.qcow2", has_file),
        ];
        for (name, is_there) in needed {
            if !is_there(&self.dir.join(name))? {
                return Err(Failure::new(format!("{} is missing", self.dir.join(name).display()))
                    .hint(format!(
                        "put it back, or remove the machine, whose commits are kept: agent-vm destroy {}",
                        self.name
                    ))
                    .into());
            }
        }
        made.iter().try_for_each(|(name, is_there)| is_there(&self.dir.join(name)).map(drop))
    }

    /// Its settings.
    ///
    /// # Errors
    /// See [`Settings::read`].
    pub fn settings(&self) -> Result<Settings> {
        Settings::read(&self.dir.join("config.json"))
    }

    /// Its run directory.
    #[must_use]
    pub fn run(&self) -> RunDir {
        RunDir::of(&self.dir)
    }

    /// The clone that the guest works in.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        self.dir.join("workspace")
    }

    /// Its rendered flake and the link to its guest.
    #[must_use]
    pub fn flake(&self) -> PathBuf {
        self.dir.join("flake")
    }

    /// The console log: of the run that is on, or of the last one.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        let current = self.run().file("console.log");
        if has_file(&current).unwrap_or(false) { current } else { self.dir.join("console.log") }
    }

    /// Takes the lock of every command that changes it.
    ///
    /// # Errors
    /// Another command holds it until the deadline, or has destroyed the machine meanwhile.
    pub fn lock(&self, deadline: Deadline) -> Result<Lock> {
        let lock = self.lock_name(deadline)?;
        if self.exists() { Ok(lock) } else { Err(crate::unknown_machine::no_machine(&self.state, self.name.as_str())) }
    }

    /// As [`Self::lock`], for a machine that need not exist.
    ///
    /// # Errors
    /// Another command holds it until the deadline.
    pub fn lock_name(&self, deadline: Deadline) -> Result<Lock> {
        Lock::take(&self.state.lock_file(&self.name), deadline)
    }

    /// Whether the directory of its repository is gone or holds no repository, without asking git.
    #[must_use]
    pub fn has_lost_source(&self, settings: &Settings) -> bool {
        // A bare repository, or one with a separate git directory, has a HEAD file or a .git file.
        ![".git", "HEAD"].iter().any(|name| settings.source.join(name).exists())
    }

    /// The error of a machine whose repository was moved or deleted.
    #[must_use]
    pub fn lost_source(&self, settings: &Settings) -> Failure {
        Failure::new(format!("source missing: {} is not there or no repository any more", settings.source.display()))
            .hint(format!("if it was moved: agent-vm relink {} --source DIR", self.name))
    }
}
