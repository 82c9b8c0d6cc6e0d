//! `agent-vm run`, `attach` and `ps`: which machine, what runs in it, and what follows.

use serde_json::json;

use crate::attached::{lives, number_in};
use crate::guest_services::GuestServices;
use crate::own_terminal::{LED_BY_A_SHELL, OwnTerminal};
use crate::stand_ins::{DefaultPorts, STAYS, create, install, install_ssh, server, servers};
use crate::support::{Site, wait_until};

const KEY: (&str, &str) = ("ANTHROPIC_API_KEY", "sk-kept-on-the-host");

/// Returns a site whose guest has an agent that records its arguments and variables.
fn site() -> Site {
    let site = Site::new();
    install(&site, STAYS);
    // The group that the agent needs.
    for file in ["package.json", "from-nix.json"] {
        site.write(file, site.read(file).replace("\"name\":\"npm\"", "\"name\":\"anthropic\""));
    }
    install_ssh(&site);
    site.restore("jq");
    agent(&site, "claude", "echo working; exit 7");
    site
}

/// Installs an agent "in the guest".
pub fn agent(site: &Site, name: &str, script: &str) {
    let record = site.path("record");
    let record = record.display();
    site.stand_in(
        name,
        &format!(
            "printf '%s\\n' \"$@\" >'{record}/{name}'; env >'{record}/{name}.env'; pwd >'{record}/{name}.cwd'\n{script}"
        ),
    );
}

#[test]
fn the_machine_is_created_started_and_given_the_agent() {
    let site = site();
    let _ports = DefaultPorts::take();
    let _services = GuestServices::of(&site, "app-main");
    site.run_with(&[KEY], &["run", "claude", "--", "--model", "a b"])
        .exits(7)
        .prints("working\n")
        .says("created app-main: guest debian")
        .says("Claude Code: may reach @anthropic; uses ANTHROPIC_API_KEY through the egress proxy");
    let settings = site.settings("app-main");
    assert_eq!((&settings["agents"], &settings["egress"]["allow"]), (&json!(["claude"]), &json!(["@anthropic"])));
    assert_eq!(settings["egress"]["secrets"], json!(["ANTHROPIC_API_KEY=api.anthropic.com"]));
    let arguments = site.read("record/claude");
    assert!(
        arguments.starts_with("--mcp-config={\"mcpServers\":{\"codemcp\":") && arguments.ends_with("\n--model\na b\n"),
        "{arguments}"
    );
    assert_eq!(site.read("record/claude.cwd").trim_end(), site.path("inside").to_str().unwrap());
    assert!(site.read("record/claude.env").contains("DISABLE_AUTOUPDATER=1"));
    // The key is where the proxy reads it, and neither in the guest's environment nor in a command line.
    let credentials = site.read("data/agent-vms/app-main/run/qemu/credentials/agent-vm.egress-environment");
    assert!(credentials.contains("ANTHROPIC_API_KEY=agent-vm-anthropic-api-key-"), "{credentials}");
    assert!(site.read("data/agent-vms/app-main/egress/secrets.json").contains(KEY.1));
    for file in ["record/ssh", "record/claude", "record/claude.env", "record/runner.env", "record/runner.args"] {
        assert!(!site.read(file).is_empty() && !site.read(file).contains(KEY.1), "{file}");
    }
    // The second run uses the running machine, with the servers that it has now.
    servers(&site, &[server("codemcp", "running"), server("db", "running")], &[]);
    site.run(&["run", "claude", "main", "--yolo"]).exits(7).does_not_say("created").does_not_say("already running");
    let arguments = site.read("record/claude");
    assert!(
        arguments.contains("/servers/db/mcp") && arguments.contains("--dangerously-skip-permissions\n"),
        "{arguments}"
    );
    site.run(&["run", "codex"])
        .exits(1)
        .says("app-main is running without codex")
        .says("agent-vm set app-main agents=claude,codex");
    site.run(&["run", "--command", "claude", "--", "alone"]).exits(7);
    assert_eq!(site.read("record/claude"), "alone\n");
    site.run(&["run", "--command", "missing", "main"]).exits(127).says("app-main has no program missing");
    site.run(&["run", "cladue"]).exits(2).says("there is no agent cladue").says("did you mean claude?");
    site.run(&["run", "make", "test"]).exits(2).says("to run a command in a machine: agent-vm exec -- make test\n");
    site.run(&["run", "main"]).exits(2).says("did you mean: agent-vm start main\n");
    site.run(&["run", "--command", "ls", "claude", "main"]).exits(2).says("runs a program, and no agent claude");
    site.run(&["run"]).exits(2);
}

