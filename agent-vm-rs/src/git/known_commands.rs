//! Commands for the contents of files and for signatures, as the documentation of their projects writes them. They run nothing
//! that their input or the current directory says. A repository that was downloaded may have any others in its configuration.

use std::path::PathBuf;

use crate::host::process::search_path;

/// Commands of git that are programs of other projects, and their subcommands.
const OF_GIT: [(&str, &[&str]); 3] = [
    ("agecrypt", &["clean", "smudge"]),
    ("crypt", &["clean", "smudge"]),
    ("lfs", &["clean", "smudge", "filter-process"]),
];
/// Programs that are used without a subcommand.
const ALONE: [&str; 4] = ["cat", "false", "nbstripout", "true"];
/// What may follow.
const REST: [&str; 4] = ["--", "%f", "--skip", "-f"];
/// Programs that sign and verify.
const SIGNERS: [&str; 4] = ["gpg", "gpg2", "gpgsm", "ssh-keygen"];
/// A merge driver: <https://mergiraf.org/usage.html>.
const MERGIRAF: &str = "mergiraf merge --git %O %A %B -s %S -x %X -y %Y -p %P -l %L";

/// Returns whether the value of a setting is such a command.
pub fn is_documented(key: &str, words: &[String]) -> bool {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let is_rest = |words: &[&str]| words.iter().all(|word| REST.contains(word));
    match words.as_slice() {
        [] | [""] => true,
        [program] if key.ends_with(".program") => SIGNERS.contains(program),
        ["ssh-add", "-L"] => key == "gpg.ssh.defaultkeycommand",
        ["mergiraf", ..] if key.ends_with(".driver") => words.join(" ") == MERGIRAF,
        // An alias of the configuration would run in the place of a program that is not installed.
        ["git", name, subcommand, rest @ ..] => {
            is_of_git(name, subcommand) && is_rest(rest) && found(&format!("git-{name}")).is_some()
        }
        [program, subcommand, rest @ ..] if program.starts_with("git-") => {
            is_of_git(&program["git-".len()..], subcommand) && is_rest(rest)
        }
        [program, rest @ ..] => ALONE.contains(program) && is_rest(rest),
    }
}

fn is_of_git(name: &str, subcommand: &str) -> bool {
    OF_GIT.iter().any(|(known, subcommands)| *known == name && subcommands.contains(&subcommand))
}

/// Returns the file of a program; None if PATH has none.
pub fn found(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    which::which_in_global(program, search_path()).ok()?.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(key: &str, command: &str) -> bool {
        is_documented(key, &shlex::split(command).unwrap())
    }

    #[test]
    fn only_the_documented_forms_are_known() {
        for command in [
            "git-lfs clean -- %f",
            "git-lfs filter-process --skip",
            "\"git-crypt\" smudge",
            "cat",
            "cat %f",
            "true",
            "",
        ] {
            assert!(is("filter.x.smudge", command), "{command}");
        }
        for command in [
            "git-lfs fetch",
            "git-lfs smudge x",
            "git-lfs",
            "git-annex smudge -- %f",
            "git-fetch-pack --exec=x .",
            "git stripspace",
            "git no-such-program smudge",
            "exec sh x",
            "sort -o x",
            "openssl req -config x",
            "ssh-keygen",
            "/usr/bin/git-lfs smudge",
            "no-such-program",
            "cat x",
        ] {
            assert!(!is("filter.x.smudge", command), "{command}");
        }
        assert!(
            is("gpg.program", "gpg") && is("gpg.ssh.defaultkeycommand", "ssh-add -L") && is("merge.x.driver", MERGIRAF)
        );
        assert!(!is("gpg.program", "sh") && !is("merge.x.driver", "mergiraf solve x"));
    }
}
