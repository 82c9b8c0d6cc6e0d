//! `agent-vm kept list`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use crate::cli::target;
use crate::git::kept::{self, Kept, Kind, Presence};
use crate::git::workspace::{Contents, header};
use crate::host::files::{is_absent, resolved};
use crate::machine::context::Context;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::table::{Columns, below_home};
use crate::term::terminal;
use crate::term::text::{age, bytes, count, one_line};

/// Most files of a workspace whose sizes are added up.
const MOST_FILES: usize = 200_000;

const COLUMNS: Columns<'static, 7> = Columns {
    header: ["NAME", "KIND", "BRANCH", "AGE", "SIZE", "CONTENTS", "REPOSITORY"],
    gives_way: &[(6, 9), (5, 10), (2, 6), (0, 20)],
    shorten_start: &[6],
};

/// Flags of `kept list`.
#[derive(Args, Clone, Debug)]
pub struct ListArgs {
    /// Only what came from the repository that contains DIR
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
}

/// A kept bundle or workspace, for `list` and `show`.
#[derive(Serialize)]
pub struct Row {
    name: String,
    kind: Kind,
    path: PathBuf,
    presence: Presence,
    machine: String,
    branch: Option<String>,
    source: Option<PathBuf>,
    source_missing: bool,
    restored_into: Option<PathBuf>,
    kept: Timestamp,
    age_seconds: u64,
    bytes: Option<u64>,
    references: Option<usize>,
    contents: Option<Contents>,
    why: Option<String>,
}

/// Prints what was kept.
///
/// # Errors
/// The state directory cannot be read.
pub fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let mut all = kept::all(&context.state)?;
    if let Some(dir) = &args.source {
        // It may be missing.
        let source = target::repository(&context.state, Some(dir)).map(|source| source.dir);
        let source = source.unwrap_or_else(|_| resolved(&std::path::absolute(dir).unwrap_or_else(|_| dir.clone())));
        all.retain(|kept| kept.source() == Some(&source));
    }
    let rows: Vec<_> = all.iter().map(row).collect();
    if context.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        note("nothing is kept");
        return Ok(());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let unknown = || "-".to_owned();
    let line = |row: &Row| {
        let word = row.kind.word();
        [
            row.name.clone(),
            match row.presence {
                Presence::Here => word.to_owned(),
                Presence::Missing => format!("{word}, missing"),
                Presence::Away => format!("{word}, away"),
            },
            row.branch.as_deref().map_or_else(unknown, one_line),
            age(std::time::Duration::from_secs(row.age_seconds)),
            row.bytes.map_or_else(unknown, bytes),
            row.described(),
            row.source.as_deref().map_or_else(unknown, |path| below_home(path, home.as_deref())),
        ]
    };
    print(&COLUMNS.format(rows.iter().map(line).collect(), terminal::width(std::io::stdout())))
}

impl Row {
    /// Returns what is in it.
    pub fn described(&self) -> String {
        match (&self.contents, self.references) {
            (Some(contents), _) if !contents.is_empty() => contents.describe(),
            (_, Some(references)) => count(references, "reference"),
            _ => self.why.as_deref().map_or_else(|| "-".to_owned(), one_line),
        }
    }

    /// Returns lines with the facts, for people.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let unknown = || "unknown".to_owned();
        let path = |path: &Option<PathBuf>| path.as_deref().map_or_else(unknown, |path| path.display().to_string());
        let mut facts = vec![
            ("Kind", self.kind.word().to_owned()),
            ("Path", self.path.display().to_string()),
            ("Machine", self.machine.clone()),
            ("Branch", self.branch.clone().unwrap_or_else(unknown)),
            ("Repository", path(&self.source) + if self.source_missing { " (missing)" } else { "" }),
            ("Kept", format!("{}, {} ago", self.kept, age(std::time::Duration::from_secs(self.age_seconds)))),
            ("Size", self.bytes.map_or_else(unknown, bytes)),
        ];
        facts.extend(self.restored_into.is_some().then(|| ("Restored", format!("into {}", path(&self.restored_into)))));
        facts.extend(self.why.clone().map(|why| ("Reason", why)));
        facts
    }
}

/// Returns the facts about one.
pub fn row(kept: &Kept) -> Row {
    let facts = kept.record.as_ref().map(|record| &record.facts);
    let seconds = Timestamp::now().as_second() - kept.named.kept.as_second();
    let references = || header(&kept.path).ok().map(|header| header.references.len());
    Row {
        name: kept.named.stem.clone(),
        kind: kept.named.kind,
        path: kept.path.clone(),
        presence: kept.presence,
        machine: kept.named.machine.to_string(),
        branch: kept.branch().map(str::to_owned),
        source: kept.source().map(PathBuf::from),
        source_missing: kept
            .source()
            .is_some_and(|source| [".git", "HEAD"].iter().all(|name| is_absent(&source.join(name)))),
        restored_into: kept.record.as_ref().and_then(|record| record.restored.clone()),
        kept: kept.named.kept,
        age_seconds: u64::try_from(seconds).unwrap_or(0),
        bytes: size(kept),
        references: if kept.named.kind == Kind::Bundle { references() } else { None },
        contents: facts.and_then(|facts| facts.contents.clone()),
        why: facts.and_then(|facts| facts.why.clone()),
    }
}

/// Returns the size in bytes; None if there are too many files to look at.
fn size(kept: &Kept) -> Option<u64> {
    if kept.presence != Presence::Here {
        return None;
    }
    let mut sum = 0;
    for (number, entry) in walkdir::WalkDir::new(&kept.path).follow_root_links(false).into_iter().enumerate() {
        let found = entry.ok()?.metadata().ok()?;
        if number >= MOST_FILES {
            return None;
        }
        sum += if found.is_dir() { 0 } else { found.len() };
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_a_terminal_of_80_columns() {
        let line = [
            "project-fix-the-bug-20260701T120000Z",
            "workspace",
            "fix-the-bug",
            "12d",
            "126.00 MiB",
            "12 commits, 1 stashed change and 3 changed files",
            "~/src/clients/project",
        ];
        let text = COLUMNS.format(vec![line.map(str::to_owned)], Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        // Control: the name is whole if there is room.
        assert!(COLUMNS.format(vec![line.map(str::to_owned)], Some(110)).contains(line[0]));
    }
}
