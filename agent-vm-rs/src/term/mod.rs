//! The terminal: errors, progress, log and output.

pub mod error;
pub mod logging;
pub mod output;
pub mod progress;
pub mod terminal;
pub mod text;
pub mod verbosity;
