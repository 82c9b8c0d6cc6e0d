//! `agent-vm ps`

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;

use super::Target;
use super::connected::with_ssh;
use crate::machine::context::Context;
use crate::machine::in_use::Query;
use crate::remote::sessions::{self, Session};
use crate::term::output::{print, print_json};
use crate::term::table::Columns;
use crate::term::text::{age, count};

/// Flags of `ps`.
#[derive(Args, Clone, Debug)]
pub struct PsArgs {
    #[command(flatten)]
    target: Target,
}

/// Prints the sessions of a running machine.
///
/// # Errors
/// The machine is not running, or does not answer.
pub fn ps(context: &Context, args: &PsArgs) -> Result<()> {
    with_ssh(context, args.target.as_deref(), |machine, ssh| {
        let _query = Query::begin(&machine.dir);
        let all = sessions::all(ssh, context.answer_limit())?;
        if context.json {
            return print_json(&all);
        }
        if all.is_empty() {
            return print(&format!("{} has no session\n", machine.name));
        }
        print(&table(&all, Timestamp::now()))
    })
}

fn table(all: &[Session], now: Timestamp) -> String {
    let lines = all.iter().map(|one| {
        let state = match (one.running, one.exit_code) {
            (true, _) => "running".to_owned(),
            (false, Some(code)) => format!("ended with {code}"),
            (false, None) => "ended".to_owned(),
        };
        let since = now.duration_since(one.started).unsigned_abs();
        [one.session.clone(), state, age(since), count(one.attached as usize, "terminal")]
    });
    let columns = Columns { header: ["SESSION", "STATE", "AGE", "SHOWN ON"], gives_way: &[], shorten_start: &[] };
    columns.format(lines.collect(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_show_how_they_are() {
        let session = |running, exit_code| Session {
            session: "claude".to_owned(),
            running,
            exit_code,
            started: Timestamp::UNIX_EPOCH,
            attached: 2,
        };
        let now = Timestamp::from_second(90).unwrap();
        let shown = table(&[session(true, None), session(false, Some(7)), session(false, None)], now);
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[0].starts_with("SESSION  STATE"), "{shown}");
        assert!(lines[1].contains("running") && lines[1].contains("2 terminals"), "{shown}");
        assert!(lines[2].contains("ended with 7") && lines[3].contains("ended "), "{shown}");
    }
}
