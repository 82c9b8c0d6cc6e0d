//! `--remote`: drives the machines of another host over ssh.
//!
//! Most commands run there as they were typed. What is about a repository, a file or a port of this host is done here, with the
//! other host's help. The directory of this host's view of the machines is a state directory of its own: `log`, `diff`, `merge`,
//! `checkout` and `apply` work with it as with any other.

mod fetch;
mod ports;
mod view;
mod words;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::ArgMatches;
use sha2::{Digest as _, Sha256};

use self::words::{Words, terminal};
use super::commands::{cp, exit_with, mcp_config};
use super::verb::Verb;

use crate::git::Source;
use crate::git::mirror::{self, Link};
use crate::host::files::{make_private_dir, plain, write_file};
use crate::host::hex::{hex, random};
use crate::host::interrupt;
use crate::host::lock::Lock;
use crate::host::process::Invocation;
use crate::machine::context::Context;
use crate::machine::state_dir::StateDir;
use crate::remote::other_host::request::{Ask, Made, Meant, NOT_RUN, Repository};
use crate::remote::other_host::{Connection, HostUrl, Terminal};
use crate::remote::ssh::{CopyAsk, CopyEnd};
use crate::term::error::Failure;

/// Directory of what this host knows of machines of others, in the state directory.
const DIRECTORY: &str = ".remotes";
/// File with a name of this host that no other one has.
const ID: &str = "id";
/// Flags of several commands that name a file or a directory of this host.
const PATHS: [&str; 4] = ["keep_in", "textfile", "profile_file", "credentials"];
/// Start of the name of a mirror's lock.
const MIRROR: &str = ".mirror-";
/// Bytes of an id.
const ID_BYTES: usize = 8;

/// A command for another host.
struct Drive<'a> {
    connection: Connection,
    /// The context of this host, with the state directory of its view of the other one's machines.
    context: Context,
    /// The repository of the current directory.
    source: Option<Source>,
    /// The same, as the other host knows it.
    repository: Option<Repository>,
    matches: Option<&'a ArgMatches>,
}

/// Runs a command for the machines of another host.
///
/// # Errors
/// The host cannot be reached, the command does not work with another host, or it fails.
pub fn drive(host: &HostUrl, context: &Context, verb: Option<&Verb>, matches: &ArgMatches) -> Result<ExitCode> {
    let matches = matches.subcommand().map(|(_, matches)| matches);
    refuse(verb, matches)?;
    interrupt::install()?;
    let drive = Drive::new(host, context, verb, matches)?;
    match verb {
        Some(Verb::Fetch(args)) => fetch::fetch(&drive, args),
        Some(Verb::Log(_) | Verb::Diff(_) | Verb::Merge(_) | Verb::Checkout(_) | Verb::Apply(_)) => {
            fetch::require_fetched(&drive)?;
            verb.map_or(Ok(ExitCode::SUCCESS), |verb| verb.run(&drive.context))
        }
        Some(Verb::Cp(args)) => cp::cp_with(&drive.context, args, &drive).map(|()| ExitCode::SUCCESS),
        Some(Verb::Port(args)) => ports::port(&drive, args),
        Some(Verb::Open(args)) => ports::open(&drive, args),
        Some(Verb::McpConfig(args)) => drive.mcp_config(args),
        Some(Verb::Destroy(args)) if args.keeps() => drive.fetch_and_pass_on(verb),
        Some(Verb::Run(args)) if args.fetch => drive.run_and_fetch(verb, args.rm),
        Some(Verb::Create(_) | Verb::Run(_) | Verb::Push(_)) | None => {
            drive.mirror()?;
            drive.pass_on(verb)
        }
        Some(_) => drive.pass_on(verb),
    }
}

