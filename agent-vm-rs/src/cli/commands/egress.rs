//! `agent-vm egress`

use std::collections::BTreeSet;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::Target;
use super::egress_lists::{allow, command, known_groups, list};
use super::egress_suggest::{self, SuggestArgs, is_listed};
use crate::cli::{resolve_settings, target, whole_numbers};
use crate::egress::{self, log, supervise};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::egress_settings::{Destination, Egress};
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::text::one_line;

/// Largest number of suggested commands below a log of refused attempts.
const MOST_REMEDIES: usize = 5;

/// A subcommand of `egress`.
#[derive(Args, Clone, Debug)]
pub struct EgressArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Allow destinations, effective at once
    Allow(ChangeArgs),
    /// Deny destinations, effective at once
    Deny(ChangeArgs),
    /// Show the mode, the lists and the groups
    List(Target),
    /// Show connection attempts and whether they were allowed
    Log(LogArgs),
    /// Propose the destinations that the machine was refused and lacks
    Suggest(SuggestArgs),
    /// Keep a running machine's proxy running; `start` uses this
    #[command(hide = true)]
    Supervise(Target),
}

#[derive(Args, Clone, Debug)]
struct ChangeArgs {
    /// A branch of the current repository, or a machine's name [default: the current branch]
    #[arg(short, long, alias = "machine", value_name = "BRANCH|MACHINE")]
    branch: Option<String>,
    /// HOST, HOST:PORT, *.DOMAIN, @GROUP, or * for every host; without a port, 80 and 443
    #[arg(required = true, value_name = "DESTINATION")]
    destinations: Vec<Destination>,
}

#[derive(Args, Clone, Debug)]
struct LogArgs {
    #[command(flatten)]
    target: Target,
    /// Number of lines to show
    #[arg(short = 'n', long, value_name = "N", default_value = "100", value_parser = whole_numbers::lines::<usize>)]
    lines: usize,
    /// Show refused attempts only
    #[arg(long)]
    denied: bool,
}

/// Runs `agent-vm egress`.
///
/// # Errors
/// There is no such machine, a group is unknown, or a file cannot be read or written.
pub fn egress(context: &Context, args: &EgressArgs) -> Result<()> {
    match &args.verb {
        Verb::Allow(change) => self::change(context, change, allow, ["allow", "allowed"]),
        Verb::Deny(change) => self::change(context, change, deny, ["deny", "denied"]),
        Verb::List(of) => list(context, &target::find(&context.state, of.as_deref())?, true),
        Verb::Log(args) => show_log(context, args),
        Verb::Suggest(args) => egress_suggest::suggest(context, args),
        Verb::Supervise(of) => supervise::supervise(context, &target::find(&context.state, of.as_deref())?),
    }
}

/// Removes a destination from the allow list, and adds it to the deny list if a pattern or group still allows it.
fn deny(egress: &mut Egress, destination: &Destination) {
    egress.allow.retain(|allowed| allowed != destination);
    if !egress.deny.contains(destination) {
        egress.deny.push(destination.clone());
    }
}

fn change(
    context: &Context,
    args: &ChangeArgs,
    each: fn(&mut Egress, &Destination),
    [verb, becomes]: [&str; 2],
) -> Result<()> {
    let machine = match target::find(&context.state, args.branch.as_deref()) {
        Ok(machine) => machine,
        Err(error) => {
            refuse_machines(context, args, verb, &args.destinations)?;
            return Err(error);
        }
    };
    let _lock = machine.lock(context.deadline())?;
    let mut settings = machine.settings()?;
    let before = settings.clone();
    refuse_other_names(context, args, verb, &machine, &before.egress)?;
    args.destinations.iter().for_each(|destination| each(&mut settings.egress, destination));
    if settings != before {
        resolve_settings::write(&machine, &before, &settings)?;
    }
    if settings.egress.mode == crate::machine::egress_settings::Mode::None {
        note(&format!("notice: {} has egress mode none: allow and deny lists are ignored", machine.name));
    }
    for destination in &args.destinations {
        note(&format!("{destination} is now {becomes} for {}", machine.name));
    }
    list(context, &machine, false)
}

