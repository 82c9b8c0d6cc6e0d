//! Shell completion: `agent-vm completions SHELL` prints a script, which calls the hidden `agent-vm complete` for each
//! completion. That writes nothing, prints nothing if anything fails, and looks at a bounded number of files.

mod values;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::engine::{CompletionCandidate, complete};

use super::Cli;
use crate::machine::state_dir::StateDir;
use crate::term::output::print;
use crate::term::text::one_line;
use values::{FILES, Values};

/// Arguments of `completions`.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// Shell that reads the script
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Prints the completion script of a shell.
///
/// # Errors
/// Stdout is closed or full.
pub fn completions(args: &CompletionsArgs) -> Result<()> {
    print(match args.shell {
        Shell::Bash => include_str!("agent-vm.bash"),
        Shell::Zsh => include_str!("agent-vm.zsh"),
        Shell::Fish => include_str!("agent-vm.fish"),
    })
}

/// Arguments of the hidden `complete`.
#[derive(Args, Clone, Debug)]
pub struct CompleteArgs {
    /// The command line up to the cursor; the last word is completed
    #[arg(last = true, value_name = "WORD")]
    words: Vec<OsString>,
}

/// Prints a line for each value of the last word: the value, and after a tab its help. The line `:files` stands for the names
/// of files, which the shell completes.
///
/// # Errors
/// Stdout is closed or full.
pub fn print_candidates(state_dir: Option<&Path>, args: &CompleteArgs) -> Result<()> {
    print(&candidates(state_dir, &args.words).unwrap_or_default())
}

fn candidates(state_dir: Option<&Path>, words: &[OsString]) -> Option<String> {
    let (typed, before) = words.split_last()?;
    // After it come the words of the guest's command.
    if before.iter().any(|word| word == "--") {
        return None;
    }
    let asked = asked_state_dir(before);
    let state = StateDir::locate(asked.as_deref().or(state_dir)).ok();
    let mut command = Values { state, cwd: std::env::current_dir().ok()? }.add_to(Cli::command());
    let found = complete(&mut command, words.to_vec(), before.len(), None).ok()?;
    Some(lines(&found, typed.is_empty()))
}

/// Returns the value of `--state-dir` in a command line.
fn asked_state_dir(words: &[OsString]) -> Option<PathBuf> {
    let value = |(at, word): (usize, &OsString)| match word.to_str()?.strip_prefix("--state-dir")? {
        "" => words.get(at + 1).map(PathBuf::from),
        rest => rest.strip_prefix('=').map(PathBuf::from),
    };
    words.iter().enumerate().rev().find_map(value)
}

/// Returns the lines for a shell. If nothing is typed, flags are shown only if there is nothing else.
fn lines(found: &[CompletionCandidate], is_empty: bool) -> String {
    let value = |one: &CompletionCandidate| one.get_value().to_str().map(str::to_owned);
    let found = found.iter().filter(|one| !one.is_hide_set());
    let mut found: Vec<_> = found.filter_map(|one| Some((value(one)?, one.get_help()))).collect();
    if found.iter().any(|(value, _)| value.ends_with(FILES)) {
        return format!("{FILES}\n");
    }
    found.retain(|(value, _)| is_plain(value));
    let is_flag = |value: &str| value.starts_with('-');
    if is_empty && found.iter().any(|(value, _)| !is_flag(value)) {
        found.retain(|(value, _)| !is_flag(value));
    }
    let line = |(value, help): (String, Option<&clap::builder::StyledStr>)| {
        let help = help.map(ToString::to_string).unwrap_or_default();
        match help.lines().next() {
            Some(help) => format!("{value}\t{}\n", one_line(help)),
            None => value + "\n",
        }
    };
    found.into_iter().map(line).collect()
}

/// Returns whether a shell takes the text literally. Bash inserts it without quotes, and a repository may have a branch named
/// `$(command)`.
fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "-_./+,=".contains(c))
}

#[cfg(test)]
mod tests;