/// Refuses what cannot work with another host.
fn refuse(verb: Option<&Verb>, matches: Option<&ArgMatches>) -> Result<(), Failure> {
    let has = |flag: &str| matches.is_some_and(|matches| matches.try_contains_id(flag).unwrap_or(false));
    let is_set = |flag: &str| {
        has(flag)
            && matches.is_some_and(|matches| matches.value_source(flag) == Some(clap::parser::ValueSource::CommandLine))
    };
    let there = |what: &str| Failure::usage(format!("{what} does not work with --remote"));
    let path = || there("a path of this host").with_hint("leave it out, or run the command on the other host");
    let below = matches.and_then(ArgMatches::subcommand).map(|(_, matches)| matches);
    match verb {
        Some(Verb::Edit(_) | Verb::SshConfig(_)) => Err(there("an editor or ssh of this host")
            .with_hint("to work in the machine: agent-vm shell\nor run agent-vm ssh-config --write on the other host")),
        Some(Verb::Relink(_)) => Err(there("relink").with_hint(
            "after a move, name the machine: agent-vm fetch MACHINE\nto give it newer commits: agent-vm push",
        )),
        Some(Verb::KeepForwards(_)) => Err(there("this command")),
        Some(Verb::Apply(_)) if is_set("config") => {
            Err(there("apply --config").with_hint("change single settings: agent-vm set KEY=VALUE"))
        }
        Some(Verb::Create(_)) if is_set("dirty") || is_set("include") => {
            Err(there("a copy of files that are not committed")
                .with_hint("after the start, copy them: agent-vm cp FILE :"))
        }
        Some(Verb::Start(_)) if is_set("source") || is_set("guest_package") => Err(path()),
        Some(Verb::Compare(_)) if is_set("session") => Err(path()),
        // The other host would take them for paths of its own.
        Some(_) if PATHS.iter().any(|flag| is_set(flag)) => Err(path()),
        Some(Verb::Kept(_)) if below.is_some_and(|below| below.try_contains_id("into").unwrap_or(false)) => Err(path()),
        _ => Ok(()),
    }
}

impl<'a> Drive<'a> {
    fn new(host: &HostUrl, context: &Context, verb: Option<&Verb>, matches: Option<&'a ArgMatches>) -> Result<Self> {
        let all = context.state.path().join(DIRECTORY);
        make_private_dir(&all.join(host.key()))?;
        let cwd = std::env::current_dir().context("failed to find the current directory")?;
        // Git must not run in a workspace. For these verbs, no repository is meant.
        let is_about_all = matches!(verb, Some(Verb::List(_) | Verb::Prune(_)));
        let source = if cwd.starts_with(context.state.path()) || is_about_all { None } else { Source::discover(&cwd)? };
        let repository = source.as_ref().map(|source| repository(&all, source)).transpose()?;
        let connection = Connection::open(host)?;
        let context = Context { state: StateDir::locate(Some(&all.join(host.key())))?, ..context.clone() };
        Ok(Self { connection, context, source, repository, matches })
    }

    /// Returns the branch or machine that the user named.
    fn named(&self) -> Option<String> {
        let matches = self.matches?;
        let get = |id: &str| matches.try_get_one::<String>(id).ok().flatten().cloned();
        get("machine").or_else(|| get("branch"))
    }

    fn run(&self, words: Words) -> Ask {
        Ask::Run { words: words.words, files: words.files, repository: self.repository.clone() }
    }

    /// Becomes the command there.
    fn pass_on(&self, verb: Option<&Verb>) -> Result<ExitCode> {
        let ask = self.run(Words::of_process()?);
        match self.connection.become_asking(&ask, terminal(verb))? {}
    }

    /// Fetches, and then becomes the command there, which removes the machine: what it would keep stays there.
    fn fetch_and_pass_on(&self, verb: Option<&Verb>) -> Result<ExitCode> {
        let which = Ask::Which { named: self.named(), repository: self.repository.clone() };
        let Meant { name, settings } = match self.ask(&which)? {
            Ok(meant) => meant,
            Err(code) => return Ok(code),
        };
        if self.has_source_here(&name, &settings)? {
            fetch::before_removal(self).with_context(|| format!("{name} was not removed"))?;
        } else if mirror::is_mirror(&settings.source) {
            // What was fetched there and not here would be in the mirror only, and nothing would name it.
            return Err(Failure::new(format!("{name} was not removed: its repository is not known here"))
                .with_hint(
                    "cd into the repository, and repeat the command\nto remove it, and keep its work on the other host: run agent-vm destroy there",
                )
                .into());
        }
        self.pass_on(verb)
    }

    /// Asks, and returns the answer, or the exit code of a refusal, whose message is printed.
    fn ask<T: serde::de::DeserializeOwned>(&self, ask: &Ask) -> Result<Result<T, ExitCode>> {
        Ok(self.connection.answer(ask)?.map_err(exit_with))
    }

