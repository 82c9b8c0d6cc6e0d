//! The result of a command.

use std::process::Output;

/// The result of a command; each check prints all of it when it fails.
#[derive(Debug)]
pub struct Done {
    /// Exit code; None if a signal ended the command.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    command: String,
}

impl Done {
    /// Takes the result from an output.
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

    /// Checks that the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.all());
        self
    }

    /// Checks that stderr contains a text.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "not on stderr: {text:?}\n{}", self.all());
        self
    }

    /// Checks that stderr does not contain a text.
    #[track_caller]
    pub fn does_not_say(self, text: &str) -> Self {
        assert!(!self.stderr.contains(text), "on stderr: {text:?}\n{}", self.all());
        self
    }

    /// Returns whether a program ran in this sandbox, according to the messages of `--verbose`.
    pub fn has_sandbox(&self, sandbox: &str, program: &str) -> bool {
        let mut lines = self.stderr.lines().filter(|line| line.contains("running ") && line.contains(program));
        lines.next_back().is_some_and(|line| line.contains(&format!(" {sandbox} ")))
    }

    /// Checks that stdout contains a text.
    #[track_caller]
    pub fn prints(self, text: &str) -> Self {
        assert!(self.stdout.contains(text), "not on stdout: {text:?}\n{}", self.all());
        self
    }

    /// Checks that there is one error with at most one hint, and nothing on stdout.
    #[track_caller]
    pub fn gives_one_error(self) -> Self {
        let count = |label: &str| self.stderr.lines().filter(|line| line.starts_with(label)).count();
        assert!(count("error:") == 1 && count("hint:") <= 1 && self.stdout.is_empty(), "{}", self.all());
        assert!(!self.stderr.contains("panicked"), "{}", self.all());
        self
    }

    /// Parses stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.all()))
    }
}