#[test]
fn a_stopped_machine_gets_the_agent_with_its_next_start() {
    let site = site();
    create(&site, "main");
    site.set("app-main", "agents", json!(["codex"]));
    let _services = GuestServices::of(&site, "app-main");
    site.run_with(&[KEY], &["run", "claude"])
        .exits(7)
        .says("Claude Code: may reach @anthropic; uses ANTHROPIC_API_KEY");
    let settings = site.settings("app-main");
    assert_eq!(
        (&settings["agents"], &settings["egress"]["allow"]),
        (&json!(["codex", "claude"]), &json!(["@anthropic"]))
    );
    assert!(site.read("data/agent-vms/app-main/egress/secrets.json").contains(KEY.1));
    // What the user takes away later stays away.
    site.run(&["egress", "deny", "@anthropic"]).ok();
    site.run(&["run", "claude"]).exits(7);
    assert_eq!(site.settings("app-main")["egress"]["allow"], json!([]));
}

#[test]
fn a_task_runs_unattended_and_its_result_is_fetched() {
    let site = site();
    let _ports = DefaultPorts::take();
    let _services = GuestServices::of(&site, "app-main");
    let workspace = site.machine("app-main").join("workspace");
    agent(
        &site,
        "claude",
        &format!(
            "cat; export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'; cd '{}' && echo made >made && git add made && git -c user.name=a -c user.email=a@b.test commit -qm made && echo changed >README; echo the answer; exit 3",
            workspace.display()
        ),
    );
    let task = "make \"it\"; $(id)";
    // Nobody could log in.
    let refused = site.run(&["run", "claude", "--task", task]).exits(2).gives_one_error();
    refused.says("Claude Code has no key to work with in a new machine").says("agent-vm run claude");
    site.run(&["run", "aider", "--task", task]).exits(2).says("ANTHROPIC_API_KEY").does_not_say("log in");
    assert_eq!(site.names(), [] as [&str; 0]);
    // With a terminal, too, it reads nothing.
    site.run_with(&[KEY], &["run", "claude", "--task", task, "--fetch", "--rm"])
        .exits(3)
        .prints("the answer\n")
        .prints("app-main: 1 new commit\n")
        .prints(" README | 2 +-\n")
        .prints(" made   | 1 +\n")
        .says("removed app-main");
    let arguments = site.read("record/claude");
    assert!(arguments.starts_with("--print\n--dangerously-skip-permissions\n"), "{arguments}");
    assert!(arguments.ends_with(&format!("\n--\n{task}\n")), "{arguments}");
    assert_eq!(site.names(), [] as [&str; 0]);
    assert_eq!(site.kept().len(), 1);
    for wrong in [
        &["run", "claude", "--fetch"][..],
        &["run", "claude", "--rm"],
        &["run", "claude", "--task", "x", "--detach", "--rm"],
        &["run", "--command", "ls", "--task", "x"],
        &["run", "--command", "ls", "--yolo"],
    ] {
        site.run(wrong).exits(2);
    }
}

/// Stands in for tmux, which keeps one session in a file of the guest.
const TMUX: &str = "
cd INSIDE
for last; do :; done
case \" $* \" in
*' list-panes '*) cat sessions 2>/dev/null;;
*' kill-session '*) rm -f sessions;;
*' display-message '*) echo 1 7;;
*' attach-session '*) echo shown; cat;;
*' new-session '*)
    echo 'claude 0 1767225600 0 ' >sessions
    setsid sh -c \"$last\" >/dev/null 2>&1 </dev/null &;;
esac";

#[test]
fn a_session_goes_on_without_the_client() {
    let site = site();
    create(&site, "main");
    let _services = GuestServices::of(&site, "app-main");
    let tmux = TMUX.replace("INSIDE", site.path("inside").to_str().unwrap());
    site.stand_in("tmux", &tmux);
    agent(&site, "claude", "echo $$ >first; exec sleep 1000");
    site.run(&["run", "claude", "--detach", "--", "a b"]).exits(0).says("to show it: agent-vm attach app-main");
    let pid = number_in(&site, "inside/first");
    assert!(lives(pid) && site.read("record/claude").ends_with("\na b\n"));
    site.run(&["run", "claude", "--detach"]).exits(1).says("app-main runs a session claude already");
    site.run(&["ps"]).ok().prints("claude   running");
    let listed = site.run(&["ps", "--json"]).ok().json();
    let expected = json!([{ "session": "claude", "running": true, "exit_code": null, "started": "2026-01-01T00:00:00Z", "attached": 0 }]);
    assert_eq!(listed, expected);
    site.run(&["attach"]).exits(2).says("attach needs a terminal");
    let attach = |args: &[&str]| {
        let mut command = site.command("setsid");
        OwnTerminal::run(command.args(LED_BY_A_SHELL).arg(env!("CARGO_BIN_EXE_agent-vm")).args(args))
    };
    let mut terminal = attach(&["attach", "--session", "other"]);
    assert_eq!(terminal.ends(), Some(1));
    assert!(terminal.output().contains("app-main has no session other"));
    // Once the program has ended, its exit code is that of `attach`, and the session is gone.
    site.stand_in("tmux", &tmux.replace("; cat;;", ";;"));
    let mut terminal = attach(&["attach"]);
    assert_eq!(terminal.ends(), Some(7));
    assert!(terminal.output().contains("shown"));
    wait_until("the session to be removed", || !site.path("inside/sessions").exists());
    site.run(&["ps"]).ok().prints("app-main has no session");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
}
