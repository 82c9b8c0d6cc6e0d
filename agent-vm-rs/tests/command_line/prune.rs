//! `prune`: removes machines whose repository or declaration is missing, and keeps their commits.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use serde_json::json;

use crate::guest_services::GuestServices;
use crate::stand_ins::{STAYS, create, install, install_ssh};
use crate::support::{Done, Running, Site, skip, tree, wait_until, which};
use crate::sweep::set_immutable;

/// A machine whose repository is missing, with a commit that only its workspace has.
fn orphan(site: &Site) -> String {
    site.create("main");
    let commit = site.commit_in(site.machine("app-main").join("workspace"), "work", "x");
    fs::rename(site.repo(), site.path("elsewhere")).unwrap();
    commit
}

fn prune(site: &Site, flags: &[&str]) -> Done {
    site.run_in(site.root(), &[&["prune"], flags].concat())
}

#[test]
fn commits_of_a_pruned_machine_can_be_restored() {
    let site = Site::new();
    let commit = orphan(&site);
    let before = tree(&site.machine("app-main"));
    prune(&site, &["--dry-run"]).ok().prints("app-main: would be removed (its repository ");
    assert_eq!(tree(&site.machine("app-main")), before);
    let done = prune(&site, &["--json"]).ok().says("the commits that only app-main had are in");
    assert_eq!((&done.json()[0]["name"], &done.json()[0]["outcome"]), (&json!("app-main"), &json!("removed")));
    assert!(site.names().is_empty());
    let command = done.stderr.lines().find_map(|line| line.trim().strip_prefix("or with git alone: ")).unwrap();
    let mut sh = site.command("sh");
    let fetched = sh.args(["-c", command]).current_dir(site.path("elsewhere")).output().unwrap();
    assert!(fetched.status.success(), "{command}: {}", String::from_utf8_lossy(&fetched.stderr));
    assert_eq!(site.git_in(site.path("elsewhere"), &["rev-parse", &(site.rescued() + "/main")]), commit);
    prune(&site, &[]).ok().says("no machine to remove");
}

#[test]
fn a_machine_with_a_repository_and_a_declaration_stays() {
    let site = Site::new();
    site.create("main");
    site.write("vm.json", "{}");
    let file = site.path("vm.json");
    site.run(&["apply", "main", "--config", file.to_str().unwrap()]).ok();
    site.create("other");
    prune(&site, &["--yes"]).ok().says("no machine to remove");
    // A machine that was declared once needs its declaration.
    fs::remove_file(&file).unwrap();
    prune(&site, &["--yes", "--older-than", "1d"]).ok().says("no machine to remove");
    prune(&site, &["--yes"]).ok().prints("app-main: removed (its declaration ");
    assert_eq!(site.names(), ["app-other"]);
    prune(&site, &["--dry-run", "--undeclared"]).ok().prints("app-other: would be removed (it is not declared)");
    for wrong in ["30", "soon", "-1d"] {
        prune(&site, &[&format!("--older-than={wrong}")]).exits(2).gives_one_error().says("give a number with a unit");
    }
}

/// As with a directory that the user may not enter, or a network file system that does not answer.
#[test]
fn a_machine_whose_repository_cannot_be_examined_stays() {
    let site = Site::new();
    orphan(&site);
    symlink(site.repo(), site.repo()).unwrap();
    prune(&site, &["--yes"]).ok().says("no machine to remove");
    // Control: the repository does not exist.
    fs::remove_file(site.repo()).unwrap();
    prune(&site, &["--dry-run"]).ok().prints("app-main: would be removed (its repository ");
}

