//! MCP clients of other projects that use the service in a machine, and their directory.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::package_managers::PACKAGES;
use crate::site::{Done, Running, Site, site, wait_until};

/// Returns the directory with the prepared clients; None, with the test reported as skipped, if the runner names none.
pub fn clients() -> Option<PathBuf> {
    let found = std::env::var_os("AGENT_VM_CLIENTS").map(PathBuf::from);
    if found.is_none() {
        crate::site::skip("AGENT_VM_CLIENTS names no directory (checks/clients/prepare makes it)");
    }
    found
}

/// Runs a client against the machine `app-main`.
fn client(dir: &Path, site: &Site, program: &str, args: &[&str]) -> Done {
    Done::from(Command::new(dir.join(program)).args(args).args(site.keys("app-main")).output().unwrap(), args)
}

/// Runs the inspector. Arguments after --call belong to the tool, so the keys have to come before it.
fn inspector(dir: &Path, args: &[&str]) -> Done {
    Done::from(Command::new(dir.join("mcp-inspector")).args(args).output().unwrap(), args)
}

/// The settings file that codemcp requires in the workspace.
pub const CODEMCP: &str = "project_prompt = \"A test\"\n";

fn urls(site: &Site) -> [(&'static str, String); 2] {
    let status = site.status("main");
    [
        ("http", status["mcp"]["url"].as_str().unwrap().to_owned()),
        ("sse", status["mcp"]["sse_url"].as_str().unwrap().to_owned()),
    ]
}

/// The official Python SDK and the inspector list the tools and call one, over both transports; what codemcp writes
/// appears on the host, committed.
pub fn clients_list_and_call_tools_over_both_transports(clients: &Path, site: &Site) {
    let workspace = site.machine("app-main").join("workspace");
    for (transport, url) in urls(site) {
        client(clients, site, "mcp-client", &["--transport", transport, "--url", &url, "--list"]).ok().says("codemcp");
        client(clients, site, "mcp-inspector", &["--transport", transport, "--url", &url, "--list"])
            .ok()
            .says("codemcp");
        let call = [
            "--transport",
            transport,
            "--url",
            &url,
            "--call",
            "codemcp",
            "subtool=InitProject",
            "path=/workspace",
            "user_prompt=hello",
            "subject_line=feat: hello",
            "reuse_head_chat_id=false",
        ];
        let keys = site.keys("app-main");
        let call: Vec<_> = keys.iter().map(String::as_str).chain(call).collect();
        inspector(clients, &call).ok().says("chat ID");
        let file = format!("written-by-{transport}");
        client(
            clients,
            site,
            "codemcp-write",
            &["--transport", transport, "--url", &url, "--path", "/workspace", "--file", &file, "--content", transport],
        )
        .ok();
        assert_eq!(fs::read_to_string(workspace.join(&file)).unwrap().trim_end(), transport);
    }
    assert!(site.status("main")["workspace"]["git"]["new_commits"].as_u64().unwrap() >= 2);
}

/// Servers of the workspace's `.mcp.json` are served under their names, including one that generates code at run time
/// (Node); a broken server does not stop the others.
#[test]
fn workspace_servers_are_served_and_broken_ones_are_named() {
    let (Some(clients), Some(site)) = (clients(), site()) else { return };
    let server = "from mcp.server.fastmcp import FastMCP\nserver = FastMCP('own')\n\n@server.tool()\ndef shout(text: str) -> str:\n    return text.upper()\n\nserver.run()\n";
    site.commit("own.py", server);
    site.commit("shout.js", include_str!("shout.js"));
    let list = serde_json::json!({ "mcpServers": {
        "own": { "command": "python3", "args": ["own.py"] },
        "node": { "command": "node", "args": ["shout.js"] },
        "missing": { "command": "no-such-program" },
        "dies": { "command": "false", "args": [] },
        "odd": "not an object",
    }});
    site.commit(".mcp.json", &list.to_string());
    site.create_with(&["--package", PACKAGES]);
    site.start("main");
    for (transport, url) in urls(&site) {
        for name in ["own", "node"] {
            let path = format!("/servers/{name}/");
            let own = url.replace("/mcp", &format!("{path}mcp")).replace("/sse", &format!("{path}sse"));
            let call = ["--transport", transport, "--url", &own, "--call", "shout", "{\"text\": \"hello\"}"];
            client(&clients, &site, "mcp-client", &call).ok().says("HELLO");
        }
        client(&clients, &site, "mcp-client", &["--transport", transport, "--url", &url, "--list"])
            .ok()
            .says("codemcp");
    }
    let states = || site.status("main")["servers"].clone();
    // Null while the guest is too busy to answer.
    let state_of = |name: &str| {
        let states = states();
        states.as_array().and_then(|all| all.iter().find(|server| server["name"] == name).cloned()).unwrap_or_default()
    };
    for name in ["codemcp", "own", "node"] {
        wait_until(&format!("{name} to run"), || state_of(name)["state"] == "running");
    }
    // The gateway starts it again and again.
    wait_until("its failure", || state_of("dies")["state"] == "failed" && state_of("dies")["exit_code"] == 1);
    wait_until("status to name what is broken", || {
        let shown = site.run(&["status", "main"]).ok().stdout;
        shown.contains("the MCP server dies has failed: it exited with status 1")
            && shown.contains("server \"missing\": its command")
            && !shown.contains("Agent Service: Running\n")
    });
    a_client_is_notified_of_a_server_that_restarts(&site, &|| state_of("own"));
    let journal = site.run(&["logs", "main", "-n", "300"]).ok().stdout;
    for name in ["missing", "dies", "odd"] {
        assert!(journal.lines().any(|line| line.contains(name)), "{name} is not in the journal:\n{journal}");
    }
}

/// Through the bridge: `own` is killed in the guest. Its client gets a message and then a notification of changed
/// tools, and status counts the restart.
fn a_client_is_notified_of_a_server_that_restarts(site: &Site, own: &dyn Fn() -> serde_json::Value) {
    let mut bridge = site.agent_vm(&["mcp", "app-main", "--server", "own"]);
    let mut bridge = Running(bridge.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let mut input = bridge.0.stdin.take().unwrap();
    let output = BufReader::new(bridge.0.stdout.take().unwrap());
    let heard = Arc::<Mutex<Vec<serde_json::Value>>>::default();
    let hearing = Arc::clone(&heard);
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            hearing.lock().unwrap().push(serde_json::from_str(&line).unwrap());
        }
    });
    let hears = |what: &str, is_it: &dyn Fn(&serde_json::Value) -> bool| {
        wait_until(what, || heard.lock().unwrap().iter().any(is_it));
    };
    let hello = serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } } });
    writeln!(input, "{hello}").unwrap();
    hears("the answer to initialize", &|message| {
        message["id"] == 1 && message["result"]["capabilities"]["tools"].is_object()
    });
    writeln!(input, "{}", serde_json::json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).unwrap();
    // A client hears only of failures after its stream has opened, so the server is killed until it does.
    let mut expected = 0;
    wait_until("notice of the new lists", || {
        let now = own();
        let restarts = now["restarts"].as_u64().unwrap_or(0);
        if now["state"] == "running" && restarts >= expected {
            // The process of this client, and others that the gateway keeps.
            site.exec("main", &["pkill", "-KILL", "-f", "python3 own[.]py"]).ok();
            expected = restarts + 1;
        }
        heard.lock().unwrap().iter().any(|message| message["method"] == "notifications/tools/list_changed")
    });
    hears("why it ended", &|message| message["params"]["data"].as_str().is_some_and(|said| said.contains("signal 9")));
    wait_until("status to count it", || {
        let now = own();
        now["state"] == "running" && now["restarts"].as_u64().is_some_and(|restarts| restarts >= 1)
    });
    writeln!(input, "{}", serde_json::json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" })).unwrap();
    hears("its tools", &|message| message["id"] == 2 && message["result"]["tools"][0]["name"] == "shout");
}

