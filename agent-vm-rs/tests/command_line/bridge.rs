//! `agent-vm mcp` with a stand-in for the machine's MCP server, well-behaved and hostile.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::Ordering;

use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::guest_services::GuestServices;
use crate::mcp_server::CLOSED;
use crate::stand_ins::{STAYS, create, install, install_ssh, server, servers};
use crate::support::{Running, Site, wait_until};

/// An MCP client that runs `agent-vm mcp` as its server.
pub struct Client {
    bridge: Running,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Client {
    pub fn new(site: &Site, args: &[&str]) -> Self {
        let mut command = site.agent_vm(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(std::fs::File::create(site.path("talk")).unwrap());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { bridge: Running::new(child), input, output }
    }

    pub fn send(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn request(&mut self, id: &Value, method: &str) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method }).to_string());
    }

    /// Receives the next line, which has no control characters.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.pop(), Some('\n'), "{line:?}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
        line
    }

    /// Receives the next line, which must be exactly one JSON message.
    #[track_caller]
    fn receive(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    #[track_caller]
    pub fn begin(&mut self) {
        self.send(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#);
        assert_eq!(self.receive()["result"]["serverInfo"]["name"], "stand-in");
    }

    fn end(mut self) -> Option<i32> {
        drop(self.input.take());
        self.bridge.output().status.code()
    }
}

pub fn started(flags: &[&str]) -> (Site, GuestServices) {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    if !flags.is_empty() {
        site.run(&[&["create"], flags].concat()).ok();
        crate::stand_ins::own_ports(&site, "app-main");
    } else {
        create(&site, "main");
    }
    let inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    (site, inside)
}

#[test]
fn messages_go_both_ways_in_one_session() {
    let (site, inside) = started(&[]);
    let mut client = Client::new(&site, &["mcp"]);
    client.begin();
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    // From now on the bridge listens to the server's own stream.
    assert_eq!(client.receive()["params"]["of"], "its own accord");
    client.request(&json!("a"), "tools/list");
    assert_eq!(client.receive(), json!({ "jsonrpc": "2.0", "id": "a", "result": { "echo": "tools/list" } }));
    client.send(r#"{"jsonrpc":"2.0","id":77,"result":{}}"#);
    client.send("\n");
    assert_eq!(client.end(), Some(0));
    let asked = inside.requests();
    let of_bridge: Vec<_> = asked.iter().filter(|asked| asked.header("mcp-session-id").is_some()).collect();
    assert!(of_bridge.iter().any(|asked| asked.body["id"] == 77 && asked.body.get("result").is_some()));
    assert!(asked.iter().any(|asked| asked.verb == "GET" && asked.header("accept") == Some("text/event-stream")));
    let last = of_bridge.iter().rfind(|asked| asked.verb == "DELETE").unwrap();
    assert!(last.header("mcp-session-id").unwrap().starts_with("session-"));
    let list = asked.iter().find(|asked| asked.method() == "tools/list").unwrap();
    assert_eq!(list.header("accept"), Some("application/json, text/event-stream"));
    assert_eq!(list.header("mcp-protocol-version"), Some("2025-06-18"));
}

#[test]
fn a_machine_that_runs_for_months_gets_a_new_certificate() {
    let (site, inside) = started(&[]);
    let put = || inside.requests().into_iter().filter(|asked| asked.verb == "PUT").collect::<Vec<_>>();
    let talk = || {
        let mut client = Client::new(&site, &["mcp"]);
        client.begin();
        assert_eq!(client.end(), Some(0));
    };
    // A new certificate is not renewed.
    talk();
    assert_eq!(put().len(), 0);
    let run = site.machine("app-main").join("run");
    let started_before = |days: i64| {
        let text = std::fs::read_to_string(run.join("ports.json")).unwrap();
        let mut facts: Value = serde_json::from_str(&text).unwrap();
        facts["started"] = (jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days)).to_string().into();
        std::fs::write(run.join("ports.json"), facts.to_string()).unwrap();
    };
    started_before(61);
    talk();
    let asked = put();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/agent-vm/certificate");
    let token = site.read("data/agent-vms/app-main/tls/token");
    assert_eq!(asked[0].header("authorization"), Some(format!("Bearer {}", token.trim()).as_str()));
    let certificate = asked[0].body.as_str().unwrap();
    let read = |name: &str| std::fs::read_to_string(run.join("qemu/credentials").join(name)).unwrap();
    assert_ne!(certificate, read("agent-vm.mcp-cert"));
    // The renewed certificate has the same key as the first one.
    let key = rcgen::KeyPair::from_pem(&read("agent-vm.mcp-key")).unwrap();
    for pem in [certificate, &read("agent-vm.mcp-cert")] {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert!(der.windows(key.public_key_raw().len()).any(|part| part == key.public_key_raw()));
    }
    // The renewal is remembered: there is no second one.
    talk();
    assert_eq!(put().len(), 1);
    // A failed renewal does not stop the bridge.
    std::fs::remove_file(run.join("certificate-renewed")).unwrap();
    std::fs::write(run.join("qemu/credentials/agent-vm.mcp-key"), "none").unwrap();
    let mut client = Client::new(&site, &["mcp"]);
    client.begin();
    assert_eq!(client.end(), Some(0));
    assert_eq!(put().len(), 1);
}

#[test]
fn requests_run_concurrently() {
    let (site, _services) = started(&[]);
    let mut client = Client::new(&site, &["mcp"]);
    client.begin();
    client.request(&json!(1), "slow");
    client.request(&json!(2), "fast");
    assert_eq!(client.receive()["id"], 2);
    // The server answers request 1 once request 3 has arrived. Requests that are open when the client closes its input
    // are still answered.
    client.request(&json!(3), "late");
    drop(client.input.take());
    let mut both = [client.receive(), client.receive()].map(|answer| answer["id"].as_u64().unwrap());
    both.sort_unstable();
    assert_eq!(both, [1, 3]);
    assert_eq!(client.end(), Some(0));
}

#[test]
fn output_of_a_hostile_machine_is_one_line_or_nothing() {
    let (site, _services) = started(&[]);
    let mut client = Client::new(&site, &["mcp"]);
    client.begin();
    client.request(&json!(1), "stream");
    assert_eq!(client.receive()["method"], "notifications/progress");
    assert_eq!(client.receive()["result"]["text"], "two\nlines \u{1b}[31m");
    assert_eq!(site.read("talk").matches("ignored an invalid message").count(), 2);
    for (method, why) in [
        ("two lines", "did not answer"),
        ("break off", "did not answer"),
        ("hang up", "does not answer"),
        ("page", "did not answer"),
    ] {
        client.request(&json!(method), method);
        let error = client.receive();
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!(method), &json!(-32000)));
        let said = error["error"]["message"].as_str().unwrap();
        assert!(said.contains(why), "{method}: {said}");
    }
    client.request(&json!(9), "another's");
    assert_eq!(client.receive()["id"], "another");
    assert_eq!((&client.receive()["error"]["code"]), (&json!(-32000)));
    // The bridge continues to work.
    client.request(&json!(10), "tools/list");
    assert_eq!(client.receive()["result"]["echo"], "tools/list");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn invalid_messages_of_the_client_get_an_error() {
    let (site, inside) = started(&[]);
    let mut client = Client::new(&site, &["mcp"]);
    for (line, code) in [("{", -32700), ("[]", -32600), (r#"{"id":1,"method":"x"}"#, -32600)] {
        client.send(line);
        let error = client.receive();
        assert_eq!((&error["id"], &error["error"]["code"]), (&Value::Null, &json!(code)), "{line}");
    }
    // Before `initialize`, the server's refusal is passed on without its escape sequences.
    client.request(&json!(1), "ping");
    let said = client.receive()["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("session (HTTP 400)") && !said.contains('\u{1b}'), "{said}");
    for method in ["tools/list", "server/discover", "no/such"] {
        client.request(&json!(2), method);
        let error = client.receive();
        assert_eq!((&error["id"], &error["error"]["code"]), (&json!(2), &json!(-32601)), "{method}");
    }
    assert!(!inside.requests().iter().any(|asked| asked.body.is_array()));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn named_servers_have_their_own_path() {
    let (site, inside) = started(&[]);
    servers(&site, &[server("codemcp", "running"), server("named", "failed")], &[]);
    let mut client = Client::new(&site, &["mcp", "app-main", "--server", "named"]);
    client.begin();
    assert_eq!(client.end(), Some(0));
    assert!(inside.requests().iter().any(|asked| asked.path == "/servers/named/mcp"));
    site.run(&["mcp", "--server", "missing"])
        .exits(1)
        .gives_one_error()
        .says("error: app-main has no MCP server missing")
        .says("hint: its servers: codemcp, named");
    // A guest that does not report its servers answers for itself.
    site.write("servers.json", "");
    let mut client = Client::new(&site, &["mcp", "--server", "missing"]);
    client.request(&json!(1), "initialize");
    assert!(client.receive()["error"]["message"].as_str().unwrap().contains("has no MCP server at this path"));
    client.end();
    for name in ["../x", "a/b", "", "-x", "a b"] {
        site.run(&["mcp", &format!("--server={name}")]).exits(2);
    }
}

/// A client of MCP 2026-07-28 has no session: each request says what it needs, also in headers.
#[test]
fn requests_without_a_session_carry_headers() {
    let (site, inside) = started(&[]);
    let mut client = Client::new(&site, &["mcp"]);
    let ask = |client: &mut Client, id: u32, method: &str, name: &str| {
        let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
        let params = json!({ "name": name, "_meta": meta });
        client.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
    };
    ask(&mut client, 1, "server/discover", "x");
    assert_eq!(client.receive()["result"], json!(["server/discover", null, null]));
    ask(&mut client, 2, "tools/call", "höhe");
    assert_eq!(client.receive()["result"], json!(["tools/call", "=?base64?aMO2aGU=?=", null]));
    ask(&mut client, 3, "refused", "x");
    assert_eq!(client.receive()["error"]["code"], -32000);
    // Cancelled by closing the connection, and not answered.
    ask(&mut client, 4, "endless", "x");
    wait_until("the request", || inside.requests().iter().any(|asked| asked.method() == "endless"));
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":4}}"#);
    wait_until("the end of the request", || CLOSED.load(Ordering::Relaxed) == 1);
    ask(&mut client, 5, "tools/list", "x");
    assert_eq!(client.receive()["id"], 5);
    assert!(!inside.requests().iter().any(|asked| asked.method() == "notifications/cancelled"));
    // Those that are open when the client goes, too.
    ask(&mut client, 6, "endless", "x");
    wait_until("the request", || inside.requests().iter().any(|asked| asked.body["id"] == 6));
    assert_eq!(client.end(), Some(0));
    wait_until("the end of the request", || CLOSED.load(Ordering::Relaxed) == 2);
}

#[test]
fn a_session_that_the_machine_has_forgotten_begins_again() {
    let (site, inside) = started(&[]);
    let mut client = Client::new(&site, &["mcp"]);
    client.begin();
    client.send(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    assert_eq!(client.receive()["params"]["of"], "its own accord");
    for (id, method, uri) in [
        (1, "logging/setLevel", ""),
        (2, "resources/subscribe", "file:///a"),
        (3, "resources/subscribe", "file:///b"),
        (4, "resources/unsubscribe", "file:///a"),
    ] {
        let params = json!({ "uri": uri });
        client.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        assert_eq!(client.receive()["id"], id);
    }
    let before = inside.requests().len();
    client.request(&json!(5), "gone");
    // The session's lists may differ, and the call is repeated.
    assert_eq!(client.receive()["method"], "notifications/tools/list_changed");
    assert_eq!(client.receive(), json!({ "jsonrpc": "2.0", "id": 5, "result": { "echo": "gone" } }));
    let asked = inside.requests();
    let again: Vec<_> = asked[before..].iter().filter(|asked| asked.verb == "POST").collect();
    let methods: Vec<_> = again.iter().map(|asked| asked.method()).collect();
    let expected =
        ["gone", "initialize", "notifications/initialized", "logging/setLevel", "resources/subscribe", "gone"];
    assert_eq!(methods, expected);
    assert_eq!(again[4].body["params"]["uri"], "file:///b");
    assert_ne!(again[0].header("mcp-session-id"), again[5].header("mcp-session-id"));
    assert_eq!(client.end(), Some(0));
}

/// A restarted machine may have other ports. A client notices nothing but new lists.
#[test]
fn the_bridge_survives_a_restart_of_the_machine() {
    for flags in [&["mcp"][..], &["mcp", "--start"]] {
        let (site, inside) = started(&[]);
        let mut client = Client::new(&site, flags);
        client.begin();
        drop(inside);
        site.run(&["stop"]).ok();
        std::fs::remove_file(site.path("record/runner.cwd")).unwrap();
        let again = GuestServices::of(&site, "app-main");
        if flags.len() == 1 {
            // Without --start, the client learns how to start it.
            client.request(&json!(0), "tools/list");
            let said = client.receive()["error"]["message"].as_str().unwrap().to_owned();
            assert!(said.contains("app-main is not running"), "{said}");
            site.run(&["start"]).ok();
        }
        client.request(&json!(1), "tools/list");
        let changed = client.receive();
        assert_eq!(changed["method"], "notifications/tools/list_changed", "{changed}");
        assert_eq!(client.receive()["result"]["echo"], "tools/list");
        assert!(again.requests().iter().any(|asked| asked.method() == "tools/list"));
        assert_eq!(client.end(), Some(0));
    }
}

#[test]
fn the_bridge_ends_with_its_client_and_cancels_what_is_open() {
    let (site, inside) = started(&[]);
    let sent = |method: &str| inside.requests().iter().filter(|asked| asked.method() == method).count();
    for end in ["input", "output", "both", "signal"] {
        let (calls, deletes) = (sent("never"), inside.requests().iter().filter(|asked| asked.verb == "DELETE").count());
        let mut client = Client::new(&site, &["mcp"]);
        client.begin();
        client.request(&json!("a"), "never");
        wait_until("the request", || sent("never") > calls);
        let began = std::time::Instant::now();
        let Client { bridge, input, output } = client;
        let kept = match end {
            "input" => {
                drop(input);
                (None, Some(output))
            }
            "output" => {
                drop(output);
                (input, None)
            }
            "both" => {
                drop((input, output));
                (None, None)
            }
            _ => {
                bridge.signal(Signal::TERM);
                (input, Some(output))
            }
        };
        bridge.output();
        drop(kept);
        assert!(began.elapsed() < std::time::Duration::from_secs(10), "{end}");
        let asked = inside.requests();
        let cancelled = asked.iter().rfind(|asked| asked.method() == "notifications/cancelled").unwrap();
        assert_eq!(cancelled.body["params"]["requestId"], "a", "{end}");
        assert_eq!(asked.iter().filter(|asked| asked.verb == "DELETE").count(), deletes + 1, "{end}");
    }
}

/// The token is only in its file and in requests to the machine. A server whose certificate another authority signed
/// gets no request.
#[test]
fn the_token_is_sent_only_to_the_machine() {
    let (site, inside) = started(&[]);
    let machine = site.machine("app-main");
    let token = std::fs::read_to_string(machine.join("tls/token")).unwrap().trim().to_owned();
    let mut client = Client::new(&site, &["mcp", "--debug"]);
    client.begin();
    let asked = inside.requests();
    assert!(asked.iter().all(|asked| asked.header("authorization") == Some(&format!("Bearer {token}"))));
    let bridge = client.bridge.pid();
    for file in ["cmdline", "environ"] {
        assert!(!String::from_utf8_lossy(&std::fs::read(format!("/proc/{bridge}/{file}")).unwrap()).contains(&token));
    }
    client.end();
    for args in [
        &["status"][..],
        &["status", "--json"],
        &["list", "--json"],
        &["start", "--debug"],
        &["mcp-config", "--client", "codex"],
    ] {
        let done = site.run(args).ok();
        assert!(!done.stdout.contains(&token) && !done.stderr.contains(&token), "{args:?}");
    }
    assert!(!site.read("talk").contains(&token) && !site.read("record/runner.env").contains(&token));

    std::fs::write(machine.join("tls/token"), "0".repeat(64)).unwrap();
    let mut client = Client::new(&site, &["mcp"]);
    client.request(&json!(1), "initialize");
    assert!(client.receive()["error"]["message"].as_str().unwrap().contains("refuses its own token"));
    client.end();
    site.create("other");
    std::fs::copy(site.machine("app-other").join("tls/ca.pem"), machine.join("tls/ca.pem")).unwrap();
    let before = inside.requests().len();
    let mut client = Client::new(&site, &["mcp"]);
    client.request(&json!(1), "initialize");
    let said = client.receive()["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("does not answer") && said.contains("certificate"), "{said}");
    client.end();
    assert_eq!(inside.requests().len(), before, "a request was sent to another server");
}

#[test]
fn mcp_refuses_a_stopped_machine_or_starts_it() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    site.run(&["mcp"]).exits(1).gives_one_error().says("app-main is not running").says("hint: agent-vm start app-main");
    let _services = GuestServices::of(&site, "app-main");
    let mut client = Client::new(&site, &["mcp", "--start"]);
    client.begin();
    assert_eq!(client.end(), Some(0));
    assert!(site.read("talk").contains("app-main is running."));
    wait_until("the machine", || site.run(&["status", "--json"]).ok().json()["state"] == "running");
}

/// Without TLS or without a token, every command that shows the machine says so, and the other protection still works.
#[test]
fn disabled_tls_or_auth_is_reported() {
    for (flag, scheme, tls, auth, warning) in [
        ("--no-tls", "http://", false, true, "warning: MCP is not encrypted (--no-tls)"),
        ("--no-auth", "https://", true, false, "warning: MCP requires no token (--no-auth)"),
    ] {
        let site = Site::new();
        install(&site, STAYS);
        install_ssh(&site);
        site.run(&["create", flag]).ok().says(warning);
        crate::stand_ins::own_ports(&site, "app-main");
        let inside = GuestServices::of(&site, "app-main");
        site.run(&["start"]).ok().says(warning).prints(&format!("MCP     {scheme}127.0.0.1:"));
        let status = site.run(&["status", "--json"]).ok().json();
        assert_eq!((&status["mcp"]["tls"], &status["mcp"]["auth"]), (&json!(tls), &json!(auth)));
        assert_eq!((&status["mcp"]["responds"], status["mcp"]["ca_file"].is_null()), (&json!(true), !tls));
        let list = site.run(&["list", "--json"]).ok().json();
        assert_eq!((&list[0]["tls"], &list[0]["auth"]), (&json!(tls), &json!(auth)));
        let says = if tls { "no token" } else { "no TLS" };
        site.run(&["status"]).ok().prints(says);
        assert_eq!(inside.requests().iter().all(|asked| asked.header("authorization").is_some()), auth);
    }
    let (site, _services) = started(&["--memory", "512"]);
    let status = site.run(&["status", "--json"]).ok().json();
    assert_eq!(status["mcp"]["ca_file"], site.machine("app-main").join("tls/ca.pem").to_str().unwrap());
    assert!(status["mcp"]["url"].as_str().unwrap().starts_with("https://127.0.0.1:"));
    site.run(&["status"]).ok().prints("TLS (CA file: ").prints("with a token");
}

/// A machine created before TLS and tokens existed gets a certificate authority and a token when it starts.
#[test]
fn an_older_machine_gets_an_authority_and_a_token() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    let machine = site.machine("app-main");
    std::fs::remove_dir_all(machine.join("tls")).unwrap();
    let mut settings = site.settings("app-main");
    for key in ["tls", "auth"] {
        settings.as_object_mut().unwrap().remove(key).unwrap();
    }
    std::fs::write(machine.join("config.json"), settings.to_string()).unwrap();
    let inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok().prints("MCP     https://127.0.0.1:");
    assert!(machine.join("tls/ca.pem").exists() && machine.join("tls/token").exists());
    assert!(inside.requests().iter().all(|asked| asked.header("authorization").is_some()));
    // The run's private key is deleted when the machine stops.
    let key = std::fs::read_to_string(machine.join("run/qemu/credentials/agent-vm.mcp-key")).unwrap();
    let holds = || crate::support::tree(&machine).values().any(|contents| contents.contains(key.trim()));
    assert!(holds());
    site.run(&["stop"]).ok();
    assert!(!holds());
}
