//! The allow and deny lists of a machine, for the subcommands of `egress`.

use anyhow::Result;

use crate::egress;
use crate::guest::manifest::Group;
use crate::guest::{Guest, installation};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::egress_settings::{Destination, Egress, HostProxy};
use crate::machine::settings::Settings;
use crate::term::output::{print, print_json};
use crate::term::terminal;
use crate::term::text::one_line;

/// Column at which the destinations of `egress list` begin.
const LIST: usize = 10;

/// Puts a destination on the allow list, and takes it from the deny list.
pub fn allow(egress: &mut Egress, destination: &Destination) {
    egress.deny.retain(|denied| denied != destination);
    if !egress.allow.contains(destination) {
        egress.allow.push(destination.clone());
    }
}

/// Returns the command that changes a list.
pub fn command(verb: &str, branch: Option<&str>, destinations: impl IntoIterator<Item = String>) -> String {
    let words = ["agent-vm", "egress", verb].map(str::to_owned).into_iter();
    let branch = branch.into_iter().flat_map(|branch| ["--branch".to_owned(), branch.to_owned()]);
    let words: Vec<_> = words.chain(branch).chain(destinations).collect();
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_default()
}

/// Returns the groups of the built guest, or of the toolkit if there is none yet.
pub fn known_groups(machine: &Machine) -> Vec<Group> {
    let groups = Guest::of(machine).map(|guest| guest.manifest.egress.groups).ok();
    groups.or_else(installation::egress_groups).unwrap_or_default()
}

/// Prints the lists, and the groups: all of them, or those that are on a list.
///
/// # Errors
/// The settings cannot be read.
pub fn list(context: &Context, machine: &Machine, with_groups: bool) -> Result<()> {
    let Settings { egress: stored, .. } = machine.settings()?;
    let groups = known_groups(machine);
    let upstream = egress::upstream::of_run(&machine.dir);
    if context.json {
        let through = upstream.map(|upstream| upstream.shown());
        return print_json(&serde_json::json!({ "egress": stored, "host_proxy": through, "groups": groups }));
    }
    let in_force = machine.run().qemu().and_then(|_| egress::rules::mode_in_force(&machine.dir));
    let until_then = match in_force.filter(|mode| *mode != stored.mode) {
        Some(mode) => format!(" from its next start, {} until then", mode.as_str()),
        None => String::new(),
    };
    let mut text = format!("{}: egress {}{until_then}\n", machine.name, stored.mode.as_str());
    for (label, list) in [("allow", &stored.allow), ("deny", &stored.deny)] {
        for destination in list {
            text += &format!("  {label:<7} {destination}\n");
        }
    }
    for secret in &stored.secrets {
        text += &format!("  secret  {secret}\n");
    }
    match (upstream, &stored.host_proxy) {
        (Some(upstream), _) => text += &format!("  proxy   {}\n", one_line(&upstream.shown())),
        (None, HostProxy::Auto) => {}
        (None, setting) => text += &format!("  proxy   {setting}\n"),
    }
    let width = terminal::width(std::io::stdout());
    let is_listed =
        |name: &str| stored.allow.iter().chain(&stored.deny).any(|one| one.to_string() == format!("@{name}"));
    for group in groups.iter().filter(|group| with_groups || is_listed(&group.name)) {
        text += &group_lines(&format!("  group   @{}: ", group.name), &group.hosts, width);
    }
    print(&text)
}

/// Returns the hosts of a group after `start`, on as many lines as the terminal's width needs.
fn group_lines(start: &str, hosts: &[String], width: Option<usize>) -> String {
    let (mut text, mut column) = (start.trim_end().to_owned(), start.trim_end().len());
    for host in hosts {
        if column > LIST && width.is_some_and(|width| column + 1 + host.len() > width) {
            text += &format!("\n{}", " ".repeat(LIST - 1));
            column = LIST - 1;
        }
        text += &format!(" {host}");
        column += 1 + host.len();
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_a_group_fit_the_terminal() {
        let hosts = ["a.example", "b.example", "c.example"].map(str::to_owned);
        let start = "  group   @g: ";
        assert_eq!(group_lines(start, &hosts, None), "  group   @g: a.example b.example c.example\n");
        assert_eq!(group_lines(start, &hosts, Some(33)), "  group   @g: a.example b.example\n          c.example\n");
        let narrow = group_lines(start, &hosts, Some(1));
        assert_eq!(narrow, "  group   @g:\n          a.example\n          b.example\n          c.example\n");
    }
}
