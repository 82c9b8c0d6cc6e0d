//! `create` that is killed or interrupted, or that runs beside another `create`.

use std::fs;

use rustix::process::Signal;

use crate::support::{Done, Site, wait_until, which};

/// Installs a `git` and an `ssh-keygen` that count their calls and run `at` at call `number`.
fn at_call(site: &Site, number: usize, at: &str) {
    let calls = site.path("record/calls");
    drop(fs::remove_file(&calls));
    for program in ["git", "ssh-keygen"] {
        let (real, calls) = (which(program).unwrap(), calls.display());
        site.stand_in(
            program,
            &format!(
                "echo \"{program} $*\" >>'{calls}'\n\
                 if [ $(wc -l <'{calls}') -eq {number} ]; then {at}; fi\n\
                 exec '{}' \"$@\"",
                real.display()
            ),
        );
    }
}

fn restore(site: &Site) {
    for program in ["git", "ssh-keygen"] {
        site.restore(program);
    }
}

/// `create` is killed while each of its programs runs; the program itself continues. The next create works, and nothing
/// is left of the first.
#[test]
fn create_works_after_a_kill_at_any_point() {
    let site = Site::new();
    site.git(&["remote", "add", "origin", "/srv/app.git"]);
    for number in 1.. {
        // An existing branch and a new one take different code paths.
        let branch = if number % 2 == 0 { "main" } else { "new" };
        at_call(&site, number, "kill -9 $PPID");
        let killed = site.run(&["create", "--branch", branch]);
        restore(&site);
        if killed.code == Some(0) {
            assert!(number > 10, "too few programs ran: the test shows nothing");
            break;
        }
        assert_eq!(killed.code, None, "{killed:?}");
        site.create(branch);
        site.assert_nothing_left();
        site.run(&["status", branch]).ok();
        site.run(&["destroy", branch]).ok();
        assert!(site.names().is_empty());
    }
}

/// A create for another branch also removes the half-made machine and ends its hanging program.
#[test]
fn a_create_for_another_branch_cleans_up_after_a_killed_one() {
    let site = Site::new();
    for word in ["clone", "checkout", "config", "host_ed25519_key"] {
        let program = if word.contains("key") { "ssh-keygen" } else { "git" };
        site.intercept(
            program,
            word,
            &format!(
                "case \"$AGENT_VM_MACHINE\" in *main) touch '{}'; exec sleep 1000; esac",
                site.path("reached").display()
            ),
        );
        let create = site.spawn(&["create"]);
        site.wait_for("reached");
        // Control: a process and a half-made machine exist.
        assert!(!site.processes().is_empty());
        assert_eq!(site.state_entries(), [".locks", ".new-app-main"]);
        create.signal(Signal::KILL);
        drop(create);
        site.create("other");
        site.assert_nothing_left();
        site.run(&["destroy", "other"]).ok();
        site.restore(program);
        fs::remove_file(site.path("reached")).unwrap();
        fs::remove_dir_all(site.path("data")).unwrap();
    }
}

/// There may be no later command that cleans up, so git has to end by itself.
#[test]
fn git_ends_with_a_killed_create_and_has_a_memory_limit() {
    let site = Site::new();
    for word in ["for-each-ref", "status", "clone", "checkout"] {
        let (pid, limit) = (site.path("pid"), site.path("limit"));
        let stays = format!(
            "ulimit -v >'{}'; echo $$ >'{1}.new'; mv '{1}.new' '{1}'; exec sleep 1000",
            limit.display(),
            pid.display()
        );
        site.intercept("git", word, &stays);
        let create = site.spawn(&["create"]);
        site.wait_for("pid");
        let git: u32 = site.read("pid").trim().parse().unwrap();
        // Control: git runs while create does.
        assert!(crate::support::exists(git));
        let limit = site.read("limit");
        assert!(limit.trim().parse::<u64>().is_ok_and(|kib| kib <= 8 << 20), "{word}: {limit}");
        create.signal(Signal::KILL);
        drop(create);
        wait_until(&format!("git {word} to be gone"), || !crate::support::exists(git));
        fs::remove_file(pid).unwrap();
    }
    site.restore("git");
    site.create("main");
    site.assert_nothing_left();
}

/// `git pack-objects` may work for a long time before it writes and notices the closed pipe.
#[test]
fn pack_objects_ends_with_a_killed_create() {
    let site = Site::new();
    let real = which("setpriv").unwrap();
    let stays = format!(
        "exec '{1}' --pdeathsig KILL -- sh -c \"echo \\$\\$ >'{0}.new'; mv '{0}.new' '{0}'; exec sleep 1000\"",
        site.path("pid").display(),
        real.display()
    );
    site.intercept("setpriv", "pack-objects", &stays);
    let create = site.spawn(&["create"]);
    site.wait_for("pid");
    let packs: u32 = site.read("pid").trim().parse().unwrap();
    assert!(crate::support::exists(packs), "control");
    create.signal(Signal::KILL);
    drop(create);
    wait_until("git pack-objects to end", || !crate::support::exists(packs));
}

