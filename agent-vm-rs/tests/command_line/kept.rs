//! `kept` lists, shows and restores what destroyed machines left.

use std::fs;
use std::path::PathBuf;

use crate::destroy::on_a_terminal;
use crate::support::{Done, Site};

/// Destroys the machine of main; returns the name of what was kept.
#[track_caller]
pub fn destroyed(site: &Site, args: &[&str]) -> String {
    let done = site.run(&[&["destroy", "main", "--yes"][..], args].concat()).ok();
    let name = done.stderr.lines().find_map(|line| line.trim().strip_prefix("take it back: agent-vm kept restore "));
    name.unwrap_or_else(|| panic!("{done:?}")).to_owned()
}

/// Restores what was kept; returns the start of the references' names.
#[track_caller]
pub fn restored(site: &Site, args: &[&str]) -> String {
    let done = site.run(&[&["kept", "restore", "--json"][..], args].concat()).ok();
    done.json()["prefix"].as_str().unwrap().to_owned()
}

fn list(site: &Site) -> Vec<serde_json::Value> {
    site.run(&["kept", "--json"]).ok().json().as_array().unwrap().clone()
}

/// Makes work of every kind in a workspace; returns the commit of main and that of the older stash entry.
fn work(site: &Site) -> [String; 2] {
    let (workspace, commit) = site.create_with_work();
    let git = |args: &[&str]| site.git_in(&workspace, args);
    git(&["notes", "add", "-m", "a note"]);
    for text in ["first\n", "second\n"] {
        fs::write(workspace.join("README"), text).unwrap();
        git(&["stash", "--quiet"]);
    }
    fs::write(workspace.join("untracked"), "new\n").unwrap();
    [commit, git(&["rev-parse", "stash@{1}"])]
}

