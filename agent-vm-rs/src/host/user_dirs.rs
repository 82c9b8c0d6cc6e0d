//! The user's directories, as in the XDG base directory specification.

use std::path::PathBuf;

use anyhow::Result;

use crate::term::error::Failure;

/// Returns the directory for the user's data.
///
/// # Errors
/// Neither `XDG_DATA_HOME` nor `HOME` is set.
pub fn data_home() -> Result<PathBuf> {
    xdg("XDG_DATA_HOME", ".local/share")
}

/// Returns the directory for the user's settings.
///
/// # Errors
/// Neither `XDG_CONFIG_HOME` nor `HOME` is set.
pub fn config_home() -> Result<PathBuf> {
    xdg("XDG_CONFIG_HOME", ".config")
}

/// Returns the directory for files that can be regenerated: built guests, measured times.
///
/// # Errors
/// Neither `XDG_CACHE_HOME` nor `HOME` is set.
pub fn cache_dir() -> Result<PathBuf> {
    Ok(xdg("XDG_CACHE_HOME", ".cache")?.join("agent-vm"))
}

fn xdg(variable: &str, below_home: &str) -> Result<PathBuf> {
    // The specification says that relative values must be ignored.
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
