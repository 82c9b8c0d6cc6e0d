//! Commands for stopped machines and for missing ones.

use crate::support::Site;

#[test]
fn a_missing_machine_is_an_error_with_a_hint() {
    let site = Site::new();
    for args in [
        &["start"][..],
        &["stop"],
        &["restart"],
        &["destroy"],
        &["destroy", "--yes"],
        &["status"],
        &["status", "--json"],
        &["shell"],
        &["exec", "--", "true"],
        &["logs"],
        &["logs", "--console"],
        &["mcp"],
        &["mcp", "--start"],
        &["mcp-config", "--client", "cursor"],
    ] {
        // A new machine has nothing to stop, remove or show.
        let of_used = ["stop", "destroy", "logs"].contains(&args[0]);
        let hint = if of_used { "to list all machines: agent-vm list" } else { "agent-vm create --branch main" };
        site.run(args)
            .exits(1)
            .gives_one_error()
            .says("error: there is no machine for main")
            .says(&format!("hint: {hint}\n"));
    }
    site.run(&["status", "app-main"]).exits(1).gives_one_error().says("there is no machine for app-main");
    // None of these commands creates anything.
    assert!(!site.state().exists());
}

/// A machine can only be created for a branch: for another word, the hint offers a similar machine name.
#[test]
fn an_unknown_name_gets_a_similar_machine_as_a_hint() {
    let site = Site::new();
    site.create("main");
    for (typed, hint) in [
        ("ap-main", "did you mean app-main?\n  to list all machines: agent-vm list\n"),
        ("two", "to list all machines: agent-vm list\n"),
    ] {
        for verb in ["stop", "destroy", "status", "start"] {
            site.run(&[verb, typed])
                .exits(1)
                .gives_one_error()
                .says(&format!("there is no machine for {typed} in {}", site.repo().display()))
                .says(&format!("hint: {hint}"))
                .does_not_say("agent-vm create");
        }
    }
    // A branch with a machine, a branch without one, and again a word that is similar to neither.
    site.git(&["branch", "feature/login"]);
    for (typed, hint) in [
        ("mian", "did you mean main?\n  to list all machines: agent-vm list\n"),
        (
            "feature/logn",
            "did you mean the branch feature/login? It has no machine: agent-vm create --branch feature/login\n",
        ),
        ("two", "to list all machines: agent-vm list\n"),
    ] {
        site.run(&["start", typed]).exits(1).gives_one_error().says(&format!("hint: {hint}"));
    }
    // Control: the word is a branch.
    site.git(&["branch", "two"]);
    site.run(&["start", "two"]).exits(1).says("agent-vm create --branch two");
    site.run_in(site.path("home"), &["create"]).exits(1).gives_one_error().says("hint: cd into the repository");
}

/// An error that clap finds is one error with one hint, too.
#[test]
fn a_wrong_command_line_has_a_hint() {
    let site = Site::new();
    site.create("main");
    for (args, hint) in [
        (&["exec", "ls"][..], "agent-vm exec -- ls"),
        (&["exec", "ls", "-la", "a b"], "agent-vm exec -- ls -la 'a b'"),
        (&["exec"], "agent-vm exec -- CMD"),
        (&["exec", "app-main", "ls", "-la"], "agent-vm exec app-main -- ls -la"),
        (&["exec", "main", "ls"], "agent-vm exec main -- ls"),
        (&["exec", "--timeout", "9", "main", "ls"], "agent-vm exec --timeout 9 main -- ls"),
        (&["exec", "main"], "agent-vm exec main -- CMD"),
        (&["shell", "--", "ls"], "agent-vm exec -- ls"),
        (&["shell", "main", "--", "ls", "-la", "a b"], "agent-vm exec main -- ls -la 'a b'"),
        (&["shell", "main", "ls", "-la"], "agent-vm exec main -- ls -la"),
        (&["--timeout", "5m", "list"], "write 300 for 5m: timeout takes a number of seconds, at least 1"),
        (&["egress", "log", "--lines", "abc"], "lines takes a number, such as --lines 100"),
        (&["logs", "--lines=-1"], "lines takes a number, such as --lines 100"),
        (&["create", "--memory", "2G"], "write 2048 for 2G: memory takes a number of MiB from 256 to 4194304"),
        (&["create", "--memory", "10"], "the unit is MiB: write 10240 for 10 GiB"),
        (&["create", "--port", "80000"], "port takes a port from 1 to 65535"),
        (&["create", "--egress", "all"], "did you mean open?"),
        (&["egress"], "agent-vm egress --help"),
        (&["rm", "main"], "did you mean: agent-vm destroy main"),
        (&["set", "memroy=1"], "did you mean memory?"),
        (&["create", "--memroy", "1"], "did you mean --memory?"),
        (&["create", "--memory", "1024", "a b"], "agent-vm create --branch 'a b'"),
        (&["creat"], "did you mean: agent-vm create"),
        (&["--nope"], "agent-vm --help"),
    ] {
        site.run(args).exits(2).gives_one_error().says("hint: ").says(hint);
    }
    site.run(&["exec", "--help"]).ok().prints("Usage: agent-vm exec");
}

