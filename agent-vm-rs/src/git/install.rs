//! Copies a checked pack into the source repository's object store.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::host::files::{sync_dir, sync_file};

/// Prefix of a file that git removes later if it is left over: git-prune-packed(1).
const TEMPORARY: &str = "tmp_pack_agent-vm-";
/// Mode of packs; git gives them the same.
const MODE: u32 = 0o444;

/// Copies the files of the pack `name` in `dir` with these `ends` into an object store, durably. The last end is `idx`, the
/// index, which makes git use the pack.
///
/// # Errors
/// The store cannot be written. What was copied so far is not used.
pub fn install(dir: &Path, name: &str, ends: &[&str], objects: &Path) -> Result<()> {
    let store = objects.join("pack");
    let failed = || format!("failed to write into {}", store.display());
    fs::create_dir_all(&store).with_context(failed)?;
    let owner = fs::metadata(objects).with_context(failed)?;
    for end in ends {
        let name = format!("{name}.{end}");
        let copy = || -> io::Result<tempfile::TempPath> {
            let beside = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(&store)?;
            fs::copy(dir.join(&name), beside.path())?;
            fs::set_permissions(beside.path(), fs::Permissions::from_mode(MODE))?;
            if rustix::process::geteuid().is_root() {
                chown(beside.path(), Some(owner.uid()), Some(owner.gid()))?;
            }
            Ok(beside.into_temp_path())
        };
        let copied = copy().with_context(failed)?;
        sync_file(&copied)?;
        copied.persist(store.join(&name)).map_err(|error| error.error).with_context(failed)?;
        sync_dir(&store)?;
    }
    Ok(())
}
