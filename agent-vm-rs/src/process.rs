//! Running other programs: the only place that finds and spawns them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result};
use duct::{Expression, Handle};
use std::os::unix::process::CommandExt as _;

use crate::error::Failure;
use crate::host::install_hint;
use crate::interrupt::{self, Deadline};
use crate::text::last_lines;

/// Environment variable that marks every process of a machine with the machine's directory,
/// so that what a killed command left running can be found.
pub const MARKER: &str = "AGENT_VM_MACHINE";

/// Variables by which a git hook (which may have called us) points git at its own repository.
const GIT_VARIABLES: [&str; 8] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
];

/// Lines of a failed program's stderr that its error shows.
const STDERR_LINES: usize = 8;

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

    /// Marks it as a process of the machine in `dir`.
    #[must_use]
    pub fn of_machine(self, dir: &Path) -> Self {
        self.env(MARKER, dir)
    }

    fn expression(&self) -> Result<Expression> {
        let program = find(&self.program)?;
        tracing::info!("running {self}");
        let mut expression = duct::cmd(program, &self.args).unchecked();
        for (name, value) in &self.env {
            expression = expression.env(name, value);
        }
        // In duct what was said first wins: a variable set above stays set.
        for name in GIT_VARIABLES {
            expression = expression.env_remove(name);
        }
        if let Some(dir) = &self.cwd {
            expression = expression.dir(dir);
        }
        Ok(expression)
    }

    /// Runs it to its end; gives its output whatever its status.
    ///
    /// # Errors
    /// It is not installed or cannot be started, or a signal came: then it and its children are killed.
    pub fn output(&self) -> Result<Output> {
        let expression = self.expression()?.stdin_bytes(self.stdin.clone()).stdout_capture().stderr_capture();
        self.wait_in_own_group(&expression)
    }

    /// As [`Self::output`], but a failing status is an error with the last lines of stderr.
    ///
    /// # Errors
    /// As said.
    pub fn checked(&self) -> Result<Output> {
        let output = self.output()?;
        if output.status.success() {
            return Ok(output);
        }
        Err(self.failed(&output).into())
    }

    /// Standard output of a successful run, as text without the last line feed.
    ///
    /// # Errors
    /// As [`Self::checked`]; output that is no UTF-8.
    pub fn read(&self) -> Result<String> {
        let output = self.checked()?;
        let text = String::from_utf8(output.stdout).with_context(|| format!("{} wrote no UTF-8", self.name()))?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Runs it with its stderr (and stdout) on ours: for programs that report progress.
    ///
    /// # Errors
    /// As [`Self::checked`].
    pub fn run_talking(&self) -> Result<()> {
        let expression = self.expression()?.stdin_null().stdout_to_stderr();
        let output = self.wait_in_own_group(&expression)?;
        if output.status.success() { Ok(()) } else { Err(self.failed(&output).into()) }
    }

    /// Hands it our terminal, streams and signals; gives its exit code (128 + signal if one ended it).
    ///
    /// # Errors
    /// It is not installed or cannot be started.
    pub fn run_interactive(&self) -> Result<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        let output = self.expression()?.run().with_context(|| format!("failed to start {}", self.name()))?;
        let status = output.status;
        Ok(status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1))
    }

    /// Runs it and hands over each line of its stdout as it comes; gives its exit code.
    ///
    /// # Errors
    /// It cannot be started, or `each` fails: then it is killed.
    pub fn each_line(&self, mut each: impl FnMut(&str) -> Result<()>) -> Result<i32> {
        use std::io::BufRead as _;
        let failed = || format!("failed to read from {}", self.name());
        let reader = self.expression()?.stdin_null().reader().with_context(failed)?;
        let mut lines = std::io::BufReader::new(&reader);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).with_context(failed)? > 0 {
            if let Err(error) = each(String::from_utf8_lossy(&line).trim_end_matches('\n')) {
                reader.kill().with_context(failed)?;
                return Err(error);
            }
            line.clear();
        }
        let output = reader.try_wait().with_context(failed)?;
        Ok(output.and_then(|output| output.status.code()).unwrap_or(1))
    }

    /// Starts it in a session of its own, to live on after us, with `log` as its stdout and stderr
    /// and nothing of our environment but PATH, HOME and LANG.
    ///
    /// # Errors
    /// It is not installed or cannot be started.
    pub fn start_detached(&self, log: &Path) -> Result<Detached> {
        let program = find(&self.program)?;
        tracing::info!("starting {self}");
        let inherited =
            ["PATH", "HOME", "LANG"].into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        let env = inherited.chain(self.env.iter().cloned());
        // setsid(1) becomes the program, so the pid stays the same.
        let args = std::iter::once(program.into_os_string()).chain(self.args.iter().cloned());
        let log_file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("failed to open the log {}", log.display()))?;
        let mut expression = duct::cmd(find("setsid".as_ref())?, args)
            .full_env(env)
            .stdin_null()
            .stderr_to_stdout()
            .stdout_file(log_file)
            .unchecked();
        if let Some(dir) = &self.cwd {
            expression = expression.dir(dir);
        }
        let handle = expression.start().with_context(|| format!("failed to start {}", self.name()))?;
        Ok(Detached { handle, name: self.name() })
    }

    fn wait_in_own_group(&self, expression: &Expression) -> Result<Output> {
        interrupt::check()?;
        // A terminal's Ctrl-C then reaches us alone, and we pass it on to everything it started.
        let grouped = expression.before_spawn(|command| {
            command.process_group(0);
            Ok(())
        });
        let handle = grouped.start().with_context(|| format!("failed to start {}", self.name()))?;
        let deadline = self.time_limit.map(Deadline::after);
        loop {
            let ended = handle
                .wait_timeout(Duration::from_millis(100))
                .with_context(|| format!("failed to wait for {}", self.name()))?;
            if let Some(output) = ended {
                log_stderr(&self.name(), output);
                return Ok(output.clone());
            }
            if let Err(interrupted) = interrupt::check() {
                end_group(&handle);
                return Err(interrupted);
            }
            if deadline.is_some_and(Deadline::passed) {
                end_group(&handle);
                return Err(Failure::timeout(format!("{} took too long", self.name())).into());
            }
        }
    }

    fn name(&self) -> String {
        Path::new(&self.program).file_name().unwrap_or(&self.program).to_string_lossy().into_owned()
    }

    fn failed(&self, output: &Output) -> Failure {
        let stderr = last_lines(&String::from_utf8_lossy(&output.stderr), STDERR_LINES);
        let status = output.status;
        let tail = if stderr.is_empty() { String::new() } else { format!(":\n{stderr}") };
        Failure::new(format!("{} failed ({status}){tail}", self.name()))
            .hint("add --debug to see every program as it is run")
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

/// With `--debug` what a program said is shown even if it succeeded.
fn log_stderr(name: &str, output: &Output) {
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        tracing::debug!("{name}: {}", crate::text::one_line(line));
    }
}

