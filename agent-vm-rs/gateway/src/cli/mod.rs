//! The command line.

mod log_level;
mod options;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use options::{Command, Options};

/// Runs the command.
pub fn main() -> ExitCode {
    let options = Options::parse();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let local = tokio::task::LocalSet::new();
    let code = match options.command {
        Command::Serve(options) => local.block_on(&runtime, serve::serve(*options)),
    };
    // What is left may wait for ever.
    runtime.shutdown_background();
    code
}
