//! Where paths lie in their file systems. A bind mount or an overlay shows the same files under another path.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, Process};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::resolved;

/// Largest depth of overlays on overlays that is followed.
const DEEPEST: usize = 8;

/// A path in a file system: its device as `MAJOR:MINOR`, and the path from its root.
type Place = (String, PathBuf);

/// The mounts that this process sees.
pub struct Mounts(Vec<MountInfo>);

impl Mounts {
    /// Reads the mounts. Without /proc there are none, and paths are compared as they are.
    #[must_use]
    pub fn read() -> Self {
        let mounts = Process::myself().and_then(|process| process.mountinfo());
        Self(mounts.map(|mounts| mounts.0).unwrap_or_default())
    }

    /// Returns whether a path is `dir` or in it, also through a bind mount or an overlay.
    #[must_use]
    pub fn is_in(&self, path: &Path, dir: &Path) -> bool {
        let path = resolved(path);
        self.has(&path, &self.of(&path, 0), dir)
    }

    /// Returns whether a path is `dir` or in it, or something is that is mounted in the path.
    #[must_use]
    pub fn reach(&self, path: &Path, dir: &Path) -> bool {
        let path = resolved(path);
        let inner = [self.of(&path, 0), self.mounted_in(&path)].concat();
        self.has(&path, &inner, dir)
    }

    fn has(&self, path: &Path, inner: &[Place], dir: &Path) -> bool {
        let dir = resolved(dir);
        let mut outer = self.of(&dir, 0);
        outer.extend(self.mounted_in(&dir));
        let is_below = |(device, place): &Place| outer.iter().any(|(on, of)| device == on && place.starts_with(of));
        path.starts_with(dir) || inner.iter().any(is_below)
    }

    /// Returns the places of a resolved path: one, and one in each layer of an overlay.
    fn of(&self, path: &Path, depth: usize) -> Vec<Place> {
        let Some((mount, below)) = self.mount_of(path).filter(|_| depth <= DEEPEST) else { return Vec::new() };
        let in_root = Path::new(&unescaped(mount.root.as_bytes())).join(below);
        let mut places = vec![(mount.majmin.clone(), in_root.clone())];
        if mount.fs_type == "overlay" {
            let in_layer = in_root.strip_prefix("/").unwrap_or(&in_root);
            let layers = ["lowerdir", "upperdir", "lowerdir+", "datadir+"];
            let layers = layers.into_iter().filter_map(|name| mount.super_options.get(name)?.as_deref());
            for layer in layers.flat_map(|dirs| dirs.split(':')) {
                let layer = resolved(Path::new(&unescaped(layer.as_bytes())));
                places.extend(self.of(&layer.join(in_layer), depth + 1));
            }
        }
        places
    }

    /// Returns the mount that a path is on, and the path below it.
    fn mount_of<'a>(&self, path: &'a Path) -> Option<(&MountInfo, &'a Path)> {
        let there = path.ancestors().find(|above| above.exists())?;
        let found = statx(CWD, there, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
        let mount = self.0.iter().find(|mount| u64::try_from(mount.mnt_id) == Ok(found.stx_mnt_id))?;
        Some((mount, path.strip_prefix(point_of(mount)).ok()?))
    }

    fn mounted_in(&self, dir: &Path) -> Vec<Place> {
        let inner = self.0.iter().filter(|mount| point_of(mount).starts_with(dir) && point_of(mount) != dir);
        inner.map(|mount| (mount.majmin.clone(), unescaped(mount.root.as_bytes()).into())).collect()
    }
}

fn point_of(mount: &MountInfo) -> PathBuf {
    unescaped(mount.mount_point.as_os_str().as_bytes()).into()
}

/// Returns a field of `/proc/self/mountinfo` without its octal escapes such as `\040`: proc_pid_mountinfo(5).
fn unescaped(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, more @ ..] = rest {
        let octal = more.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[3..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: i32, line: &str) -> MountInfo {
        MountInfo::from_line(&format!("{id} 1 {line}")).unwrap()
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescaped(br"/a\040b\134c"), r"/a b\c");
        assert_eq!(unescaped(br"/a\04"), r"/a\04");
        assert_eq!(unescaped("/日本".as_bytes()), "/日本");
    }

    #[test]
    fn plain_paths_are_compared_whole() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let mounts = Mounts::read();
        let inner = dir.path().join("a");
        assert!(mounts.is_in(&inner.join("none/deep"), &inner) && mounts.reach(&inner, &inner));
        assert!(!mounts.is_in(&dir.path().join("ab"), &inner));
        assert!(!mounts.is_in(dir.path(), &inner) && !mounts.reach(dir.path(), &inner));
    }

    /// The mounts here are made up, but for the id of the one that the path is on.
    #[test]
    fn bind_mounts_and_overlays_show_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(dir.path()).unwrap();
        let found = statx(CWD, &root, AtFlags::empty(), StatxFlags::MNT_ID).unwrap();
        let id = i32::try_from(found.stx_mnt_id).unwrap();
        let places = |line: &str| Mounts(vec![mount(id, line)]).of(&root.join("x"), 0);
        let bound = places(&format!("8:1 /state/m\\040x {} rw - ext4 /dev/sda rw", root.display()));
        assert_eq!(bound, [("8:1".to_owned(), PathBuf::from("/state/m x/x"))]);
        // A layer on the same mount; one more level ends the search.
        let layers = places(&format!(
            "0:9 / {} rw - overlay overlay rw,lowerdir=/none,upperdir={}/up,workdir=/w",
            root.display(),
            root.display()
        ));
        assert!(layers.contains(&("0:9".to_owned(), PathBuf::from("/up/x"))), "{layers:?}");
    }
}