/// The hint can be pasted into a shell, whatever the branch is called.
#[test]
fn the_hint_quotes_the_branch() {
    let site = Site::new();
    site.git(&["branch", "a;b$(id)"]);
    site.run(&["status", "a;b$(id)"]).exits(1).says("agent-vm create --branch 'a;b$(id)'");
}

#[test]
fn a_stopped_machine_is_an_error_with_the_start_command() {
    let site = Site::new();
    site.create("main");
    for args in [&["shell"][..], &["exec", "--", "true"], &["logs"], &["mcp"]] {
        site.run(args).exits(1).gives_one_error().says("app-main is not running").says("agent-vm start app-main");
    }
    site.run(&["logs", "--console"])
        .exits(1)
        .gives_one_error()
        .says("app-main has not been started")
        .says("hint: agent-vm start app-main");
    site.run(&["stop"]).ok().says("app-main: was not running");
    site.run(&["stop"]).ok().says("app-main: was not running");
}

#[test]
fn status_shows_a_stopped_machine() {
    let site = Site::new();
    site.create("main");
    let workspace = site.machine("app-main").join("workspace");
    site.commit_in(&workspace, "work", "x");
    std::fs::write(workspace.join("new"), "x").unwrap();
    let commit = site.git_in(&workspace, &["rev-parse", "HEAD"]);
    site.run(&["status"])
        .ok()
        .prints("VM Status: app-main\nAgent Service: Stopped\n")
        .prints(&format!("main at {}, 1 changed file, 1 commit not in the source repository", &commit[..12]))
        .prints("Memory     4.00 GiB");
    let status = site.run(&["status", "--json"]).ok().json();
    for (key, expected) in [
        ("/name", "app-main".into()),
        ("/state", "stopped".into()),
        ("/branch", "main".into()),
        ("/guest", "debian".into()),
        ("/memory_mib", 4096.into()),
        ("/vm", serde_json::Value::Null),
        ("/mcp", serde_json::Value::Null),
        ("/problems", serde_json::json!([])),
        ("/workspace/git/branch", "main".into()),
        ("/workspace/git/commit", commit.into()),
        ("/workspace/git/changed_files", 1.into()),
        ("/workspace/git/new_commits", 1.into()),
    ] {
        assert_eq!(status.pointer(key), Some(&expected), "{key}");
    }
}

/// A machine is found by branch in its repository, and by name in any directory.
#[test]
fn a_machine_is_found_by_branch_and_by_name() {
    let site = Site::new();
    site.create("main");
    site.create("feature/x");
    let name = site.run(&["status", "--json", "feature/x"]).ok().json()["name"].as_str().unwrap().to_owned();
    for args in [["status", name.as_str()], ["status", "--branch=feature/x"]] {
        site.run(&args).ok().prints(&format!("VM Status: {name}"));
    }
    site.run(&["status", "feature/x", "--branch", "main"]).exits(2);
    site.run_in(site.path("home"), &["status", &name]).ok().prints(&format!("VM Status: {name}"));
    site.run_in(site.path("home"), &["status", "feature/x"]).exits(1);
    site.run_in(site.machine(&name), &["status"]).ok().prints(&format!("VM Status: {name}"));
    site.run_in(site.machine(&name).join("workspace"), &["status", "app-main"]).ok().prints("VM Status: app-main");
    // A branch takes precedence over a machine of the same name.
    site.create("app-main");
    site.run(&["status", "app-main"]).ok().prints("VM Status: app-app-main");
}

#[test]
fn list_shows_every_machine() {
    let site = Site::new();
    let empty = site.run(&["list"]).ok().says("there are no machines yet");
    assert_eq!(empty.stdout, "");
    assert_eq!(site.run(&["list", "--json"]).ok().json(), serde_json::json!([]));
    site.create("main");
    site.create("zebra");
    let table = site.run_in(site.path("home"), &["list"]).ok().stdout;
    let words: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["MACHINE", "STATE", "BRANCH", "MCP", "SSH", "AGE", "REPOSITORY"]);
    let port = |name: &str| site.settings(name)["port"].to_string();
    assert_eq!(words[1][..4], ["app-main", "stopped", "main", &port("app-main")]);
    assert_eq!(words[2][..4], ["app-zebra", "stopped", "zebra", &port("app-zebra")]);
    let list = site.run(&["list", "--json"]).ok().json();
    assert_eq!(list[1]["branch"], "zebra");
    assert_eq!(list[0]["source"], site.repo().to_str().unwrap());
}