/// Runs the official SDK's client, which starts the bridge.
fn bridged(clients: &Path, site: &Site, program: &str, args: &[&str]) -> Done {
    let bridge = site.agent_vm(&["mcp", "app-main"]);
    let words = std::iter::once(bridge.get_program()).chain(bridge.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let command = shlex::try_join(words).unwrap();
    let mut run = Command::new(clients.join(program));
    // On a busy host, codemcp is ready some time after the reverse proxy.
    run.args(["--timeout", "240", "--transport", "stdio", "--command", &command]).args(args).current_dir(site.repo());
    run.envs(bridge.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Done::from(run.output().unwrap(), args)
}

/// Control of [`the_bridge_needs_no_url_and_no_key`]: without a running machine there is no answer.
pub fn the_bridge_needs_a_machine(clients: &Path, site: &Site) {
    assert_ne!(bridged(clients, site, "mcp-client", &["--list"]).code, Some(0));
}

/// `agent-vm mcp` is a stdio server like any other: the SDK's client writes a file through codemcp, which commits it.
pub fn the_bridge_needs_no_url_and_no_key(clients: &Path, site: &Site) {
    bridged(clients, site, "mcp-client", &["--list"]).ok().says("codemcp");
    let write = ["--path", "/workspace", "--file", "bridged", "--content", "over stdio"];
    bridged(clients, site, "codemcp-write", &write).ok();
    let workspace = site.machine("app-main").join("workspace");
    assert_eq!(fs::read_to_string(workspace.join("bridged")).unwrap().trim_end(), "over stdio");
    let git = site.status("main")["workspace"]["git"].clone();
    assert!(git["new_commits"].as_u64().unwrap() >= 1 && git["changed_files"] == 0, "{git}");
}
