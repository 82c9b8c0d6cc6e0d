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
    lines.filter_map(|line| line.strip_prefix("take its commits back: ")).next()
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