#[test]
fn a_bundle_is_listed_shown_and_restored() {
    let site = Site::new();
    site.run(&["kept"]).ok().says("nothing is kept");
    let [commit, stash] = work(&site);
    let name = destroyed(&site, &[]);
    let [row] = &list(&site)[..] else { panic!("{:?}", list(&site)) };
    assert_eq!((row["name"].as_str(), row["kind"].as_str()), (Some(name.as_str()), Some("bundle")));
    assert_eq!((row["machine"].as_str(), row["branch"].as_str()), (Some("app-main"), Some("main")));
    assert_eq!((row["source"].as_str(), row["presence"].as_str()), (site.repo().to_str(), Some("here")));
    let contents = &row["contents"];
    assert_eq!(
        (&contents["stashes"], &contents["notes"], &contents["changed_files"]),
        (&2.into(), &1.into(), &1.into())
    );
    site.run(&["kept", "list"]).ok().prints(" commits, 2 stashed changes, 1 notes reference and 1 changed file");
    site.run(&["kept", "list", "--source", "."]).ok().prints(&name);
    fs::create_dir(site.path("other")).unwrap();
    site.run(&["kept", "list", "--source", site.path("other").to_str().unwrap()]).ok().says("nothing is kept");
    site.run(&["kept", "show", &name]).ok().prints("heads/main").prints("Changed files: 1\n  untracked\n");

    let before = site.git(&["for-each-ref", "refs/heads", "refs/tags"]);
    let done =
        site.run(&["kept", "restore", "app-main"]).ok().prints("new references below refs/agent-vm/app-main/kept/");
    let prefix = restored(&site, &[&name]);
    let of = |below: &str| site.git(&["rev-parse", "--verify", &format!("{prefix}{below}")]);
    assert_eq!([of("heads/main"), of("heads/agent-vm/stash-1")], [commit.clone(), stash]);
    assert_eq!(site.git(&["show", &format!("{prefix}notes/commits:{commit}")]), "a note");
    assert_eq!(site.git(&["show", &format!("{prefix}heads/agent-vm/uncommitted:untracked")]), "new");
    assert_eq!(site.git(&["for-each-ref", "refs/heads", "refs/tags"]), before);
    // The printed commands work, in this order.
    let commands: Vec<_> = done.stdout.lines().filter_map(|line| Some(line.trim().split_once(": git ")?.1)).collect();
    assert_eq!(commands.len(), 3, "{done:?}");
    for command in commands {
        let output = site.command("sh").args(["-c", &format!("git {command}")]).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
    assert_eq!((site.git(&["rev-parse", "HEAD"]), site.read("app/untracked").as_str()), (commit, "new\n"));
    // It stays kept, and a later machine's fetch leaves the references alone.
    assert_eq!((site.kept().len(), list(&site)[0]["restored_into"].as_str()), (1, site.repo().to_str()));
    site.create("main");
    site.run(&["fetch"]).ok();
    assert_eq!(of("heads/agent-vm/uncommitted").len(), 40);
}

#[test]
fn a_reference_with_another_object_keeps_that() {
    let site = Site::new();
    let [commit, _] = work(&site);
    let name = destroyed(&site, &[]);
    let prefix = restored(&site, &[&name]);
    let mine = site.commit("mine", "x");
    site.git(&["update-ref", &format!("{prefix}heads/main"), &mine]);
    site.git(&["update-ref", &format!("{prefix}heads/own"), &mine]);
    site.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    site.git(&["update-ref", "-d", &format!("{prefix}heads/own")]);
    restored(&site, &[&name]);
    assert_eq!(site.git(&["rev-parse", &format!("{prefix}heads/main")]), commit);
    assert_eq!(site.git(&["rev-parse", &format!("{prefix}former/{mine}")]), mine);
}

#[test]
fn what_is_kept_does_not_depend_on_its_repository() {
    for keep in ["changes", "workspace"] {
        let site = Site::new();
        let [commit, stash] = work(&site);
        let name = destroyed(&site, &["--keep", keep]);
        fs::remove_dir_all(site.repo()).unwrap();
        let run = |args: &[&str]| site.run_in(site.root(), args);
        run(&["kept", "restore", &name]).exits(1).gives_one_error().says("does not exist").says("--into DIR");
        run(&["kept", "show", &name]).ok().prints("heads/main");
        site.git_in(site.root(), &["init", "--quiet", "new"]);
        let done = run(&["kept", "restore", &name, "--into", "new", "--json"]).ok();
        let prefix = done.json()["prefix"].as_str().unwrap().to_owned();
        for (below, id) in [("heads/main", &commit), ("heads/agent-vm/stash-1", &stash)] {
            let found = site.git_in(site.path("new"), &["rev-parse", &format!("{prefix}{below}")]);
            assert_eq!(found, *id, "{keep}: {below}");
        }
        let file = format!("{prefix}heads/agent-vm/uncommitted:untracked");
        assert_eq!(site.git_in(site.path("new"), &["show", &file]), "new", "{keep}");
        site.git_in(site.path("new"), &["fsck", "--full", "--strict"]);
    }
}

/// Commits that no reference leads to, those of a submodule, and files of other repositories.
#[test]
fn a_workspace_is_restored_with_everything_that_git_can_hold() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    let git = |args: &[&str]| site.git_in(&workspace, args);
    let tree = git(&["rev-parse", "HEAD^{tree}"]);
    let loose = git(&["commit-tree", "-p", "HEAD", "-m", "loose", &tree]);
    git(&["worktree", "add", "--quiet", "--detach", "linked"]);
    let detached = site.commit_in(workspace.join("linked"), "aside", "x");
    fs::create_dir_all(workspace.join(".git/modules")).unwrap();
    site.git_in(&workspace, &["init", "--quiet", "--separate-git-dir=.git/modules/sub", "sub"]);
    for (key, value) in [("user.name", "x"), ("user.email", "x@example.invalid")] {
        site.git_in(workspace.join("sub"), &["config", key, value]);
    }
    let in_sub = site.commit_in(workspace.join("sub"), "of-sub", "x");
    let name = destroyed(&site, &[]);
    let [row] = &list(&site)[..] else { panic!("{:?}", list(&site)) };
    assert_eq!(row["kind"], "workspace", "{row}");
    let done = site.run(&["kept", "restore", &name]).ok();
    let all = site.git(&["for-each-ref", "--format=%(objectname)", "refs/agent-vm"]);
    for commit in [loose, detached, in_sub] {
        assert!(all.contains(&commit), "{commit} in {all}\n{}", done.stderr);
    }
}

