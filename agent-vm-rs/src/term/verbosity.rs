//! How much is logged, by this program and by those it runs.

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings and errors.
    #[default]
    Normal,
    /// `--verbose`: also progress messages.
    Verbose,
    /// `--debug`: everything.
    Debug,
}

impl Verbosity {
    /// Returns the verbosity that the flags `--verbose` and `--debug` ask for.
    #[must_use]
    pub fn of_flags(verbose: bool, debug: bool) -> Self {
        match (debug, verbose) {
            (true, _) => Self::Debug,
            (_, true) => Self::Verbose,
            _ => Self::Normal,
        }
    }

    /// Returns the name of this log level in virtiofsd, the image builder and the guest's service.
    #[must_use]
    pub fn log_level(self) -> &'static str {
        match self {
            Self::Normal => "warn",
            Self::Verbose => "info",
            Self::Debug => "debug",
        }
    }
}
