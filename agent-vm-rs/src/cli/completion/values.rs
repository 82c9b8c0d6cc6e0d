//! Values of arguments that only this host knows: machines, and branches of the current repository.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::ValueHint;
use clap::builder::StyledStr;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use serde::Deserialize;

use crate::git::{kept, names};
use crate::host::files::read_text;
use crate::machine::branch::BranchName;
use crate::machine::name::VmName;
use crate::machine::paths::MachinePath;
use crate::machine::state_dir::StateDir;

/// Stands for the names of files. No value of another kind contains a colon.
pub const FILES: &str = ":files";
/// Most machines whose settings are read.
pub const MOST_READ: usize = 128;

/// Where the values are.
#[derive(Clone)]
pub struct Values {
    /// The state directory; None if it is unknown.
    pub state: Option<StateDir>,
    /// The current directory.
    pub cwd: PathBuf,
}

/// The settings that say for what a machine is.
#[derive(Deserialize)]
pub struct Purpose {
    /// Directory of its repository.
    pub source: PathBuf,
    /// Its branch.
    pub branch: BranchName,
}

impl Values {
    /// Adds the values to every argument of a command and its subcommands.
    pub fn add_to(&self, command: clap::Command) -> clap::Command {
        let creates = command.get_name() == "create";
        let own = self.clone();
        let command = command.mut_args(move |arg| {
            let name =
                arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str()).to_owned();
            let own = own.clone();
            match name.as_str() {
                "BRANCH" if creates => arg.add(completer(move |typed| own.branches(typed))),
                "BRANCH" | "BRANCH|MACHINE" => arg.add(completer(move |typed| own.targets(typed))),
                "AGENT" => arg.add(completer(agents)),
                "KEPT" => arg.add(completer(move |typed| own.kept(typed))),
                _ if is_path(&arg) => arg.add(completer(files)),
                _ => arg,
            }
        });
        command.mut_subcommands(|below| self.add_to(below))
    }

    /// Returns the branches of the current repository.
    fn branches(&self, typed: &str) -> Vec<String> {
        if self.is_in_machine() {
            return Vec::new();
        }
        names::branches(&self.cwd, typed).iter().map(|branch| branch.as_str().to_owned()).collect()
    }

    /// Returns the machines, and the branches of the current repository that have one.
    fn targets(&self, typed: &str) -> Vec<String> {
        let Some(state) = &self.state else { return Vec::new() };
        let machines = state.names().unwrap_or_default();
        let source = if self.is_in_machine() { None } else { names::source_dir(&self.cwd) };
        let purpose = |name: &VmName| {
            let text = read_text(&MachinePath::Settings.of(&state.machine(name))).ok()?;
            serde_json::from_str(&text).ok()
        };
        let branches = source.map(|source| branches_of(&source, typed, &machines, purpose)).unwrap_or_default();
        let named = machines.iter().map(VmName::as_str).filter(|name| name.starts_with(typed));
        branches.into_iter().chain(named.map(str::to_owned)).collect()
    }

    /// Returns the names of what was kept that begin with `typed`.
    fn kept(&self, typed: &str) -> Vec<String> {
        let kept = self.state.as_ref().map(kept::names).unwrap_or_default();
        kept.into_iter().filter(|name| name.starts_with(typed)).collect()
    }

    /// Returns whether the current directory is below the state directory, where the guest owns the repositories.
    fn is_in_machine(&self) -> bool {
        self.state.as_ref().is_some_and(|state| self.cwd.starts_with(state.path()))
    }
}

/// Returns the branches with a machine of a repository that begin with `typed`, sorted. Reads at most [`MOST_READ`] settings,
/// first those of machines with the names that this repository's machines usually have.
pub fn branches_of(
    source: &Path,
    typed: &str,
    machines: &[VmName],
    purpose: impl Fn(&VmName) -> Option<Purpose>,
) -> BTreeSet<String> {
    let beginning = VmName::beginning(source, typed);
    let (likely, others): (Vec<_>, Vec<_>) = machines.iter().partition(|name| name.as_str().starts_with(&beginning));
    let read = likely.into_iter().chain(others).take(MOST_READ).filter_map(purpose);
    let own = read.filter(|one| one.source == source && one.branch.as_str().starts_with(typed));
    own.map(|one| one.branch.to_string()).collect()
}

fn completer(values: impl Fn(&str) -> Vec<String> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |typed: &OsStr| -> Vec<CompletionCandidate> {
        // Another value, with a "=", could be split by a shell.
        let values = typed.to_str().map(&values).unwrap_or_default().into_iter();
        let values = values.filter(|value| !value.contains('=')).map(CompletionCandidate::new);
        // A value without a tag gets the argument's usage as one, which takes longer than all else.
        values.map(|value| value.tag(Some(StyledStr::new()))).collect()
    })
}

fn is_path(arg: &clap::Arg) -> bool {
    matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath)
}

fn agents(typed: &str) -> Vec<String> {
    let names = crate::machine::agents::all().map(|(name, _)| name.to_owned());
    names.filter(|name| name.starts_with(typed)).collect()
}

fn files(typed: &str) -> Vec<String> {
    if typed.starts_with('-') { Vec::new() } else { vec![FILES.to_owned()] }
}
