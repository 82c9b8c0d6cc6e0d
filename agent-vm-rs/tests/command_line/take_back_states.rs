//! `merge`, `apply` and `checkout` in a source repository in which something is in progress, or whose git asks, runs programs
//! or stops.

use std::fs;
use std::path::PathBuf;

use crate::own_terminal::{LED_BY_A_SHELL, OwnTerminal};
use crate::support::{Site, which};

/// The verbs that change a work tree.
const VERBS: [&str; 3] = ["merge", "apply", "checkout"];

fn machine() -> (Site, PathBuf) {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    site.run(&["fetch"]).ok();
    (site, workspace)
}

/// Runs a git command that stops with a conflict.
fn stops(site: &Site, args: &[&str]) {
    let done = site.command(which("git").unwrap()).args(args).output().unwrap();
    assert!(!done.status.success(), "control: {args:?} stops");
}

/// `--abort` and `git bisect reset` would leave out what was merged meanwhile.
#[test]
fn nothing_is_merged_while_git_is_in_progress() {
    let (site, _) = machine();
    site.git(&["checkout", "--quiet", "-b", "other", "HEAD~1"]);
    site.commit("second", "other\n");
    let patch = site.git(&["format-patch", "--stdout", "-1"]) + "\n";
    site.write("patch", patch);
    let patch = site.path("patch").display().to_string();
    let starts: [(&str, &[&str], &[&str]); 4] = [
        ("rebase", &["rebase", "--quiet", "main"], &["rebase", "--abort"]),
        ("rebase or git am", &["rebase", "--quiet", "--apply", "main"], &["rebase", "--abort"]),
        ("cherry-pick", &["cherry-pick", "main"], &["cherry-pick", "--abort"]),
        ("bisect", &[], &["bisect", "reset"]),
    ];
    for (what, start, abort) in starts {
        match start {
            [] => drop(site.git(&["bisect", "start", "HEAD", "HEAD~1"])),
            start => stops(&site, start),
        }
        for verb in VERBS {
            let refused = site.run(&[verb, "app-main"]).exits(1).gives_one_error();
            refused.says(&format!("a {what} is in progress in")).says("finish it first: git -C");
        }
        site.git(abort);
    }
    site.git(&["checkout", "--quiet", "main"]);
    site.commit("second", "main\n");
    stops(&site, &["am", "--quiet", &patch]);
    site.run(&["merge"]).exits(1).says("a rebase or git am is in progress in");
    site.git(&["am", "--abort"]);
    // Control.
    site.run(&["merge"]).ok();
}

/// The machine may have changed the file, or would change it with the merge.
#[test]
fn a_program_that_a_file_of_the_work_tree_names_is_not_run() {
    let (site, workspace) = machine();
    let mark = site.path("executed");
    site.script("mark", &format!("touch '{}'; exec cat", mark.display()));
    let filter = format!("[filter \"x\"]\n\tsmudge = {}\n", site.path("mark").display());
    site.git(&["config", "include.path", "../project.gitconfig"]);
    fs::write(workspace.join("project.gitconfig"), &filter).unwrap();
    fs::write(workspace.join(".gitattributes"), "*.dat filter=x\n").unwrap();
    site.git_in(&workspace, &["add", "--all"]);
    site.commit_in(&workspace, "first.dat", "x");
    site.run(&["fetch"]).ok();
    // The file does not exist yet; git could read its configuration again.
    assert!(!site.path("app/project.gitconfig").exists());
    for verb in VERBS {
        let refused = site.run(&[verb, "app-main"]).exits(1).gives_one_error();
        refused.says("git would use settings in a file of the work tree").says("project.gitconfig");
    }
    assert!(!mark.exists());
    // Control: git itself runs it; the same in the user's own file is allowed.
    site.git(&["config", "--unset", "include.path"]);
    site.write("home/.gitconfig", &filter);
    site.run(&["merge"]).ok();
    assert!(mark.exists());
}

