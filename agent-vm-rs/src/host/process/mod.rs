//! Running other programs: the only place that finds and spawns them.
//!
//! An [`Invocation`] is a value: plans build it, tests compare it, and only then is it run.

mod attached;
mod captured_output;
mod detached;
mod find;
mod id;
mod inherited;
mod run;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use detached::Detached;
pub use find::find;
pub use id::ProcessId;
pub use inherited::give_up_what_is_not_needed;
pub use run::set_debug;

/// Environment variable that marks every process of a machine with the machine's directory,
/// so that what a killed command left running can be found.
pub const MARKER: &str = "AGENT_VM_MACHINE";

/// A program with its arguments, as a value: built by plans, compared by tests, run here.
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
    memory_limit: Option<u64>,
}

impl Invocation {
    /// A program without arguments.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            stdin: Vec::new(),
            time_limit: None,
            whole_environment: false,
            memory_limit: None,
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

    /// Gives it all of our environment: for programs that the user configures by it, such as Nix. Every other program
    /// gets no variable that could hold a secret.
    #[must_use]
    pub fn with_our_environment(mut self) -> Self {
        self.whole_environment = true;
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cwd = Some(dir.into());
        self
    }

    /// Gives it something to read.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Ends it, as an error, when it takes longer.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = Some(limit);
        self
    }

    /// Ends it as soon as we end, however that is, and limits its address space, bytes.
    #[must_use]
    pub fn bounded(mut self, memory: u64) -> Self {
        self.memory_limit = Some(memory);
        self
    }

    /// Marks it as a process of the machine in `dir`.
    #[must_use]
    pub fn of_machine(self, dir: &Path) -> Self {
        self.env(MARKER, dir)
    }

    /// The same, started by another program that becomes it: its words follow that one's.
    #[must_use]
    pub fn within(&self, other: Self) -> Self {
        let words = std::iter::once(self.program.clone()).chain(self.args.iter().cloned());
        // Of the limits those of the other count.
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
