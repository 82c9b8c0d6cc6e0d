//! Running other programs: finds and spawns them.
//!
//! An [`Invocation`] is a value: it is built, compared in tests, and then run.

mod attached;
mod captured_output;
mod child;
mod conversation;
mod detached;
mod find;
mod id;
mod inherited;
mod limits;
mod pauses;
mod piped;
mod replace;
mod run;
mod terminate;
mod usage;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use child::Child;
pub use conversation::Conversation;
pub use detached::{Detached, signal_in};
pub use find::{find, search_path, search_paths_without};
pub use id::ProcessId;
pub use inherited::restrict_inheritance;
pub use pauses::Pauses;
pub use run::set_debug;
pub use usage::{Usage, age};

use limits::Limits;

/// Environment variable that marks every process of a machine with the machine's directory, so that processes left over
/// from a killed command can be found.
pub const MARKER: &str = "AGENT_VM_MACHINE";

/// A program to run, with its arguments, environment, working directory and input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Name looked up on PATH, or a path.
    pub program: OsString,
    /// Arguments.
    pub args: Vec<OsString>,
    /// Variables added to the environment.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    stdin: Vec<u8>,
    time_limit: Option<Duration>,
    whole_environment: bool,
    discards_stderr: bool,
    limits: Limits,
}

impl Invocation {
    /// Returns an invocation without arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            stdin: Vec::new(),
            time_limit: None,
            whole_environment: false,
            discards_stderr: false,
            limits: Limits::default(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().into()));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Passes our whole environment: for programs that the user configures by it, such as Nix. Every other program
    /// inherits only variables that hold no secret.
    #[must_use]
    pub fn with_our_environment(mut self) -> Self {
        self.whole_environment = true;
        self
    }

    /// Discards its stderr in [`Self::run_attached`].
    #[must_use]
    pub fn discarding_stderr(mut self) -> Self {
        self.discards_stderr = true;
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Sets its standard input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Sets a time limit, after which it is killed and the run fails.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Kills it when this process ends, however it ends, and limits its address space to `memory` bytes.
    #[must_use]
    pub fn bounded(mut self, memory: u64) -> Self {
        self.limits.memory = Some(memory);
        self
    }

    /// Limits the files that it writes to `size` bytes each, if it is [`bounded`](Self::bounded).
    #[must_use]
    pub fn writing_at_most(mut self, size: u64) -> Self {
        self.limits.file = Some(size);
        self
    }

    /// Marks it as a process of the machine in `dir` (see [`MARKER`]).
    #[must_use]
    pub fn of_machine(self, dir: &Path) -> Self {
        self.env(MARKER, dir)
    }

    /// Returns this invocation wrapped by `other`, a program that executes it: its arguments follow `other`'s.
    #[must_use]
    pub fn within(&self, other: Self) -> Self {
        let words = std::iter::once(self.program.clone()).chain(self.args.iter().cloned());
        // The limits of `other` apply.
        Self { cwd: self.cwd.clone(), env: self.env.clone(), ..other.args(words) }
    }

    fn name(&self) -> String {
        Path::new(&self.program).file_name().unwrap_or(&self.program).to_string_lossy().into_owned()
    }
}

impl fmt::Display for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = std::iter::once(&self.program).chain(&self.args).map(|word| word.to_string_lossy());
        let quoted: Vec<_> =
            words.map(|word| shlex::try_quote(&word).map_or_else(|_| "?".into(), |q| q.into_owned())).collect();
        f.write_str(&quoted.join(" "))
    }
}