/// Refuses new destinations that are names of groups or machines.
fn refuse_other_names(
    context: &Context,
    args: &ChangeArgs,
    verb: &str,
    machine: &Machine,
    egress: &Egress,
) -> Result<()> {
    // What is on a list already can also leave it.
    let is_new =
        |destination: &&Destination| ![&egress.allow, &egress.deny].iter().any(|list| list.contains(destination));
    let new: Vec<_> = args.destinations.iter().filter(is_new).cloned().collect();
    let instead = |name: &str| {
        let words = args
            .destinations
            .iter()
            .map(|one| if one.single_label() == Some(name) { format!("@{name}") } else { one.to_string() });
        command(verb, args.branch.as_deref(), words)
    };
    egress::rules::refuse_group_names(&new, &known_groups(machine), instead)?;
    refuse_machines(context, args, verb, &new)
}

/// Refuses destinations that are names of machines or of branches with one: the machine is a flag.
fn refuse_machines(context: &Context, args: &ChangeArgs, verb: &str, destinations: &[Destination]) -> Result<()> {
    if args.branch.is_some() {
        return Ok(());
    }
    let is_machine = |name: &&str| target::find(&context.state, Some(name)).is_ok();
    let Some(name) = destinations.iter().filter_map(Destination::single_label).find(is_machine) else { return Ok(()) };
    let others: Vec<_> = args.destinations.iter().filter(|one| one.single_label() != Some(name)).collect();
    let mut words: Vec<_> = others.iter().map(ToString::to_string).collect();
    if words.is_empty() {
        words.push("DESTINATION".to_owned());
    }
    Err(Failure::usage(format!("{name} is a machine or its branch, not a destination"))
        .with_hint(command(verb, Some(name), words))
        .into())
}

fn show_log(context: &Context, args: &LogArgs) -> Result<()> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    let attempts = log::last(&machine.dir, args.lines, args.denied)?;
    if context.json {
        return print_json(&attempts);
    }
    if attempts.is_empty() && args.lines > 0 {
        note(&format!(
            "{} has no logged {}connection attempts",
            machine.name,
            if args.denied { "denied " } else { "" }
        ));
    }
    let lines = attempts.iter().map(|attempt| {
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let words = [
            attempt.time.clone(),
            attempt.verdict.clone(),
            attempt.method.clone(),
            format!("{}:{}{}", attempt.host, attempt.port, attempt.path.as_deref().unwrap_or("")),
            number(attempt.status.map(u64::from)),
            number(attempt.bytes),
            attempt.reason.clone().unwrap_or_default(),
        ];
        // The guest chooses hosts and paths, so control characters are removed.
        one_line(words.join(" ").trim_end()) + "\n"
    });
    print(&lines.collect::<String>())?;
    if args.denied {
        let (egress, groups) = (machine.settings()?.egress, known_groups(&machine));
        let is_closed = |one: &&log::Attempt| one.to_allow().is_some_and(|it| !is_listed(&it, &egress, &groups));
        let closed = attempts.iter().rev().filter(is_closed);
        let mut remedies: Vec<_> = closed.filter_map(|one| one.remedy(machine.name.as_str())).collect();
        let mut seen = BTreeSet::new();
        remedies.retain(|remedy| seen.insert(remedy.clone()));
        remedies.truncate(MOST_REMEDIES);
        remedies.iter().for_each(|remedy| note(&format!("hint: {remedy}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let mut egress = Egress::default();
        let host: Destination = "a.test".parse().unwrap();
        allow(&mut egress, &host);
        allow(&mut egress, &host);
        assert_eq!((egress.allow.len(), egress.deny.len()), (1, 0));
        deny(&mut egress, &host);
        assert_eq!((egress.allow.len(), egress.deny.len()), (0, 1));
        allow(&mut egress, &host);
        assert_eq!((egress.allow.len(), egress.deny.len()), (1, 0));
    }
}
