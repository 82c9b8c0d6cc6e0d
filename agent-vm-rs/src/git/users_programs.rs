//! Checks the programs that the user's git would run while it changes a work tree. The machine may have changed each file of
//! the work tree, so no such program may be one, or read one. A repository that was downloaded may name any program of the
//! host in its own configuration, so there only the commands of [`super::known_commands`] may be named.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::call::git;
use super::known_commands::{found, is_documented, is_interpreter, is_trusted, words};
use super::passed::passed;
use crate::host::files::places::Mounts;
use crate::host::files::{quoted, resolved};
use crate::term::error::Failure;
use crate::term::text::one_line;

/// The end of settings whose value is one program, and not a command of a shell.
const WHOLE: &str = ".program";
/// The protocols that [`super::users_git`] forbids by name. Git runs a program `git-remote-NAME` for any other.
pub const PROTOCOLS: [&str; 6] = ["file", "ssh", "https", "http", "git", "ext"];
/// A setting of the user's git.
struct Setting<'a> {
    /// `local` and `worktree` are the repository's own.
    scope: &'a str,
    /// Such as `file:PATH`.
    origin: &'a str,
    key: &'a str,
    value: &'a str,
}

/// Checks that the user's git runs nothing that the files of work trees can change. `trees` are the work trees of the
/// repository; git runs in the first. `settings` is what `git config --null --show-scope --show-origin --list` prints.
///
/// # Errors
/// A setting is in such a file, or names such a program or one that cannot be judged.
pub fn require_outside(trees: &[PathBuf], settings: &[u8]) -> Result<()> {
    let [tree, ..] = trees else { return Ok(()) };
    let trees = Trees { all: trees, mounts: Mounts::read() };
    let text = String::from_utf8_lossy(settings);
    let mut parts = text.split('\0');
    while let (Some(scope), Some(origin), Some(entry)) = (parts.next(), parts.next(), parts.next()) {
        let (key, value) = entry.split_once('\n').unwrap_or((entry, ""));
        trees.judge(tree, &Setting { scope, origin, key, value })?;
    }
    Ok(())
}

/// Returns whether a setting names a program for files, commits and signatures: gitattributes(5), git-config(1).
fn names_program(key: &str) -> bool {
    let ends = |ends: &[&str]| ends.iter().any(|end| key.ends_with(end));
    match key.split('.').next() {
        Some("filter") => ends(&[".clean", ".smudge", ".process"]),
        Some("merge") => ends(&[".driver"]),
        Some("gpg") => ends(&[WHOLE, ".defaultkeycommand"]),
        Some("protocol") => ends(&[".allow"]) && !PROTOCOLS.iter().any(|name| *key == format!("protocol.{name}.allow")),
        // git-lfs-config(5)
        Some("lfs") => ends(&[".clean", ".smudge", ".path", ".standalonetransferagent"]),
        _ => false,
    }
}

/// The work trees of a repository.
struct Trees<'a> {
    all: &'a [PathBuf],
    mounts: Mounts,
}

