//! `agent-vm egress suggest`

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::Target;
use super::confirm::{can_ask, confirmed};
use super::egress_lists::{allow, command, known_groups, list};
use crate::cli::{resolve_settings, target};
use crate::egress::log::{self, Attempt};
use crate::guest::manifest::Group;
use crate::machine::context::Context;
use crate::machine::egress_settings::{Destination, Egress};
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::table::Columns;
use crate::term::text::count;

/// Number of refused attempts that are read.
const ATTEMPTS: usize = 100_000;
/// Largest number of proposals. A guest can name as many hosts as it likes.
const MOST: usize = 50;

/// Flags of `egress suggest`.
#[derive(Args, Clone, Debug)]
pub struct SuggestArgs {
    #[command(flatten)]
    target: Target,
    /// Allow the destinations, after a question
    #[arg(long)]
    apply: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// A destination to allow.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Proposal {
    destination: Destination,
    /// Number of refused attempts.
    attempts: usize,
    /// Time of the last one.
    last: String,
    /// A group that has the host.
    group: Option<String>,
}

/// Prints the destinations that the machine was refused and that are on no list; allows them if the user says so.
///
/// # Errors
/// There is no such machine, its log cannot be read, or there is nobody to ask.
pub fn suggest(context: &Context, args: &SuggestArgs) -> Result<()> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    let groups = known_groups(&machine);
    let attempts = log::last(&machine.dir, ATTEMPTS, true)?;
    let egress = machine.settings()?.egress;
    let mut proposals = proposals(&attempts, &egress, &groups);
    let all = proposals.len();
    proposals.truncate(MOST);
    if context.json && !args.apply {
        return print_json(&proposals);
    }
    let name = machine.name.as_str();
    let is_closed = |one: &&Attempt| one.closed_address().is_some_and(|it| !is_listed(&it, &egress, &groups));
    let closed = attempts.iter().filter(is_closed).count();
    if closed > 0 {
        note(&format!(
            "{} of addresses that are closed unless a list names them: agent-vm egress log {name} --denied",
            count(closed, "refusal")
        ));
    } else if proposals.is_empty() {
        note(&format!("{name} was refused no destination that its lists lack"));
    }
    if proposals.is_empty() {
        return if args.apply { list(context, &machine, false) } else { Ok(()) };
    }
    let destinations = || proposals.iter().map(|one| one.destination.to_string());
    if args.apply && !args.yes && !can_ask() {
        return Err(Failure::usage("cannot ask without a terminal whether to allow the destinations")
            .with_hint(command("allow", Some(name), destinations()))
            .into());
    }
    if !context.json {
        print(&table(&proposals))?;
    }
    if all > MOST {
        note(&format!("and {} more: agent-vm egress log {name} --denied", all - MOST));
    }
    if !args.apply {
        note(&format!("to allow all of them: {}", command("allow", Some(name), destinations())));
        return Ok(());
    }
    if !args.yes && !confirmed(&format!("Allow {} for {name}? [y/N] ", count(proposals.len(), "destination")))? {
        note("nothing changed");
        return Ok(());
    }
    let _lock = machine.lock(context.deadline())?;
    let before = machine.settings()?;
    let mut after = before.clone();
    proposals.iter().for_each(|one| allow(&mut after.egress, &one.destination));
    resolve_settings::write(&machine, &before, &after)?;
    list(context, &machine, false)
}

/// Returns the unlisted destinations of refused attempts, the most frequent first.
fn proposals(attempts: &[Attempt], egress: &Egress, groups: &[Group]) -> Vec<Proposal> {
    let mut found = BTreeMap::new();
    for attempt in attempts {
        let Some(destination) = attempt.unlisted().filter(|one| !is_listed(one, egress, groups)) else { continue };
        let proposal = found.entry(destination.to_string()).or_insert_with(|| {
            let has = |group: &&Group| group.hosts.iter().any(|host| matches(host, &destination));
            let group = groups.iter().find(has).map(|group| format!("@{}", group.name));
            Proposal { destination, attempts: 0, last: String::new(), group }
        });
        proposal.attempts += 1;
        proposal.last.clone_from(&attempt.time);
    }
    let mut all: Vec<_> = found.into_values().collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.attempts));
    all
}

