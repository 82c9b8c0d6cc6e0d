//! `agent-vm kept show`

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::list::row;
use super::{open, scratch};
use crate::git::Source;
use crate::git::kept;
use crate::machine::context::Context;
use crate::term::output::{print, print_json};
use crate::term::text::{one_line, short_id};

/// Largest number of references that are printed.
const MOST_PRINTED: usize = 100;

/// Flags of `kept show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Its name, its path, or the machine's name
    #[arg(value_name = "KEPT")]
    name: String,
}

/// Prints the references, commits and files in a kept bundle or workspace. The guest wrote all of it, so control characters
/// are replaced.
///
/// # Errors
/// There is none of this name, or git cannot read it.
pub fn show(context: &Context, args: &ShowArgs) -> Result<()> {
    let kept = kept::find(&context.state, &args.name)?;
    let scratch = scratch(&context.state)?;
    let source = kept.source().and_then(|dir| Source::discover(dir).ok().flatten().filter(|source| source.dir == dir));
    let held = open(&kept, source.as_ref(), scratch.path())?;
    let row = row(&kept);
    let name = |name: &[u8]| one_line(&String::from_utf8_lossy(name));
    let offers = held.repositories.iter().flat_map(|repository| &repository.offers);
    let references: Vec<_> = offers.map(|offer| (name(&offer.name), offer.object.clone())).collect();
    let commits = held.commits()?;
    let only_there = held.left_out(source.as_ref());
    if context.json {
        let mut value = serde_json::to_value(&row)?;
        value["contents"] = json!(held.contents);
        value["holds"] = json!({
            "references": references.iter().map(|(name, id)| json!({ "name": name, "object": id })).collect::<Vec<_>>(),
            "commits": commits.iter().map(|(id, subject)| json!({ "commit": id, "subject": subject })).collect::<Vec<_>>(),
            "changed_files": held.files,
            "only_there": only_there,
        });
        return print_json(&value);
    }
    let lacking = source.map_or_else(String::new, |source| format!(" that {} lacks", source.dir.display()));
    let mut text = format!("{}\n", kept.named.stem);
    for (label, value) in row.facts() {
        text += &format!("  {label:<12}{}\n", one_line(&value));
    }
    let mut section = |title: &str, all: usize, lines: Vec<String>| {
        if all > 0 {
            text += &format!("{title}: {all}\n");
            text.extend(lines.iter().map(|line| format!("  {}\n", one_line(line))));
            text += if lines.len() < all { "  …\n" } else { "" };
        }
    };
    let line = |(id, words): &(String, String)| format!("{}  {words}", short_id(id));
    let ids = references.iter().map(|(name, id)| (id.clone(), name.clone())).take(MOST_PRINTED);
    section("References", references.len(), ids.map(|one| line(&one)).collect());
    section(&format!("Commits{lacking}"), held.contents.commits.max(commits.len()), commits.iter().map(line).collect());
    section("Changed files", held.contents.changed_files, held.files.clone());
    section("Only there, not in a commit", only_there.len(), only_there);
    print(&text)
}
