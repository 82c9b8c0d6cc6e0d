//! The user's directories, as the XDG base directory specification has them.

use std::path::PathBuf;

use anyhow::Result;

use crate::term::error::Failure;

/// Returns the directory of the user's data.
///
/// # Errors
/// Neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn data_home() -> Result<PathBuf> {
    xdg("XDG_DATA_HOME", ".local/share")
}

/// The directory of things that can be made again: built guests, measured times.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_dir() -> Result<PathBuf> {
    Ok(xdg("XDG_CACHE_HOME", ".cache")?.join("agent-vm"))
}

fn xdg(variable: &str, below_home: &str) -> Result<PathBuf> {
    // The specification says to ignore relative values.
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute()) {
        return Ok(path);
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    home.map(|home| home.join(below_home)).ok_or_else(|| {
        Failure::new(format!("neither {variable} nor HOME is set"))
            .with_hint("set HOME, or name a directory: --state-dir DIR")
            .into()
    })
}
