//! Finds the machine that a command is about: a branch of the current repository, or a machine's name.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::git::Source;
use crate::git::namespace::namespace;
use crate::host::files::has_dir;
use crate::machine::Machine;
use crate::machine::branch::BranchName;
use crate::machine::name::VmName;
use crate::machine::state_dir::StateDir;
use crate::machine::unknown::{Place, no_machine, no_machine_in};
use crate::term::error::Failure;
use crate::term::progress::note;

/// Returns the machine of a repository's branch; None if there is none yet.
///
/// # Errors
/// The state directory cannot be read.
pub fn machine_of(state: &StateDir, source: &Path, branch: &BranchName) -> Result<Option<Machine>> {
    let named = [VmName::plain(source, branch), VmName::hashed(source, branch)];
    let named = named.map(|name| Machine::new(state, name));
    if let Some(machine) = named.iter().find(|machine| belongs_to(machine, source, branch)) {
        return Ok(Some(machine.clone()));
    }
    // A relinked machine keeps the name of its former repository.
    let all = state.names()?.into_iter().map(|name| Machine::new(state, name));
    let relinked = all.into_iter().find(|machine| belongs_to(machine, source, branch));
    // If a machine's settings are unreadable, only its name can be compared.
    Ok(relinked.or_else(|| named.into_iter().find(|machine| machine.exists() && machine.settings().is_err())))
}

/// Returns the future machine of this repository and branch, under an unused name.
///
/// # Errors
/// Every possible name belongs to another machine.
pub fn free_name(state: &StateDir, source: &Path, branch: &BranchName) -> Result<Machine> {
    for name in [VmName::plain(source, branch), VmName::hashed(source, branch)] {
        let machine = Machine::new(state, name);
        // Even a file would be in the way.
        if machine.dir.symlink_metadata().is_err() {
            return Ok(machine);
        }
    }
    let name = VmName::hashed(source, branch);
    let machine = Machine::new(state, name);
    has_dir(&machine.dir)?;
    let name = machine.name;
    Err(Failure::new(format!("the name {name} belongs to another machine"))
        .with_hint(format!("agent-vm destroy {name}"))
        .into())
}

fn belongs_to(machine: &Machine, source: &Path, branch: &BranchName) -> bool {
    machine.settings().is_ok_and(|settings| settings.source == source && settings.branch == *branch)
}

/// Returns the repository of the current directory, and `branch` or else its current branch.
///
/// # Errors
/// There is no repository, or HEAD is detached and `branch` is None. Or the directory is a machine's workspace, where
/// git must not run, since the guest owns that repository.
pub fn current(state: &StateDir, branch: Option<&str>) -> Result<(Source, BranchName)> {
    let cwd = std::env::current_dir().context("failed to find the current directory")?;
    if cwd.starts_with(state.path()) {
        return Err(Failure::new(format!("{} is in the machines' state directory", cwd.display()))
            .with_hint("cd into your own repository")
            .into());
    }
    let source = Source::discover(&cwd)?.ok_or_else(|| no_repository_to_clone(&cwd))?;
    with_branch(source, branch)
}

/// Returns the repository in a directory, and `branch` or else its current branch.
///
/// # Errors
/// As [`repository`] and [`current`].
pub fn branch_of(state: &StateDir, dir: &Path, branch: Option<&str>) -> Result<(Source, BranchName)> {
    with_branch(repository(state, Some(dir))?, branch)
}

fn with_branch(source: Source, branch: Option<&str>) -> Result<(Source, BranchName)> {
    if source.dir.to_str().is_none() {
        return Err(Failure::new(format!("the path of the repository {} is not valid UTF-8", source.dir.display()))
            .with_hint("rename the directory whose name is not valid UTF-8")
            .into());
    }
    let branch = match branch {
        Some(name) => name.parse()?,
        None => source.current_branch()?.ok_or_else(|| {
            Failure::new(format!("HEAD of {} is detached: there is no current branch", source.dir.display()))
                .with_hint("choose a branch: agent-vm create --branch BRANCH")
        })?,
    };
    Ok((source, branch))
}

