//! `agent-vm push`

use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::Target;
use super::fetching::source_of;
use crate::cli::target;
use crate::git::namespace::namespace;
use crate::git::origin_copy::ORIGIN_COPY;
use crate::git::push::{Bundle, Offer, Scope, Sent, bundle};
use crate::git::workspace::branches_of_copy;
use crate::guest::running::running;
use crate::host::files::quoted;
use crate::machine::Machine;
use crate::machine::branch::BranchName;
use crate::machine::context::Context;
use crate::remote::ssh::Ssh;
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::{self, note};
use crate::term::text::{last_lines, one_line, printable, short_id};

/// What git prints if a branch of the copy has other commits.
const REJECTED: &str = "(non-fast-forward)";

/// Largest number of branches that a notice names.
const MOST_NAMED: usize = 10;

/// Flags of `push`.
#[derive(Args, Clone, Debug)]
pub struct PushArgs {
    #[command(flatten)]
    target: Target,
    /// Also send this branch; can be repeated
    #[arg(long, value_name = "NAME")]
    also: Vec<BranchName>,
}

/// Brings the source repository's newer commits into the machine's `origin`. The machine's branches and files do not
/// change.
///
/// # Errors
/// There is no such machine, it is not running, or its `origin` has commits that the source lacks.
pub fn push(context: &Context, args: &PushArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    let settings = machine.settings()?;
    let source = source_of(&machine, &settings)?;
    let (guest, facts) = running(&machine)?;
    let has = branches_of_copy(&machine.workspace())?;
    let prefix = namespace(&source, &machine.state, &machine.name)?;
    let scope = Scope { branch: &settings.branch, all: settings.all_branches, prefix: &prefix, also: &args.also };
    let Offer { bundle, withheld } = bundle(&source, &scope, &has, &machine.dir)?;
    if let [first, ..] = withheld.as_slice() {
        let names = withheld.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        note(&format!(
            "notice: not sent, because the machine did not get them from you: newer commits of {names}\nto send a branch: agent-vm push {} --also {}",
            machine.name,
            quoted(Path::new(first))
        ));
    }
    let Some(Bundle { sent, bytes, large_files }) = bundle else {
        return report(context, &machine, &[]);
    };
    let ssh = Ssh::to(&machine, &guest.manifest, &facts, context.verbosity);
    ssh.require_answer(context.answer_limit())?;
    let script = format!(
        "cd {}/.git/{ORIGIN_COPY} && file=$(mktemp) && trap 'rm -f \"$file\"' EXIT && cat > \"$file\" && \
         LC_ALL=C git fetch --no-write-fetch-head -- \"$file\" 'refs/heads/*:refs/heads/*'",
        guest.manifest.workspace.path
    );
    let output = progress::step(&format!("sending commits to {}", machine.name), || {
        // First: with the commits the machine checks out what it has.
        if !large_files.is_empty() {
            ssh.copy_files_in(large_files.open(), &format!("{}/.git", guest.manifest.workspace.path))?;
        }
        ssh.send(&script, bytes)
    })?;
    if output.status.success() {
        return report(context, &machine, &sent);
    }
    let name = &machine.name;
    let words = printable(&String::from_utf8_lossy(&output.stderr));
    let hint = match words.contains(REJECTED) {
        true => format!(
            "fetch and merge them first: agent-vm fetch {name}\nthen: agent-vm merge {name} --ref origin/heads/{}",
            settings.branch
        ),
        false => format!("to see what is there: agent-vm exec {name} -- git ls-remote origin"),
    };
    // Git begins with the name of the temporary file.
    let words: Vec<_> = words.lines().filter(|line| !line.starts_with("From ")).collect();
    let words = last_lines(&words.join("\n"), 4);
    Err(Failure::new(format!("the machine's origin did not take the commits:\n{words}")).with_hint(hint).into())
}

fn report(context: &Context, machine: &Machine, sent: &[Sent]) -> Result<()> {
    let name = &machine.name;
    if context.json {
        return print_json(&serde_json::json!({ "name": name, "sent": sent }));
    }
    if sent.is_empty() {
        return print(&format!("origin of {name} has everything\n"));
    }
    let line = |one: &Sent| {
        let old = one.old.as_deref().map_or("new", short_id);
        format!("  {}  {old} -> {}\n", one_line(&one.branch), short_id(&one.new))
    };
    let lines: String = sent.iter().map(line).collect();
    print(&format!("origin of {name}:\n{lines}in the machine: git pull\n"))
}
