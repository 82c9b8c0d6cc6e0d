//! `agent-vm events`

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;

use super::{Target, prune};
use crate::cli::target;
use crate::host::interrupt;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::events::{self, Event};
use crate::term::error::Interrupted;
use crate::term::output::{is_closed, print};
use crate::term::text::{one_line, plain_json};

/// Interval between checks for new events.
const INTERVAL: Duration = Duration::from_millis(250);

/// Flags of `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    #[command(flatten)]
    target: Target,
    /// Follow the events: print new ones as they happen, until ^C
    #[arg(short, long)]
    follow: bool,
    /// Only events of the last AGE, such as 1h or 2d
    #[arg(long, value_name = "AGE", value_parser = prune::age)]
    since: Option<Duration>,
}

/// Prints what happened to a machine. With `--json`, each event is an object on a line of its own.
///
/// # Errors
/// There is no such machine, or stdout is closed.
pub fn events(context: &Context, args: &EventsArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    let mut events = events::all(&machine.dir);
    let mut last = events.last().cloned();
    if let Some(since) = args.since {
        let now = Timestamp::now();
        // A time in the future, from before the clock was set back, counts as now.
        events.retain(|event| Duration::try_from(now.duration_since(event.time)).unwrap_or_default() <= since);
    }
    show(context, &events)?;
    while args.follow && machine.exists() && !is_closed() {
        match interrupt::pause(INTERVAL) {
            // It is the usual end.
            Err(error) if error.is::<Interrupted>() => return Ok(()),
            other => other?,
        }
        let new = after(&machine, last.as_ref());
        show(context, &new)?;
        last = new.into_iter().next_back().or(last);
    }
    Ok(())
}

/// Returns the events after one; all of them if that one is not in the log any more.
fn after(machine: &Machine, last: Option<&Event>) -> Vec<Event> {
    let mut events = events::all(&machine.dir);
    match last.and_then(|last| events.iter().rposition(|event| event == last)) {
        Some(at) => events.split_off(at + 1),
        None => events,
    }
}

fn show(context: &Context, events: &[Event]) -> Result<()> {
    let line = |event: &Event| {
        if context.json {
            let json = serde_json::to_string(event).unwrap_or_default();
            return plain_json(json) + "\n";
        }
        let time = event.time.strftime("%Y-%m-%d %H:%M:%S");
        format!("{time}Z  {}\n", one_line(&event.what.line()))
    };
    print(&events.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::events::What;
    use crate::machine::state_dir::StateDir;

    #[test]
    fn new_events_are_those_after_the_last_shown_one() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(&StateDir::locate(Some(dir.path())).unwrap(), "app-main".parse().unwrap());
        std::fs::create_dir(&machine.dir).unwrap();
        assert!(after(&machine, None).is_empty());
        let record = |commits| events::record(&machine.dir, What::Fetched { commits });
        record(1);
        let first = after(&machine, None);
        assert_eq!(first.len(), 1);
        assert!(after(&machine, first.last()).is_empty());
        record(2);
        assert_eq!(after(&machine, first.last())[0].what, What::Fetched { commits: 2 });
        // The log was shortened.
        std::fs::remove_file(events::log(&machine.dir).path()).unwrap();
        record(3);
        assert_eq!(after(&machine, first.last()).len(), 1);
    }
}