/// Returns the repository of `--source DIR`, or else that of the current directory.
///
/// # Errors
/// The directory does not exist, is not in a repository, or belongs to a machine.
pub fn repository(state: &StateDir, dir: Option<&Path>) -> Result<Source> {
    let dir = match dir {
        Some(dir) => dir.to_owned(),
        None => std::env::current_dir().context("failed to find the current directory")?,
    };
    let dir = std::fs::canonicalize(&dir).with_context(|| {
        Failure::usage(format!("there is no directory {}", dir.display()))
            .with_hint("name the repository's directory: --source DIR")
    })?;
    // Git must not run in a workspace, since the guest owns that repository.
    let found = if dir.starts_with(state.path()) { None } else { Source::discover(&dir)? };
    found.ok_or_else(|| {
        Failure::usage(format!("{} is not in a source repository", dir.display()))
            .with_hint("name the repository's directory: --source DIR")
            .into()
    })
}

fn no_repository(cwd: &Path) -> Failure {
    Failure::new(format!("{} is not in a git repository", cwd.display()))
        .with_hint("cd into a repository, or name a machine (agent-vm list shows them)")
}

/// Like [`no_repository`], for a command that names no machine.
fn no_repository_to_clone(cwd: &Path) -> Failure {
    Failure::new(format!("{} is not in a git repository", cwd.display()))
        .with_hint("cd into the repository for the machine, or create one: git init")
}

/// Returns the existing machine that `target` names: a branch of the current repository, else a machine. Without
/// `target`, the machine whose workspace is the current directory, or else that of the current branch.
///
/// # Errors
/// There is no such machine.
pub fn find(state: &StateDir, target: Option<&str>) -> Result<Machine> {
    look_up(state, target, Offer::Create)
}

/// As [`find`], for a command for which a new machine would be of no use: the error does not suggest to create one.
///
/// # Errors
/// There is no such machine.
pub fn find_used(state: &StateDir, target: Option<&str>) -> Result<Machine> {
    look_up(state, target, Offer::List)
}

/// As [`find_used`], for a command that removes something: without `target`, it is the machine of the current branch itself.
///
/// # Errors
/// There is no such machine.
pub fn find_exact(state: &StateDir, target: Option<&str>) -> Result<Machine> {
    look_up(state, target, Offer::Exact)
}

/// What the error about a missing machine suggests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offer {
    Create,
    List,
    Exact,
}

/// Returns the machine whose fetched branch a branch tracks, as `checkout` makes it; None if there is none.
fn tracked(state: &StateDir, source: &Source, branch: &BranchName) -> Result<Option<Machine>> {
    let Some(reference) = source.tracked_here(branch).filter(|name| name.starts_with("refs/agent-vm/")) else {
        return Ok(None);
    };
    let machines = state.names()?.into_iter().map(|name| Machine::new(state, name));
    let mut machines =
        machines.filter(|machine| machine.settings().is_ok_and(|settings| settings.source == source.dir));
    let is_of =
        |machine: &Machine| namespace(source, state, &machine.name).is_ok_and(|start| reference.starts_with(&start));
    Ok(machines.find(is_of))
}

/// As [`find`], or None if there is no such machine yet.
///
/// # Errors
/// There is no repository, or `target` is no name of a branch.
pub fn find_or_none(state: &StateDir, target: Option<&str>) -> Result<Option<Machine>> {
    let Some(word) = target else { return current_machine(state) };
    let by_name = || word.parse().ok().map(|name| Machine::new(state, name)).filter(Machine::exists);
    match current(state, Some(word)) {
        Ok((source, branch)) => Ok(machine_of(state, &source.dir, &branch)?.or_else(by_name)),
        Err(error) => by_name().map(Some).ok_or(error),
    }
}