impl Trees<'_> {
    fn judge(&self, tree: &Path, setting: &Setting<'_>) -> Result<()> {
        let Setting { scope, origin, key, value } = setting;
        let dir = quoted(tree);
        let itself = use_git_itself(tree);
        if let Some(file) = origin.strip_prefix("file:").map(|file| tree.join(file))
            && let Some(file) = self.passed_by(&file)
        {
            return Err(in_work_tree(tree, &file));
        }
        self.judge_included(tree, setting)?;
        let is_hook = key.starts_with("hook.") && key.ends_with(".command");
        if !names_program(key) && !is_hook {
            return Ok(());
        }
        let words = if key.ends_with(WHOLE) { Some(vec![(*value).to_owned()]) } else { words(value) };
        let starts_own = words.as_ref().is_some_and(|words| self.start_own(words));
        let is_documented = words.as_ref().is_some_and(|words| is_documented(key, words));
        if is_documented && !starts_own {
            return Ok(());
        }
        let (command, key) = (one_line(value), one_line(key));
        if !is_documented && (matches!(*scope, "local" | "worktree") || is_hook) {
            let scope = if matches!(*scope, "local" | "worktree") { scope } else { "global" };
            return Err(Failure::new(format!("git would run an unknown program: {key} = {command}"))
                .with_hint(format!(
                    "remove the setting: git -C {dir} config --{scope} --unset-all {key}\n\
                     if you trust the program, name it by its path in your own configuration: git config --global {key} /PATH/PROGRAM\n\
                     {itself}"
                ))
                .into());
        }
        // Nothing is downloaded, and the user's own extensions are the user's.
        if !starts_own && key.starts_with("lfs.") {
            return Ok(());
        }
        let refused = match words.filter(|words| !starts_own && self.are_outside(words)) {
            None => Failure::new(format!(
                "git would run a program that files of the work tree can change, and the machine may have changed them: {key} = {command}"
            ))
            .with_hint(format!(
                "name a program outside the work tree, without an interpreter: git config --global {key} COMMAND\n{itself}"
            )),
            Some(words) if !is_trusted(&words) => Failure::new(format!(
                "git would run an unknown program: {key} = {command}"
            ))
            .with_hint(format!("if you trust it, name it by its path: git config --global {key} /PATH/PROGRAM\n{itself}")),
            Some(_) => return Ok(()),
        };
        Err(refused.into())
    }

    /// Refuses an included file of a work tree, also one that does not exist yet: the machine's commits can bring it, and git
    /// may read its configuration again.
    fn judge_included(&self, tree: &Path, setting: &Setting<'_>) -> Result<()> {
        let Setting { origin, key, value, .. } = setting;
        if !(key.starts_with("include") && key.ends_with(".path")) {
            return Ok(());
        }
        // Git expands ~, ~USER and %(prefix); a relative path is relative to the file that has the setting.
        let ask = || git().args(["config", "--null", "--type=path", "agent-vm.path"]).cwd("/");
        let expanded = || ask().env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "agent-vm.path");
        let path = if value.starts_with(['~', '%']) {
            let printed = expanded().env("GIT_CONFIG_VALUE_0", value).output()?;
            // Git stops where it cannot expand it.
            String::from_utf8_lossy(&printed.stdout).trim_end_matches('\0').into()
        } else {
            PathBuf::from(*value)
        };
        let beside = origin.strip_prefix("file:").and_then(|file| Some(tree.join(file).parent()?.join(&path)));
        let file = beside.or_else(|| path.is_absolute().then(|| path.clone()));
        match file.and_then(|file| self.passed_by(&file)) {
            Some(file) => Err(in_work_tree(tree, &file)),
            None => Ok(()),
        }
    }

    /// Returns the last file or directory of a work tree, other than its top, that a path passes.
    fn passed_by(&self, path: &Path) -> Option<PathBuf> {
        let tops: Vec<_> = self.all.iter().map(|tree| resolved(tree)).collect();
        // A link is in the work tree wherever it leads.
        let is_in =
            |place: &Path| tops.iter().any(|top| place.starts_with(top) && !place.starts_with(top.join(".git")));
        let mut places = passed(path).into_iter().filter(|place| !tops.contains(place));
        places.rfind(|place| is_in(place) || self.have(place))
    }

    /// Returns whether a path is a file of a work tree, or in one. Those of git itself are none.
    fn have(&self, path: &Path) -> bool {
        let is_in = |tree: &PathBuf| self.mounts.is_in(path, tree) && !self.mounts.is_in(path, &tree.join(".git"));
        !path.is_absolute() || self.all.iter().any(is_in)
    }

    /// Returns whether PATH leads from the first word of a command, or from a command of git, to a file of a work tree.
    fn start_own(&self, words: &[String]) -> bool {
        let of_git = words.get(1).filter(|_| words[0] == "git").map(|name| format!("git-{name}"));
        let programs = words.first().into_iter().chain(&of_git);
        programs.filter_map(|program| found(program)).any(|path| self.have(&path))
    }

    /// Returns whether a command names no file of the work trees, and runs no program that may.
    fn are_outside(&self, words: &[String]) -> bool {
        let [program, ..] = words else { return true };
        // A shell would set a variable.
        if program.contains('=') {
            return false;
        }
        !is_interpreter(words) && !words.iter().any(|word| self.name_own(word))
    }

    /// Returns whether a word of a command names a file of a work tree, also after an option: `-fFILE`, `--file=FILE`.
    fn name_own(&self, word: &str) -> bool {
        let after_letter = word.strip_prefix('-').and_then(|rest| rest.get(1..));
        let after = word.match_indices(['=', '@', ':', ',']).filter_map(|(at, _)| word.get(at + 1..));
        let is_file = |path: PathBuf| path.symlink_metadata().is_ok_and(|file| !file.is_dir());
        let names = |name: &str| match Path::new(name) {
            path if path.is_absolute() => self.have(path),
            path => name.contains('/') || self.all.iter().any(|tree| is_file(tree.join(path))),
        };
        std::iter::once(word).chain(after_letter).chain(after).any(names)
    }
}

