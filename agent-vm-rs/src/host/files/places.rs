//! Where paths lie in their file systems. A bind mount or an overlay shows the same files under another path.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::resolved;

/// Largest depth of overlays on overlays that is followed.
const DEEPEST: usize = 8;

/// Options of an overlay that name directories.
const LAYERS: [&str; 4] = ["lowerdir", "upperdir", "lowerdir+", "datadir+"];

/// A path in a file system: its device as `MAJOR:MINOR`, and the path from its root.
type Place = (String, PathBuf);

/// A mount.
struct MountPoint {
    id: u64,
    device: String,
    /// The directory of the file system that is mounted.
    root: PathBuf,
    point: PathBuf,
    /// The directories of an overlay.
    layers: Vec<PathBuf>,
}

/// The mounts that this process sees.
pub struct Mounts(Vec<MountPoint>);

impl Mounts {
    /// Reads the mounts. Without /proc there are none, and paths are compared as they are.
    #[must_use]
    pub fn read() -> Self {
        let listed = fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self(listed.split(|byte| *byte == b'\n').filter_map(MountPoint::parse).collect())
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

    /// Returns the mount point of the file system that a path is on, or would be.
    #[must_use]
    pub fn point_of(&self, path: &Path) -> Option<PathBuf> {
        self.mount_of(&resolved(path)).map(|(mount, _)| mount.point.clone())
    }

    /// Returns whether something is mounted at a path, as far as that is known.
    #[must_use]
    pub fn have_point(&self, path: &Path) -> bool {
        self.0.is_empty() || self.0.iter().any(|mount| mount.point == path)
    }

    /// Returns a mount point in a directory.
    #[must_use]
    pub fn point_in(&self, dir: &Path) -> Option<&Path> {
        let dir = resolved(dir);
        self.0.iter().map(|mount| mount.point.as_path()).find(|point| point.starts_with(&dir) && *point != dir)
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
        self.mount_of(path).map_or_else(Vec::new, |(mount, below)| self.places(mount, below, depth))
    }

    /// Returns the places of a path below a mount point.
    fn places(&self, mount: &MountPoint, below: &Path, depth: usize) -> Vec<Place> {
        if depth > DEEPEST {
            return Vec::new();
        }
        let in_root = mount.root.join(below);
        let in_layer = in_root.strip_prefix("/").unwrap_or(&in_root).to_owned();
        let layers = mount.layers.iter().map(|layer| resolved(layer).join(&in_layer));
        let layers: Vec<_> = layers.flat_map(|path| self.of(&path, depth + 1)).collect();
        [vec![(mount.device.clone(), in_root)], layers].concat()
    }

    /// Returns the mount that a path is on, and the path below it.
    fn mount_of<'a>(&self, path: &'a Path) -> Option<(&MountPoint, &'a Path)> {
        let there = path.ancestors().find(|above| above.exists())?;
        let found = statx(CWD, there, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).ok()?;
        let mount = self.0.iter().find(|mount| mount.id == found.stx_mnt_id)?;
        Some((mount, path.strip_prefix(&mount.point).ok()?))
    }

    fn mounted_in(&self, dir: &Path) -> Vec<Place> {
        let inner = self.0.iter().filter(|mount| mount.point.starts_with(dir) && mount.point != dir);
        inner.flat_map(|mount| self.places(mount, Path::new(""), 0)).collect()
    }
}

impl MountPoint {
    /// Parses a line of `/proc/self/mountinfo`: proc_pid_mountinfo(5).
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let device = String::from_utf8(fields.nth(1)?.to_vec()).ok()?;
        let (root, point) = (unescaped(fields.next()?).into(), unescaped(fields.next()?).into());
        let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
        let (kind, options) = (rest.next()?, rest.nth(1)?);
        let layers = if kind == b"overlay" { layers(options) } else { Vec::new() };
        Some(Self { id, device, root, point, layers })
    }
}

/// Returns the directories in the options of an overlay.
fn layers(options: &[u8]) -> Vec<PathBuf> {
    let named = |option: &[u8]| {
        let (name, value) = option.split_at_checked(option.iter().position(|byte| *byte == b'=')?)?;
        LAYERS.iter().any(|known| known.as_bytes() == name).then(|| unescaped(&value[1..]))
    };
    let values = options.split(|byte| *byte == b',').filter_map(named);
    values.flat_map(|value| split_at_colons(value.as_bytes())).collect()
}

/// Splits a list of directories, in which a backslash is before a colon of a name.
fn split_at_colons(list: &[u8]) -> Vec<PathBuf> {
    let (mut dirs, mut dir, mut bytes) = (Vec::new(), Vec::new(), list.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => dir.extend(bytes.next()),
            b':' => dirs.push(std::mem::take(&mut dir)),
            byte => dir.push(*byte),
        }
    }
    dirs.push(dir);
    dirs.into_iter().filter(|dir| !dir.is_empty()).map(|dir| OsString::from_vec(dir).into()).collect()
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

    fn mount(id: u64, line: &str) -> MountPoint {
        MountPoint::parse(format!("{id} 1 {line}").as_bytes()).unwrap()
    }

    #[test]
    fn every_layer_of_an_overlay_is_read() {
        let layers = |options: &str| {
            let dirs = layers(options.as_bytes());
            dirs.into_iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(layers("rw,lowerdir=/a:/b c\\040d,upperdir=/u,workdir=/w"), ["/a", "/b c d", "/u"]);
        assert_eq!(layers("rw,lowerdir+=/a,lowerdir+=/b,datadir+=/c"), ["/a", "/b", "/c"]);
        assert_eq!(layers("lowerdir=/a\\134:b:/c\\054d"), ["/a:b", "/c,d"]);
        assert_eq!(layers("rw"), Vec::<String>::new());
    }

    #[test]
    fn a_mount_point_that_is_not_valid_utf_8_is_read() {
        let line = b"31 1 0:27 /x /mnt/\xff rw,relatime shared:5 master:1 - tmpfs tmpfs rw";
        let found = MountPoint::parse(line).unwrap();
        assert_eq!((found.id, found.device.as_str(), found.root), (31, "0:27", "/x".into()));
        assert_eq!(found.point.as_os_str().as_bytes(), b"/mnt/\xff");
        assert!(MountPoint::parse(b"").is_none());
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
        let places = |line: &str| Mounts(vec![mount(found.stx_mnt_id, line)]).of(&root.join("x"), 0);
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
