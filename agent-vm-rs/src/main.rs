//! The `agent-vm` command; everything it does is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent_vm::cli::main()
}
