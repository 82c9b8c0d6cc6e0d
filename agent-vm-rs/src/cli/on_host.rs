//! The other end of `--remote`: does what the agent-vm of another host asks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _, FromArgMatches as _};

use super::commands::{cp, exit_with, fetching};
use super::{Cli, refusal, target};
use crate::git::mirror;
use crate::git::namespace::namespace;
use crate::host::user_dirs::data_home;
use crate::host::{hang_up, interrupt};
use crate::machine::context::Context;
use crate::remote::other_host::request::{Ask, FetchedThere, Hello, Made, Meant, NOT_RUN, PROTOCOL, Repository};
use crate::term::error::report;
use crate::term::output::print;

/// The words of the hidden command.
#[derive(Args, Clone, Debug)]
pub struct OnHostArgs {
    /// What is asked
    #[arg(value_name = "REQUEST")]
    request: String,
}

/// Does what is asked, and prints the answer.
///
/// # Errors
/// The request is damaged or of another version, or what is asked fails.
pub fn on_host(args: &OnHostArgs) -> Result<ExitCode> {
    match Ask::of_word(&args.request)? {
        Ask::Hello {} => answer(&Hello { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() }),
        Ask::Mirror { repository, settings } => {
            let path = enter(Some(&repository))?.unwrap_or_default();
            mirror::write_settings(&path, &settings).context("failed to write the settings of the mirror")?;
            answer(&Made { path: text(&path)? })
        }
        Ask::Run { words, repository, files } => {
            enter(repository.as_ref())?;
            run(words, &files, false)
        }
        Ask::Task { words, repository, files } => {
            enter(repository.as_ref())?;
            Ok(run(words, &files, true).unwrap_or_else(|error| {
                report(&error);
                NOT_RUN.into()
            }))
        }
        Ask::Fetch { named, repository, uncommitted, most } => {
            enter(repository.as_ref())?;
            fetch(&begin()?, named.as_deref(), uncommitted, most)
        }
        Ask::Which { named, repository } => {
            enter(repository.as_ref())?;
            let machine = target::find(&begin()?.state, named.as_deref())?;
            answer(&Meant { name: machine.name.to_string(), settings: machine.settings()? })
        }
        Ask::Copy { named, repository, copy } => {
            enter(repository.as_ref())?;
            cp::pass_on(&begin()?, named.as_deref(), &copy).map(exit_with)
        }
    }
}

/// Prepares this process for work that takes time, and returns its context: that of a command without flags.
fn begin() -> Result<Context> {
    hang_up::watch();
    interrupt::install()?;
    let matches = Cli::command().try_get_matches_from(["agent-vm"])?;
    Cli::from_arg_matches(&matches)?.global.context()
}

/// Makes the mirror of a repository the current directory, or the root directory if there is none: what is asked must not depend
/// on a repository that happens to be in the user's home directory.
fn enter(repository: Option<&Repository>) -> Result<Option<PathBuf>> {
    let Some(Repository { name, id, head, objects }) = repository else {
        std::env::set_current_dir("/").context("failed to enter the root directory")?;
        return Ok(None);
    };
    let dir = mirror::make(&data_home()?, id, name, objects).context("failed to make the mirror of the repository")?;
    let dir = fs::canonicalize(&dir).with_context(|| format!("failed to find {}", dir.display()))?;
    std::env::set_current_dir(&dir).with_context(|| format!("failed to enter {}", dir.display()))?;
    mirror::set_head(&dir, head).context("failed to use the mirror of the repository")?;
    Ok(Some(dir))
}

/// Runs a command line, with temporary files in place of those of the other host.
fn run(mut words: Vec<String>, files: &[(usize, String)], is_task: bool) -> Result<ExitCode> {
    let dir = tempfile::tempdir().context("failed to make a temporary directory")?;
    for (index, content) in files {
        let path = dir.path().join(format!("file-{index}"));
        fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))?;
        *words.get_mut(*index).context("the request is damaged")? = text(&path)?;
    }
    let line = std::iter::once("agent-vm".to_owned()).chain(words.iter().cloned());
    let parsed = Cli::command().try_get_matches_from(line);
    let parsed = parsed.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (mut cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            let code = refusal::refuse_words(&error, &words);
            return Ok(if is_task { NOT_RUN.into() } else { code });
        }
    };
    // This is the other host, whatever its variables say.
    cli.global.remote = None;
    hang_up::watch();
    super::run(cli, &matches)
}

fn fetch(context: &Context, named: Option<&str>, uncommitted: bool, most: u64) -> Result<ExitCode> {
    let machine = target::find_used(&context.state, named)?;
    let fetched = fetching::fetch_from(context, &machine, uncommitted, most)?;
    let settings = machine.settings()?;
    let source = fetching::source_of(&machine, &settings)?;
    answer(&FetchedThere {
        name: machine.name.to_string(),
        path: text(&source.git_dir())?,
        prefix: namespace(&source, &machine.state, &machine.name)?,
        settings,
        left_out: fetched.left_out,
        has_looked_at_files: fetched.has_looked_at_files,
    })
}

fn answer(value: &impl serde::Serialize) -> Result<ExitCode> {
    print(&(serde_json::to_string(value).context("failed to encode JSON")? + "\n")).map(|()| ExitCode::SUCCESS)
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("the path {} is not valid UTF-8", path.display()))
}
