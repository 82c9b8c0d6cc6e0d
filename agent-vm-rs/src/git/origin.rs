//! Finds the repository that a machine was made from.

use super::Source;
use crate::machine::Machine;
use crate::machine::settings::Settings;

/// The repository that a machine was made from.
#[derive(Debug)]
pub enum Origin {
    /// It can be used.
    Here(Source),
    /// It was moved or deleted.
    Missing,
    /// Git refuses it, for this reason.
    Unusable(anyhow::Error),
}

impl Origin {
    /// Returns the repository that a machine was made from, as far as it can be used.
    #[must_use]
    pub fn of(machine: &Machine, settings: &Settings) -> Self {
        if machine.has_lost_source(settings) {
            return Self::Missing;
        }
        match Source::discover(&settings.source) {
            Ok(Some(source)) if source.dir == settings.source => {
                match source.require_own_objects(machine.state.path()) {
                    Ok(()) => Self::Here(source),
                    Err(error) => Self::Unusable(error),
                }
            }
            Ok(_) => Self::Missing,
            Err(error) => Self::Unusable(error),
        }
    }

    /// Returns the repository, if it can be used.
    #[must_use]
    pub fn usable(self) -> Option<Source> {
        match self {
            Self::Here(source) => Some(source),
            Self::Missing | Self::Unusable(_) => None,
        }
    }
}
