//! `destroy` keeps what only the machine has and removes the rest.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use crate::support::{Done, Site, skip, which};

/// Creates a machine and returns its workspace.
fn machine(site: &Site) -> PathBuf {
    site.create("main");
    site.machine("app-main").join("workspace")
}

#[test]
fn a_machine_without_new_work_is_removed_without_a_bundle() {
    let site = Site::new();
    machine(&site);
    site.run(&["destroy"]).ok().says("removed app-main").does_not_say("bundle");
    assert_eq!(site.kept(), Vec::<PathBuf>::new());
    assert!(site.names().is_empty());
    site.run(&["destroy"]).exits(1).gives_one_error().says("there is no machine for main").does_not_say("earlier");
    site.create("main");
}

/// A client's file belongs to the user, so `destroy` only names the entries that it leaves.
#[test]
fn entries_in_the_clients_files_are_named() {
    let site = Site::new();
    for client in ["claude-code", "cursor", "vscode", "zed", "codex"] {
        machine(&site);
        let place = site.run(&["mcp-config", "--client", client, "--write", "--json"]).ok().json();
        site.run(&["mcp-config", "--client", client, "--write", "--server", "named"]).ok();
        let file = PathBuf::from(place["file"].as_str().unwrap());
        let text = fs::read_to_string(&file).unwrap();
        let done = site.run(&["destroy"]).ok().says("removed app-main");
        let done = done.says(&format!("notice: {} still has the server app-main, which", file.display()));
        let done = done.says("still has the server app-main-named, which");
        match client {
            "claude-code" => {
                let project = site.repo();
                done.says(&format!(
                    "to remove it: cd {} && claude mcp remove --scope project app-main\n",
                    project.display()
                ))
            }
            "codex" => done.says("to remove it: codex mcp remove app-main\n"),
            _ => done.says("to remove it, edit the file"),
        };
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        fs::remove_file(&file).unwrap();
    }
    // Control: another machine's entry, and files that cannot be read, are no reason for a notice or an error.
    site.git(&["branch", "other"]);
    site.create("other");
    machine(&site);
    site.run(&["mcp-config", "other", "--client", "claude-code", "--write"]).ok();
    rustix::fs::mkfifoat(rustix::fs::CWD, site.path("app/.cursor/mcp.json"), 0o600.into()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", site.path("app/.vscode/mcp.json")).unwrap();
    fs::File::create(site.path("config/zed/settings.json")).unwrap().set_len(1 << 40).unwrap();
    site.run(&["destroy"]).ok().says("removed app-main").does_not_say("notice: ");
}

/// The command in the message fetches every branch back.
#[test]
fn new_commits_are_kept_in_a_bundle_that_git_can_fetch() {
    let site = Site::new();
    let workspace = machine(&site);
    let on_main = site.commit_in(&workspace, "work", "x");
    site.git_in(&workspace, &["checkout", "--quiet", "-b", "agent/idea"]);
    let on_idea = site.commit_in(&workspace, "idea", "x");
    site.git_in(&workspace, &["pack-refs", "--all"]);
    let done = site.run(&["destroy", "--yes"]).ok().says("the commits that only app-main had are in");
    let command = done.stderr.lines().find_map(|line| line.trim().strip_prefix("or with git alone: ")).unwrap();
    let fetched = site.command("sh").args(["-c", command]).output().unwrap();
    assert!(fetched.status.success(), "{command}: {}", String::from_utf8_lossy(&fetched.stderr));
    assert_eq!(site.git(&["rev-parse", &(site.rescued() + "/main")]), on_main);
    assert_eq!(site.git(&["rev-parse", &(site.rescued() + "/agent/idea")]), on_idea);
    assert!(site.names().is_empty());
    // Again: the error is the same, with what was kept.
    let [bundle] = &site.kept()[..] else { panic!("{:?}", site.kept()) };
    let kept = format!(
        "what only an earlier app-main had is in {}\n  take it back: agent-vm kept restore {}\n  or with git alone: {command}\n",
        bundle.display(),
        bundle.file_stem().unwrap().display()
    );
    for args in [&["destroy"][..], &["destroy", "main"], &["destroy", "app-main", "--yes"]] {
        site.run(args).exits(1).gives_one_error().says(&kept).says("hint: to list all machines: agent-vm list\n");
    }
    // Control: another machine's work is not named.
    site.run(&["destroy", "app"]).exits(1).gives_one_error().does_not_say("take it back");
}

/// The second machine of a branch, while the first one's commits are still where they were fetched to.
#[test]
fn commits_of_several_machines_of_a_branch_are_fetched() {
    let site = Site::new();
    for round in 0..2 {
        let workspace = machine(&site);
        fs::write(workspace.join("new"), format!("{round}\n")).unwrap();
        let commit = site.commit_in(&workspace, "work", &round.to_string());
        fs::write(workspace.join("new"), "not committed\n").unwrap();
        let done = site.run(&["destroy", "--yes"]).ok();
        let command = done.stderr.lines().find_map(|line| line.trim().strip_prefix("or with git alone: ")).unwrap();
        let fetched = site.command("sh").args(["-c", command]).output().unwrap();
        assert!(fetched.status.success(), "{command}: {}", String::from_utf8_lossy(&fetched.stderr));
        let (_, name) = command.split_once("rescued/").unwrap();
        let (name, _) = name.split_once('/').unwrap();
        assert_eq!(site.git(&["rev-parse", &format!("rescued/{name}/main")]), commit);
    }
}

/// Packed references may have both `a` and `a/b`, which loose files cannot.
#[test]
fn a_branch_named_like_anothers_directory_is_fetched_too() {
    let site = Site::new();
    let workspace = machine(&site);
    let first = site.commit_in(&workspace, "first", "x");
    let second = site.commit_in(&workspace, "second-one", "x");
    site.git_in(&workspace, &["reset", "--quiet", "--hard", "HEAD~2"]);
    let packed =
        format!("# pack-refs with: peeled fully-peeled sorted \n{first} refs/heads/a\n{second} refs/heads/a/b\n");
    fs::write(workspace.join(".git/packed-refs"), packed).unwrap();
    let done = site.run(&["destroy", "--yes"]).ok();
    let command = done.stderr.lines().find_map(|line| line.trim().strip_prefix("or with git alone: ")).unwrap();
    let fetched = site.command("sh").args(["-c", command]).output().unwrap();
    assert!(fetched.status.success(), "{command}: {}", String::from_utf8_lossy(&fetched.stderr));
    assert_eq!(
        site.git(&["rev-parse", &(site.rescued() + "/a-1"), &(site.rescued() + "/a/b")]),
        format!("{first}\n{second}")
    );
}

/// Commits of a detached HEAD, of a tag and of the stash are kept.
#[test]
fn commits_without_a_branch_are_kept() {
    for how in ["detached", "tag", "stash"] {
        let site = Site::new();
        let workspace = machine(&site);
        let commit = match how {
            "stash" => {
                fs::write(workspace.join("README"), "work in progress\n").unwrap();
                site.git_in(&workspace, &["stash", "--quiet"]);
                site.git_in(&workspace, &["rev-parse", "refs/stash"])
            }
            _ => {
                site.git_in(&workspace, &["checkout", "--quiet", "--detach"]);
                site.commit_in(&workspace, "aside", "x")
            }
        };
        if how == "tag" {
            site.git_in(&workspace, &["tag", "keep"]);
            site.git_in(&workspace, &["checkout", "--quiet", "main"]);
        }
        assert_eq!(
            site.run(&["status", "--json"]).ok().json()["workspace"]["git"]["new_commits"].as_u64().map(|n| n > 0),
            Some(true),
            "{how}"
        );
        site.run(&["destroy"]).ok().says("the commits that only app-main had");
        let [bundle] = &site.kept()[..] else { panic!("{how}: {:?}", site.kept()) };
        assert!(site.git(&["bundle", "list-heads", bundle.to_str().unwrap()]).contains(&commit), "{how}");
    }
}

#[test]
fn two_destroys_keep_two_bundles() {
    let site = Site::new();
    for number in 1..=2 {
        let workspace = machine(&site);
        site.commit_in(&workspace, "work", &number.to_string());
        site.run(&["destroy"]).ok();
        assert_eq!(site.kept().len(), number);
    }
}

/// The repository has fetched the commits already, so there is no bundle.
#[test]
fn commits_that_were_fetched_are_not_kept() {
    let site = Site::new();
    let workspace = machine(&site);
    site.commit_in(&workspace, "work", "x");
    site.git(&["fetch", "--quiet", workspace.to_str().unwrap(), "main:taken"]);
    site.run(&["destroy"]).ok().does_not_say("only app-main had");
    assert_eq!(site.kept(), Vec::<PathBuf>::new());
}

/// The confined git that examines the workspace then sees the borrowed objects too.
#[test]
fn a_source_that_borrows_objects_is_read() {
    for (sandbox, store) in [("bwrap", "absolute"), ("bwrap", "../../../store"), ("landlocked", "../../../store")] {
        let site = Site::new();
        if !site.with_sandbox(sandbox) {
            continue;
        }
        let workspace = machine(&site);
        site.commit_in(&workspace, "work", "x");
        // The workspace has no copy of this commit.
        site.commit("later", "x");
        let objects = site.repo().join(".git/objects");
        fs::rename(&objects, site.path("store")).unwrap();
        fs::create_dir_all(objects.join("info")).unwrap();
        let named = if store == "absolute" { site.path("store").display().to_string() } else { store.to_owned() };
        fs::write(objects.join("info/alternates"), format!("{named}\n")).unwrap();
        let done = site.run(&["status", "--json", "--verbose"]).ok();
        assert!(done.has_sandbox(sandbox, "rev-list"), "{}", done.stderr);
        assert_eq!(done.json().pointer("/workspace/git/new_commits"), Some(&1.into()), "{sandbox} {store}");
        site.run(&["destroy"]).ok().says("the commits that only app-main had");
        assert_eq!(site.kept().len(), 1);
    }
}

#[test]
fn without_the_repository_everything_is_kept() {
    let site = Site::new();
    let workspace = machine(&site);
    let commit = site.git_in(&workspace, &["rev-parse", "HEAD"]);
    fs::rename(site.repo(), site.path("moved")).unwrap();
    fs::create_dir(site.repo()).unwrap();
    site.run_in(site.root(), &["status", "app-main"]).ok().prints("VM Status: app-main");
    site.run_in(site.root(), &["destroy", "app-main"]).ok().says("the commits that only app-main had");
    let [bundle] = &site.kept()[..] else { panic!("{:?}", site.kept()) };
    site.git_in(site.root(), &["clone", "--quiet", "--branch", "main", bundle.to_str().unwrap(), "rescued"]);
    assert_eq!(site.git_in(site.path("rescued"), &["rev-parse", "HEAD"]), commit);
}

/// A guest may leave directories without permission bits. The command runs without root's right to ignore them.
#[test]
fn directories_without_permissions_are_removed() {
    let site = Site::new();
    let workspace = machine(&site);
    fs::create_dir_all(workspace.join("a/b/c")).unwrap();
    fs::write(workspace.join("a/b/c/file"), "x").unwrap();
    for dir in ["a/b/c", "a/b", "a"] {
        fs::set_permissions(workspace.join(dir), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let Some(mut command) = powerless(&site) else { return };
    let done = Done::new("destroy".to_owned(), &command.arg("destroy").output().unwrap()).ok();
    done.says("removed app-main");
    assert!(site.names().is_empty());
    site.assert_nothing_left();
}

/// The directories are nested deeper than the longest path and than the limit of open files.
#[test]
fn deep_directories_are_removed() {
    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};
    let site = Site::new();
    let workspace = machine(&site);
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut dir = open(&workspace, flags, Mode::empty()).unwrap();
    for _ in 0..3000 {
        mkdirat(&dir, "d", Mode::RWXU).unwrap();
        dir = openat(&dir, "d", flags, Mode::empty()).unwrap();
    }
    let script = format!("ulimit -n 256 && exec '{}' destroy", env!("CARGO_BIN_EXE_agent-vm"));
    let output = site.command("sh").args(["-c", &script]).output().unwrap();
    Done::new("destroy".to_owned(), &output).ok().says("removed app-main");
    site.assert_nothing_left();
    assert!(site.names().is_empty());
}

/// The commits are kept even if the workspace itself has no permission bits.
#[test]
fn commits_of_a_workspace_without_permissions_are_kept() {
    let site = Site::new();
    let workspace = machine(&site);
    site.commit_in(&workspace, "work", "x");
    fs::set_permissions(&workspace, fs::Permissions::from_mode(0o000)).unwrap();
    let Some(mut command) = powerless(&site) else {
        fs::set_permissions(&workspace, fs::Permissions::from_mode(0o700)).unwrap();
        return;
    };
    Done::new("destroy".to_owned(), &command.arg("destroy").output().unwrap()).ok();
    assert_eq!(site.kept().len(), 1, "{:?}", site.kept());
}

/// Returns the command without root's capabilities, so that permission bits apply; None, with the test reported as
/// skipped, if there is no setpriv(1).
fn powerless(site: &Site) -> Option<std::process::Command> {
    if !rustix::process::geteuid().is_root() {
        return Some(site.agent_vm(&[]));
    }
    let Some(setpriv) = which("setpriv") else {
        skip("no setpriv(1) to give up the rights of root");
        return None;
    };
    let mut command = site.command(setpriv);
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--", env!("CARGO_BIN_EXE_agent-vm")]);
    Some(command)
}

/// Runs the command on a terminal with this input; None, with the test reported as skipped, if there is no script(1).
pub fn on_a_terminal(site: &Site, args: &str, typed: &str) -> Option<Done> {
    let Some(script) = which("script") else {
        skip("no script(1) to make a terminal");
        return None;
    };
    let mut command = site.command(script);
    command.env("SHELL", site.path("bin/sh"));
    command.args(["--quiet", "--return", "--command"]);
    command.arg(format!("'{}' {args}", env!("CARGO_BIN_EXE_agent-vm"))).arg("/dev/null");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    Some(Done::new(args.to_owned(), &child.wait_with_output().unwrap()))
}

#[test]
fn destroy_asks_on_a_terminal() {
    let site = Site::new();
    site.create("main");
    for no in ["n\n", "\n", "nonsense\n"] {
        let Some(done) = on_a_terminal(&site, "destroy", no) else { return };
        done.exits(1).prints("Remove app-main with its disk and workspace? [y/N]").prints("app-main was not removed");
        assert_eq!(site.names(), ["app-main"]);
    }
    on_a_terminal(&site, "destroy", "y\n").unwrap().ok().prints("removed app-main");
    assert!(site.names().is_empty());
    let workspace = machine(&site);
    site.commit_in(&workspace, "work", "x");
    fs::write(workspace.join("README"), "changed\n").unwrap();
    let saved = site.state().join(".bundles");
    // With commits to keep it asks too, and says where it keeps them.
    on_a_terminal(&site, "destroy", "n\n")
        .unwrap()
        .exits(1)
        .prints(&format!("The 1 commit and 1 changed file that only it has are kept in {}. [y/N]", saved.display()));
    assert_eq!((site.names(), site.kept().len()), (vec!["app-main".to_owned()], 0));
    on_a_terminal(&site, "destroy", "y\n").unwrap().ok().prints("removed app-main");
    assert_eq!((site.names().len(), site.kept().len()), (0, 1));
    let workspace = machine(&site);
    site.commit_in(&workspace, "work", "x");
    let done = on_a_terminal(&site, "destroy --yes", "").unwrap().ok().prints("removed app-main");
    assert!(!done.stdout.contains("[y/N]"), "{done:?}");
    assert_eq!(site.kept().len(), 2);
}
