//! What lets another account make the namespaces around root's machines itself: a view of the host's files in which the few
//! that it needs have a place that it reaches, whatever directories they are in.

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
use super::bwrap::drop_to;
use crate::host::process::Invocation;

/// Every host has it, and bubblewrap needs it.
const STAGE: &str = "/tmp";

/// Where a path of the host's is on the stage.
#[must_use]
pub fn place(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    Path::new(STAGE).join(parts.collect::<PathBuf>())
}

/// A program that an account runs on a stage with these paths, at `dir` of it, with the `sockets` that it is started with. It
/// makes the rest of its confinement itself. Pure; `ours` is our own program.
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

/// A stage and the program on it.
#[derive(Args, Clone, Debug)]
pub struct Staged {
    /// File or directory that has a place on the stage
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Directory that the program begins in
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Sockets that the program gets, as the descriptors from the third on
    #[arg(long, value_name = "NUMBER")]
    sockets: u8,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    program: Vec<std::ffi::OsString>,
}

impl Staged {
    /// Sockets that the program gets.
    #[must_use]
    pub fn sockets(&self) -> u8 {
        self.sockets
    }

    /// Makes the stage in this mount namespace, which has to be our own, and becomes the program.
    ///
    /// # Errors
    /// The kernel refuses a mount, or there is no such program.
    pub fn exec(&self) -> Result<std::convert::Infallible> {
        self.mount().context("failed to give another account the machine's files")?;
        let (program, args) = self.program.split_first().context("there is no program to become")?;
        Err(Command::new(program).args(args).current_dir(&self.dir).exec())
            .with_context(|| format!("failed to become {}", program.to_string_lossy()))
    }

    fn mount(&self) -> Result<()> {
        // All of them first: what is below the stage itself is out of mount then.
        let held = self.path.iter().map(|path| Ok((path, hold(path)?))).collect::<Result<Vec<_>>>()?;
        mount("agent-vm", STAGE, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755,size=1m")
            .context("failed to make the stage")?;
        for (path, held) in held {
            let Some((tree, is_dir)) = held else { continue };
            put(&tree, is_dir, &place(path)).with_context(|| format!("failed to put {} there", path.display()))?;
        }
        Ok(())
    }
}

/// What a path leads to, and whether it is a directory; None if there is nothing.
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
    fn a_place_on_the_stage_is_below_it() {
        assert_eq!(place(Path::new("/root/a b/../c")), Path::new("/tmp/root/a b/c"));
        assert_eq!(place(Path::new("/")), Path::new("/tmp/"));
    }
}
