//! Flags of every command, in every position.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::json;

use crate::support::{Site, skip, which};

/// Global flags work before and after the command, in long and short form.
#[test]
fn global_flags_work_before_and_after_the_command() {
    let site = Site::new();
    site.create("main");
    let state = site.state();
    let state = state.to_str().unwrap();
    for flag in [
        &["--state-dir", state][..],
        &["--verbose"],
        &["-v"],
        &["--debug"],
        &["-d"],
        &["--timeout", "5"],
        &["--timeout=5"],
        &["--json"],
        &["--color", "auto"],
        &["--color", "always"],
        &["--color", "never"],
    ] {
        let before: Vec<_> = flag.iter().chain(&["list"]).copied().collect();
        let after: Vec<_> = ["list"].iter().chain(flag).copied().collect();
        let (before, after) = (site.run(&before).ok().prints("app-main"), site.run(&after).ok());
        assert_eq!(before.stdout.is_empty(), after.stdout.is_empty());
        assert_eq!(before.stdout.starts_with('['), flag == ["--json"]);
    }
}

/// A branch or a machine in the place of a command is probably to be started.
#[test]
fn a_branch_in_place_of_a_command_is_recognized() {
    let site = Site::new();
    site.git(&["branch", "feat"]);
    site.create("main");
    for word in ["feat", "main", "app-main"] {
        let hint = format!("hint: did you mean: agent-vm start {word}\n");
        site.run(&[word]).exits(2).gives_one_error().says(&hint);
        site.run(&["run", word]).exits(2).gives_one_error().says(&hint);
    }
    // Control.
    site.run(&["zebra"]).exits(2).gives_one_error().says("hint: for usage: agent-vm --help\n");
    site.run(&["run", "other"]).exits(2).gives_one_error().says("agent-vm exec -- other\n");
}

/// Every command knows its flags: the error is the missing machine, not the command line.
#[test]
fn every_flag_of_every_command_is_accepted() {
    let site = Site::new();
    for line in [
        "start",
        "start main",
        "start --timeout 9 main",
        "exec -t main -- true",
        "exec --no-tty main -- true",
        "stop",
        "stop main",
        "restart",
        "restart main",
        "destroy",
        "destroy main",
        "destroy --yes main",
        "destroy -y",
        "status",
        "status main",
        "status --json main",
        "shell",
        "shell main",
        "exec -- true",
        "exec main -- ls -l",
        "logs",
        "logs -f",
        "logs --follow main",
        "logs -n 5",
        "logs --lines 5 main",
        "logs --console -f -n 5 main",
        "stop --branch main",
    ] {
        let args: Vec<_> = line.split(' ').collect();
        site.run(&args).exits(1).gives_one_error().says("there is no machine for main");
    }
    for line in ["list", "list --json", "--help", "--version", "help", "create --help", "-h"] {
        site.run(&line.split(' ').collect::<Vec<_>>()).ok();
    }
    // Control: an unknown flag is refused, with another exit code.
    for line in [
        "start --nonsense",
        "stop -x",
        "nonsense",
        "list main",
        "create main",
        "--timeout 0 list",
        "--timeout x list",
        "--color sometimes list",
        "logs -n x",
        "logs -n -1",
        "status a b",
        "exec true",
    ] {
        let done = site.run(&line.split(' ').collect::<Vec<_>>()).exits(2);
        assert!(done.stderr.starts_with("error:"), "{line}: {}", done.stderr);
    }
}

#[test]
fn the_state_directory_is_set_by_flag_and_environment() {
    let site = Site::new();
    let odd = site.path("my state ünï $(id) 'q'; x");
    let odd = odd.to_str().unwrap();
    site.run(&["create", "--state-dir", odd]).ok();
    site.run(&["--state-dir", odd, "status"]).ok().prints("VM Status: app-main");
    site.run_with(&[("AGENT_VM_STATE_DIR", odd)], &["status"]).ok().prints("VM Status: app-main");
    site.run_in(site.root(), &["--state-dir", "my state ünï $(id) 'q'; x", "status", "app-main"]).ok();
    // The flag takes precedence over the variable.
    site.run_with(&[("AGENT_VM_STATE_DIR", "/nonexistent")], &["--state-dir", odd, "status"]).ok();
    assert!(!site.state().exists(), "the default directory was used");
    site.run(&["status"]).exits(1);
    site.run(&["--state-dir", odd, "destroy"]).ok();

    site.create("main");
    assert!(site.machine("app-main").is_dir());
    let mut without_xdg = site.agent_vm(&["create"]);
    assert!(without_xdg.env_remove("XDG_DATA_HOME").status().unwrap().success());
    assert!(site.path("home/.local/share/agent-vms/app-main").is_dir());
    let mut without_home = site.agent_vm(&["list"]);
    let output = without_home.env_remove("XDG_DATA_HOME").env_remove("HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--state-dir DIR"));
}

