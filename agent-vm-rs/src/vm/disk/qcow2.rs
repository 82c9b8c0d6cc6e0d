//! Checks whether a qcow2 image is complete, by its tables. The guest or its QEMU may have written the image, so no
//! other program parses it. Format: QEMU's docs/interop/qcow2.txt.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::host::files::open_file;

const MAGIC: &[u8; 4] = b"QFI\xfb";
/// Size of the header that is read, in bytes.
const HEADER: usize = 104;
/// Largest size of all tables that are read, in bytes: those of a full disk of 4 TiB with the usual cluster size.
const MOST: u64 = 512 << 20;
/// The bits of an entry that hold its offset.
const PLACE: u64 = 0x00ff_ffff_ffff_fe00;
/// The bit of an entry whose cluster is compressed.
const COMPRESSED: u64 = 1 << 62;
/// The incompatible feature with entries of twice the size.
const EXTENDED: u64 = 1 << 4;

/// Returns why an image cannot be used; None if it looks complete.
///
/// # Errors
/// It is not a file or cannot be read.
pub fn trouble(path: &Path) -> Result<Option<String>> {
    let file = open_file(path)?;
    let length = file.metadata().with_context(|| format!("failed to read {}", path.display()))?.len();
    look(&file, length).with_context(|| format!("failed to read {}", path.display()))
}

/// Returns the bytes that the guest sees, as the header says; None if it is not a qcow2 image.
pub fn size(path: &Path) -> Option<u64> {
    let mut header = [0; HEADER];
    open_file(path).ok()?.read_exact_at(&mut header, 0).ok()?;
    (&header[..4] == MAGIC).then(|| long(&header, 24))
}

fn look(file: &File, length: u64) -> Result<Option<String>> {
    let mut header = [0; HEADER];
    if length < HEADER as u64 {
        return Ok(Some(format!("it has only {length} bytes")));
    }
    file.read_exact_at(&mut header, 0)?;
    if &header[..4] != MAGIC {
        return Ok(Some("it does not start with the qcow2 magic number".to_owned()));
    }
    let (version, cluster_bits, tables) = (word(&header, 4), word(&header, 20), word(&header, 36));
    let features = if version >= 3 { long(&header, 72) } else { 0 };
    if !(2..=3).contains(&version) || !(9..=21).contains(&cluster_bits) {
        return Ok(Some("its qcow2 header is not valid".to_owned()));
    }
    let cluster = 1_u64 << cluster_bits;
    let cut = |place: u64| Some(format!("it is truncated: it refers to byte {place} and has {length} bytes"));
    let (first, counts) = (long(&header, 40), long(&header, 48));
    let end = first.saturating_add(u64::from(tables) * 8);
    if let Some(missing) = [end.saturating_sub(1), counts].into_iter().find(|place| *place >= length) {
        return Ok(cut(missing));
    }
    let mut left = MOST;
    for table in places(file, first, u64::from(tables) * 8, &mut left)? {
        if table >= length {
            return Ok(cut(table));
        }
        // With extended entries, only the tables are checked.
        let entries = if features & EXTENDED == 0 { places(file, table, cluster, &mut left)? } else { Vec::new() };
        if let Some(missing) = entries.into_iter().find(|place| *place >= length) {
            return Ok(cut(missing));
        }
    }
    Ok(None)
}

/// Returns the offsets in a table; none once the size limit is reached.
fn places(file: &File, table: u64, bytes: u64, left: &mut u64) -> Result<Vec<u64>> {
    let bytes = bytes.min(*left);
    *left -= bytes;
    let mut text = vec![0; usize::try_from(bytes)?];
    let mut read = 0;
    // The file may end before the last table's cluster does.
    while read < text.len() {
        match file.read_at(&mut text[read..], table + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    let entries = text[..read].chunks_exact(8).map(|entry| long(entry, 0));
    Ok(entries.filter(|entry| entry & COMPRESSED == 0).map(|entry| entry & PLACE).filter(|place| *place > 0).collect())
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|long| long.try_into().ok()).map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Returns an image of two data clusters with one table.
    fn image() -> Vec<u8> {
        let cluster = 1 << 16;
        let mut image = vec![0; 6 * cluster];
        image[..4].copy_from_slice(MAGIC);
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(4, &3_u32.to_be_bytes());
        put(20, &16_u32.to_be_bytes());
        put(24, &(1_u64 << 30).to_be_bytes());
        put(36, &2_u32.to_be_bytes());
        put(40, &(2 * cluster as u64).to_be_bytes());
        put(48, &(cluster as u64).to_be_bytes());
        put(2 * cluster, &((3 * cluster as u64) | (1 << 63)).to_be_bytes());
        put(3 * cluster, &((4 * cluster as u64) | (1 << 63)).to_be_bytes());
        put(3 * cluster + 80, &((5 * cluster as u64) | (1 << 63)).to_be_bytes());
        image
    }

    #[test]
    fn truncated_and_zeroed_images_are_detected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        let of = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            trouble(&path).unwrap()
        };
        let whole = image();
        assert_eq!(of(&whole), None);
        for length in [0, 3, 103, 104, 1 << 16, 2 << 16, (2 << 16) + 9, 3 << 16, 4 << 16, 5 << 16] {
            assert!(of(&whole[..length]).is_some(), "{length} bytes were accepted");
        }
        // The last cluster may be incomplete.
        assert_eq!(of(&whole[..(5 << 16) + 1]), None);
        let zeroed = vec![0; whole.len()];
        assert_eq!(of(&zeroed).unwrap(), "it does not start with the qcow2 magic number");
        let mut endless = whole.clone();
        endless[36..40].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(of(&endless).is_some());
    }

    /// Images that QEMU makes are accepted.
    #[test]
    fn images_made_by_qemu_img_are_intact() {
        let dir = tempfile::tempdir().unwrap();
        let (raw, path) = (dir.path().join("raw"), dir.path().join("disk"));
        let mut contents = vec![0; 20 << 20];
        contents[..5 << 20].fill(1);
        contents[(10 << 20)..(11 << 20)].fill(2);
        fs::write(&raw, contents).unwrap();
        let convert = std::process::Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .args([&raw, &path])
            .status();
        match convert {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                crate::term::skip_test("no qemu-img");
                return;
            }
            converted => assert!(converted.unwrap().success()),
        }
        assert_eq!(trouble(&path).unwrap(), None);
        let length = fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(length - (1 << 20)).unwrap();
        assert!(trouble(&path).unwrap().unwrap().contains("it is truncated"));
    }
}
