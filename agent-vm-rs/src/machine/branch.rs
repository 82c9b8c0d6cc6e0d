//! Branch names, which are untrusted until they have passed git's rules.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::term::error::Failure;
use crate::term::text::one_line;

/// A name that git accepts for a branch (git-check-ref-format(1) with `--branch`), of at most 200 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BranchName(String);

/// Longer names cannot be a file name in `refs/heads/` together with git's `.lock`.
const MAX_BYTES: usize = 200;

impl BranchName {
    /// Returns the name as git writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BranchName {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| {
            let shown: String = one_line(name).chars().take(80).collect();
            Err(Failure::usage(format!("{shown:?} is not a branch name: {why}"))
                .with_hint("git check-ref-format --branch NAME shows whether git accepts a name"))
        };
        if name.len() > MAX_BYTES {
            return refuse("it is longer than 200 bytes");
        }
        if name.starts_with('-') {
            return refuse("it starts with a dash");
        }
        if name == "HEAD" || name == "@" {
            return refuse("git reserves it");
        }
        let full = format!("refs/heads/{name}");
        match gix_validate::reference::branch_name(full.as_str().into()) {
            Ok(_) if !name.is_empty() => Ok(Self(name.to_owned())),
            Ok(_) => refuse("it is empty"),
            Err(error) => refuse(&error.to_string()),
        }
    }
}

impl TryFrom<String> for BranchName {
    type Error = Failure;

    fn try_from(name: String) -> Result<Self, Failure> {
        name.parse()
    }
}

impl From<BranchName> for String {
    fn from(name: BranchName) -> Self {
        name.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unusual_names_that_git_accepts_are_accepted() {
        for name in ["main", "feature/x", "fix-#12", "ünï/çødé", "it's", "$(id)", "a\"b", "`id`", "a;b", "a&b|c", "%s"]
        {
            assert_eq!(name.parse::<BranchName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_git_refuses_are_refused() {
        let long = "x".repeat(201);
        for name in [
            "",
            "-rf",
            "--help",
            "../../etc",
            "a..b",
            "a b",
            "a\nb",
            "a\tb",
            "a~b",
            "a^b",
            "a:b",
            "a?b",
            "a*b",
            "a[b",
            "a\\b",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a/.b",
            "a.lock",
            "a.",
            "a@{b",
            "@",
            "HEAD",
            "a\u{7f}b",
            "a\0b",
            &long,
        ] {
            assert!(name.parse::<BranchName>().is_err(), "{name:?} was accepted");
        }
    }

    fn git_takes(name: &str) -> bool {
        std::process::Command::new("git")
            .args(["check-ref-format", "--branch", name])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .current_dir("/")
            .status()
            .unwrap()
            .success()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Git accepts every name that is accepted here.
        #[test]
        fn no_name_that_git_refuses_is_accepted(name in "[-a-c./@{~ \\[$\"'é]{1,8}") {
            if name.parse::<BranchName>().is_ok() {
                prop_assert!(git_takes(&name));
            }
        }
    }
}
