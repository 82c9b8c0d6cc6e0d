//! Finds and changes the configuration files of MCP clients.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Client, Entry, merged};
use crate::host::files::{make_dir_durably, read_if_there, write_file};
use crate::term::error::Failure;

/// A client's configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path of the file.
    pub file: PathBuf,
    /// The project that the file belongs to; None for the user's own settings.
    pub project: Option<PathBuf>,
}

/// Returns a client's file in this project or in the user's settings. `variable` reads the environment.
///
/// # Errors
/// HOME is not set.
pub fn place(client: Client, project: &Path, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Place> {
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let home = || absolute("HOME").ok_or_else(|| Failure::new("HOME is not set to an absolute path"));
    let config = || absolute("XDG_CONFIG_HOME").map_or_else(|| home().map(|home| home.join(".config")), Ok);
    let of_project = |name: &str| Place { file: project.join(name), project: Some(project.to_owned()) };
    let of_user = |file: PathBuf| Place { file, project: None };
    Ok(match client {
        Client::ClaudeCode => of_project(".mcp.json"),
        Client::Cursor => of_project(".cursor/mcp.json"),
        Client::Vscode => of_project(".vscode/mcp.json"),
        Client::ClaudeDesktop => of_user(config()?.join("Claude/claude_desktop_config.json")),
        Client::Zed => of_user(config()?.join("zed/settings.json")),
        Client::Codex => {
            let own = absolute("CODEX_HOME").map_or_else(|| home().map(|home| home.join(".codex")), Ok)?;
            of_user(own.join("config.toml"))
        }
    })
}

/// Returns the text of a client's file; None if there is none.
///
/// # Errors
/// It cannot be read, or is not a plain file of limited size.
pub fn read(place: &Place) -> Result<Option<String>> {
    read_if_there(&real(place)?)
}

/// Adds a server to a client's file. Returns whether the file changed.
///
/// # Errors
/// The file cannot be read, parsed or written. It stays unchanged.
pub fn write(client: Client, entry: &Entry, place: &Place) -> Result<bool> {
    let file = real(place)?;
    let failed = || format!("failed to add the server to {}", file.display());
    // A link or a fifo at this path is neither followed nor read.
    let existing = read_if_there(&file).map_err(|error| explained(error, &file))?.unwrap_or_default();
    let Some(text) = merged(client, entry, &existing).map_err(|error| explained(error, &file))? else {
        return Ok(false);
    };
    if let Some(dir) = file.parent() {
        make_dir_durably(dir, 0o777).with_context(failed).map_err(|error| explained(error, &file))?;
    }
    // The user's own file may hold secrets of other servers.
    let usual = if place.project.is_some() { 0o644 } else { 0o600 };
    let mode = fs::metadata(&file).map_or(usual, |metadata| metadata.permissions().mode() & 0o777);
    write_file(&file, text, mode).with_context(failed).map_err(|error| explained(error, &file))?;
    Ok(true)
}

/// Returns the file to change. The user's own file may be a symbolic link; a project's must not, since a branch could
/// use the link to change a file elsewhere.
fn real(place: &Place) -> Result<PathBuf> {
    let Some(project) = &place.project else {
        return Ok(fs::canonicalize(&place.file).unwrap_or_else(|_| place.file.clone()));
    };
    let below = place.file.strip_prefix(project).unwrap_or(&place.file);
    let mut path = project.clone();
    for part in below.components() {
        path.push(part);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(Failure::new(format!(
                "{} is a symbolic link; a project's configuration file must be a plain file",
                path.display()
            ))
            .with_hint("run the command without --write, and add the printed server to the file yourself")
            .into());
        }
    }
    Ok(path)
}

fn explained(error: anyhow::Error, file: &Path) -> anyhow::Error {
    let exit = crate::term::error::exit_code(&error);
    let failure = Failure::new(format!("failed to change {}", file.display())).exit(exit);
    error.context(
        failure.general_hint("run the command without --write, and add the printed server to the file yourself"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_its_file() {
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/home/me"));
        let file = |client| place(client, Path::new("/src/app"), home).unwrap().file;
        assert_eq!(file(Client::ClaudeCode), Path::new("/src/app/.mcp.json"));
        assert_eq!(file(Client::Cursor), Path::new("/src/app/.cursor/mcp.json"));
        assert_eq!(file(Client::Vscode), Path::new("/src/app/.vscode/mcp.json"));
        assert_eq!(file(Client::ClaudeDesktop), Path::new("/home/me/.config/Claude/claude_desktop_config.json"));
        assert_eq!(file(Client::Zed), Path::new("/home/me/.config/zed/settings.json"));
        assert_eq!(file(Client::Codex), Path::new("/home/me/.codex/config.toml"));
        let codex = |name: &str| (name == "CODEX_HOME").then(|| PathBuf::from("/codex"));
        assert_eq!(place(Client::Codex, Path::new("/src/app"), codex).unwrap().file, Path::new("/codex/config.toml"));
        assert!(place(Client::Zed, Path::new("/src/app"), |_| None).is_err());
    }
}