/// Git's own program would read the configuration that a merge has brought.
#[test]
fn a_merge_starts_no_maintenance() {
    let (site, _) = machine();
    site.git(&["repack", "-d"]);
    site.commit("own", "x");
    site.git(&["repack", "-d"]);
    for (key, value) in [("gc.autoPackLimit", "1"), ("gc.autoDetach", "false"), ("maintenance.autoDetach", "false")] {
        site.git(&["config", key, value]);
    }
    let packs = || {
        let files = fs::read_dir(site.repo().join(".git/objects/pack")).unwrap().flatten();
        files.filter(|file| file.path().extension().is_some_and(|end| end == "pack")).count()
    };
    let before = packs();
    assert!(before > 1, "control");
    site.run(&["merge"]).ok();
    assert_eq!(packs(), before);
    // Control: git itself starts it.
    site.git(&["merge", "--quiet", "--no-ff", "-m", "again", "main~1"]);
    site.git(&["checkout", "--quiet", "-b", "older", "main~1"]);
    site.git(&["merge", "--quiet", "main"]);
    assert!(packs() < before, "control");
}

/// In a process group of its own, the kernel would stop it.
#[test]
fn a_signing_program_can_ask_on_the_terminal() {
    let (site, _) = machine();
    let ask = "printf 'the passphrase? ' >/dev/tty; read -r answer </dev/tty; test \"$answer\" = secret || exit 1";
    site.stand_in("sign", &format!("{ask}\necho '[GNUPG:] SIG_CREATED ' >&2; echo -----BEGIN; cat >/dev/null"));
    site.write("home/.gitconfig", format!("[gpg]\n\tprogram = {}\n", site.path("bin/sign").display()));
    let mut command = site.command("setsid");
    command.args(LED_BY_A_SHELL).arg(env!("CARGO_BIN_EXE_agent-vm")).args(["apply", "--sign"]);
    let mut terminal = OwnTerminal::run(&mut command);
    terminal.shows("the passphrase?");
    terminal.types("secret\n");
    assert_eq!(terminal.ends(), Some(0), "{}", terminal.output());
    assert!(site.git(&["cat-file", "commit", "HEAD"]).contains("gpgsig -----BEGIN"));
}

#[test]
fn commits_that_change_nothing_do_not_stop_an_apply() {
    let (site, workspace) = machine();
    site.git_in(&workspace, &["commit", "--quiet", "--allow-empty", "--message", "nothing"]);
    site.commit_in(&workspace, "later", "x");
    site.run(&["fetch"]).ok();
    site.commit("own", "x");
    site.run(&["apply"]).ok();
    assert_eq!(site.git(&["log", "--format=%s", "-4"]), "later\nnothing\nwork\nown");
    // What is there already in another form stops it, with a way on.
    site.commit_in(&workspace, "again", "1\n");
    site.commit_in(&workspace, "last", "x");
    site.run(&["fetch"]).ok();
    site.write("app/again", "1\n");
    site.commit("more", "x");
    site.git(&["add", "--all"]);
    site.git(&["commit", "--quiet", "--amend", "--no-edit"]);
    let stopped = site.run(&["apply"]).exits(1).gives_one_error();
    stopped.says("has the changes of this commit").says("cherry-pick --skip").says("cherry-pick --abort");
    site.git(&["cherry-pick", "--skip"]);
    assert!(site.repo().join("last").exists());
}

#[test]
fn nothing_is_applied_to_a_branch_without_commits() {
    let (site, _) = machine();
    site.git(&["checkout", "--quiet", "--orphan", "unborn"]);
    site.git(&["rm", "--quiet", "-r", "--force", "."]);
    let refused = site.run(&["apply", "app-main"]).exits(1).gives_one_error();
    refused.says("has no checked-out commit").says("agent-vm merge app-main");
    site.run(&["merge", "app-main"]).ok();
    assert!(site.repo().join("work").exists());
}

/// Otherwise, commands on it would not find the machine.
#[test]
fn a_branch_that_is_checked_out_tracks_the_machine_at_every_moment() {
    let (site, _) = machine();
    let switches = "case \" $* \" in *' -b '*) kill -KILL $PPID; sleep 1000;; esac";
    site.intercept("git", "checkout", switches);
    let killed = site.agent_vm(&["checkout", "--name", "mine"]).status().unwrap();
    assert!(!killed.success(), "control");
    site.restore("git");
    site.run(&["checkout", "--name", "mine"]).ok();
    assert_eq!(site.git(&["symbolic-ref", "--short", "HEAD"]), "mine");
    site.run(&["log"]).ok().says("using app-main, whose branch mine tracks");
    // A checkout that fails leaves the configuration as it was.
    site.git(&["checkout", "--quiet", "main"]);
    site.write("app/work", "mine");
    site.git(&["config", "branch.other.remote", "before"]);
    site.run(&["checkout", "--name", "other"]).exits(1).gives_one_error();
    assert_eq!(site.git(&["config", "--get-regexp", "^branch.other"]), "branch.other.remote before");
    site.run(&["checkout", "--name", "third"]).exits(1);
    assert!(!site.git(&["config", "--list"]).contains("branch.third"));
}