#[test]
fn a_machine_whose_repository_may_be_on_a_disk_that_is_not_mounted_stays() {
    let site = Site::new();
    orphan(&site);
    let config = site.machine("app-main").join("config.json");
    let recorded = fs::read_to_string(&config).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut settings: serde_json::Value = serde_json::from_str(&recorded).unwrap();
        assert!(settings["source_mount"].is_string(), "{settings}");
        change(&mut settings);
        fs::write(&config, settings.to_string()).unwrap();
    };
    // Its declaration is there, too.
    let declaration = json!({ "file": site.path("disk/app/vm.json"), "settings": {} });
    fs::write(site.machine("app-main").join("declared.json"), declaration.to_string()).unwrap();
    let stays = || {
        let done = prune(&site, &["--yes"]).ok().says("app-main stays: its repository ");
        done.says("may be on a disk that is not mounted")
            .says("agent-vm destroy app-main")
            .says("no machine to remove");
    };
    with(&|settings| settings["source_mount"] = json!(site.path("disk")));
    stays();
    // An older machine: the directory of a removable disk is gone.
    with(&|settings| {
        settings.as_object_mut().unwrap().remove("source_mount");
        settings["source"] = json!(site.path("disk/app"));
    });
    stays();
    with(&|settings| settings["source"] = json!(site.path("elsewhere")));
    prune(&site, &["--yes"]).ok().says("no machine to remove");
    with(&|settings| {
        settings.as_object_mut().unwrap().remove("source_mount");
        settings["source"] = json!(site.path("disk/app"));
    });
    fs::create_dir(site.path("disk")).unwrap();
    prune(&site, &["--dry-run"]).ok().prints("app-main: would be removed").does_not_say("not mounted");
    // Control.
    fs::write(&config, &recorded).unwrap();
    prune(&site, &["--yes"]).ok().prints("app-main: removed").does_not_say("not mounted");
}

#[test]
fn a_machine_that_changed_lately_stays() {
    let site = Site::new();
    orphan(&site);
    prune(&site, &["--older-than", "30d"]).ok().says("no machine to remove");
    let touched = Command::new("find")
        .arg(site.machine("app-main"))
        .args(["-exec", "touch", "--no-dereference", "--date=-60 days", "{}", "+"])
        .status();
    assert!(touched.unwrap().success());
    prune(&site, &["--older-than", "90d"]).ok().says("no machine to remove");
    prune(&site, &["--older-than", "30d"]).ok().prints("app-main: removed");
}

/// A machine whose commits cannot be saved stays; the others are removed.
#[test]
fn a_machine_that_cannot_be_removed_does_not_stop_the_others() {
    let site = Site::new();
    site.create("main");
    site.create("other");
    site.commit_in(site.machine("app-main").join("workspace"), "work", "x");
    fs::rename(site.repo(), site.path("elsewhere")).unwrap();
    // This machine has nothing to save.
    fs::remove_dir_all(site.machine("app-other").join("workspace")).unwrap();
    site.write("data/agent-vms/.bundles", "in the way");
    let done = prune(&site, &["--yes"]).exits(1);
    assert_eq!(done.stderr.matches("was not removed").count(), 1, "{}", done.stderr);
    done.says("app-main was not removed: its work cannot be saved now: ")
        .says("error: failed to remove 1 machine")
        .says("hint: ")
        .prints("app-main: failed")
        .prints("app-other: removed");
    assert_eq!(site.names(), ["app-main"]);
}

/// Starts `prune` while another command has the machine's lock; `meanwhile` runs when it waits for that.
fn prune_beside(site: &Site, meanwhile: impl FnOnce()) -> Done {
    let lock = fs::File::create(site.state().join(".locks/app-main")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (out, err) = (site.path("out"), site.path("err"));
    let file = |path| fs::File::create(path).unwrap();
    let mut command = site.agent_vm(&["prune", "--yes"]);
    let mut prune = Running::new(command.stdout(file(&out)).stderr(file(&err)).spawn().unwrap());
    wait_until("prune waits", || site.read("err").contains("waiting for another agent-vm command"));
    meanwhile();
    drop(lock);
    wait_until("prune ends", || prune.ended());
    let status = prune.output().status;
    let output = Output { status, stdout: fs::read(out).unwrap(), stderr: fs::read(err).unwrap() };
    Done::new("prune beside another command".to_owned(), &output)
}

#[test]
fn a_machine_that_another_command_removed_is_no_failure() {
    let site = Site::new();
    orphan(&site);
    fs::create_dir(site.repo()).unwrap();
    let gone = || fs::remove_dir_all(site.machine("app-main")).unwrap();
    prune_beside(&site, gone).ok().does_not_say("was not removed").says("no machine to remove");
    // Control: a machine that is still there is removed.
    fs::remove_dir(site.repo()).unwrap();
    fs::rename(site.path("elsewhere"), site.repo()).unwrap();
    orphan(&site);
    fs::create_dir(site.repo()).unwrap();
    prune_beside(&site, || {}).ok().prints("app-main: removed");
}

/// By then it no longer has its name.
#[test]
fn a_machine_that_cannot_be_removed_completely_is_a_failure() {
    let site = Site::new();
    orphan(&site);
    let config = site.machine("app-main").join("config.json");
    if !set_immutable(&config, true) {
        return;
    }
    let done = prune(&site, &["--yes"]);
    let left = fs::read_dir(site.state()).unwrap().map(|entry| entry.unwrap().path().join("config.json"));
    for file in left.filter(|file| file.exists()) {
        assert!(set_immutable(&file, false));
    }
    done.exits(1).says("failed to remove the remains of app-main").prints("app-main: failed");
    // Control: the next command removes the rest.
    site.run_in(site.root(), &["list"]).ok();
    site.assert_nothing_left();
}

#[test]
fn a_running_machine_stays() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    let inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    fs::rename(site.repo(), site.path("elsewhere")).unwrap();
    prune(&site, &["--yes", "--undeclared"]).ok().says("no machine to remove");
    assert!(!site.pids().is_empty());
    site.run_in(site.root(), &["stop", "app-main"]).ok();
    drop(inside);
    // Control.
    prune(&site, &["--yes"]).ok().prints("app-main: removed (its repository ");
    site.assert_nothing_left();
}

