//! `log`, `diff`, `merge`, `apply` and `checkout` use what was fetched from a machine.

use std::fs;
use std::path::PathBuf;

use crate::support::Site;

fn machine() -> (Site, PathBuf, String) {
    let site = Site::new();
    let (workspace, commit) = site.create_with_work();
    (site, workspace, commit)
}

#[test]
fn log_and_diff_show_what_the_machine_has() {
    let (site, workspace, commit) = machine();
    fs::write(workspace.join("untracked"), "not committed\n").unwrap();
    // Nothing was fetched yet, so this fetches.
    site.run(&["log", "--oneline"]).ok().prints(&commit[..7]);
    site.run(&["log", "--json"]).ok().prints(&commit);
    let done = site.run(&["diff"]).ok().prints("+++ b/work").prints("+not committed");
    assert!(!done.stdout.contains("README"), "{}", done.stdout);
    let done = site.run(&["diff", "--committed", "--stat"]).ok().prints("work");
    assert!(!done.stdout.contains("untracked"), "{}", done.stdout);
    let files = site.run(&["diff", "--json"]).ok().json();
    assert_eq!(files["files"].as_array().unwrap().len(), 2, "{files}");
    let done = site.run(&["diff", "--", "untracked"]).ok().prints("untracked");
    assert!(!done.stdout.contains("b/work"), "{}", done.stdout);
    // The patch is exact.
    fs::write(workspace.join("binary"), [0, 27, 255]).unwrap();
    site.run(&["fetch"]).ok();
    let patch = site.path("changes.patch");
    site.run(&["diff", "--output", patch.to_str().unwrap()]).ok().says("git apply");
    site.git(&["apply", patch.to_str().unwrap()]);
    assert_eq!(fs::read(site.repo().join("binary")).unwrap(), [0, 27, 255]);
}

/// What was reviewed is what is merged.
#[test]
fn later_commits_of_the_machine_are_not_used() {
    let (site, workspace, commit) = machine();
    site.run(&["fetch"]).ok();
    site.run(&["log"]).ok().does_not_say("notice:");
    let later = site.commit_in(&workspace, "later", "x");
    let done = site.run(&["log"]).ok().says("has changed main since the last fetch: agent-vm fetch app-main");
    assert!(!done.stdout.contains(&later));
    site.run(&["merge"]).ok();
    assert_eq!(site.git(&["rev-parse", "HEAD"]), commit);
    site.run(&["fetch"]).ok();
    let done = site.run(&["merge", "--json"]).ok().does_not_say("notice:").json();
    assert_eq!((done["commit"].as_str(), done["branch"].as_str()), (Some(later.as_str()), Some("main")), "{done}");
    assert_eq!(site.git(&["rev-parse", "HEAD"]), later);
    assert_eq!(site.run(&["log"]).ok().stdout, "");
    site.run(&["apply"]).ok().prints("has no commits that");
}

#[test]
fn a_fast_forward_is_reported_as_the_user_asked_for_it() {
    let (site, workspace, commit) = machine();
    // Git would report the message that agent-vm gives it.
    let done = site.run(&["merge", "--ff-only"]).ok().prints("Fast-forward\n");
    assert!(!done.stdout.contains("-m"), "{}", done.stdout);
    assert_eq!(site.git(&["rev-parse", "HEAD"]), commit);
    // Both have new commits.
    site.commit_in(&workspace, "later", "x");
    site.commit("own", "x");
    site.run(&["fetch"]).ok();
    site.run(&["merge", "--ff-only", "--ref", "main"])
        .exits(1)
        .gives_one_error()
        .says("to merge with a merge commit: agent-vm merge app-main --ref main");
    site.git(&["config", "--global", "merge.ff", "only"]);
    site.run(&["merge"]).exits(1).gives_one_error().says("merge.ff of git's configuration allows no merge commit");
    site.git(&["config", "--global", "--unset", "merge.ff"]);
    // Control: another reason.
    site.write("app/later", "mine");
    site.run(&["merge"]).exits(1).says("nothing was merged; to see your own changes");
    fs::remove_file(site.path("app/later")).unwrap();
    site.run(&["merge", "app-main", "--ref", "main"]).ok();
}

#[test]
fn conflicts_are_left_as_git_leaves_them() {
    for verb in ["merge", "apply"] {
        let (site, _, _) = machine();
        site.commit("work", "mine");
        let done = site.run(&[verb]).exits(1).gives_one_error();
        done.says("CONFLICT").says("git -C ").says("--abort");
        assert_eq!(site.git(&["status", "--porcelain"]), "AA work", "{verb}");
    }
}

#[test]
fn changes_that_are_not_committed_stop_a_merge() {
    let (site, _, _) = machine();
    fs::write(site.repo().join("work"), "mine").unwrap();
    site.run(&["merge"]).exits(1).gives_one_error().says("would be overwritten");
    assert_eq!(fs::read_to_string(site.repo().join("work")).unwrap(), "mine");
}

#[test]
fn single_commits_are_applied() {
    let (site, workspace, first) = machine();
    let second = site.commit_in(&workspace, "second-work", "x");
    site.run(&["fetch"]).ok();
    site.run(&["apply", "--commit", &second[..8]]).ok();
    assert!(site.repo().join("second-work").exists() && !site.repo().join("work").exists());
    site.run(&["apply", "--commit", &first]).ok();
    assert!(site.repo().join("work").exists());
    // Only commits of the machine count.
    let own = site.git(&["commit-tree", "-m", "own", "HEAD^{tree}"]);
    for word in [own.as_str(), "HEAD", "--abort", "zzzz", "dead"] {
        site.run(&["apply", &format!("--commit={word}")])
            .exits(2)
            .gives_one_error()
            .says("is not a commit of the machine");
    }
    fs::write(workspace.join("untracked"), "x").unwrap();
    site.run(&["apply", "--uncommitted"]).exits(1).says("had no uncommitted changes");
    site.run(&["fetch"]).ok();
    site.run(&["apply", "--uncommitted"]).ok();
    assert_eq!(site.git(&["status", "--porcelain"]), "A  untracked");
}

