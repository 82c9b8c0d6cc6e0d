//! Commands, files and commits of a branch's machine, from its start to `destroy`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;

use crate::site::{Done, Running, Site, kill, site, wait_until};

/// Without a command, a stopped machine starts, and without Nix, if its guest is unchanged.
pub fn a_start_needs_no_nix(site: &Site) {
    // A nix that fails is first on PATH: a start that needs Nix cannot succeed.
    let bin = site.repo().join("../bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("nix"), "#!/bin/sh\nexit 99\n").unwrap();
    fs::set_permissions(bin.join("nix"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let run = |args: &[&str]| Done::from(site.agent_vm(args).env("PATH", &path).output().unwrap(), args);
    run(&[]).ok().says("app-main is running").says("https://127.0.0.1:");

    // Control: a machine with other packages runs Nix.
    let config = site.machine("app-other").join("config.json");
    let text = fs::read_to_string(&config).unwrap().replace("\"packages\": []", "\"packages\": [\"make\"]");
    fs::write(&config, text).unwrap();
    run(&["start", "other"]).exits(1).says("nix failed (exit status: 99)");
}

/// Commands with their input, output and exit codes, the journal, the console, and the output of `status`.
pub fn commands_run_in_the_machine(site: &Site) {
    site.exec("main", &["sh", "-c", "exit 7"]).exits(7);
    site.exec("main", &["sh", "-c", "kill -9 $$"]).exits(137);
    let odd = "a b\t'q' \"d\" $HOME `id` \\ *;&|\n#x";
    assert_eq!(site.exec("main", &["printf", "%s", odd]).ok().stdout, odd);
    assert_eq!(site.exec("main", &["pwd"]).ok().stdout, "/workspace\n");
    assert_eq!(site.exec("main", &["hostname"]).ok().stdout, "app-main\n");
    assert_eq!(site.exec("main", &["id", "-un"]).ok().stdout, "dev\n");
    assert_eq!(site.exec("main", &["nproc"]).ok().stdout, "2\n");

    // As in the README, in a repository with a Makefile.
    site.exec("main", &["make", "test"]).ok().says("tested");
    for program in ["apt-get update", "sudo true"] {
        let words: Vec<_> = program.split(' ').collect();
        site.exec("main", &words).exits(100).says("agent-vm create --package NAME");
    }
    site.exec("main", &["pip", "install", "nothing"]).exits(1).says("python3 -m venv .venv");
    // With what Debian splits off: a virtual environment gets its pip from ensurepip. Its installation takes a minute.
    let venv = "python3 -m venv --without-pip /tmp/venv && /tmp/venv/bin/python3 -m ensurepip --version";
    site.exec("main", &["sh", "-c", venv]).ok().says("pip ");

    let mut child =
        site.agent_vm(&["exec", "main", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let sent = vec![b'x'; 300_000];
    child.stdin.take().unwrap().write_all(&sent).unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, sent);

    // However exec ends, its command ends too, even in a process group of its own.
    for (signal, code) in [("INT", Some(130)), ("KILL", None)] {
        let exec =
            site.agent_vm(&["exec", "main", "--", "timeout", "4000", "sleep", "4321"]).stderr(Stdio::null()).spawn();
        let mut exec = Running(exec.unwrap());
        let runs = || site.exec("main", &["pgrep", "-fc", "^[s]leep 4321"]).stdout.trim() != "0";
        wait_until("the command to run", runs);
        kill(i32::try_from(exec.0.id()).unwrap(), signal);
        assert_eq!(exec.0.wait().unwrap().code(), code, "after {signal}");
        wait_until("the command to end in the machine", || !runs());
    }

    let shell = {
        let mut child = site.agent_vm(&["shell", "main"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"echo in $PWD as $(whoami); exit 5\n").unwrap();
        Done::from(child.wait_with_output().unwrap(), &["shell"])
    };
    shell.exits(5).says("in /workspace as dev");

    site.run(&["logs", "main", "-n", "200"]).ok().says("agent-mcp");
    let status = site.status("main");
    assert_eq!(status["state"], "running");
    assert_eq!(status["service"]["state"]["active"], "active");
    assert_eq!(status["mcp"]["responds"], true);
    assert_eq!(status["ssh"]["reachable"], true);
    assert_eq!(status["vm"]["state"], "running");
    assert_eq!(status["vm"]["share"], "virtiofs");
    assert_eq!(status["problems"].as_array().unwrap().len(), 0, "{status}");
    let listed = site.run(&["list", "--json"]).ok().json();
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"app-main".into(), &"running".into()));
}

/// Files appear on both sides with the right owner, and commits in both repositories.
pub fn files_have_the_right_owner_on_both_sides(site: &Site) {
    let workspace = site.machine("app-main").join("workspace");
    let host_owner = fs::metadata(&workspace).unwrap().uid();

    fs::write(workspace.join("from-host"), "host\n").unwrap();
    // Root's machines belong to another account.
    let host_group = fs::metadata(&workspace).unwrap().gid();
    std::os::unix::fs::chown(workspace.join("from-host"), Some(host_owner), Some(host_group)).unwrap();
    assert_eq!(site.exec("main", &["cat", "from-host"]).ok().stdout, "host\n");
    assert_eq!(site.exec("main", &["stat", "-c", "%U:%G", "from-host", "README"]).ok().stdout, "dev:dev\ndev:dev\n");
    site.exec("main", &["sh", "-c", "echo guest >> from-host && echo new > from-guest && chmod 640 from-guest"]).ok();
    assert_eq!(fs::read_to_string(workspace.join("from-host")).unwrap(), "host\nguest\n");
    let made = fs::metadata(workspace.join("from-guest")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (host_owner, 0o640));

    let new_commits = || site.status("main")["workspace"]["git"]["new_commits"].as_u64().unwrap();
    let before = new_commits();
    site.exec("main", &["git", "add", "--all"]).ok();
    site.exec("main", &["git", "commit", "--quiet", "--message", "from the guest"]).ok();
    assert_eq!(new_commits(), before + 1);
    git_works_both_ways(site);
}

/// Commits what nobody has fetched.
pub fn a_commit_that_only_the_machine_has(site: &Site) {
    site.exec("main", &["git", "commit", "--quiet", "--allow-empty", "--message", "not fetched"]).ok();
}

/// A stopped machine has no processes and no run directory, and its console's last lines are kept.
pub fn nothing_of_a_stopped_machine_runs(site: &Site) {
    assert!(site.processes("app-main").is_empty());
    assert!(!site.machine("app-main").join("run").exists());
    site.run(&["logs", "main"]).exits(1).says("agent-vm start app-main");
    let console = site.run(&["logs", "main", "--console"]).ok().stdout;
    assert!(console.contains("Power down"), "{console}");
}

/// The commit of [`a_commit_that_only_the_machine_has`] and those of [`files_have_the_right_owner_on_both_sides`] survive a
/// destroy.
pub fn commits_survive_a_destroy(site: &Site) {
    let gone = site.run(&["destroy", "main", "--yes"]).ok().says("the commits that only app-main had are in");
    let bundle = gone.stderr.split_whitespace().find(|word| word.ends_with(".bundle")).unwrap();
    site.git(&["fetch", "--quiet", bundle, "refs/heads/main:refs/heads/rescued"]);
    assert_eq!(site.git(&["show", "rescued:from-guest"]), "new\n");
    assert!(!site.machine("app-main").exists());
    site.run(&["status", "main"]).exits(1).says("there is no machine for main");
}

/// `origin` works in the machine, and commits go in both directions while it runs.
fn git_works_both_ways(site: &Site) {
    let inside = |args: &[&str]| site.exec("main", &[&["git"], args].concat()).ok().stdout;
    let commit = inside(&["rev-parse", "HEAD"]);
    inside(&["push", "--quiet", "origin", "main"]);
    inside(&["fetch", "--quiet"]);
    assert!(inside(&["ls-remote", "origin", "main"]).starts_with(commit.trim()));
    site.run(&["fetch", "main"]).ok().says("refs/agent-vm/app-main/heads/main");
    site.run(&["merge", "main"]).ok().says("from-guest");
    site.commit("on-the-host", "x\n");
    site.run(&["push", "main"]).ok().says("origin of app-main");
    site.run(&["push", "main"]).ok().says("has everything");
    inside(&["pull", "--quiet"]);
    assert_eq!(site.exec("main", &["cat", "on-the-host"]).ok().stdout, "x\n");
    // Both have new commits.
    inside(&["commit", "--quiet", "--allow-empty", "--message", "pushed"]);
    inside(&["push", "--quiet"]);
    site.commit("on-the-host-too", "x\n");
    let done = site.run(&["push", "main"]).exits(1).says("did not take the commits").says("agent-vm fetch app-main");
    assert!(!done.stderr.contains("From "), "{}", done.stderr);
    site.run(&["fetch", "main"]).ok();
    site.run(&["merge", "main", "--ref", "origin/heads/main"]).ok();
    site.run(&["push", "main"]).ok().says("origin of app-main");
    inside(&["pull", "--quiet"]);
}

/// Without virtiofsd the workspace is shared over 9p, with a notice.
#[test]
fn without_virtiofsd_the_workspace_is_shared_by_9p() {
    let Some(site) = site() else { return };
    site.create("main");
    let args = ["start", "main"];
    let start = site.agent_vm(&args).env("AGENT_VM_VIRTIOFSD", "/nonexistent").output().unwrap();
    Done::from(start, &args).ok().says("notice: virtiofsd is not installed: the workspace is shared over 9p");
    assert_eq!(site.status("main")["vm"]["share"], "9p");
    let workspace = site.machine("app-main").join("workspace");
    fs::write(workspace.join("from-host"), "host\n").unwrap();
    site.exec("main", &["sh", "-c", "cat from-host README > from-guest"]).ok();
    assert_eq!(fs::read_to_string(workspace.join("from-guest")).unwrap(), "host\nhello\n");
    site.exec("main", &["git", "status", "--short"]).ok().says("from-guest");
    // Control: with virtiofsd the same machine uses the other guest.
    site.run(&["stop", "main"]).ok();
    site.start("main");
    assert_eq!(site.status("main")["vm"]["share"], "virtiofs");
    assert_eq!(site.exec("main", &["cat", "from-guest"]).ok().stdout, "host\nhello\n");
}