    /// Brings the mirror there up to date, which is made if it does not exist.
    fn mirror(&self) -> Result<()> {
        let (Some(source), Some(repository)) = (&self.source, &self.repository) else { return Ok(()) };
        // Two pushes of the same references would fail each other.
        let lock = self.context.state.locks().join(format!("{MIRROR}{}", repository.id));
        let _lock = Lock::take(&lock, self.context.deadline())?;
        let branch = source.current_branch()?;
        let scratch = tempfile::tempdir().context("failed to make a temporary directory")?;
        let settings = source.settings_for_mirror(branch.as_ref(), scratch.path())?;
        let made: Made = self.ask(&Ask::Mirror { repository: repository.clone(), settings })?.map_err(|_| {
            Failure::new(format!("{} cannot keep a mirror of the repository", self.connection.host().shown()))
        })?;
        source.push_to_mirror(&self.link(&made.path, "receive-pack")?, scratch.path())
    }

    /// Returns how git reaches a repository there.
    fn link(&self, path: &str, verb: &str) -> Result<Link> {
        let host = self.connection.host();
        Ok(Link {
            url: host.git_url(path),
            ssh: self.connection.git_ssh_command()?,
            program: Connection::git_program(verb),
            host: host.shown().to_owned(),
        })
    }

    fn mcp_config(&self, args: &mcp_config::McpConfigArgs) -> Result<ExitCode> {
        let which = Ask::Which { named: self.named(), repository: self.repository.clone() };
        let Meant { name, settings } = match self.ask(&which)? {
            Ok(meant) => meant,
            Err(code) => return Ok(code),
        };
        let machine = self.view(&name, settings)?;
        let words = ["--remote".to_owned(), self.connection.host().to_string(), "mcp".to_owned(), name].to_vec();
        mcp_config::mcp_config_with(&self.context, args, &machine, words).map(|()| ExitCode::SUCCESS)
    }

    /// Runs a task there, fetches its result here, and removes the machine if that is wanted.
    fn run_and_fetch(&self, verb: Option<&Verb>, removes: bool) -> Result<ExitCode> {
        self.mirror()?;
        let Words { words, files } = Words::of_process()?.without(&["--fetch", "--rm"]);
        let ask = Ask::Task { words, files, repository: self.repository.clone() };
        let code = self.connection.asking(&ask, terminal(verb))?.run_attached(|| Ok(()))?;
        if code == i32::from(NOT_RUN) {
            // The machine is as it was before, or its task still ends: it must not be removed.
            return Err(Failure::new(format!("the task did not run to its end on {}", self.connection.host().shown()))
                .with_hint("nothing was fetched; to fetch what the machine has: agent-vm fetch")
                .into());
        }
        let fetched = fetch::after_run(self)?;
        if let (Ok(name), true) = (&fetched, removes) {
            let words = ["destroy", name, "--yes"].map(str::to_owned).to_vec();
            let ask = self.run(Words { words, files: Vec::new() });
            self.connection.asking(&ask, Terminal::None)?.run_attached(|| Ok(()))?;
        }
        Ok(fetched.err().unwrap_or_else(|| exit_with(code)))
    }
}

/// Returns a repository as other hosts know it.
fn repository(all: &std::path::Path, source: &Source) -> Result<Repository> {
    let file = all.join(ID);
    let id = match plain::read(&file, 1024)? {
        Some(id) => String::from_utf8_lossy(&id).trim().to_owned(),
        None => {
            let id = random(ID_BYTES)?;
            write_file(&file, format!("{id}\n"), 0o600)?;
            id
        }
    };
    let of_repository = format!("{id}\n{}", source.dir.display());
    let name = source.dir.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".git").unwrap_or(&name);
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    let name: String = name.trim_start_matches(['.', '-']).chars().take(100).collect();
    Ok(Repository {
        name: if name.is_empty() { "repository".to_owned() } else { name },
        id: hex(&Sha256::digest(of_repository.as_bytes())[..ID_BYTES]),
        head: source.head_text()?,
        objects: source.object_format().to_owned(),
    })
}

/// A machine of the other host, to copy files to and from.
struct End<'a> {
    drive: &'a Drive<'a>,
    named: Option<&'a str>,
}

impl CopyEnd for End<'_> {
    fn call(&self, ask: &CopyAsk) -> Result<Invocation> {
        let Drive { connection, repository, .. } = self.drive;
        let named = self.named.map(str::to_owned);
        let ask = Ask::Copy { named, repository: repository.clone(), copy: ask.clone() };
        connection.asking(&ask, Terminal::None)
    }

    fn name(&self) -> &str {
        self.named.unwrap_or("the machine")
    }
}

impl cp::Reach for Drive<'_> {
    fn reach<T>(&self, named: Option<&str>, each: impl FnOnce(&dyn CopyEnd) -> Result<T>) -> Result<T> {
        each(&End { drive: self, named })
    }
}