/// The clean-up of a NixOS host, for a machine with a commit that its repository does not have. As root, the machine belongs
/// to another account, and the repository to root.
#[test]
fn the_clean_up_of_a_host_keeps_commits() {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/host/cleanup.sh");
    if !script.exists() {
        return skip("the NixOS modules are not here");
    }
    let is_root = rustix::process::geteuid().is_root();
    let site = Site::new();
    for program in ["stat", "chown", "find"] {
        site.restore(program);
    }
    fs::copy(env!("CARGO_BIN_EXE_agent-vm"), site.path("agent-vm")).unwrap();
    let sh = |text: &str| {
        let output = site.command("sh").args(["-euc", text]).current_dir(site.root()).output().unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let mut commits = Vec::new();
    for instance in ["old", "declared", "new"] {
        let state = site.path("vms").join(instance);
        site.run(&["--state-dir", state.to_str().unwrap(), "create", "--branch", "main"]).ok();
        commits.push(site.commit_in(state.join("app-main/workspace"), "work", instance));
    }
    sh(
        "find vms/old vms/declared -exec touch --no-dereference --date='-60 days' {} +; chmod 711 . vms; chmod 1777 tmp",
    );
    if is_root {
        sh("chown -R 65534:65534 vms/*");
    }
    let cleanup = |config: &str| {
        site.write("gitconfig", config);
        let mut bash = site.command(which("bash").unwrap());
        bash.arg(&script).args([site.path("agent-vm"), site.path("vms")]).args(["30", "declared", "other"]);
        bash.env("GIT_CONFIG_GLOBAL", site.path("gitconfig")).current_dir("/");
        let output = bash.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    if is_root {
        // Git does not let the account use root's repository: which commits to keep is unknown, and the machine stays.
        let (success, said) = cleanup("");
        assert!(!success && said.contains("failed to remove the machines in"), "{said}");
        assert!(site.path("vms/old/app-main/workspace").exists());
        sh("find vms/old -exec touch --no-dereference --date='-60 days' {} +");
    }
    let (success, said) = cleanup("[safe]\n\tdirectory = *\n");
    assert!(success, "{said}");
    assert!(!site.path("vms/old/app-main").exists(), "{said}");
    let bundles: Vec<_> =
        fs::read_dir(site.path("vms/old/.bundles")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(bundles.len(), 1, "{bundles:?}");
    site.git(&["fetch", "--quiet", bundles[0].to_str().unwrap(), "+refs/heads/*:refs/remotes/rescued/*"]);
    assert_eq!(site.git(&["rev-parse", "rescued/main"]), commits[0]);
    // What is declared, and what changed lately, stays as it is.
    for instance in ["declared", "new"] {
        let workspace = site.path("vms").join(instance).join("app-main/workspace");
        assert_eq!(fs::read_to_string(workspace.join("work")).unwrap(), instance, "{said}");
    }
}
