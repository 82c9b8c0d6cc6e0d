//! Coding agents in the guest, against a stand-in for the APIs of their models.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::egress::{HOST, holds, memory, site_with_proxy};
use crate::own_terminal::OwnTerminal;
use crate::site::{Done, Running, Site, wait_until};
use crate::terminal::on_terminal;

/// The stand-in for the APIs.
struct Model {
    _server: Running,
    /// Where it listens.
    destination: String,
}

fn model(dir: &Path) -> Model {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vm_machines/model_api.py");
    let mut server =
        Command::new("python3").arg(script).arg(dir).arg(HOST.to_string()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Model { _server: Running(server), destination: format!("{HOST}:{}", line.trim()) }
}

const KEYS: [(&str, &str); 2] =
    [("ANTHROPIC_API_KEY", "sk-ant-kept-on-the-host-91c2"), ("OPENAI_API_KEY", "sk-kept-on-the-host-53fe")];

#[test]
fn agents_work_on_tasks_and_their_keys_stay_on_the_host() {
    let Some(site) = site_with_proxy() else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let destination = &model.destination;
    let secrets = KEYS.map(|(name, _)| format!("{name}={destination}"));
    let args = [
        &["--agent", "aider,claude,codex", "--memory", "3072", "--disk", "2048", "--allow", destination][..],
        &["--secret", &secrets[0], "--secret", &secrets[1]],
    ];
    Done::from(site.creates(&args.concat()).envs(KEYS).output().unwrap(), &["create"]).ok();
    let run = |args: &[&str]| {
        let args = [&["run"], args].concat();
        // The proxy trusts the stand-in.
        Done::from(site.agent_vm(&args).env("SSL_CERT_FILE", dir.path().join("ca.pem")).output().unwrap(), &args)
    };

    // Claude Code starts the machine, commits a file, and ends; the commit is fetched.
    let url = format!("{{\"env\":{{\"ANTHROPIC_BASE_URL\":\"https://{destination}\"}}}}");
    let claude = run(&["claude", "--task", "make a file", "--fetch", "--", "--settings", &url]).ok();
    claude.says("The task is done.").says("app-main: 1 new commit").says(" made | 1 +");
    // Codex, in the same workspace.
    let url = format!("openai_base_url=\"https://{destination}/v1\"");
    let codex = run(&["codex", "--task", "make a file", "--fetch", "--", "--model", "gpt-5", "--config", &url]).ok();
    codex.says("The task is done.").says("app-main: 1 new commit").says(" made | 2 ++");

    // aider, too.
    let args = ["aider", "--task", "make a file", "--fetch", "--", "--set-env"];
    let aider = run(&[&args[..], &[&format!("ANTHROPIC_API_BASE=https://{destination}")]].concat()).ok();
    aider.says("The task is done.").says("app-main: 1 new commit").says(" edited | 1 +");

    // The models got the keys, and no placeholder.
    let seen = std::fs::read_to_string(dir.path().join("seen")).unwrap();
    for (_, value) in KEYS {
        assert!(seen.contains(value), "{seen}");
    }
    assert!(seen.contains("/v1/messages") && seen.contains("/v1/responses") && !seen.contains("agent-vm-"), "{seen}");

    // The guest has placeholders, and no key: in the environment, in files, in its memory, and on its disk.
    let script = "printenv ANTHROPIC_API_KEY OPENAI_API_KEY; cat ~/.codex/auth.json";
    let placeholders = site.exec("main", &["sh", "-c", script]).ok().stdout;
    let placeholder = placeholders.lines().nth(1).unwrap();
    assert!(placeholder.starts_with("agent-vm-openai-api-key-"), "{placeholders}");
    // Control: the agent's own file has it.
    assert_eq!(placeholders.matches(placeholder).count(), 2, "{placeholders}");
    let find = "grep -rlse \"$1\" /home /workspace /tmp /run /etc | head -n 1";
    let found = |pattern: &str| site.exec("main", &["sh", "-c", find, "sh", pattern]).ok().stdout;
    assert_ne!(found(placeholder), "");
    // As a pattern, because the keys themselves must not reach the guest.
    assert_eq!(found("kept-on-the-hos[t]"), "");
    for (_, value) in KEYS {
        assert!(value.contains("kept-on-the-host") && !placeholders.contains(value));
        assert_eq!(holds(&memory(&site), [value, placeholder]), [false, true]);
    }
    for file in ["egress/log/egress.jsonl", "run/egress.log", "run/console.log"] {
        let log = std::fs::read_to_string(site.machine("app-main").join(file)).unwrap();
        assert!(KEYS.iter().all(|(_, value)| !log.contains(value)), "{file}: {log}");
    }

    a_session_goes_on_without_its_client(&site);
    claude_has_its_own_terminal_interface(&site);

    site.exec("main", &["sync"]).ok();
    site.run(&["stop", "main"]).ok();
    for (_, value) in KEYS {
        assert_eq!(holds(&site.machine("app-main").join("disk.qcow2"), [value, placeholder]), [false, true]);
    }
}

/// A session is shown on two terminals, outlives one of them, and ends with its program's exit code.
fn a_session_goes_on_without_its_client(site: &Site) {
    let script = "echo waiting; read -r line; echo \"<$line>\"; read -r line; exit 5";
    site.run(&["run", "--command", "sh", "main", "--detach", "--", "-c", script]).ok();
    let sessions = || site.run(&["ps", "main", "--json"]).ok().json();
    assert_eq!((&sessions()[0]["session"], &sessions()[0]["running"]), (&"sh".into(), &true.into()));
    let attach = || on_terminal(site, "xterm-256color", &["attach", "main"]);
    let (mut first, mut second) = (attach(), attach());
    first.shows("waiting");
    second.shows("waiting");
    assert_eq!(sessions()[0]["attached"], 2);
    first.types("typed\r");
    second.shows("<typed>");
    first.close();
    wait_until("one terminal less", || sessions()[0]["attached"] == 1);
    assert_eq!(sessions()[0]["running"], true);
    second.types("end\r");
    second.shows("ended with exit code 5");
    // The user leaves, and the session is gone.
    second.types("\x1dd");
    assert_eq!(second.ends(), Some(5), "{}", second.output());
    site.run(&["ps", "main"]).ok().says("app-main has no session");
}

fn claude_has_its_own_terminal_interface(site: &Site) {
    let mut terminal: OwnTerminal = on_terminal(site, "xterm-256color", &["run", "claude", "main"]);
    // Without the vendor's service it goes no further.
    terminal.shows("Welcome");
    terminal.close();
    terminal.ends();
}
