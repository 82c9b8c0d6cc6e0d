//! Reads the servers of a workspace's .mcp.json, in Claude Code's format.
//!
//! The file belongs to the branch, so its content is not trusted: each error in it causes one warning, and the valid servers
//! are served.

mod entry;
mod expand;
mod file;
#[cfg(test)]
mod tests;

use std::path::Path;

pub use entry::{Launch, Remote, RemoteKind, Server};

use crate::json::quote;

/// Returns the servers of several files, and warnings; the first file that uses a name wins.
pub fn read_all<'a>(paths: impl IntoIterator<Item = &'a Path>) -> (Vec<Server>, Vec<String>) {
    let mut servers: Vec<Server> = Vec::new();
    let mut warnings = Vec::new();
    for path in paths {
        let (found, wrong) = file::read(path);
        warnings.extend(wrong);
        for server in found {
            if servers.iter().any(|known| known.name == server.name) {
                let (file, name) = (file::name(path), quote(&server.name));
                warnings.push(format!("{file}: server {name}: not served: the name is already used"));
            } else {
                servers.push(server);
            }
        }
    }
    (servers, warnings)
}

/// Returns a value as JSON for a warning, at most 80 characters of it.
fn shown(text: &str) -> String {
    quote(text).chars().take(80).collect()
}