#[test]
fn a_signal_ends_create_and_its_programs() {
    let site = Site::new();
    for (word, signal, code) in [
        ("clone", Signal::INT, 130),
        ("clone", Signal::TERM, 143),
        ("checkout", Signal::HUP, 129),
        ("id_ed25519", Signal::INT, 130),
        ("status", Signal::INT, 130),
    ] {
        let program = if word.contains("ed25519") { "ssh-keygen" } else { "git" };
        // The second program ignores SIGTERM.
        let deaf = if signal == Signal::TERM { "trap '' TERM" } else { "" };
        let pid = site.path("pid");
        site.intercept(
            program,
            word,
            &format!("{deaf}\necho $$ >'{0}.new'; mv '{0}.new' '{0}'; sleep 1000 & wait; wait", pid.display()),
        );
        let create = site.spawn(&["create"]);
        site.wait_for("pid");
        create.signal(signal);
        Done::new(format!("create, {word} interrupted"), &create.output())
            .exits(code)
            .gives_one_error()
            .says("interrupted");
        site.assert_nothing_left();
        assert!(site.names().is_empty());
        let started: u32 = site.read("pid").trim().parse().unwrap();
        wait_until("its program to end", || !crate::support::exists(started));
        fs::remove_file(pid).unwrap();
        site.restore(program);
    }
    site.create("main");
}

/// The first command creates the machine; the second says that it waits, and then finds the machine.
#[test]
fn two_creates_of_one_branch_make_one_machine() {
    let site = Site::new();
    let (reached, go) = (site.path("reached"), site.path("go"));
    site.intercept(
        "git",
        "clone",
        &format!("touch '{}'; until [ -e '{}' ]; do sleep 0.01; done", reached.display(), go.display()),
    );
    let first = site.spawn(&["create"]);
    site.wait_for("reached");
    let mut second = site.agent_vm(&["create"]);
    let second = second.stderr(fs::File::create(site.path("second")).unwrap()).spawn().unwrap();
    let second = crate::support::Running::new(second);
    wait_until("the second to wait", || site.read("second").contains("waiting for another agent-vm"));
    fs::write(&go, "").unwrap();
    Done::new("the first create".to_owned(), &first.output()).ok();
    assert_eq!(second.output().status.code(), Some(1));
    assert!(site.read("second").contains("error: the branch main already has a machine: app-main"));
    assert_eq!(site.names(), ["app-main"]);
    site.assert_nothing_left();
}

/// Progress is printed even if stderr is not a terminal.
#[test]
fn a_long_clone_prints_progress() {
    let site = Site::new();
    let go = site.path("go");
    site.intercept("git", "clone", &format!("until [ -e '{}' ]; do sleep 0.01; done", go.display()));
    let mut create = site.agent_vm(&["create"]);
    let create = create.stderr(fs::File::create(site.path("said")).unwrap()).spawn().unwrap();
    let create = crate::support::Running::new(create);
    wait_until("a progress message", || site.read("said").contains("s so far)"));
    fs::write(&go, "").unwrap();
    assert!(create.output().status.success());
    let said = site.read("said");
    assert!(said.contains(&format!("cloning main of {}: ", site.repo().display())), "{said}");
}

/// A create that times out names what it waited for.
#[test]
fn waiting_for_another_create_times_out() {
    let site = Site::new();
    site.intercept("git", "clone", &format!("touch '{}'; exec sleep 1000", site.path("reached").display()));
    let first = site.spawn(&["create"]);
    site.wait_for("reached");
    site.run(&["create", "--timeout", "1"])
        .exits(124)
        .gives_one_error()
        .says("another agent-vm")
        .says("set a longer limit in seconds, such as --timeout ");
    // The command that timed out has not removed the other one's work.
    assert!(!site.processes().is_empty());
    first.signal(Signal::INT);
    Done::new("the first create".to_owned(), &first.output()).exits(130);
    site.assert_nothing_left();
}

#[test]
fn concurrent_creates_get_different_ports() {
    let site = Site::new();
    let branches = ["a", "b", "c", "d"];
    let all = branches.map(|branch| site.spawn(&["create", "--branch", branch]));
    for create in all {
        Done::new("one of four creates".to_owned(), &create.output()).ok();
    }
    let mut ports: Vec<_> = branches
        .iter()
        .map(|branch| site.settings(&format!("app-{branch}")))
        .flat_map(|settings| [settings["port"].as_u64().unwrap(), settings["ssh_port"].as_u64().unwrap()])
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8, "{ports:?}");
    site.assert_nothing_left();
}
