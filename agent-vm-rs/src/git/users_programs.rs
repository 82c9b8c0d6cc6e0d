//! Checks the programs that the user's git would run while it changes a work tree. The machine may have changed each file of
//! the work tree, so no such program may be one, or read one.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::files::places::Mounts;
use crate::host::files::quoted;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Settings that name programs for files, commits and signatures: gitattributes(5), git-config(1).
pub const PROGRAMS: &str =
    "^(filter\\..*\\.(clean|smudge|process)|merge\\..*\\.driver|gpg\\.(.*\\.)?program|gpg\\.ssh\\.defaultkeycommand)$";
/// Settings whose value is one program, and not a command of a shell.
const WHOLE: &str = ".program";
/// Programs that run what their arguments or the files of the current directory say. Versions such as `python3.13` are
/// left out.
const INTERPRETERS: [&str; 57] = [
    "ash",
    "awk",
    "bash",
    "bmake",
    "bun",
    "busybox",
    "cargo",
    "csh",
    "dash",
    "deno",
    "direnv",
    "doas",
    "docker",
    "ed",
    "elixir",
    "emacs",
    "env",
    "erl",
    "find",
    "fish",
    "gawk",
    "gmake",
    "go",
    "guile",
    "java",
    "julia",
    "just",
    "ksh",
    "lua",
    "luajit",
    "make",
    "mawk",
    "nice",
    "ninja",
    "nix",
    "nix-shell",
    "node",
    "nohup",
    "npm",
    "npx",
    "perl",
    "php",
    "pnpm",
    "podman",
    "poetry",
    "pypy",
    "python",
    "rake",
    "ruby",
    "sh",
    "sudo",
    "tclsh",
    "uv",
    "uvx",
    "vim",
    "xargs",
    "zsh",
];

/// Checks that the user's git runs no file of a work tree, and nothing that a file of it can change. `settings` is what
/// `git config --null --get-regexp` prints for [`PROGRAMS`].
///
/// # Errors
/// A setting names such a program, or one that cannot be judged.
pub fn require_outside(work_tree: &Path, settings: &[u8]) -> Result<()> {
    let mounts = Mounts::read();
    for entry in String::from_utf8_lossy(settings).split('\0') {
        let Some((key, command)) = entry.split_once('\n') else { continue };
        let words = if key.ends_with(WHOLE) { Some(vec![command.to_owned()]) } else { words(command) };
        if words.is_some_and(|words| is_outside(work_tree, &words, &mounts)) {
            continue;
        }
        let (dir, key) = (quoted(work_tree), one_line(key));
        return Err(Failure::new(format!(
            "git would run a program that files of the work tree can change, and the machine may have changed them: {key} = {}",
            one_line(command)
        ))
        .with_hint(format!(
            "name a program outside the work tree, without an interpreter: git -C {dir} config {key} COMMAND\n\
             or, after a review of the files, use git itself: git -C {dir} for-each-ref refs/agent-vm"
        ))
        .into());
    }
    Ok(())
}

/// Returns the words of a command that a shell only splits; None if the shell would do more.
fn words(command: &str) -> Option<Vec<String>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=%+:@, '\"".contains(c);
    let (home, rest) = match command.strip_prefix("~/") {
        Some(rest) => (Some(std::env::var("HOME").ok()?), rest),
        None => (None, command),
    };
    let mut words = shlex::split(rest).filter(|_| rest.chars().all(is_plain))?;
    if let (Some(home), Some(first)) = (home, words.first_mut()) {
        *first = format!("{home}/{first}");
    }
    Some(words)
}

/// Returns whether a command starts a program outside a work tree, and names no file of it.
fn is_outside(work_tree: &Path, words: &[String], mounts: &Mounts) -> bool {
    let [program, ..] = words else { return true };
    // A shell would set a variable.
    if program.contains('=') {
        return false;
    }
    let is_own = |path: &Path| !path.is_absolute() || mounts.is_in(path, work_tree);
    let path = if program.contains('/') {
        Some(PathBuf::from(program))
    } else if std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| is_own(&dir)) {
        return false;
    } else {
        which::which_global(program).ok()
    };
    let names_own = |word: &String| match Path::new(word) {
        path if path.is_absolute() => is_own(path),
        path => word.contains('/') || work_tree.join(path).symlink_metadata().is_ok_and(|file| !file.is_dir()),
    };
    if words.iter().any(names_own) {
        return false;
    }
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    // What is not installed does not run.
    !INTERPRETERS.contains(&name) && path.is_none_or(|path| !is_own(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_work_tree_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        std::fs::write(tree.join("filter.py"), "").unwrap();
        std::os::unix::fs::symlink(&tree, dir.path().join("link")).unwrap();
        std::fs::write(elsewhere.path().join("program"), "").unwrap();
        let outside = elsewhere.path().join("program").display().to_string();
        let place = dir.path().display();
        let mounts = Mounts::read();
        let judged = |command: &str| words(command).is_some_and(|words| is_outside(&tree, &words, &mounts));
        for command in [
            "",
            "cat",
            "no-such-program-anywhere --x",
            "git -c x=y stripspace",
            &format!("{outside} clean -- %f"),
            &format!("\"{outside}\" smudge"),
        ] {
            assert!(judged(command), "{command}");
        }
        for command in [
            "./tools/f.sh",
            "tools/f.sh",
            "filter.py",
            "cat filter.py",
            "cat --from=tools/f",
            "python3 -m nbstripout",
            "\"python3\" -m nbstripout",
            "/usr/bin/python3.13 -m nbstripout",
            "make -s filter",
            "sh -c cat",
            "cd tools && cat",
            "A=b cat",
            "cat $PWD/x",
            "cat `x`",
            r"cat .\/x",
            &format!("{place}/tree/f.sh"),
            &format!("{place}/link/f.sh"),
            &format!("{place}/tree/../tree/f.sh"),
            &format!("cat {place}/link/f"),
        ] {
            assert!(!judged(command), "{command}");
        }
    }

    #[test]
    fn the_home_directory_is_expanded() {
        let home = std::env::var("HOME").unwrap();
        assert_eq!(words("~/bin/f --x").unwrap(), [format!("{home}/bin/f"), "--x".to_owned()]);
        assert_eq!(words("cat ~/x"), None);
    }
}
