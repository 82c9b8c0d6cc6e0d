//! Reads the host's credentials.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Refused;

/// Maximal length of a credential, in bytes.
const LARGEST: u64 = 1 << 16;

/// The host's settings of the endpoint.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whether the endpoint has TLS.
    pub tls: bool,
    /// Whether clients must send the token.
    pub auth: bool,
    /// Names by which clients may call the endpoint.
    pub hosts: Vec<String>,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The credential is missing, or does not contain exactly these settings.
    pub fn read(path: &Path) -> Result<Self, Refused> {
        let Some(text) = text(path)? else {
            return Err(Refused::new(format!("the credential {} is missing: access is denied", name(path))));
        };
        let value: Value =
            serde_json::from_str(&text).map_err(|_| Refused::new("the endpoint's settings are not valid JSON"))?;
        // Serde would read a list as a struct, too.
        Some(value)
            .filter(Value::is_object)
            .and_then(|value| serde_json::from_value(value).ok())
            .ok_or_else(|| Refused::new("the endpoint's settings must be an object with exactly tls, auth and hosts"))
    }
}

/// Returns a credential's text; None if it does not exist.
///
/// # Errors
/// It is not ASCII, too long, or cannot be read. The error contains nothing of the text.
pub fn text(path: &Path) -> Result<Option<String>, Refused> {
    let mut data = Vec::new();
    match File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut data)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Refused::new(format!("the credential {} cannot be read: {error}", name(path)))),
        Ok(_) => (),
    }
    match String::from_utf8(data) {
        Ok(text) if text.is_ascii() && text.len() as u64 <= LARGEST => Ok(Some(text)),
        _ => Err(Refused::new(format!("the credential {} is not ASCII text or is too long", name(path)))),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
