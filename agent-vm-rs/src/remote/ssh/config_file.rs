//! The file in `~/.ssh` with all machines, and the line in the user's own file that includes it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::config;
use crate::host::files::{is_absent, remove_file, write_file};
use crate::machine::Machine;
use crate::machine::state_dir::StateDir;
use crate::term::error::Failure;

/// Name of our file. The line that includes it needs no path, so that no character of a path can change its meaning.
const OURS: &str = "agent-vm.config";
/// The line in the user's own file.
const LINE: &str = "Include agent-vm.config";
/// First line of our file.
const HEAD: &str = "# Written by agent-vm ssh-config --write, and again when a machine is created or removed.\n";
/// Largest file of the user that is changed, in bytes.
const LARGEST: u64 = 1 << 20;

/// The user's ssh directory.
pub struct SshDir(PathBuf);

impl SshDir {
    /// Returns the directory of the current user.
    ///
    /// # Errors
    /// HOME is not set.
    pub fn of_user() -> Result<Self> {
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        Ok(Self(home.ok_or_else(|| Failure::new("HOME is not set to an absolute path"))?.join(".ssh")))
    }

    /// Returns the path of our file.
    #[must_use]
    pub fn ours(&self) -> PathBuf {
        self.0.join(OURS)
    }

    /// Returns the path of the user's own file, behind any symbolic link.
    fn users(&self) -> PathBuf {
        let path = self.0.join("config");
        fs::canonicalize(&path).unwrap_or(path)
    }

    /// Writes our file with all machines, and includes it in the user's own file. Returns whether that changed.
    ///
    /// # Errors
    /// A file cannot be read or written. The user's own file is then unchanged.
    pub fn install(&self, state: &StateDir) -> Result<bool> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.with_context(|| format!("failed to create the directory {}", self.0.display()))?;
        write_file(&self.ours(), all(state)?, 0o600)?;
        let before = self.read()?;
        if lines(&before).any(is_ours) {
            return Ok(false);
        }
        // Above all Host blocks: a line below one belongs to it.
        self.replace([LINE.as_bytes(), b"\n", &before].concat())?;
        Ok(true)
    }

    /// Removes our file, and the line that includes it. Returns whether there was one of them.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn uninstall(&self) -> Result<bool> {
        let before = self.read()?;
        let kept: Vec<_> = lines(&before).filter(|line| !is_ours(line)).flatten().copied().collect();
        let is_included = kept.len() != before.len();
        if is_included {
            self.replace(kept)?;
        }
        let is_there = !is_absent(&self.ours());
        remove_file(&self.ours())?;
        Ok(is_included || is_there)
    }

    /// Writes our file again if there is one that lists other machines.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn refresh(&self, state: &StateDir) -> Result<()> {
        let Ok(Some(before)) = crate::host::files::plain::read(&self.ours(), LARGEST) else { return Ok(()) };
        // The file of another state directory stays.
        if !before.starts_with(head(state).as_bytes()) {
            return Ok(());
        }
        let now = all(state)?;
        if before == now.as_bytes() { Ok(()) } else { write_file(&self.ours(), now, 0o600) }
    }

    fn read(&self) -> Result<Vec<u8>> {
        Ok(crate::host::files::plain::read(&self.users(), LARGEST)?.unwrap_or_default())
    }

    fn replace(&self, text: Vec<u8>) -> Result<()> {
        let file = self.users();
        let mode = fs::metadata(&file).map_or(0o600, |found| found.permissions().mode() & 0o777);
        write_file(&file, text, mode).with_context(|| {
            Failure::new(format!("failed to change {}", file.display()))
                .general_hint(format!("add or remove this line at its start yourself: {LINE}"))
        })
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
}

fn is_ours(line: &[u8]) -> bool {
    line.trim_ascii() == LINE.as_bytes()
}

fn head(state: &StateDir) -> String {
    format!("{HEAD}# State directory: {}\n", state.path().display())
}

/// Returns our file: the blocks of all machines.
fn all(state: &StateDir) -> Result<String> {
    let machines = state.names()?.into_iter().map(|name| Machine::new(state, name)).filter(Machine::exists);
    let blocks = machines.map(|machine| Ok("\n".to_owned() + &config::block(&machine, &own_program()?)?));
    Ok(head(state) + &blocks.collect::<Result<String>>()?)
}

/// Returns the path of this program: as it is on PATH, if it is there. That path stays valid after an update.
///
/// # Errors
/// The path is unknown.
pub fn own_program() -> Result<PathBuf> {
    let own = crate::host::programs::own_path()?;
    let on_path = which::which("agent-vm").ok();
    Ok(on_path.filter(|path| fs::canonicalize(path).ok() == fs::canonicalize(&own).ok()).unwrap_or(own))
}
