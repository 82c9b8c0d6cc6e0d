//! `agent-vm logs`

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use super::Target;
use crate::cli::{target, whole_numbers};
use crate::guest::running::running;
use crate::host::files::has_file;
use crate::host::log_file;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::remote::ssh::Ssh;
use crate::term::error::Failure;
use crate::term::output::print;
use crate::term::text::{last_lines, printable};

/// Flags of `logs`.
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    #[command(flatten)]
    target: Target,
    /// Follow the log: print new lines as they arrive
    #[arg(short, long)]
    follow: bool,
    /// Number of lines to show
    #[arg(short = 'n', long, value_name = "N", default_value = "100", value_parser = whole_numbers::lines::<u32>)]
    lines: u32,
    /// Show the serial console, which is kept after the machine stops, and not the service's journal
    #[arg(long)]
    console: bool,
}

/// Prints a log and returns the exit code of the program that read it.
///
/// # Errors
/// The machine is not running (its console log can still be read), or never ran.
pub fn logs(context: &Context, args: &LogsArgs) -> Result<i32> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    if args.console {
        return console(&machine, args).map(|()| 0);
    }
    let (guest, facts) = running(&machine).map_err(|error| {
        let name = &machine.name;
        let hint = if machine.console_log().exists() {
            format!("to start it: agent-vm start {name}\nto read its last console: agent-vm logs --console {name}")
        } else {
            format!("agent-vm start {name}")
        };
        error.context(Failure::new("cannot read the service's journal while the machine is stopped").with_hint(hint))
    })?;
    let ssh = Ssh::to(&machine, &guest.manifest, &facts, context.verbosity);
    ssh.require_answer(context.answer_limit())?;
    let follow = if args.follow { " --follow" } else { "" };
    ssh.stream(&format!(
        "journalctl --no-pager --output=short-iso --unit={} --unit={} --lines={}{follow}",
        guest.manifest.service.unit, guest.manifest.service.gate_unit, args.lines
    ))
}

/// Prints the console's log without control characters, since the guest writes it.
fn console(machine: &Machine, args: &LogsArgs) -> Result<()> {
    let path = machine.console_log();
    if !has_file(&path)? {
        let name = &machine.name;
        return Err(Failure::new(format!("{name} has not been started, so it has no console log"))
            .with_hint(format!("agent-vm start {name}"))
            .into());
    }
    let mut file = log_file::open(&path).with_context(|| format!("failed to open {}", path.display()))?;
    let bytes =
        log_file::end_of(&mut file, log_file::LONGEST).with_context(|| format!("failed to read {}", path.display()))?;
    let tail = last_lines(&printable(&String::from_utf8_lossy(&bytes)), args.lines as usize);
    print(&format!("{tail}\n"))?;
    if args.follow { follow(machine, &mut file) } else { Ok(()) }
}

/// Prints new lines of the console's log until the machine ends.
fn follow(machine: &Machine, log: &mut File) -> Result<()> {
    loop {
        let bytes = next(log).context("failed to follow the console")?;
        print(&printable(&String::from_utf8_lossy(&bytes)))?;
        if bytes.is_empty() {
            if machine.run().qemu().is_none() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Returns what was appended to the log.
fn next(log: &mut File) -> io::Result<Vec<u8>> {
    if log.metadata()?.len() < log.stream_position()? {
        // The log was truncated, and what is left of it was already printed.
        log.seek(SeekFrom::End(0))?;
    }
    let mut bytes = Vec::new();
    log.take(log_file::LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_is_followed_after_it_was_shortened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = File::options().create(true).append(true).open(&path).unwrap();
        let mut log = log_file::open(&path).unwrap();
        let mut say = |text: &str| writer.write_all(text.as_bytes()).unwrap();
        say("one\n");
        assert_eq!(next(&mut log).unwrap(), b"one\n");
        say("two\n");
        assert_eq!(next(&mut log).unwrap(), b"two\n");
        File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
        assert_eq!(next(&mut log).unwrap(), b"");
        say("three\n");
        assert_eq!(next(&mut log).unwrap(), b"three\n");
    }
}