#[test]
fn commits_are_signed_with_the_users_key() {
    let (site, _, _) = machine();
    // A stand-in for GnuPG: git takes what it prints for a signature.
    site.stand_in("sign", "echo SIGNED >&2; echo '[GNUPG:] SIG_CREATED ' >&2; echo -----BEGIN; cat >/dev/null");
    site.git(&["config", "--global", "gpg.program", site.path("bin/sign").to_str().unwrap()]);
    site.run(&["apply", "--sign"]).ok();
    assert!(site.git(&["cat-file", "commit", "HEAD"]).contains("gpgsig -----BEGIN"));
}

#[test]
fn a_branch_that_tracks_the_machine_is_checked_out() {
    let (site, workspace, commit) = machine();
    site.run(&["checkout", "--name", "from-machine"]).ok();
    assert_eq!(site.git(&["rev-parse", "HEAD"]), commit);
    assert_eq!(site.git(&["symbolic-ref", "HEAD"]), "refs/heads/from-machine");
    site.commit_in(&workspace, "later", "x");
    site.run(&["fetch", "app-main"]).ok();
    assert!(site.git(&["status", "--short", "--branch"]).contains("[behind 1]"));
    site.run(&["checkout", "app-main"]).ok().says("to merge the machine's commits: agent-vm merge app-main");
    assert_eq!(site.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    // A branch that exists keeps its commits and its upstream.
    let upstream = site.command("git").args(["config", "branch.main.merge"]).output().unwrap();
    assert!(upstream.stdout.is_empty());
    assert_ne!(site.git(&["rev-parse", "HEAD"]), commit);
}

/// Another branch of the machine.
#[test]
fn any_branch_of_the_machine_can_be_named() {
    let (site, workspace, _) = machine();
    site.git_in(&workspace, &["checkout", "--quiet", "-b", "topic"]);
    let commit = site.commit_in(&workspace, "topic", "x");
    site.run(&["diff", "--ref", "topic"]).ok().prints("b/topic");
    site.run(&["merge", "--ref", "topic"]).ok();
    assert_eq!(site.git(&["rev-parse", "HEAD"]), commit);
    site.run(&["merge", "--ref", "none"]).exits(1).gives_one_error().says("its branches: main, topic");
}

/// `--abort` would undo the user's own merge.
#[test]
fn a_merge_of_the_user_is_not_touched() {
    let (site, _, _) = machine();
    site.run(&["fetch"]).ok();
    site.git(&["checkout", "--quiet", "-b", "mine", "HEAD~1"]);
    site.commit("second", "mine\n");
    let merge = site.command("git").args(["merge", "--quiet", "main"]).output().unwrap();
    assert!(!merge.status.success(), "control: a conflict");
    for verb in ["merge", "apply", "checkout"] {
        site.run(&[verb, "app-main"]).exits(1).gives_one_error().says("a merge is in progress").does_not_say("--abort");
    }
    site.git(&["merge", "--abort"]);
    // A failure that leaves nothing to undo has no hint to do so.
    fs::write(site.repo().join("work"), "mine").unwrap();
    site.run(&["merge", "app-main"]).exits(1).says("would be overwritten").does_not_say("--abort");
}

#[test]
fn commits_that_were_applied_are_not_applied_again() {
    let (site, workspace, _) = machine();
    site.run(&["fetch"]).ok();
    site.commit("own", "x");
    site.run(&["apply"]).ok();
    site.run(&["apply"]).ok().prints("has no commits that");
    site.commit_in(&workspace, "later", "x");
    site.run(&["fetch"]).ok();
    site.run(&["apply"]).ok();
    assert!(site.repo().join("later").exists());
    assert_eq!(site.git(&["status", "--porcelain"]), "");
}

/// A branch named like the start of a commit's id is not meant.
#[test]
fn a_commit_is_named_by_its_id_only() {
    let (site, _, commit) = machine();
    site.run(&["fetch"]).ok();
    site.git(&["branch", &commit[..8], "HEAD~1"]);
    site.run(&["apply", "--commit", &commit[..8]]).ok();
    assert!(site.repo().join("work").exists());
}

/// The branch has no machine of its own.
#[test]
fn commands_on_a_branch_that_tracks_a_machine_use_that_machine() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    site.git_in(&workspace, &["checkout", "--quiet", "-b", "idea"]);
    site.commit_in(&workspace, "of-idea", "x");
    site.run(&["fetch"]).ok();
    // Control: a branch that tracks nothing has no machine.
    site.git(&["checkout", "--quiet", "-b", "plain"]);
    site.run(&["log"]).exits(1).gives_one_error().says("there is no machine for plain");
    site.run(&["checkout", "app-main", "--ref", "idea"]).ok();
    assert_eq!(site.git(&["symbolic-ref", "--short", "HEAD"]), "idea");
    for args in [&["log"][..], &["diff", "--stat"], &["fetch"], &["status"]] {
        site.run(args).ok().says("using app-main, whose branch idea tracks");
    }
    let refused = site.run(&["destroy", "--yes"]).exits(1).gives_one_error();
    refused.says("idea has no machine; it tracks a branch of app-main").says("agent-vm destroy app-main");
    assert_eq!(site.names(), ["app-main"]);
    // Its own machine comes first.
    site.create("idea");
    site.run(&["status"]).ok().prints("VM Status: app-idea").does_not_say("using app-main");
}
