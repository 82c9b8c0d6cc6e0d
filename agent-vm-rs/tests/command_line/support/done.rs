//! What a command came to.

use std::process::Output;

/// What a command came to; each check shows everything when it fails.
#[derive(Debug)]
pub struct Done {
    /// Exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    command: String,
}

impl Done {
    /// From an output.
    pub fn new(command: String, output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command,
        }
    }

    fn all(&self) -> String {
        let Self { code, stdout, stderr, command } = self;
        format!("{command}\nexit code: {code:?}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// It must have ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.all());
        self
    }

    /// It must say this to the user.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "not said on stderr: {text:?}\n{}", self.all());
        self
    }

    /// It must not say this to the user.
    #[track_caller]
    pub fn keeps_quiet_of(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text), "said on stderr: {text:?}\n{}", self.all());
        self
    }

    /// Whether a program was run behind a wall, as `--verbose` tells.
    pub fn has_wall(&self, wall: &str, program: &str) -> bool {
        let mut lines = self.stderr.lines().filter(|line| line.contains("running ") && line.contains(program));
        lines.next_back().is_some_and(|line| line.contains(&format!(" {wall} ")))
    }

    /// It must print this as data.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "not on stdout: {text:?}\n{}", self.all());
        self
    }

    /// It must be one error with one hint, and no data.
    #[track_caller]
    pub fn gives_one_error(self) -> Self {
        let count = |label: &str| self.stderr.lines().filter(|line| line.starts_with(label)).count();
        assert!(count("error:") == 1 && count("hint:") <= 1 && self.stdout.is_empty(), "{}", self.all());
        assert!(!self.stderr.contains("panicked"), "{}", self.all());
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.all()))
    }
}
