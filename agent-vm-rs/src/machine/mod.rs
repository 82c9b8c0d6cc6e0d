//! One machine: its directory and its contents.

pub mod accel;
pub mod agents;
pub mod branch;
pub mod context;
pub mod declared;
pub mod defaults;
pub mod egress_settings;
pub mod events;
pub mod events_shown;
pub mod forward;
pub mod guest_kind;
pub mod helpers;
pub mod host_address;
pub mod in_use;
pub mod left_processes;
pub mod limit_policy;
pub mod limits;
pub mod mcp_proxy;
pub mod name;
pub mod number;
pub mod paths;
pub mod policy;
pub mod run_state;
pub mod scratch_elsewhere;
pub mod settings;
pub mod settings_change;
pub mod settings_key;
pub mod settings_patch;
pub mod settings_shown;
pub mod state_dir;
pub mod sweep;
pub mod time_limit;
pub mod unknown;
pub mod wrong_value;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::files::places::Mounts;
use crate::host::files::{has_dir, has_file, is_absent, write_file};
use crate::host::interrupt::Deadline;
use crate::host::lock::Lock;
use crate::machine::events::{Values, What};
use crate::machine::name::VmName;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;
use crate::machine::settings::Settings;
use crate::machine::settings_change::differences;
use crate::machine::state_dir::StateDir;
use crate::term::error::Failure;

/// A machine, whose directory may not exist yet.
#[derive(Clone, Debug)]
pub struct Machine {
    /// State directory that contains the machine.
    pub state: StateDir,
    /// Name of the machine.
    pub name: VmName,
    /// Directory of the machine.
    pub dir: PathBuf,
}

impl Machine {
    /// Returns the machine of this name, which need not exist.
    #[must_use]
    pub fn new(state: &StateDir, name: VmName) -> Self {
        Self { dir: state.machine(&name), state: state.clone(), name }
    }

    /// Returns whether the machine exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        has_dir(&self.dir).unwrap_or(false)
    }

    /// Checks the files and directories that no start makes again: each must exist and be of the right kind. Otherwise
    /// a program could hang on it or follow it elsewhere.
    ///
    /// # Errors
    /// A path is missing or of the wrong kind. The hint says what to do.
    pub fn check(&self) -> Result<()> {
        type Is = fn(&Path) -> Result<bool>;
        let needed: [(MachinePath, Is); 5] = [
            (MachinePath::Settings, has_file),
            (MachinePath::Workspace, has_dir),
            (MachinePath::Ssh, has_dir),
            (MachinePath::LoginKey, has_file),
            (MachinePath::KnownHosts, has_file),
        ];
        let made: [(MachinePath, Is); 6] = [
            (MachinePath::Run, has_dir),
            (MachinePath::Flake, has_dir),
            (MachinePath::Tls, has_dir),
            (MachinePath::Egress, has_dir),
            (MachinePath::EgressRulesDir, has_dir),
            (MachinePath::Disk, has_file),
        ];
        for (path, is_there) in needed {
            if !is_there(&path.of(&self.dir))? {
                return Err(Failure::new(format!("{} is missing", path.of(&self.dir).display()))
                    .with_hint(format!(
                        "restore it, or remove the machine (its commits are kept): agent-vm destroy {}",
                        self.name
                    ))
                    .into());
            }
        }
        made.iter().try_for_each(|(path, is_there)| is_there(&path.of(&self.dir)).map(drop))
    }

    /// Reads the machine's settings.
    ///
    /// # Errors
    /// See [`Settings::read`].
    pub fn settings(&self) -> Result<Settings> {
        Settings::read(&MachinePath::Settings.of(&self.dir))
    }

    /// Writes its settings, durably and atomically. The caller holds its lock.
    ///
    /// # Errors
    /// The file cannot be written. The settings are then unchanged.
    pub fn write_settings(&self, settings: &Settings) -> Result<()> {
        let changed = self.settings().ok().and_then(|before| changed(&before, settings));
        write_file(&MachinePath::Settings.of(&self.dir), settings.to_json()?, 0o600)?;
        if let Some(changed) = changed {
            events::record(&self.dir, changed);
        }
        Ok(())
    }

    /// Returns the machine's run directory.
    #[must_use]
    pub fn run(&self) -> RunDir {
        RunDir::of(&self.dir)
    }

    /// Returns the directory of the clone that the guest works in.
    #[must_use]
    pub fn workspace(&self) -> PathBuf {
        MachinePath::Workspace.of(&self.dir)
    }

    /// Returns the directory of the rendered flake and of the link to the built guest.
    #[must_use]
    pub fn flake(&self) -> PathBuf {
        MachinePath::Flake.of(&self.dir)
    }

    /// Returns the console log of the current run, or of the last one.
    #[must_use]
    pub fn console_log(&self) -> PathBuf {
        let current = MachinePath::RunConsole.of(&self.dir);
        if has_file(&current).unwrap_or(false) { current } else { MachinePath::Console.of(&self.dir) }
    }

    /// Takes the machine's lock, which every command that changes it holds.
    ///
    /// # Errors
    /// Another command holds it until the deadline, or has destroyed the machine meanwhile.
    pub fn lock(&self, deadline: Deadline) -> Result<Lock> {
        let lock = self.lock_name(deadline)?;
        if self.exists() { Ok(lock) } else { Err(crate::machine::unknown::no_machine(&self.state, self.name.as_str())) }
    }

    /// Takes the lock of a machine that need not exist.
    ///
    /// # Errors
    /// Another command holds it until the deadline.
    pub fn lock_name(&self, deadline: Deadline) -> Result<Lock> {
        Lock::take(&self.state.lock_file(&self.name), deadline)
    }

    /// Returns whether another command is changing the machine.
    ///
    /// # Errors
    /// The lock cannot be examined.
    pub fn is_locked(&self) -> Result<bool> {
        Ok(Lock::try_take(&self.state.lock_file(&self.name))?.is_none())
    }

    /// Returns whether the directory of the machine's repository is missing or has no repository; false if it cannot be
    /// examined. It does not run git.
    #[must_use]
    pub fn has_lost_source(&self, settings: &Settings) -> bool {
        // A bare repository, or one with a separate git directory, has a HEAD file or a .git file.
        [".git", "HEAD"].iter().all(|name| is_absent(&settings.source.join(name)))
    }

    /// Returns whether a lost repository may be on a disk that is not mounted now.
    #[must_use]
    pub fn may_be_unmounted(settings: &Settings) -> bool {
        match &settings.source_mount {
            Some(mount) => !Mounts::read().have_point(mount),
            // The directory of a removable disk is removed with it.
            None => settings.source.parent().is_some_and(is_absent),
        }
    }

    /// Returns the error of a machine whose repository was moved or deleted.
    #[must_use]
    pub fn lost_source(&self, settings: &Settings) -> Failure {
        Failure::new(format!(
            "source missing: {} no longer exists or is no longer a repository",
            settings.source.display()
        ))
        .with_hint(format!("if it was moved, in its new place: agent-vm relink {}", self.name))
    }
}

