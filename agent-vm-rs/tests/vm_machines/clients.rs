//! MCP clients that are not ours, talking to the service in a machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::site::{Done, Site, site};

/// Where the runner has put the clients, unless it has not: that is told and counted.
fn clients() -> Option<PathBuf> {
    let found = std::env::var_os("AGENT_VM_CLIENTS").map(PathBuf::from);
    if found.is_none() {
        crate::site::skip("AGENT_VM_CLIENTS names no directory (checks/clients/prepare makes it)");
    }
    found
}

fn client(dir: &std::path::Path, program: &str, args: &[&str]) -> Done {
    Done::from(Command::new(dir.join(program)).args(args).output().unwrap(), args)
}

const CODEMCP: &str = "project_prompt = \"A test\"\n";

fn urls(site: &Site) -> [(&'static str, String); 2] {
    let status = site.status("main");
    [
        ("http", status["mcp"]["url"].as_str().unwrap().to_owned()),
        ("sse", status["mcp"]["sse_url"].as_str().unwrap().to_owned()),
    ]
}

/// The official Python SDK and the inspector list tools and call one, over both transports; what codemcp
/// writes is seen on the host, committed.
#[test]
fn clients_list_and_call_tools_over_both_transports() {
    let (Some(clients), Some(site)) = (clients(), site()) else { return };
    site.commit("codemcp.toml", CODEMCP);
    site.create("main");
    site.start("main");
    let workspace = site.machine("app-main").join("workspace");
    for (transport, url) in urls(&site) {
        client(&clients, "mcp-client", &["--transport", transport, "--url", &url, "--list"]).ok().says("codemcp");
        client(&clients, "mcp-inspector", &["--transport", transport, "--url", &url, "--list"]).ok().says("codemcp");
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
        client(&clients, "mcp-inspector", &call).ok().says("chat ID");
        let file = format!("written-by-{transport}");
        client(
            &clients,
            "codemcp-write",
            &["--transport", transport, "--url", &url, "--path", "/workspace", "--file", &file, "--content", transport],
        )
        .ok();
        assert_eq!(fs::read_to_string(workspace.join(&file)).unwrap().trim_end(), transport);
    }
    assert!(site.status("main")["workspace"]["git"]["new_commits"].as_u64().unwrap() >= 2);
}

/// Servers of the workspace's `.mcp.json` are served under their names; a broken one takes nobody down.
#[test]
fn servers_of_the_workspace_are_served_and_broken_ones_are_named() {
    let (Some(clients), Some(site)) = (clients(), site()) else { return };
    let server = "from mcp.server.fastmcp import FastMCP\nserver = FastMCP('own')\n\n@server.tool()\ndef shout(text: str) -> str:\n    return text.upper()\n\nserver.run()\n";
    site.commit("own.py", server);
    let list = serde_json::json!({ "mcpServers": {
        "own": { "command": "python3", "args": ["own.py"] },
        "missing": { "command": "no-such-program" },
        "dies": { "command": "false", "args": [] },
        "odd": "not an object",
    }});
    site.commit(".mcp.json", &list.to_string());
    site.create("main");
    site.start("main");
    for (transport, url) in urls(&site) {
        let own = url.replace("/mcp", "/servers/own/mcp").replace("/sse", "/servers/own/sse");
        let call = ["--transport", transport, "--url", &own, "--call", "shout", "{\"text\": \"hello\"}"];
        client(&clients, "mcp-client", &call).ok().says("HELLO");
        client(&clients, "mcp-client", &["--transport", transport, "--url", &url, "--list"]).ok().says("codemcp");
    }
    let journal = site.run(&["logs", "main", "-n", "300"]).ok().stdout;
    for name in ["missing", "dies", "odd"] {
        assert!(journal.lines().any(|line| line.contains(name)), "{name} is not in the journal:\n{journal}");
    }
}
