//! The terminal: errors, progress, log and output.

pub mod did_you_mean;
pub mod error;
pub mod logging;
pub mod output;
pub mod progress;
pub mod table;
pub mod terminal;
pub mod text;
pub mod verbosity;

/// Reports a test that cannot run; `checks/run` counts it as skipped.
#[cfg(test)]
#[expect(clippy::print_stdout, reason = "the test runner reads it")]
pub(crate) fn skip_test(why: &str) {
    println!("AGENT_VM_SKIP: {why}");
}
