//! The command line.

mod connect;
mod log_level;
mod mcp_proxy;
mod options;
mod serve;

use std::process::ExitCode;

use clap::Parser;

use options::{Command, Options};

use crate::report::{Priority, log};
use crate::reverse_proxy;

/// Runs the command.
pub fn main() -> ExitCode {
    let options = match Options::parse().command {
        Command::Serve(options) => options,
        Command::ReverseProxy(args) => {
            let Err(refused) = reverse_proxy::run(&args);
            log(Priority::Warning, &format!("no endpoint: {refused}"));
            return ExitCode::FAILURE;
        }
        Command::Connect { socket } => return connect::connect(&socket),
    };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    let local = tokio::task::LocalSet::new();
    let code = local.block_on(&runtime, serve::serve(*options));
    // What is left may wait for ever.
    runtime.shutdown_background();
    code
}
