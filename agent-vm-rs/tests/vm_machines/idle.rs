//! Machines that stop by themselves.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::site::{Running, Site, site, wait_until};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#;

fn samples(site: &Site) -> Vec<Value> {
    let text = fs::read_to_string(site.machine("app-main").join("samples.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Returns the sample after the next one, which began after this call. Calls `each` before each of them.
fn next_sample(site: &Site, each: impl Fn()) -> Value {
    for _ in 0..2 {
        each();
        let before = samples(site).len();
        wait_until("a sample", || samples(site).len() > before);
    }
    samples(site).pop().unwrap()
}

/// Sends one request over a connection of its own.
fn ask_mcp(site: &Site, url: &str) {
    let token = fs::read_to_string(site.machine("app-main").join("tls/token")).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--noproxy", "*", "--max-time", "60", "--cacert"]);
    curl.arg(site.machine("app-main").join("tls/ca.pem"));
    curl.args(["--header", &format!("Authorization: Bearer {}", token.trim())]);
    curl.args([
        "--header",
        "Accept: application/json, text/event-stream",
        "--header",
        "Content-Type: application/json",
    ]);
    let done = curl.args(["--data", INITIALIZE, url]).output().unwrap();
    assert!(String::from_utf8_lossy(&done.stdout).contains("serverInfo"), "{done:?}");
}

#[test]
fn a_machine_is_stopped_only_once_nothing_uses_it() {
    let Some(site) = site() else { return };
    site.create("main");
    site.start("main");
    let session = site.agent_vm(&["exec", "main", "--", "sleep", "1000"]);
    let session = Running(quiet(session).spawn().unwrap());
    site.run(&["set", "main", "idle_timeout=5s"]).ok();
    assert_eq!(next_sample(&site, || ())["idle_seconds"], 0, "a session over the shared connection");
    // Another program's connection to ssh.
    let ssh = TcpStream::connect((Ipv4Addr::LOCALHOST, site.ssh_port("app-main"))).unwrap();
    drop(session);
    let sample = next_sample(&site, || ());
    assert_eq!((&sample["idle_seconds"], &sample["connections"]["ssh"]), (&0.into(), &1.into()), "{sample}");
    drop(ssh);
    let url = site.status("main")["mcp"]["url"].as_str().unwrap().to_owned();
    let sample = next_sample(&site, || ask_mcp(&site, &url));
    assert_eq!(sample["idle_seconds"], 0, "{sample}");
    assert!(sample["network"]["sent_bytes"].as_u64().unwrap() > 1_000, "{sample}");

    // An open connection without requests, and our own queries, are no use.
    let open = TcpStream::connect((Ipv4Addr::LOCALHOST, site.port("app-main"))).unwrap();
    let ended = |events: &str| events.contains("\"idle-stop\"");
    wait_until("the machine to be stopped", || {
        site.run(&["status", "main"]).ok();
        ended(&site.run(&["events", "main", "--json"]).ok().stdout)
    });
    drop(open);
    wait_until("its files to be removed", || !site.machine("app-main").join("run").exists());
    assert!(site.processes("app-main").is_empty());
    let events = site.run(&["events", "main"]).ok().stdout;
    assert!(events.contains("stopped: not used for "), "{events}");
    let status = site.status("main");
    assert_eq!((&status["state"], &status["last_end"]["outcome"]), (&"stopped".into(), &"powered-off".into()));
    site.exec("main", &["true"]).exits(1).says("agent-vm start app-main");

    // An MCP client brings it back.
    site.run(&["set", "main", "--unset", "idle_timeout"]).ok();
    let mut bridge = site.agent_vm(&["mcp", "main", "--start"]);
    let mut bridge = bridge.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = bridge.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, format!("{INITIALIZE}\n").as_bytes()).unwrap();
    drop(input);
    let done = bridge.wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&done.stdout).contains("serverInfo"), "{done:?}");
    site.exec("main", &["true"]).ok();
}

fn quiet(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
