//! A program that is talked to line by line, such as an MCP server on its standard streams.

use std::io::{self, BufRead as _, BufReader, ErrorKind, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use duct::Handle;
use rustix::event::PollFlags;
use rustix::io::ioctl_fionbio;

use super::Invocation;
use super::terminate::terminate_group;
use crate::host::interrupt::{self, Deadline};

/// Largest number of lines that wait to be read.
const WAITING: usize = 256;
/// Interval between two checks for a signal.
const MOMENT: Duration = Duration::from_millis(50);

/// A running program and its streams. It and its children are ended when this is dropped.
pub struct Conversation {
    handle: Handle,
    input: Option<PipeWriter>,
    lines: Receiver<io::Result<Vec<u8>>>,
    name: String,
}

impl Invocation {
    /// Starts the program for a conversation, in a process group of its own. Its stderr is ours. `longest` is the length of the
    /// longest line that is read, in bytes.
    ///
    /// # Errors
    /// It is not installed or cannot be started.
    pub fn converse(&self, longest: u64) -> Result<Conversation> {
        let failed = || format!("failed to start {}", self.name());
        let (input, to_program) = io::pipe().with_context(failed)?;
        let (from_program, output) = io::pipe().with_context(failed)?;
        // A program that does not read must not block us.
        ioctl_fionbio(&to_program, true).with_context(failed)?;
        let expression = self.expression()?.stdin_file(input).stdout_file(output).before_spawn(|command| {
            command.process_group(0);
            Ok(())
        });
        let handle = self.limits.starting(|| expression.start()).with_context(failed)?;
        let (sender, lines) = sync_channel(WAITING);
        thread::spawn(move || {
            let mut reader: BufReader<PipeReader> = BufReader::new(from_program);
            loop {
                let mut line = Vec::new();
                let read = reader.by_ref().take(longest).read_until(b'\n', &mut line);
                let is_last = match &read {
                    Ok(0) | Err(_) => true,
                    Ok(_) => !line.ends_with(b"\n"),
                };
                let is_end = matches!(read, Ok(0));
                if is_end || sender.send(read.map(|_| line)).is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Conversation { handle, input: Some(to_program), lines, name: self.name() })
    }
}

impl Conversation {
    /// Writes a line.
    ///
    /// # Errors
    /// The program does not read any more, or does not read the line until the deadline.
    pub fn say(&mut self, line: &str, deadline: Deadline) -> Result<()> {
        let failed = || format!("{} reads no more", self.name);
        let input = self.input.as_mut().with_context(failed)?;
        let line = format!("{line}\n");
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            interrupt::check()?;
            match input.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if deadline.passed() {
                        return Err(io::Error::from(ErrorKind::TimedOut)).with_context(failed);
                    }
                    interrupt::wait_for(input, PollFlags::OUT, MOMENT);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(failed),
            }
        }
        Ok(())
    }

    /// Returns the next line.
    ///
    /// # Errors
    /// The program ended, wrote a line that is too long, or wrote none until the deadline.
    pub fn hear(&self, deadline: Deadline) -> Result<Vec<u8>> {
        loop {
            interrupt::check()?;
            match self.lines.recv_timeout(MOMENT.min(deadline.left().max(Duration::from_millis(1)))) {
                Ok(line) => {
                    let line = line.with_context(|| format!("failed to read from {}", self.name))?;
                    if !line.ends_with(b"\n") {
                        bail!("{} wrote a line that is too long or not complete", self.name);
                    }
                    return Ok(line);
                }
                Err(RecvTimeoutError::Disconnected) => bail!("{} ended", self.name),
                Err(RecvTimeoutError::Timeout) if deadline.passed() => bail!("{} gave no answer in time", self.name),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.input = None;
        // A program may end now by itself. Its children may not.
        drop(self.handle.wait_timeout(MOMENT));
        terminate_group(&self.handle);
    }
}