#[test]
fn what_a_restore_leaves_out_is_named() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    fs::write(workspace.join(".gitignore"), "ignored\n").unwrap();
    fs::write(workspace.join("ignored"), "x").unwrap();
    site.git_in(&workspace, &["init", "--quiet", "inner"]);
    let name = destroyed(&site, &["--keep", "workspace"]);
    let done = site.run(&["kept", "restore", &name]).ok();
    done.says("a repository in inner").says("1 ignored file");
}

/// The directory of `--keep-in` may be on a disk that is away.
#[test]
fn another_directory_is_remembered() {
    let site = Site::new();
    let [commit, _] = work(&site);
    let disk = site.path("disk");
    let name = destroyed(&site, &["--keep-in", disk.to_str().unwrap()]);
    let path = list(&site)[0]["path"].as_str().unwrap().to_owned();
    assert!(PathBuf::from(&path).starts_with(&disk), "{path}");
    fs::rename(&disk, site.path("away")).unwrap();
    assert_eq!(list(&site)[0]["presence"], "away");
    site.run(&["kept", "list"]).ok().prints("bundle, away").prints(" commits, 2 stashed");
    site.run(&["kept", "restore", &name]).exits(1).gives_one_error().says("mount its disk");
    // It can be named where it is.
    let elsewhere = site.path("away").join(format!("{name}.bundle"));
    site.run(&["kept", "show", elsewhere.to_str().unwrap()]).ok().prints("heads/main");
    fs::rename(site.path("away"), &disk).unwrap();
    let prefix = restored(&site, &[&name]);
    assert_eq!(site.git(&["rev-parse", &format!("{prefix}heads/main")]), commit);
    fs::remove_file(disk.join(format!("{name}.bundle"))).unwrap();
    assert_eq!(list(&site)[0]["presence"], "missing");
    site.run(&["kept", "restore", &name]).exits(1).gives_one_error().says("was moved or removed");
}

/// Older versions wrote no record.
#[test]
fn what_has_no_record_is_found_too() {
    let site = Site::new();
    let [commit, _] = work(&site);
    let name = destroyed(&site, &[]);
    fs::remove_dir_all(site.state().join(".kept")).unwrap();
    let [row] = &list(&site)[..] else { panic!("{:?}", list(&site)) };
    assert_eq!((row["name"].as_str(), row["source"].is_null()), (Some(name.as_str()), true));
    site.run(&["kept"]).ok().prints("references");
    site.run(&["kept", "restore", &name]).exits(1).gives_one_error().says("is unknown");
    let prefix = restored(&site, &["--into", ".", &name]);
    assert_eq!(site.git(&["rev-parse", &format!("{prefix}heads/main")]), commit);
    site.run(&["kept", "restore", "nothing"]).exits(2).gives_one_error().says("agent-vm kept list");
    // A file with such a name that is no bundle.
    let other = site.state().join(".bundles/app-main-20200101T000000Z.bundle");
    fs::write(other, "no bundle").unwrap();
    site.run(&["kept", "show", "app-main-20200101T000000Z"]).exits(1).gives_one_error().says("it is not a git bundle");
    site.run(&["kept", "show", "app-main"]).exits(2).gives_one_error().says("is kept more than once");
    // A program that opens a pipe waits for a writer.
    let pipe = site.state().join(".bundles/app-pipe-20200101T000000Z.bundle");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    site.run(&["kept"]).ok().prints("bundle, missing");
    site.run(&["kept", "show", "app-pipe"]).exits(1).gives_one_error().says("was moved or removed");
}