fn look_up(state: &StateDir, target: Option<&str>, offer: Offer) -> Result<Machine> {
    let cwd = std::env::current_dir().context("failed to find the current directory")?;
    // Git must not run in a workspace, since the guest owns that repository.
    let inside = cwd.strip_prefix(state.path()).ok().and_then(|below| below.components().next());
    if let Some(Ok(name)) = inside.and_then(|first| first.as_os_str().to_str()).map(str::parse) {
        let machine = Machine::new(state, name);
        if target.is_none() && machine.exists() {
            return Ok(machine);
        }
    }
    let by_name = |name: &str| name.parse().ok().map(|name| Machine::new(state, name)).filter(Machine::exists);
    let found = if inside.is_some() { Ok(None) } else { Source::discover(&cwd) };
    let source = match found {
        Ok(source) => source,
        // A machine's name works even if git refuses the current repository.
        Err(error) => return target.and_then(by_name).ok_or(error),
    };
    let Some(source) = source else {
        let Some(name) = target else { return Err(no_repository(&cwd).into()) };
        return by_name(name).ok_or_else(|| no_machine(state, name));
    };
    let Some(target) = target else {
        let branch = source.current_branch()?.ok_or_else(|| {
            Failure::new(format!("HEAD of {} is detached: there is no current branch", source.dir.display()))
                .with_hint("name a branch or a machine (agent-vm list shows them)")
        })?;
        if let Some(machine) = machine_of(state, &source.dir, &branch)? {
            return Ok(machine);
        }
        if let Some(machine) = tracked(state, &source, &branch)? {
            let name = &machine.name;
            if offer == Offer::Exact {
                return Err(Failure::new(format!("{branch} has no machine; it tracks a branch of {name}"))
                    .with_hint(format!("to remove that machine: agent-vm destroy {name}"))
                    .into());
            }
            note(&format!("using {name}, whose branch {branch} tracks"));
            return Ok(machine);
        }
        let branches = if offer == Offer::Create { vec![branch.clone()] } else { Vec::new() };
        return Err(no_machine_in(state, branch.as_str(), Some(&Place { source: &source.dir, branches })));
    };
    let branch = target.parse::<BranchName>();
    if let Ok(branch) = &branch
        && let Some(machine) = machine_of(state, &source.dir, branch)?
    {
        return Ok(machine);
    }
    match (by_name(target), branch) {
        (Some(machine), _) => Ok(machine),
        (None, Ok(_)) => {
            let branches = if offer == Offer::Create { source.branches().unwrap_or_default() } else { Vec::new() };
            let place = Place { source: &source.dir, branches };
            Err(no_machine_in(state, target, Some(&place)))
        }
        (None, Err(not_a_branch)) => Err(not_a_branch.into()),
    }
}

/// Returns the names that a machine of `target` can have had, whether it exists or not.
#[must_use]
pub fn possible_names(state: &StateDir, target: Option<&str>) -> Vec<VmName> {
    let of_branch = current(state, target)
        .ok()
        .map(|(source, branch)| [VmName::plain(&source.dir, &branch), VmName::hashed(&source.dir, &branch)]);
    let named = target.and_then(|target| target.parse().ok());
    let mut names: Vec<VmName> = of_branch.into_iter().flatten().chain(named).collect();
    names.dedup();
    names
}

/// Returns whether a machine has this name, or is one of a branch with this name in any repository. Unlike [`find`], runs no
/// git.
#[must_use]
pub fn is_known(state: &StateDir, word: &str) -> bool {
    let machines = state.names().unwrap_or_default().into_iter().map(|name| Machine::new(state, name));
    let has_branch = |machine: &Machine| machine.settings().is_ok_and(|settings| settings.branch.as_str() == word);
    machines.into_iter().any(|machine| machine.name.as_str() == word || has_branch(&machine))
}

/// Returns the machine of the current branch; None if there is none yet.
///
/// # Errors
/// There is no repository, or no current branch.
pub fn current_machine(state: &StateDir) -> Result<Option<Machine>> {
    let cwd = std::env::current_dir().context("failed to find the current directory")?;
    if cwd.starts_with(state.path()) {
        return find(state, None).map(Some);
    }
    let (source, branch) = current(state, None)?;
    machine_of(state, &source.dir, &branch)
}
