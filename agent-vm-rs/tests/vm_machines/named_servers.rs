//! The named MCP servers of the Debian guest, all in one machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::clients::clients;
use crate::site::{Done, Site, site, skip, wait_until};
use crate::world::{PUBLIC, World};

/// A host that the machine may reach, and one that it may not.
const PAGES: &str = "pages.example.net";
const OTHER: &str = "other.example.net";

/// Calls a tool of a named server with the official SDK's client, through the bridge.
fn call(clients: &Path, site: &Site, server: &str, tool: &str, arguments: &str) -> Done {
    let bridge = site.agent_vm(&["mcp", "app-main", "--server", server]);
    let words = std::iter::once(bridge.get_program()).chain(bridge.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let command = shlex::try_join(words).unwrap();
    let args = ["--timeout", "400", "--transport", "stdio", "--command", &command, "--call", tool, arguments];
    let mut client = Command::new(clients.join("mcp-client"));
    client.args(args).current_dir(site.repo());
    client.envs(bridge.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Done::from(client.output().unwrap(), &args)
}

/// Waits until these servers run.
fn wait_for(site: &Site, servers: &[&str]) {
    wait_until("the servers to run", || {
        // Each look at the machine is work for it.
        let states = site.status("main")["servers"].clone();
        let states: Vec<_> = states.as_array().into_iter().flatten().collect();
        let runs = |server: &&str| states.iter().any(|state| state["name"] == **server && state["state"] == "running");
        servers.iter().all(runs)
    });
}

/// Moves a site into a network where the pages have addresses. The guest is built before, outside of it.
fn with_pages(site: Site) -> Site {
    site.run(&["start", "main", "--timeout", "1"]);
    assert!(site.machine("app-main").join("flake/guest").exists());
    site.run(&["stop", "main"]);
    site.within(World::new(&[(PAGES, PUBLIC), (OTHER, PUBLIC)]))
}

/// Each server answers a call that needs what it is for: the workspace, the home directory, a shell, the proxy.
#[test]
fn each_named_server_works() {
    let (Some(clients), Some(site)) = (clients(), site()) else { return };
    let config = site.repo().join("../config.json");
    let servers = ["desktop-commander", "fetch", "filesystem", "git", "memory", "playwright", "time"];
    fs::write(&config, serde_json::json!({ "servers": servers }).to_string()).unwrap();
    let config = config.to_str().unwrap();
    site.run(&["create", "--memory", "3072", "--cores", "2", "--disk", "1024", "--config", config, "--allow", PAGES])
        .ok();
    let is_root = rustix::process::geteuid().is_root();
    let site = if is_root { with_pages(site) } else { site };
    site.start("main");
    wait_for(&site, &servers);
    let calls = |server: &str, tool: &str, arguments: &str| call(&clients, &site, server, tool, arguments);
    calls("filesystem", "read_text_file", r#"{"path": "/workspace/README"}"#).ok().says("hello");
    // Control: nothing outside the workspace.
    calls("filesystem", "read_text_file", r#"{"path": "/etc/hostname"}"#).exits(1).says("outside allowed directories");
    calls("git", "git_status", r#"{"repo_path": "/workspace"}"#).ok().says("On branch main");
    calls("time", "get_current_time", r#"{"timezone": "UTC"}"#).ok().says("+00:00");
    let arithmetic = r#"{"command": "echo $((40 + 2)) in $PWD", "timeout_ms": 60000}"#;
    calls("desktop-commander", "start_process", arithmetic).ok().says("42 in /workspace");
    let entity = r#"{"entities": [{"name": "widget", "entityType": "part", "observations": ["is blue"]}]}"#;
    calls("memory", "create_entities", entity).ok();
    // Another session, and so another process.
    calls("memory", "read_graph", "{}").ok().says("is blue");
    // None leaves files in the workspace.
    assert_eq!(site.status("main")["workspace"]["git"]["changed_files"], 0);
    if is_root {
        pages_are_reached_through_the_proxy(&clients, &site);
    } else {
        skip("only root makes networks");
    }
}

/// The machine itself has no addresses for them.
fn pages_are_reached_through_the_proxy(clients: &Path, site: &Site) {
    let calls = |server: &str, tool: &str, arguments: &str| call(clients, site, server, tool, arguments);
    calls("fetch", "fetch", &format!(r#"{{"url": "http://{PAGES}/"}}"#)).ok().says("hello");
    calls("fetch", "fetch", &format!(r#"{{"url": "http://{OTHER}/"}}"#)).exits(1).says("403");
    let code = format!("async page => {{ await page.goto('http://{PAGES}/'); return page.textContent('body') }}");
    let code = serde_json::json!({ "code": code }).to_string();
    calls("playwright", "browser_run_code_unsafe", &code).ok().says("hello");

    let reached = site.run(&["egress", "log", "main", "--json"]).ok().stdout;
    assert!(reached.contains(PAGES) && reached.contains(OTHER), "{reached}");
    // None sends its vendor anything, or downloads a browser.
    for host in ["desktopcommander", "run.app", "storage.googleapis.com", "playwright"] {
        assert!(!reached.contains(host), "{host}: {reached}");
    }
}