/// The guest chose the objects and names, and may have made a configuration that runs programs.
#[test]
fn nothing_of_the_guest_runs_or_reaches_the_terminal() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    site.script("planted", &format!("touch '{}'; cat", site.path("executed").display()));
    let planted = site.path("planted").display().to_string();
    for key in ["core.fsmonitor", "filter.x.clean", "filter.x.smudge", "uploadpack.packObjectsHook"] {
        site.git_in(&workspace, &["config", key, &planted]);
    }
    fs::write(workspace.join(".gitattributes"), "* filter=x\n").unwrap();
    fs::write(workspace.join("\u{1b}[31mred"), "x").unwrap();
    let tree = site.git_in(&workspace, &["rev-parse", "HEAD^{tree}"]);
    let commit = site.git_in(&workspace, &["commit-tree", "-p", "HEAD", "-m", "\u{1b}[2Jmessage\u{9b}", &tree]);
    fs::write(workspace.join(".git/refs/heads/hostile"), commit + "\n").unwrap();
    drop(fs::remove_file(site.path("executed")));
    let name = destroyed(&site, &["--keep", "workspace"]);
    // Its configuration comes back, as if another program had renamed it.
    let kept = site.kept()[0].join(".git");
    fs::copy(kept.join("config.of-the-guest"), kept.join("config")).unwrap();
    let shown = site.run(&["kept", "show", &name]).ok();
    let control = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    assert!(shown.stdout.contains("message") && !control(&shown.stdout), "{shown:?}");
    let done = site.run(&["kept", "restore", &name]).ok();
    assert!(!control(&done.stdout) && !control(&done.stderr), "{done:?}");
    site.run(&["kept", "prune", "--dry-run"]).ok();
    assert!(!site.path("executed").exists(), "a planted program ran");
    // Control: git in the workspace runs it.
    drop(site.command("git").args(["status"]).current_dir(site.kept()[0].clone()).output().unwrap());
    assert!(site.path("executed").exists(), "control");
}

#[test]
fn objects_that_git_refuses_are_not_restored() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    let tree = site.git_in(&workspace, &["rev-parse", "HEAD^{tree}"]);
    // Without an author.
    fs::write(site.path("commit"), format!("tree {tree}\n\nx\n")).unwrap();
    let hash =
        ["hash-object", "-t", "commit", "-w", "--literally", site.path("commit").to_str().unwrap()].map(str::to_owned);
    let bad = site.git_in(&workspace, &hash.iter().map(String::as_str).collect::<Vec<_>>());
    fs::write(workspace.join(".git/refs/heads/bad"), bad.clone() + "\n").unwrap();
    let name = destroyed(&site, &["--keep", "workspace"]);
    let before = site.git(&["for-each-ref"]);
    site.run(&["kept", "restore", &name]).exits(1).gives_one_error().says("to take what git can read");
    assert_eq!(site.git(&["for-each-ref"]), before);
    assert_eq!(site.kept().len(), 1);
}

#[test]
fn restores_are_limited() {
    let site = Site::new();
    let (workspace, _) = site.create_with_work();
    let large: String = (0..300_000).map(|number| format!("{number}\n")).collect();
    site.commit_in(&workspace, "large", &large);
    let name = destroyed(&site, &[]);
    let refused = site.run(&["kept", "restore", &name, "--max-size", "1"]).exits(1).gives_one_error();
    refused.says(&format!("agent-vm kept restore {name} --max-size 2"));
    site.run(&["kept", "restore", &name, "--max-size", "2"]).ok();
}

#[test]
fn the_question_names_everything() {
    let site = Site::new();
    work(&site);
    let workspace = site.machine("app-main").join("workspace");
    site.commit_in(&workspace, ".gitignore", "*.log\n");
    fs::write(workspace.join("untracked"), "changed\n").unwrap();
    fs::write(workspace.join("x.log"), "x").unwrap();
    let asked = |args: &str| -> Option<Done> { on_a_terminal(&site, args, "n\n").map(|done| done.exits(1)) };
    let Some(done) = asked("destroy") else { return };
    done.prints(" commits, 2 stashed changes, 1 notes reference and 1 changed file that only it has are kept in")
        .prints("Ignored files are not kept: 1.");
    asked("destroy --keep nothing").unwrap().prints("and 1 changed file that only it has are lost.");
    // In linked work trees.
    site.git_in(&workspace, &["worktree", "add", "--quiet", "--detach", "linked"]);
    site.commit_in(workspace.join("linked"), "aside", "x");
    asked("destroy").unwrap().prints("Its whole workspace, with the ");
    asked("destroy --keep nothing").unwrap().prints("What only it has is lost: ").prints("worktrees");
    fs::rename(site.repo(), site.path("moved")).unwrap();
    let args = format!("prune --state-dir {}", site.state().display());
    fs::create_dir(site.repo()).unwrap();
    asked(&args).unwrap().prints("changed files that only it has, is kept in");
}
