//! Standard output, which carries requested data only.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::term::terminal::shorten_end;
use crate::term::text::plain_json;

/// Prints data to stdout.
///
/// # Errors
/// Stdout is closed or full.
pub fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("failed to write to stdout")
}

/// Prints a value to stdout as JSON.
///
/// # Errors
/// See [`print`].
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let json = serde_json::to_string_pretty(value).context("failed to encode JSON")?;
    // It has no control sequences that anstream would have to look for.
    send(&(plain_json(json) + "\n"))
}

/// Returns whether the reader of stdout, a pipe or a terminal, has gone: nothing that is printed arrives.
#[must_use]
pub fn is_closed() -> bool {
    let stdout = std::io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut watched, Some(&none)).is_ok_and(|count| count > 0)
}

/// A terminal that shows only what is drawn, until this value is dropped: then it shows again what it showed before.
#[derive(Debug)]
pub struct WholeTerminal;

impl WholeTerminal {
    /// Switches stdout, which is a terminal, to an empty screen without a cursor.
    ///
    /// # Errors
    /// See [`print`].
    pub fn take() -> Result<Self> {
        send("\x1b[?1049h\x1b[?25l").map(|()| Self)
    }
}

impl Drop for WholeTerminal {
    fn drop(&mut self) {
        // It fails if the terminal was closed.
        drop(send("\x1b[?25h\x1b[?1049l"));
    }
}

/// Writes a text as it is. Not by anstream, which leaves out control sequences if colour is switched off.
fn send(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("failed to write to stdout")
}

/// Replaces what is on a terminal by lines, as many as fit.
///
/// # Errors
/// See [`print`].
pub fn redraw(text: &str) -> Result<()> {
    const HOME: &str = "\x1b[H";
    const CLEAR_TO_END_OF_LINE: &str = "\x1b[K\r\n";
    const CLEAR_BELOW: &str = "\x1b[J";
    let size = terminal_size::terminal_size_of(std::io::stdout());
    let rows = size.map_or(usize::MAX, |(_, rows)| usize::from(rows.0));
    // A line that the terminal continues on the next row would push others out.
    let columns = size.map_or(usize::MAX, |(columns, _)| usize::from(columns.0));
    let fit = rows.saturating_sub(1).max(1);
    let (all, mut lines) =
        (text.lines().count(), text.lines().take(fit).map(|line| shorten_end(line, columns)).collect::<Vec<_>>());
    if all > fit {
        lines[fit - 1] = format!("… and {} more", all - fit + 1);
    }
    let lines: String = lines.iter().map(|line| format!("{line}{CLEAR_TO_END_OF_LINE}")).collect();
    send(&format!("{HOME}{lines}{CLEAR_BELOW}"))
}