/// A path through a symbolic link names the same machine.
#[test]
fn a_machine_is_the_same_through_a_symbolic_link() {
    let site = Site::new();
    crate::stand_ins::install(&site, crate::stand_ins::STAYS);
    std::os::unix::fs::symlink(site.path("data"), site.path("link")).unwrap();
    crate::stand_ins::create(&site, "main");
    let start = site.spawn(&["--state-dir", site.path("link/../link/agent-vms").to_str().unwrap(), "start"]);
    crate::support::wait_until("the guest", || site.machine("app-main").join("run/ports.json").exists());
    start.signal(rustix::process::Signal::KILL);
    drop(start);
    // Control: the machine runs.
    assert!(!site.processes().is_empty());
    fs::remove_file(site.machine("app-main").join("run/qemu.pid")).unwrap();
    site.run(&["stop"]).ok();
    site.assert_nothing_left();
}

#[test]
fn a_state_directory_that_qemu_cannot_use_is_refused() {
    let site = Site::new();
    for name in ["a,b", "a\nb", "a\"b", "a\tb"] {
        let path = site.path(name);
        let path = path.to_str().unwrap();
        site.run(&["--state-dir", path, "create"]).exits(2).gives_one_error().says("hint: choose one without commas");
        site.run_with(&[("AGENT_VM_STATE_DIR", path)], &["create"]).exits(2).gives_one_error();
        assert!(!site.path(name).exists());
    }
    let mut no_text = site.agent_vm(&["list", "--state-dir"]);
    let output = no_text.arg(std::ffi::OsStr::from_bytes(b"/tmp/\xff")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    site.run(&["--state-dir", "", "create"]).exits(2);
}

/// Color appears only on a terminal or on request.
#[test]
fn color_is_for_terminals_and_on_request() {
    let site = Site::new();
    let coloured =
        |variables: &[(&str, &str)], args: &[&str]| site.run_with(variables, args).exits(1).stderr.contains("\u{1b}[");
    assert!(!coloured(&[], &["status"]));
    assert!(coloured(&[], &["--color", "always", "status"]));
    assert!(coloured(&[], &["status", "--color=always"]));
    assert!(!coloured(&[], &["--color", "never", "status"]));
    // The flag takes precedence over the environment.
    assert!(coloured(&[("NO_COLOR", "1")], &["--color", "always", "status"]));

    let Some(script) = which("script") else {
        skip("no script(1) to make a terminal");
        return;
    };
    for (variables, args, expected) in [
        (&[("TERM", "xterm")][..], "status", true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], "status", false),
        (&[("TERM", "xterm")], "--color never status", false),
        (&[("TERM", "dumb")], "status", false),
    ] {
        let mut command = site.command(&script);
        command.envs(variables.iter().copied()).env("SHELL", site.path("bin/sh"));
        command.args(["--quiet", "--return", "--command"]);
        let output = command.arg(format!("'{}' {args}", env!("CARGO_BIN_EXE_agent-vm"))).arg("/dev/null").output();
        let shown = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
        assert!(shown.contains("there is no machine"), "{shown}");
        assert_eq!(shown.contains("\u{1b}["), expected, "{variables:?} {args}: {shown:?}");
    }
}