/// Returns whether a list has a destination, which it may since the refusal.
pub(super) fn is_listed(destination: &Destination, egress: &Egress, groups: &[Group]) -> bool {
    egress.allow.iter().chain(&egress.deny).any(|listed| match listed {
        Destination::Group(name) => groups
            .iter()
            .filter(|group| group.name == *name)
            .any(|group| group.hosts.iter().any(|host| matches(host, destination))),
        Destination::Host(..) => matches(&listed.to_string(), destination),
    })
}

/// Returns whether an entry of a list is about a host with a port.
fn matches(entry: &str, destination: &Destination) -> bool {
    let (Ok(Destination::Host(entry, port)), Destination::Host(host, Some(asked))) = (entry.parse(), destination)
    else {
        return false;
    };
    let is_host = match entry.strip_prefix('*') {
        Some(domain) => host.ends_with(domain),
        None => *host == entry,
    };
    is_host && port.map_or([80, 443].contains(asked), |port| port == *asked)
}

fn table(proposals: &[Proposal]) -> String {
    let lines = proposals.iter().map(|one| {
        [one.destination.to_string(), one.attempts.to_string(), one.last.clone(), one.group.clone().unwrap_or_default()]
    });
    let columns = Columns { header: ["DESTINATION", "REFUSED", "LAST", "GROUP"], gives_way: &[], shorten_start: &[] };
    // The guest wrote the times' log, too.
    crate::term::text::printable(&columns.format(lines.collect(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(host: &str, port: u16, reason: &str) -> Attempt {
        Attempt {
            time: "2026-01-01T00:00:00Z".to_owned(),
            verdict: "deny".to_owned(),
            method: "CONNECT".to_owned(),
            host: host.to_owned(),
            port,
            path: None,
            status: None,
            bytes: None,
            reason: Some(reason.to_owned()),
        }
    }

    #[test]
    fn only_hosts_on_no_list_are_proposed() {
        let groups = [
            Group { name: "npm".to_owned(), hosts: vec!["registry.npmjs.org".to_owned()] },
            Group { name: "github".to_owned(), hosts: vec!["*.githubusercontent.com".to_owned()] },
        ];
        let egress = Egress {
            allow: vec!["listed.test".parse().unwrap(), "@github".parse().unwrap()],
            deny: vec!["unwanted.test".parse().unwrap()],
            ..Egress::default()
        };
        let attempts = [
            attempt("registry.npmjs.org", 443, log::NOT_LISTED),
            attempt("b.test", 8443, log::NOT_LISTED),
            attempt("registry.npmjs.org", 443, log::NOT_LISTED),
            // Listed by now, by name, by group and by the deny list.
            attempt("listed.test", 443, log::NOT_LISTED),
            attempt("raw.githubusercontent.com", 443, log::NOT_LISTED),
            attempt("unwanted.test", 443, log::NOT_LISTED),
            // Control: another port is not listed.
            attempt("listed.test", 22, log::NOT_LISTED),
            // For other reasons, and no hosts.
            attempt("db.test", 443, "resolves to 10.0.0.5, a private or reserved address"),
            attempt("off.test", 443, "egress is off for this machine"),
            attempt("$(id)", 443, log::NOT_LISTED),
            attempt("*.test", 443, log::NOT_LISTED),
        ];
        let all = proposals(&attempts, &egress, &groups);
        let shown: Vec<_> =
            all.iter().map(|one| (one.destination.to_string(), one.attempts, one.group.as_deref())).collect();
        assert_eq!(
            shown,
            [
                ("registry.npmjs.org:443".to_owned(), 2, Some("@npm")),
                ("b.test:8443".to_owned(), 1, None),
                ("listed.test:22".to_owned(), 1, None),
            ]
        );
    }
}