/// The machine's work tree has the contents, such as those of Git LFS files, and its snapshot, too.
#[test]
fn uncommitted_files_are_staged_through_the_users_filters() {
    let site = Site::new();
    for (what, command) in [("clean", "tr a-z A-Z"), ("smudge", "tr A-Z a-z")] {
        site.git(&["config", "--global", &format!("filter.x.{what}"), command]);
    }
    site.commit(".gitattributes", "*.dat filter=x\n");
    site.commit("old.dat", "old\n");
    site.commit("gone.dat", "gone\n");
    let workspace = site.machine(&site.create("main")).join("workspace");
    fs::write(workspace.join("old.dat"), "changed\n").unwrap();
    fs::write(workspace.join("new.dat"), "new\n").unwrap();
    fs::write(workspace.join("plain"), "plain\n").unwrap();
    fs::remove_file(workspace.join("gone.dat")).unwrap();
    site.run(&["fetch"]).ok();
    site.run(&["apply", "--uncommitted"]).ok();
    for (name, staged, file) in
        [("old.dat", "CHANGED", "changed\n"), ("new.dat", "NEW", "new\n"), ("plain", "plain", "plain\n")]
    {
        assert_eq!(site.git(&["cat-file", "blob", &format!(":0:{name}")]), staged);
        assert_eq!(site.read(format!("app/{name}")), file);
    }
    assert_eq!(site.git(&["status", "--porcelain"]), "D  gone.dat\nA  new.dat\nM  old.dat\nA  plain");
}

/// `LD_LIBRARY_PATH=$LD_LIBRARY_PATH:/opt/lib` often has an empty part, and the linker takes that for the work tree.
#[test]
fn a_filter_searches_the_work_tree_for_no_library() {
    let (site, workspace) = machine();
    site.script("filter", "echo \"$LD_LIBRARY_PATH $PYTHONPATH\" >>\"$0-searched\"; exec cat");
    site.git(&["config", "--global", "filter.x.smudge", site.path("filter").to_str().unwrap()]);
    fs::write(workspace.join(".gitattributes"), "*.dat filter=x\n").unwrap();
    site.commit_in(&workspace, "a.dat", "x");
    site.run(&["fetch"]).ok();
    let own = format!("{}:/opt/python", site.path("app/src").display());
    let variables = [("LD_LIBRARY_PATH", ":/opt/lib"), ("PYTHONPATH", own.as_str())];
    site.run_with(&variables, &["merge"]).ok();
    assert_eq!(site.read("filter-searched"), "/opt/lib /opt/python\n");
    // Control: git itself.
    let mut git = site.command(which("git").unwrap());
    assert!(git.envs(variables).args(["reset", "--quiet", "--hard", "HEAD~1"]).status().unwrap().success());
    let mut git = site.command(which("git").unwrap());
    let git = git.envs(variables).args(["merge", "--quiet", "refs/agent-vm/app-main/heads/main"]);
    assert!(git.status().unwrap().success());
    assert_eq!(site.read("filter-searched"), format!("/opt/lib /opt/python\n:/opt/lib {own}\n"), "control");
}

/// Git shows it after two seconds, also without a terminal.
#[test]
fn progress_of_git_is_not_printed() {
    let (site, _) = machine();
    let variables = [("GIT_PROGRESS_DELAY", "0")];
    site.run_with(&variables, &["merge"]).ok().does_not_say("Updating files").prints("Fast-forward");
    // Control: git itself.
    site.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let mut git = site.command(which("git").unwrap());
    let merged = git.envs(variables).args(["merge", "refs/agent-vm/app-main/heads/main"]).output().unwrap();
    assert!(String::from_utf8_lossy(&merged.stderr).contains("Updating files"), "control: {merged:?}");
}
