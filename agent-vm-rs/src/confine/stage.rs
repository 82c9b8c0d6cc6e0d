//! The stage: a mount namespace in which an unprivileged account finds the few host files that it needs, whatever the
//! permissions of their parent directories are. There it can create a machine's namespaces itself.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::Account;
use super::setpriv::drop_to;
use crate::host::process::Invocation;

/// Mount point of the stage: it exists on every host, and bubblewrap needs it.
const STAGE: &str = "/tmp";

/// Returns the place of a host path on the stage.
#[must_use]
pub fn place(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    Path::new(STAGE).join(parts.collect::<PathBuf>())
}

/// Returns a program that an account runs on a stage with these paths, in directory `dir`, inheriting `sockets` sockets. The
/// program adds the rest of its confinement itself. `ours` is the path of agent-vm.
#[must_use]
pub fn on(
    program: &Invocation,
    ours: &Path,
    account: &Account,
    paths: &[&Path],
    dir: &Path,
    sockets: usize,
) -> Invocation {
    let unshare = Invocation::new("unshare").args(["--mount", "--propagation", "private", "--"]);
    let mut stage = unshare.arg(ours).args(["staged", "--sockets", &sockets.to_string(), "--dir"]).arg(dir);
    for path in paths {
        stage = stage.arg("--path").arg(path);
    }
    program.within(stage.arg("--").args(drop_to(Some(account))))
}

/// Options of the command that creates a stage and executes a program on it.
#[derive(Args, Clone, Debug)]
pub struct Staged {
    /// File or directory to show on the stage
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Working directory of the program
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Number of sockets that the program inherits, as descriptors 3 and up
    #[arg(long, value_name = "NUMBER")]
    sockets: u8,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<std::ffi::OsString>,
}

impl Staged {
    /// Returns the number of sockets that the program inherits.
    #[must_use]
    pub fn sockets(&self) -> u8 {
        self.sockets
    }

    /// Mounts the stage in this mount namespace, which must be private, and executes the program.
    ///
    /// # Errors
    /// The kernel refuses a mount, or the program does not exist.
    pub fn exec(&self) -> Result<std::convert::Infallible> {
        self.mount().context("failed to mount the machine's files for its account")?;
        let (program, args) = self.program.split_first().context("no program to execute was given")?;
        Err(Command::new(program).args(args).current_dir(&self.dir).exec())
            .with_context(|| format!("failed to execute {}", program.to_string_lossy()))
    }

    fn mount(&self) -> Result<()> {
        // Open all paths first: those below the mount point are hidden once the stage is mounted.
        let held = self.path.iter().map(|path| Ok((path, hold(path)?))).collect::<Result<Vec<_>>>()?;
        mount("agent-vm", STAGE, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755,size=1m")
            .context("failed to mount the stage")?;
        for (path, held) in held {
            let Some((tree, is_dir)) = held else { continue };
            put(&tree, is_dir, &place(path))
                .with_context(|| format!("failed to mount {} on the stage", path.display()))?;
        }
        Ok(())
    }
}

/// Returns an open mount tree of a path and whether it is a directory; None if it does not exist.
fn hold(path: &Path) -> Result<Option<(OwnedFd, bool)>> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    match open_tree(CWD, path, flags) {
        Err(Errno::NOENT) => Ok(None),
        tree => {
            let tree = tree.with_context(|| format!("failed to open {}", path.display()))?;
            Ok(Some((tree, path.is_dir())))
        }
    }
}

fn put(tree: &OwnedFd, is_dir: bool, place: &Path) -> Result<()> {
    if !place.exists() {
        fs::create_dir_all(if is_dir { Some(place) } else { place.parent() }.unwrap_or(place))?;
        if !is_dir {
            fs::write(place, "")?;
        }
    }
    move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_below_the_stage() {
        assert_eq!(place(Path::new("/srv/a b/../c")), Path::new("/tmp/srv/a b/c"));
        assert_eq!(place(Path::new("/")), Path::new("/tmp/"));
    }
}