/// SIGTERM to a process group, SIGKILL to what is left of it after two seconds.
fn end_group(handle: &Handle) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let group = handle.pids().first().and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
    for (signal, patience) in [(Signal::TERM, 2_000), (Signal::KILL, 2_000)] {
        if let Some(group) = group {
            // An error means that nothing is left to signal.
            let _ = kill_process_group(group, signal);
        }
        if matches!(handle.wait_timeout(Duration::from_millis(patience)), Ok(Some(_)) | Err(_))
            && signal == Signal::KILL
        {
            return;
        }
    }
}

/// A program that outlives us.
#[derive(Debug)]
pub struct Detached {
    handle: Handle,
    name: String,
}

impl Detached {
    /// Its process id.
    ///
    /// # Errors
    /// Never: it was started.
    pub fn pid(&self) -> Result<i32> {
        let pid = self.handle.pids().first().copied().with_context(|| format!("{} has no process", self.name))?;
        i32::try_from(pid).context("a process id is out of range")
    }

    /// Fails if it has ended; `log` is where its last words are.
    ///
    /// # Errors
    /// It has ended.
    pub fn check_alive(&self, log: &Path) -> Result<()> {
        let ended = self.handle.try_wait().with_context(|| format!("failed to look after {}", self.name))?;
        let Some(output) = ended else { return Ok(()) };
        let said = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
        let said = last_lines(&said, STDERR_LINES);
        let status = output.status;
        Err(Failure::new(format!("{} ended ({status}):\n{said}", self.name))
            .hint(format!("the whole log is in {}", log.display()))
            .into())
    }
}

/// The path of a program.
///
/// # Errors
/// It is not installed; the hint says how to change that.
pub fn find(program: &OsStr) -> Result<PathBuf> {
    which::which(program).map_err(|_| {
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        let (debian, nixpkgs) = package_of(&name);
        Failure::new(format!("{name} is not on PATH"))
            .hint(format!("install it: {}", install_hint(debian, nixpkgs)))
            .into()
    })
}

/// Debian package and nixpkgs attribute of a program.
fn package_of(program: &str) -> (&str, &str) {
    match program {
        "ssh" | "ssh-keygen" => ("openssh-client", "openssh"),
        "nix" => ("nix-bin", "nix"),
        "qemu-img" => ("qemu-utils", "qemu"),
        "mke2fs" => ("e2fsprogs", "e2fsprogs"),
        "setsid" => ("util-linux", "util-linux"),
        "qemu-system-x86_64" => ("qemu-system-x86", "qemu"),
        "qemu-system-aarch64" => ("qemu-system-arm", "qemu"),
        "python3" => ("python3", "python3"),
        other => (other, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_says_how_to_get_it() {
        let error = Invocation::new("no-such-program-here").output().unwrap_err();
        assert!(error.to_string().contains("no-such-program-here is not on PATH"), "{error}");
    }

    #[test]
    fn a_failing_program_shows_its_last_words() {
        let error = Invocation::new("sh").args(["-c", "echo first; echo last >&2; exit 3"]).checked().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("last") && !text.contains("first"), "{text}");
    }

    #[test]
    fn arguments_are_never_split_or_expanded() {
        let odd = "a b\n$(id) 'q' \"d\" ;|&";
        assert_eq!(Invocation::new("printf").args(["%s", odd]).read().unwrap(), odd);
        let shown = Invocation::new("echo").arg("it's $HOME").to_string();
        assert_eq!(shlex::split(&shown).unwrap(), ["echo", "it's $HOME"]);
    }

    #[test]
    fn stdin_env_and_cwd_arrive() {
        let invocation = Invocation::new("sh").args(["-c", "cat; echo $X; pwd"]).stdin("in ").env("X", "y").cwd("/");
        assert_eq!(invocation.read().unwrap(), "in y\n/");
    }

    #[test]
    fn a_detached_program_keeps_its_pid_and_little_of_our_environment() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let detached = Invocation::new("sh")
            .args(["-c", "echo pid $$; env; exit 7"])
            .env("KEPT", "1")
            .start_detached(&log)
            .unwrap();
        let pid = detached.pid().unwrap();
        let error = loop {
            if let Err(error) = detached.check_alive(&log) {
                break error;
            }
        };
        assert!(error.to_string().contains("exit status: 7"), "{error}");
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.contains(&format!("pid {pid}\n")) && said.contains("KEPT=1"), "{said}");
        assert!(!said.contains("CARGO"), "{said}");
    }
}
