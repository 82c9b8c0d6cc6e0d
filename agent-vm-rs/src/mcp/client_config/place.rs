//! Where clients have their files, and how one is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Client, Entry, merged};
use crate::host::files::{make_dir_durably, read_if_there, write_file};
use crate::term::error::Failure;

/// A client's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The project that it belongs to; None for the user's own.
    pub project: Option<PathBuf>,
}

/// The file of a client, in this project or in the user's settings, which `variable` (the environment) tells.
///
/// # Errors
/// The environment names no home.
pub fn place(client: Client, project: &Path, variable: impl Fn(&str) -> Option<PathBuf>) -> Result<Place> {
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let home = || absolute("HOME").ok_or_else(|| Failure::new("HOME does not say where your settings are"));
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

/// Puts a server into a client's file; tells whether that changed it.
///
/// # Errors
/// The file cannot be read, holds something else, or cannot be written: then it is as it was.
pub fn write(client: Client, entry: &Entry, place: &Place) -> Result<bool> {
    let file = real(place)?;
    let failed = || format!("failed to put the server into {}", file.display());
    // Whatever else is in its place is neither followed nor waited for.
    let existing = read_if_there(&file).map_err(|error| explained(error, &file))?.unwrap_or_default();
    let Some(text) = merged(client, entry, &existing).map_err(|error| explained(error, &file))? else {
        return Ok(false);
    };
    if let Some(dir) = file.parent() {
        make_dir_durably(dir, 0o777).with_context(failed).map_err(|error| explained(error, &file))?;
    }
    // The user's own files may hold secrets of other servers.
    let usual = if place.project.is_some() { 0o644 } else { 0o600 };
    let mode = fs::metadata(&file).map_or(usual, |metadata| metadata.permissions().mode() & 0o777);
    write_file(&file, text, mode).with_context(failed).map_err(|error| explained(error, &file))?;
    Ok(true)
}

/// The file to change. One's own may be kept elsewhere and linked to; a project's may not: what comes with a branch must
/// not lead to another place.
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
                "{} is a symbolic link, which a project's file must not be",
                path.display()
            ))
            .with_hint("put the server there by hand; without --write it is printed")
            .into());
        }
    }
    Ok(path)
}

fn explained(error: anyhow::Error, file: &Path) -> anyhow::Error {
    let exit = crate::term::error::exit_code(&error);
    let failure = Failure::new(format!("{} stays as it is", file.display())).exit(exit);
    error.context(failure.general_hint("put the server there by hand; without --write it is printed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_their_places() {
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