/// Longest values of a setting in an event, in characters: a list may have any length.
const LONGEST_VALUES: usize = 300;

/// Returns the event about the settings that differ; None if none does.
fn changed(before: &Settings, after: &Settings) -> Option<What> {
    let differences = differences(before, after);
    let mut names: Vec<_> = differences.iter().map(|(key, ..)| key.name().to_owned()).collect();
    let values = differences.into_iter().filter(|(key, before, after)| {
        key.is_public() && before.to_string().len() + after.to_string().len() <= LONGEST_VALUES
    });
    let values = values.map(|(key, before, after)| (key.name().to_owned(), Values { before, after })).collect();
    let others = [
        ("source", before.source != after.source),
        ("secrets", before.egress.secrets != after.egress.secrets),
        ("forwards", before.forwards != after.forwards),
    ];
    names.extend(others.iter().filter(|(_, differs)| *differs).map(|(name, _)| (*name).to_owned()));
    (!names.is_empty()).then_some(What::Changed { settings: names, values })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::settings::tests::sample;

    #[test]
    fn changed_values_are_recorded_unless_they_are_secret_or_long() {
        let before = sample();
        assert_eq!(changed(&before, &before), None);
        let mut after = Settings { memory: before.memory + 1, nix_args: vec!["token-1".to_owned()], ..before.clone() };
        after.egress.host_proxy = "http://token-2.test:8080".parse().unwrap();
        after.egress.allow = vec!["xxx.test".parse().unwrap(); 50];
        let event = changed(&before, &after).unwrap();
        assert!(event.line().contains(&format!("memory ({} MiB to {} MiB)", before.memory, after.memory)), "{event:?}");
        let text = serde_json::to_string(&event).unwrap();
        assert!(!text.contains("token") && !text.contains("xxx"), "{text}");
        for name in ["nix_args", "host_proxy", "allow"] {
            assert!(text.contains(&format!("\"{name}\"")), "{text}");
        }
    }
}
