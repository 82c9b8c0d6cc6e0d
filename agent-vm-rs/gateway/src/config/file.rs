//! Reads one file that names servers.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{Server, entry, shown};
use crate::json::Object;
use crate::report::reason;

const LARGEST_FILE: usize = 1 << 20;
const MOST_SERVERS: usize = 32;

/// Returns the last part of a path.
pub fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Returns a file's usable servers, and warnings about the rest.
pub fn read(path: &Path) -> (Vec<Server>, Vec<String>) {
    let text = match contents(path) {
        Ok(Some(text)) => text,
        Ok(None) => return Default::default(),
        Err(problem) => return (Vec::new(), vec![format!("{}: {problem}", name(path))]),
    };
    let entries = match entries_of(&text) {
        Ok(entries) => entries,
        Err(problem) => return (Vec::new(), vec![format!("{}: {problem}", name(path))]),
    };
    let mut servers: Vec<Server> = Vec::new();
    let mut warnings = Vec::new();
    for (server, entry) in &entries {
        let parsed = if servers.len() == MOST_SERVERS {
            Err(format!("not served: the limit is {MOST_SERVERS} servers"))
        } else {
            entry::parse(server, entry)
        };
        match parsed {
            Ok(server) => servers.push(server),
            Err(problem) => warnings.push(format!("{}: server {}: {problem}", name(path), shown(server))),
        }
    }
    (servers, warnings)
}

/// Returns names and entries; of entries with the same name, the last one.
fn entries_of(text: &str) -> Result<Vec<(String, String)>, String> {
    if let Err(error) = serde_json::from_str::<&serde_json::value::RawValue>(text) {
        return Err(format!("not valid JSON, so none of its servers is served: {error}"));
    }
    let file = Object::parse(text).ok_or("not a JSON object, so none of its servers is served")?;
    let Some(servers) = file.get("mcpServers") else { return Ok(Vec::new()) };
    let servers = Object::parse(servers).ok_or("\"mcpServers\" is not an object, so none of its servers is served")?;
    let mut entries: Vec<(String, String)> = Vec::new();
    for (name, entry) in servers.iter() {
        entries.retain(|(known, _)| known != name);
        entries.push((name.to_owned(), entry.to_owned()));
    }
    Ok(entries)
}

/// Returns the file's text; None if it does not exist.
fn contents(path: &Path) -> Result<Option<String>, String> {
    // NONBLOCK: opening a pipe that has no writer would block.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(error) => return Err(format!("cannot be read: {}", reason(&error.into()))),
    };
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err("not a regular file, so it is not read".to_owned());
    }
    let mut data = Vec::new();
    file.take(LARGEST_FILE as u64 + 1)
        .read_to_end(&mut data)
        .map_err(|error| format!("cannot be read: {}", reason(&error)))?;
    if data.len() > LARGEST_FILE {
        return Err(format!("larger than {} MiB, so it is not read", LARGEST_FILE >> 20));
    }
    let data = data.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(data);
    let text =
        String::from_utf8(data).map_err(|error| format!("not UTF-8, so none of its servers is served: {error}"))?;
    Ok(Some(text))
}
