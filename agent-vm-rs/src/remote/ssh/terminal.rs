//! The terminal of a command in a machine.

use std::io::{IsTerminal as _, Stdin, stdin, stdout};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use signal_hook::consts::SIGHUP;

use crate::term::error::Interrupted;

/// What connects a command in a machine with this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// A terminal in the guest.
    Terminal,
    /// Pipes.
    Pipes,
}

impl Streams {
    /// Returns a terminal if standard input and output are one.
    #[must_use]
    pub fn ours() -> Self {
        if stdin().is_terminal() && stdout().is_terminal() { Self::Terminal } else { Self::Pipes }
    }

    pub(super) fn ssh_flag(self) -> &'static str {
        match self {
            Self::Terminal => "-tt",
            Self::Pipes => "-T",
        }
    }

    /// Returns the signal that ends ssh: at SIGTERM, it restores the terminal.
    pub(super) fn end(self) -> &'static str {
        match self {
            Self::Terminal => "TERM",
            Self::Pipes => "KILL",
        }
    }
}

/// The terminal on our standard input, in the modes it had; dropping it restores them, which ssh does unless it is killed.
pub(super) struct OwnTerminal {
    input: Stdin,
    modes: Termios,
}

impl OwnTerminal {
    /// Returns the terminal; None if standard input is none.
    pub(super) fn new() -> Option<Self> {
        let input = stdin();
        tcgetattr(&input).ok().map(|modes| Self { input, modes })
    }

    /// Checks that the terminal is open.
    ///
    /// # Errors
    /// It has been closed: not every process that uses it gets a signal then.
    pub(super) fn check(&self) -> Result<()> {
        let mut polled = [PollFd::new(&self.input, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let closed = poll(&mut polled, Some(&now)).is_ok() && polled[0].revents().contains(PollFlags::HUP);
        if closed { Err(Interrupted(SIGHUP).into()) } else { Ok(()) }
    }
}

impl Drop for OwnTerminal {
    fn drop(&mut self) {
        // A process in the background would be stopped, and the terminal's modes are those of another program.
        if tcgetpgrp(&self.input).is_ok_and(|group| group == getpgrp()) {
            // An error means that the terminal has been closed.
            let _ = tcsetattr(&self.input, OptionalActions::Drain, &self.modes);
        }
    }
}
