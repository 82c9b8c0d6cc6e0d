//! Packs a directory of this host for a machine.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use tar::{Builder, Header};

use crate::host::interrupt;

/// Writes an archive of a directory's contents, and returns the number of devices, pipes and sockets, which are left out. Links
/// are packed as links.
///
/// # Errors
/// A file cannot be read, the stream cannot be written, or a signal arrived.
pub fn pack(directory: &Path, stream: impl Write) -> Result<usize> {
    let mut archive = Builder::new(io::BufWriter::with_capacity(64 << 10, stream));
    archive.follow_symlinks(false);
    let mut left_out = 0;
    for entry in walkdir::WalkDir::new(directory) {
        interrupt::check()?;
        let entry = entry.with_context(|| format!("failed to read {}", directory.display()))?;
        let below = entry.path().strip_prefix(directory).unwrap_or(Path::new(""));
        let (path, kind) = (Path::new(".").join(below), entry.file_type());
        let failed = || format!("failed to copy {}", entry.path().display());
        if kind.is_dir() || entry.depth() == 0 {
            archive.append_dir(path, entry.path()).with_context(failed)?;
        } else if kind.is_symlink() {
            archive.append_path_with_name(entry.path(), path).with_context(failed)?;
        } else if kind.is_file() {
            append(&mut archive, &path, entry.path()).with_context(failed)?;
        } else {
            left_out += 1;
        }
    }
    let failed = "failed to send files to the machine";
    archive.into_inner().context(failed)?.flush().context(failed)?;
    Ok(left_out)
}

/// Appends a file. If it grows or shrinks meanwhile, it has its former size in the archive.
fn append(archive: &mut Builder<impl Write>, path: &Path, file: &Path) -> io::Result<()> {
    let file = File::open(file)?;
    let found = file.metadata()?;
    let mut header = Header::new_gnu();
    header.set_metadata(&found);
    archive.append_data(&mut header, path, file.chain(io::repeat(0)).take(found.len()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn sockets_are_left_out_and_a_file_that_changes_breaks_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(tree.join("sub/file"), "text").unwrap();
        symlink("none", tree.join("link")).unwrap();
        let _socket = UnixListener::bind(tree.join("sub/socket")).unwrap();
        let mut packed = Vec::new();
        assert_eq!(pack(&tree, &mut packed).unwrap(), 1);
        let mut archive = tar::Archive::new(packed.as_slice());
        let mut names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        names.sort();
        assert_eq!(names, ["./", "link", "sub", "sub/file"].map(Path::new));
        // Always full, but its size is 0.
        let mut archive = Builder::new(Vec::new());
        append(&mut archive, Path::new("./growing"), Path::new("/proc/self/status")).unwrap();
        append(&mut archive, Path::new("./next"), &tree.join("sub/file")).unwrap();
        let packed = archive.into_inner().unwrap();
        let sizes = |packed: &[u8]| -> Vec<u64> {
            tar::Archive::new(packed).entries().unwrap().map(|entry| entry.unwrap().size()).collect()
        };
        assert_eq!(sizes(&packed), [0, 4]);
    }
}
