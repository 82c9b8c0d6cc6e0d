//! `agent-vm attach`

use anyhow::Result;
use clap::Args;

use super::Target;
use super::connected::with_ssh;
use crate::machine::context::Context;
use crate::machine::name::VmName;
use crate::remote::sessions::{self, Session};
use crate::remote::ssh::terminal::Streams;
use crate::term::error::Failure;

/// Flags of `attach`.
#[derive(Args, Clone, Debug)]
pub struct AttachArgs {
    #[command(flatten)]
    target: Target,
    /// The session, if the machine has several
    #[arg(long, value_name = "NAME")]
    session: Option<String>,
}

/// Shows a session on our terminal until the user leaves it or its program ends; returns the program's exit code.
///
/// # Errors
/// The machine is not running, or has no such session.
pub fn attach(context: &Context, args: &AttachArgs) -> Result<i32> {
    if Streams::ours() != Streams::Terminal {
        return Err(Failure::usage("attach needs a terminal").with_hint("to list sessions: agent-vm ps").into());
    }
    with_ssh(context, args.target.as_deref(), |machine, ssh| {
        let limit = context.answer_limit();
        let session = chosen(&machine.name, sessions::all(ssh, limit)?, args.session.as_deref())?;
        ssh.exec(&sessions::attach(&session.session), Streams::Terminal, limit)
    })
}

/// Returns the session to show: the named one, or else the only one.
fn chosen(machine: &VmName, all: Vec<Session>, named: Option<&str>) -> Result<Session, Failure> {
    let names: Vec<_> = all.iter().map(|one| one.session.clone()).collect();
    let wanted = |one: &Session| named.is_none_or(|named| one.session == named);
    let mut found = all.into_iter().filter(wanted);
    match (found.next(), found.next()) {
        (Some(session), None) => Ok(session),
        (Some(_), Some(_)) => Err(Failure::usage(format!("{machine} has several sessions: {}", names.join(", ")))
            .with_hint(format!("for example: agent-vm attach {machine} --session {}", names[0]))),
        (None, _) if names.is_empty() => Err(Failure::new(format!("{machine} has no session"))
            .with_hint(format!("to start one: agent-vm run claude {machine} --detach"))),
        (None, _) => Err(Failure::new(format!("{machine} has no session {}", named.unwrap_or_default()))
            .with_hint(format!("it has: {}", names.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_session_needs_no_name() {
        let machine: VmName = "app-main".parse().unwrap();
        let session = |name: &str| Session {
            session: name.to_owned(),
            running: true,
            exit_code: None,
            started: jiff::Timestamp::UNIX_EPOCH,
            attached: 0,
        };
        let choose = |names: &[&str], named| {
            let all = names.iter().map(|name| session(name)).collect();
            chosen(&machine, all, named).map(|one| one.session).map_err(|error| error.to_string())
        };
        assert_eq!(choose(&["claude"], None).unwrap(), "claude");
        assert_eq!(choose(&["claude", "top"], Some("top")).unwrap(), "top");
        assert_eq!(choose(&["claude", "top"], None).unwrap_err(), "app-main has several sessions: claude, top");
        assert_eq!(choose(&["claude"], Some("top")).unwrap_err(), "app-main has no session top");
        assert_eq!(choose(&[], None).unwrap_err(), "app-main has no session");
    }
}