/// Returns the hint for somebody who accepts the risk.
fn use_git_itself(tree: &Path) -> String {
    format!("or, after a review of the files, use git itself: git -C {} for-each-ref refs/agent-vm", quoted(tree))
}

/// Returns the error about settings in a file of a work tree.
fn in_work_tree(tree: &Path, file: &Path) -> anyhow::Error {
    let dir = quoted(tree);
    Failure::new(format!(
        "git would use settings in a file of the work tree, which the machine may have changed: {}",
        one_line(&file.display().to_string())
    ))
    .with_hint(format!(
        "to find the setting that names it: git -C {dir} config --show-origin --get-regexp ^include\n{}",
        use_git_itself(tree)
    ))
    .into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::host::process::Invocation;

    fn entry(scope: &str, origin: &str, key: &str, value: &str) -> Vec<u8> {
        format!("{scope}\0{origin}\0{key}\n{value}\0").into_bytes()
    }

    #[test]
    fn programs_of_the_work_tree_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let trees = [dir.path().join("tree"), dir.path().join("linked")];
        for tree in &trees {
            std::fs::create_dir(tree).unwrap();
        }
        std::fs::write(trees[0].join("filter.py"), "").unwrap();
        std::fs::write(trees[1].join("of-linked"), "").unwrap();
        std::os::unix::fs::symlink(&trees[0], dir.path().join("link")).unwrap();
        std::fs::write(elsewhere.path().join("program"), "").unwrap();
        let outside = elsewhere.path().join("program").display().to_string();
        let place = dir.path().display();
        let judged = |scope: &str, key: &str, value: &str| {
            require_outside(&trees, &entry(scope, "file:/home/me/.gitconfig", key, value))
        };
        let ok = |scope: &str, value: &str| judged(scope, "filter.x.y.smudge", value).is_ok();
        for command in ["", "cat", "\"cat\" %f", "git-lfs smudge -- %f"] {
            assert!(ok("global", command) && ok("local", command), "{command}");
        }
        for command in ["no-such-program-anywhere --x", "git stripspace", "sort -S 1"] {
            assert!(ok("global", command) && !ok("local", command), "{command}");
        }
        // The user's own program, but not one that a downloaded repository names.
        for command in
            [format!("{outside} clean -- %f"), format!("\"{outside}\" smudge"), format!("{outside}/git-lfs x")]
        {
            assert!(ok("global", &command) && !ok("local", &command) && !ok("worktree", &command), "{command}");
        }
        for command in [
            "./tools/f.sh",
            "tools/f.sh",
            "filter.py",
            "cat filter.py",
            "cat -ffilter.py",
            "cat --from=filter.py",
            "cat @filter.py",
            "cat of-linked",
            "cat --from=tools/f",
            "python3 -m nbstripout",
            "\"python3\" -m nbstripout",
            "/usr/bin/python3.13 -m nbstripout",
            "make -s filter",
            "sh -c cat",
            "timeout 5 sh",
            "/usr/bin/timeout 5 cat",
            "sqlite3 %f",
            "exec cat",
            "eval cat",
            "git -C tools stripspace",
            "git run",
            "touch x",
            "cd tools && cat",
            "A=b cat",
            "cat $PWD/x",
            "cat `x`",
            r"cat .\/x",
            &format!("{place}/tree/f.sh"),
            &format!("{place}/linked/f.sh"),
            &format!("{place}/link/f.sh"),
            &format!("{place}/tree/../tree/f.sh"),
            &format!("cat {place}/link/f"),
        ] {
            assert!(!ok("global", command), "{command}");
        }
        for command in ["sort -o /home/me/.bashrc", "openssl base64 -d -out /home/me/.bashrc"] {
            assert!(ok("global", command) && !ok("local", command), "{command}");
        }
        assert!(judged("global", "gpg.program", "/usr/bin/my gpg").is_ok());
        assert!(judged("local", "gpg.x509.program", "./gpg").is_err());
        assert!(judged("local", "core.editor", "./editor").is_ok(), "git runs none");
        assert!(judged("local", "lfs.customtransfer.x.path", "/bin/sh").is_err());
        assert!(judged("global", "lfs.customtransfer.x.path", "agent").is_ok());
        assert!(judged("global", "hook.x.command", "/usr/bin/prek").is_err());
        assert!(judged("local", "hook.x.event", "post-merge").is_ok());
        assert!(judged("local", "protocol.hg.allow", "always").is_err());
        assert!(judged("local", "protocol.file.allow", "always").is_ok());
        assert!(judged("global", "protocol.hg.allow", "always").is_ok());
    }

    /// `include.path = ../.gitconfig` is a way to share settings in a repository.
    #[test]
    fn settings_in_the_work_tree_are_recognized() {
        let dir = tempfile::tempdir().unwrap();
        let trees = [dir.path().join("tree")];
        std::fs::create_dir_all(trees[0].join(".git")).unwrap();
        let judged = |origin: &str| require_outside(&trees, &entry("local", origin, "core.abbrev", "12"));
        for origin in ["file:.git/config", "file:/etc/gitconfig", "command line:", "file:.git/../../other"] {
            assert!(judged(origin).is_ok(), "{origin}");
        }
        let included =
            |key: &str, value: &str| require_outside(&trees, &entry("local", "file:.git/config", key, value));
        for value in ["../.gitconfig", "../none/x", &format!("{}/x", trees[0].display())] {
            assert!(included("include.path", value).is_err(), "{value}");
            assert!(included("includeif.onbranch:main.path", value).is_err(), "{value}");
        }
        for value in ["more", "~/more", "/etc/more", "../../more"] {
            assert!(included("include.path", value).is_ok(), "{value}");
        }
        // The machine can change where a link leads, and those that an included path passes.
        std::fs::write(dir.path().join("other"), "").unwrap();
        symlink("../other", trees[0].join("link")).unwrap();
        symlink("tree/link", dir.path().join("to-link")).unwrap();
        symlink("..", trees[0].join("up")).unwrap();
        for value in ["../link", "../../to-link", "../up/other"] {
            assert!(included("include.path", value).is_err(), "{value}");
            assert!(judged(&format!("file:.git/{value}")).is_err(), "{value}");
        }
        assert!(included("include.path", "../../other").is_ok());
        let own = format!("file:{}/x", trees[0].display());
        for origin in ["file:.git/../.gitconfig", "file:a/b", &own] {
            assert!(judged(origin).is_err(), "{origin}");
        }
    }

    #[test]
    fn the_home_of_a_named_user_is_found() {
        let read = |words: &str| Invocation::new("sh").args(["-c", words]).read().unwrap();
        let user = read("id -un");
        let Ok(dir) = tempfile::tempdir_in(read(&format!("echo ~{user}"))) else { return };
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        let included = |value: &str| {
            require_outside(&[dir.path().to_owned()], &entry("global", "command line:", "include.path", value))
        };
        assert!(included(&format!("~{user}/{name}/x")).is_err());
        assert!(included(&format!("~{user}/{name}.other")).is_ok());
    }
}
