//! Host files that a sandbox shows.

use std::path::{Path, PathBuf};

/// Paths of the system that programs need, on Debian and on NixOS.
pub(super) const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/lib", "/lib64", "/nix/store", "/run/current-system/sw", "/etc/alternatives", "/etc/ld.so.cache"];

/// A host path that the sandbox shows at the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// Read-only.
    Read(PathBuf),
    /// Read-only, and left out if it does not exist.
    ReadIfThere(PathBuf),
    /// Read and write.
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

    /// Returns the same kind of mount for another path.
    pub(super) fn at(&self, path: PathBuf) -> Self {
        match self {
            Self::Read(_) => Self::Read(path),
            Self::ReadIfThere(_) => Self::ReadIfThere(path),
            Self::Write(_) => Self::Write(path),
            Self::Device(_) => Self::Device(path),
        }
    }
}

/// Checks whether every sandbox shows a path anyway.
pub(super) fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| path.starts_with(system))
}

/// Returns a path with links resolved; unchanged if it does not exist.
pub(super) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Returns the mounts for a program's installation, both by its own path and by its real path. The whole prefix would be too
/// much: it may be a home directory.
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
