//! `destroy` prints a command that fetches what it kept, and the user can paste it: it needs no other git settings, and
//! runs nothing of the guest's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Done, Site};

/// Gives a workspace to the account of a machine, as when root runs agent-vm.
fn give_away(workspace: &Path) {
    if rustix::process::geteuid().is_root() {
        for entry in walkdir::WalkDir::new(workspace).into_iter().flatten() {
            std::os::unix::fs::lchown(entry.path(), Some(1_900_000_000), Some(1_900_000_000)).unwrap();
        }
    }
}

/// Returns the printed command for taking back what was kept.
pub fn printed_fetch(stderr: &str) -> Option<&str> {
    let lines = stderr.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix("or with git alone: ")).next()
}

/// Pastes a command into a shell in the user's repository.
#[track_caller]
fn paste(site: &Site, command: &str) {
    let output = site.command("sh").args(["-c", command]).current_dir(site.repo()).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Creates a machine whose configuration and hooks run a program that leaves a mark.
fn hostile(site: &Site) -> PathBuf {
    let (workspace, _) = site.create_with_work();
    site.script("planted", &format!("touch '{}'; cat", site.path("executed").display()));
    let planted = site.path("planted").display().to_string();
    for key in ["core.fsmonitor", "uploadpack.packObjectsHook", "core.alternateRefsCommand", "core.sshCommand"] {
        site.git_in(&workspace, &["config", key, &planted]);
    }
    fs::create_dir_all(workspace.join(".git/hooks")).unwrap();
    for hook in ["reference-transaction", "post-index-change", "post-checkout"] {
        fs::copy(&planted, workspace.join(".git/hooks").join(hook)).unwrap();
    }
    workspace
}

fn destroyed(site: &Site) -> Done {
    let done = site.run(&["destroy", "--yes", "--keep", "workspace"]).ok();
    assert!(!site.path("executed").exists(), "destroy ran a planted program");
    done
}

#[test]
fn the_printed_command_fetches_from_a_kept_workspace() {
    let site = Site::new();
    let workspace = hostile(&site);
    // Control: git in the workspace runs the planted programs.
    drop(site.command("git").args(["branch", "x"]).current_dir(&workspace).output().unwrap());
    assert!(site.path("executed").exists(), "control");
    fs::remove_file(site.path("executed")).unwrap();
    let quiet = |args: &[&str]| site.git_in(&workspace, &[&["-c", "core.hooksPath=/dev/null"], args].concat());
    let quiet = |args: &[&str]| quiet(&[&["-c", "core.fsmonitor=false"], args].concat());
    let on_main = quiet(&["rev-parse", "main"]);
    fs::write(workspace.join("README"), "work in progress\n").unwrap();
    quiet(&["stash", "--quiet"]);
    let stash = quiet(&["rev-parse", "refs/stash"]);
    drop(fs::remove_file(site.path("executed")));
    give_away(&workspace);
    let done = destroyed(&site);
    let command = printed_fetch(&done.stderr).unwrap_or_else(|| panic!("{done:?}"));
    paste(&site, command);
    assert_eq!(
        site.git(&["rev-parse", &(site.rescued() + "/main"), &format!("refs/{}/stash", site.rescued())]),
        format!("{on_main}\n{stash}")
    );
    assert_eq!(site.git(&["show", &(site.rescued() + "/main:work")]), "x");
    // Even git in the kept workspace runs nothing.
    site.git_in(&site.kept()[0], &["status"]);
    assert!(!site.path("executed").exists(), "a planted program ran");
}

#[test]
fn the_printed_command_fetches_a_detached_head() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    site.git_in(&workspace, &["checkout", "--quiet", "--detach"]);
    let commit = site.commit_in(&workspace, "aside", "x");
    give_away(&workspace);
    let done = destroyed(&site);
    paste(&site, printed_fetch(&done.stderr).unwrap());
    assert_eq!(site.git(&["rev-parse", &(site.rescued() + "/agent-vm/detached")]), commit);
}

#[test]
fn the_printed_command_fetches_commits_that_no_reference_names() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    for number in 0..3 {
        fs::write(workspace.join("README"), format!("stash {number}\n")).unwrap();
        site.git_in(&workspace, &["stash", "--quiet"]);
    }
    let stashes = ["stash@{1}", "stash@{2}"].map(|name| site.git_in(&workspace, &["rev-parse", name]));
    site.git_in(&workspace, &["worktree", "add", "--quiet", "--detach", "linked"]);
    let linked = site.commit_in(workspace.join("linked"), "aside", "x");
    let done = destroyed(&site);
    let rescued = |name: &str| site.git(&["rev-parse", "--verify", &format!("refs/{}/{name}", site.rescued())]);
    paste(&site, printed_fetch(&done.stderr).unwrap());
    assert_eq!([rescued("kept/stashes/1"), rescued("kept/stashes/2")], stashes);
    assert_eq!(rescued("kept/worktrees/linked"), linked);
}

