//! Standard output, which carries requested data only.

use std::io::Write as _;

use anyhow::{Context as _, Result};

use crate::term::text::plain_json;

/// Prints data to stdout.
///
/// # Errors
/// Stdout is closed or full.
pub fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("failed to write to stdout")
}

/// Prints a value to stdout as JSON.
///
/// # Errors
/// See [`print`].
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value).context("failed to encode JSON")?;
    print(&(plain_json(&json) + "\n"))
}
