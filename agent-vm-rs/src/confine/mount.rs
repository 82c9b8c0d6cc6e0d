//! What a sandbox shows of the host's files.

use std::path::{Path, PathBuf};

/// What programs need of the system, of a Debian or a Nix one.
pub(super) const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/lib", "/lib64", "/nix/store", "/run/current-system/sw", "/etc/alternatives", "/etc/ld.so.cache"];

/// Something of the host's that the sandbox sees where the host has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// It can be read.
    Read(PathBuf),
    /// It can be read, where it is.
    ReadIfThere(PathBuf),
    /// It can be written.
    Write(PathBuf),
    /// A device.
    Device(PathBuf),
}

impl Mount {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Read(path) | Self::ReadIfThere(path) | Self::Write(path) | Self::Device(path) => path,
        }
    }

    pub(super) fn is_read(&self) -> bool {
        matches!(self, Self::Read(_) | Self::ReadIfThere(_))
    }

    /// The same for another path.
    pub(super) fn at(&self, path: PathBuf) -> Self {
        match self {
            Self::Read(_) => Self::Read(path),
            Self::ReadIfThere(_) => Self::ReadIfThere(path),
            Self::Write(_) => Self::Write(path),
            Self::Device(_) => Self::Device(path),
        }
    }
}

/// Whether every program sees it anyway.
pub(super) fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| path.starts_with(system))
}

/// Returns where a path's links lead; the path itself where nothing is there.
pub(super) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns what a program needs of the place it is installed in, by the name it is started by and by where links lead from
/// there. All of that place is too much: it may be somebody's home.
#[must_use]
pub fn installation(program: &Path) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for program in [program.to_owned(), real(program)] {
        let Some(bin) = program.parent().filter(|bin| !is_system(bin)) else { continue };
        let parts = ["lib", "lib64", "libexec", "share/qemu", "pyvenv.cfg"];
        let beside = bin.parent().into_iter().flat_map(|place| parts.map(|part| place.join(part)));
        let all = std::iter::once(Mount::Read(bin.to_owned())).chain(beside.map(Mount::ReadIfThere));
        let new: Vec<_> = all.filter(|mount| !mounts.contains(mount)).collect();
        mounts.extend(new);
    }
    mounts
}
