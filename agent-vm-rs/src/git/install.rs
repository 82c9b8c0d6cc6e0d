//! Copies a checked pack into the source repository's object store.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::owner::Owner;
use crate::host::files::{sync_dir, sync_file};

/// Prefix of a file that git removes later if it is left over: git-prune-packed(1).
const TEMPORARY: &str = "tmp_pack_agent-vm-";
/// Mode of packs; git gives them the same.
const MODE: u32 = 0o444;

/// Copies the files of the pack `name` in `dir` with these `ends` into an object store, durably. The last end is `idx`, the
/// index, which makes git use the pack. The files belong to the owner of the store.
///
/// # Errors
/// The store cannot be written. What was copied so far is not used.
pub fn install(dir: &Path, name: &str, ends: &[&str], objects: &Path) -> Result<()> {
    let mut files = Vec::new();
    for end in ends {
        let path = dir.join(format!("{name}.{end}"));
        let file = File::open(&path).with_context(|| format!("failed to open {}", path.display()))?;
        files.push((format!("{name}.{end}"), file));
    }
    let copy = || copy(files, &objects.join("pack"));
    match Owner::of(objects) {
        Some(owner) => owner.act(copy),
        None => copy(),
    }
}

fn copy(files: Vec<(String, File)>, store: &Path) -> Result<()> {
    let failed = || format!("failed to write into {}", store.display());
    fs::create_dir_all(store).with_context(failed)?;
    for (name, mut file) in files {
        let copy = || -> io::Result<tempfile::TempPath> {
            let mut beside = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(store)?;
            io::copy(&mut file, beside.as_file_mut())?;
            beside.as_file().set_permissions(fs::Permissions::from_mode(MODE))?;
            Ok(beside.into_temp_path())
        };
        let copied = { copy }().with_context(failed)?;
        sync_file(&copied)?;
        copied.persist(store.join(&name)).map_err(|error| error.error).with_context(failed)?;
        sync_dir(store)?;
    }
    Ok(())
}
