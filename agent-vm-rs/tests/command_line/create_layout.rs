//! The files, modes and contents that `create` makes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Site, tree};

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_machine_has_its_files_and_modes() {
    let site = Site::new();
    site.run(&["create"]).ok().prints("To start app-main: agent-vm start app-main\n").says("created app-main");
    let machine = site.machine("app-main");
    let mut names: Vec<_> = fs::read_dir(&machine).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "events.jsonl", "ssh", "tls", "workspace"]);
    for (path, expected) in [
        ("", 0o700),
        ("config.json", 0o600),
        ("events.jsonl", 0o600),
        ("ssh", 0o700),
        ("ssh/id_ed25519", 0o600),
        ("ssh/id_ed25519.pub", 0o644),
        ("ssh/host_ed25519_key", 0o600),
        ("ssh/known_hosts", 0o600),
        ("tls", 0o700),
        ("tls/ca.pem", 0o644),
        ("tls/ca.key", 0o600),
        ("tls/token", 0o600),
    ] {
        assert_eq!(mode(machine.join(path)), expected, "{path}");
    }
    assert!(fs::read_to_string(machine.join("ssh/id_ed25519.pub")).unwrap().starts_with("ssh-ed25519 "));
    let (login, host) = (machine.join("ssh/id_ed25519.pub"), machine.join("ssh/host_ed25519_key.pub"));
    assert_ne!(fs::read(login).unwrap(), fs::read(host).unwrap());
    site.assert_nothing_left();
}

/// Modes depend neither on an open umask nor on a closed one.
#[test]
fn modes_are_the_same_under_every_umask() {
    let site = Site::new();
    for umask in ["000", "077"] {
        let script = format!("umask {umask}; exec '{}' create", env!("CARGO_BIN_EXE_agent-vm"));
        assert!(site.command(site.path("bin/sh")).args(["-c", &script]).output().unwrap().status.success());
        let machine = site.machine("app-main");
        assert_eq!(mode(&machine), 0o700);
        assert_eq!(mode(site.state()), 0o700);
        assert_eq!(mode(machine.join("config.json")), 0o600);
        assert_eq!(mode(machine.join("ssh/id_ed25519")), 0o600);
        assert_eq!(mode(machine.join("ssh/id_ed25519.pub")), 0o644);
        assert_eq!((mode(machine.join("tls/token")), mode(machine.join("tls/ca.pem"))), (0o600, 0o644));
        fs::remove_dir_all(site.state()).unwrap();
    }
}

#[test]
fn the_workspace_is_a_clone_with_two_remotes() {
    let site = Site::new();
    site.git(&["remote", "add", "origin", "https://me:secret-token@host.example/app.git"]);
    site.run(&["create"]).ok().says("is not copied into the machine");
    let workspace = site.machine("app-main").join("workspace");
    let git = |args: &[&str]| site.git_in(&workspace, args);
    // The copy as the machine sees it; the host's path stays on the host.
    assert_eq!(git(&["remote", "get-url", "origin"]), "file:///workspace/.git/origin.git");
    assert!(!git(&["config", "--list"]).contains(&*site.repo().to_string_lossy()));
    assert_eq!(git(&["remote", "get-url", "upstream"]), "https://host.example/app.git");
    assert_eq!(git(&["symbolic-ref", "--short", "HEAD"]), "main");
    assert_eq!(git(&["rev-parse", "HEAD"]), site.git(&["rev-parse", "HEAD"]));
    assert_eq!(git(&["status", "--porcelain"]), "");
    assert_eq!(git(&["config", "user.email"]), "test@example.invalid");
    // Control: the search finds the secret in the source repository.
    let holds = |dir: &Path| tree(dir).values().any(|contents| contents.contains("secret-token"));
    assert!(holds(&site.repo()));
    assert!(!holds(&site.machine("app-main")));
}

/// The workspace shares no file with the user's repository and gets none of its hooks.
#[test]
fn the_workspace_shares_nothing_with_the_repository() {
    use std::os::unix::fs::MetadataExt as _;
    let site = Site::new();
    fs::create_dir_all(site.path("home/template/hooks")).unwrap();
    site.script("home/template/hooks/post-checkout", "touch \"$HOME/hooked\"");
    site.write("home/.gitconfig", format!("[init]\n\ttemplateDir = {}\n", site.path("home/template").display()));
    // Control: git itself copies the template's hook and runs it.
    site.git(&["clone", "--quiet", ".", "../copy"]);
    assert!(site.path("copy/.git/hooks/post-checkout").exists() && site.path("home/hooked").exists());
    fs::remove_file(site.path("home/hooked")).unwrap();

    site.create("main");
    let workspace = site.machine("app-main").join("workspace");
    assert!(!workspace.join(".git/hooks/post-checkout").exists() && !site.path("home/hooked").exists());
    assert!(!workspace.join(".git/objects/info/alternates").exists());
    let inodes = |dir: &Path| -> Vec<u64> {
        let files = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file());
        files.map(|entry| entry.metadata().unwrap().ino()).collect()
    };
    let ours = inodes(&site.repo());
    assert!(!inodes(&workspace).iter().any(|inode| ours.contains(inode)));
}

#[test]
fn creating_changes_nothing_outside_the_state_directory() {
    let site = Site::new();
    site.git(&["branch", "other"]);
    // A plain `git status` would refresh the index.
    fs::write(site.path("app/README"), "hello\n").unwrap();
    let before = site.outside();
    site.create("main");
    site.create("other");
    site.create("brand-new");
    assert_eq!(site.outside(), before);
}

#[test]
fn a_second_create_is_refused_and_changes_nothing() {
    let site = Site::new();
    site.create("main");
    let before = tree(&site.machine("app-main"));
    site.run(&["create"])
        .exits(1)
        .gives_one_error()
        .says("the branch main already has a machine: app-main")
        .says("hint: to start it: agent-vm start app-main\n  to remove it: agent-vm destroy app-main\n");
    assert_eq!(tree(&site.machine("app-main")), before);
}

#[test]
fn uncommitted_changes_are_reported_and_stay() {
    let site = Site::new();
    site.write("app/README", "changed\n");
    site.write("app/new", "new\n");
    site.run(&["create"]).ok().says("not copied into the machine: 2 uncommitted changes in");
    assert_eq!(fs::read_to_string(site.machine("app-main").join("workspace/README")).unwrap(), "hello\n");
}