/// Messages and help wrap between words on a narrow terminal; elsewhere a message is one line.
#[test]
fn lines_fit_the_terminal() {
    let (Some(script), Some(stty)) = (which("script"), which("stty")) else {
        skip("no script(1) or stty(1) to make a terminal");
        return;
    };
    let site = Site::new();
    site.git(&["checkout", "--quiet", "-b", "a-branch-with-a-rather-long-name-that-takes-its-space"]);
    let shown = |args: &str| {
        let mut command = site.command(&script);
        command.env("TERM", "dumb").env("SHELL", site.path("bin/sh")).args(["--quiet", "--return", "--command"]);
        let program = env!("CARGO_BIN_EXE_agent-vm");
        let output =
            command.arg(format!("'{}' cols 80 rows 24; '{program}' {args}", stty.display())).arg("/dev/null").output();
        String::from_utf8(output.unwrap().stdout).unwrap().replace('\r', "")
    };
    let message = site.run(&["status"]).exits(1).stderr;
    // Control: the message is longer than a line of the terminal.
    assert!(message.lines().any(|line| line.len() > 80), "{message}");
    let on_terminal = shown("status");
    assert!(on_terminal.lines().all(|line| line.len() <= 80), "{on_terminal}");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&on_terminal), words(&message));
    site.create("a-branch-with-a-rather-long-name-that-takes-its-space");
    for args in ["create --help", "--help", "list"] {
        assert!(shown(args).lines().all(|line| line.chars().count() <= 80), "{args}: {}", shown(args));
    }
}

/// stdout has data and stderr has messages; with `--json`, stdout has only JSON.
#[test]
fn json_is_the_only_output_on_stdout() {
    let site = Site::new();
    let created = site.run(&["create", "--json", "-v"]).ok().json();
    assert_eq!(created["name"], "app-main");
    assert_eq!(created["directory"], site.machine("app-main").to_str().unwrap());
    assert_eq!(created["settings"], site.settings("app-main"));
    site.run(&["--debug", "status", "--json"]).ok().json();
    site.run(&["--debug", "list", "--json"]).ok().json();
}

/// Each command with `--json` prints one value, or refuses the flag.
#[test]
fn every_command_prints_json_or_refuses_the_flag() {
    let site = Site::new();
    let prints = |args: &[&str]| site.run(&[args, &["--json"]].concat()).ok().json();
    assert_eq!(prints(&["list"]), json!([]));
    assert_eq!(prints(&["create"])["name"], "app-main");
    assert_eq!(prints(&["stop"]), json!({ "name": "app-main", "outcome": "not-running" }));
    assert_eq!(prints(&["update"]), json!({ "name": "app-main", "moved": [] }));
    assert_eq!(prints(&["relink"])["name"], "app-main");
    assert_eq!(prints(&["set", "memory=1024"])["name"], "app-main");
    assert_eq!(prints(&["egress", "allow", "a.test"])["egress"]["allow"], json!(["a.test"]));
    assert_eq!(prints(&["egress", "log"]), json!([]));
    assert_eq!(prints(&["prune"]), json!([]));
    for (client, section) in [("codex", "mcp_servers"), ("cursor", "mcpServers")] {
        let printed = prints(&["mcp-config", "--client", client]);
        assert_eq!(printed[section]["app-main"]["args"], json!(["mcp", "app-main"]));
    }
    for args in [&["shell"][..], &["exec"], &["logs"], &["logs", "--console"], &["mcp"]] {
        let command = if args == ["exec"] { &["--", "true"][..] } else { &[] };
        let refused = site.run(&[args, &["--json"], command].concat()).exits(2).gives_one_error();
        refused.says(&format!("error: {} has no JSON output", args[0])).says("hint: leave out --json");
    }
    assert_eq!(prints(&["destroy"]), json!({ "name": "app-main", "kept": [] }));
    site.create_with_work();
    let kept = prints(&["destroy"])["kept"].clone();
    assert_eq!(kept, json!(site.kept()));
    assert_eq!(site.kept().len(), 1);
}

#[test]
fn a_closed_stdout_is_an_error_and_no_panic() {
    let site = Site::new();
    site.create("main");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = site.agent_vm(&["list"]).stdout(writer).stderr(std::process::Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: failed to write to stdout") && !said.contains("panicked"), "{said}");
}

#[test]
fn variables_of_a_git_hook_are_ignored() {
    let site = Site::new();
    fs::create_dir(site.path("other")).unwrap();
    site.git_in(site.path("other"), &["init", "--quiet", "--initial-branch=elsewhere"]);
    let other = site.path("other/.git");
    let other = other.to_str().unwrap();
    // Control: git itself follows GIT_DIR.
    let mut git = site.command("git");
    let seen = git.args(["symbolic-ref", "--short", "HEAD"]).env("GIT_DIR", other).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), "elsewhere");
    site.run_with(&[("GIT_DIR", other), ("GIT_WORK_TREE", "/"), ("GIT_INDEX_FILE", "/x")], &["create"]).ok();
    assert_eq!(site.names(), ["app-main"]);
}
