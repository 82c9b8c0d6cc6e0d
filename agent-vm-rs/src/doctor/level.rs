//! How bad a finding is.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// Machines work, but slower, less isolated, or not for long.
    Warning,
    /// Machines, or this machine, do not work.
    Error,
}

impl Level {
    /// Returns its name for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}
