//! Questions on the terminal.

use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::host::interrupt;

/// Longest time until a signal is noticed.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Returns whether a question can be asked.
#[must_use]
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a question on the terminal. Returns whether the answer is yes.
///
/// # Errors
/// The terminal cannot be read or written, or the command was interrupted.
pub fn confirmed(question: &str) -> Result<bool> {
    let mut err = anstream::stderr();
    write!(err, "{question}").and_then(|()| err.flush()).context("failed to ask")?;
    let answer = read_line().context("failed to read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Reads a line of standard input, until a signal arrives. (The kernel would continue a read after it.)
fn read_line() -> Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        interrupt::check()?;
        let stdin = std::io::stdin();
        let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
        match poll(&mut ready, Some(&MOMENT)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        match rustix::io::read(std::io::stdin(), &mut byte) {
            Ok(0) => break,
            Ok(_) => line.extend(byte),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}