#[test]
fn the_printed_command_fetches_a_shallow_history() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    site.git_in(&workspace, &["checkout", "--quiet", "--orphan", "more"]);
    site.commit_in(&workspace, "one", "x");
    let commit = site.commit_in(&workspace, "two", "x");
    fs::write(workspace.join(".git/shallow"), format!("{commit}\n")).unwrap();
    let done = destroyed(&site).says("the command of git makes your repository shallow at the same commits");
    let command = printed_fetch(&done.stderr).unwrap();
    // Control: git refuses it without the option.
    let without = command.replace(" --update-shallow", "");
    let output = site.command("sh").args(["-c", &without]).current_dir(site.repo()).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    paste(&site, command);
    assert_eq!(site.git(&["rev-parse", &(site.rescued() + "/more")]), commit);
}

#[test]
fn the_printed_command_has_valid_names() {
    // The name of a directory need not be valid in a reference.
    let site = Site::new();
    fs::rename(site.repo(), site.path("a..b")).unwrap();
    site.run_in(site.path("a..b"), &["create"]).ok();
    let [name] = &site.names()[..] else { panic!("{:?}", site.names()) };
    let workspace = site.machine(name).join("workspace");
    let commit = site.commit_in(&workspace, "work", "x");
    // Another branch has the name of a detached HEAD.
    site.git_in(&workspace, &["branch", "agent-vm/detached"]);
    site.git_in(&workspace, &["checkout", "--quiet", "--detach"]);
    let done = site.run_in(site.path("a..b"), &["destroy", "--yes", "--keep", "workspace"]).ok();
    let command = printed_fetch(&done.stderr).unwrap();
    let output = site.command("sh").args(["-c", command]).current_dir(site.path("a..b")).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let heads = site.git_in(site.path("a..b"), &["for-each-ref", "--format=%(objectname) %(refname)", "refs/heads"]);
    for end in ["/agent-vm/detached", "/agent-vm-1/detached"] {
        let found = heads.lines().any(|line| line.starts_with(&commit) && line.ends_with(end));
        assert!(found, "{end}: {heads}");
    }
}

/// Git would wait for it.
#[test]
fn a_pipe_in_the_git_directory_of_a_kept_workspace_is_removed() {
    let site = Site::new();
    let (workspace, commit) = site.create_with_work();
    for name in ["packed-refs", "refs/heads/pipe", "shallow"] {
        drop(fs::remove_file(workspace.join(".git").join(name)));
        rustix::fs::mkfifoat(rustix::fs::CWD, workspace.join(".git").join(name), 0o600.into()).unwrap();
    }
    // Control: a pipe among the files stays.
    rustix::fs::mkfifoat(rustix::fs::CWD, workspace.join("pipe"), 0o600.into()).unwrap();
    let done = destroyed(&site);
    paste(&site, printed_fetch(&done.stderr).unwrap());
    assert_eq!(site.git(&["rev-parse", &(site.rescued() + "/main")]), commit);
    assert!(!site.kept()[0].join(".git/packed-refs").exists() && site.kept()[0].join("pipe").exists());
}

/// A killed `destroy` had moved the workspace and done nothing else.
#[test]
fn the_command_is_printed_for_a_workspace_that_was_finished_later() {
    let site = Site::new();
    let workspace = hostile(&site);
    give_away(&workspace);
    let bundles = site.state().join(".bundles");
    fs::create_dir(&bundles).unwrap();
    fs::rename(&workspace, bundles.join(".unfinished-app-main-20260101T000000Z.workspace")).unwrap();
    let done = destroyed(&site);
    paste(&site, printed_fetch(&done.stderr).unwrap());
    assert_eq!(site.git(&["show", &(site.rescued() + "/main:work")]), "x");
    assert!(!site.path("executed").exists(), "a planted program ran");
}

#[test]
fn no_command_is_printed_without_a_repository() {
    for how in ["removed", "a link", "a file"] {
        let site = Site::new();
        let (workspace, _) = site.create_with_work();
        fs::rename(workspace.join(".git"), workspace.join("elsewhere")).unwrap();
        match how {
            "a link" => std::os::unix::fs::symlink("elsewhere", workspace.join(".git")).unwrap(),
            "a file" => fs::write(workspace.join(".git"), "gitdir: elsewhere\n").unwrap(),
            _ => {}
        }
        let done = destroyed(&site).says("the workspace is kept whole in");
        assert_eq!(printed_fetch(&done.stderr), None, "{how}");
    }
}
