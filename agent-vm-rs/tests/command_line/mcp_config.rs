//! `agent-vm mcp-config`: each client's file, written twice, and files with other contents.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};

use crate::guest_services::GuestServices;
use crate::stand_ins::{STAYS, create, install, install_ssh};
use crate::support::Site;

/// Clients with JSON files: name, file in the site, and key of the servers.
const JSON: [(&str, &str, &str); 5] = [
    ("claude-code", "app/.mcp.json", "mcpServers"),
    ("claude-desktop", "config/Claude/claude_desktop_config.json", "mcpServers"),
    ("cursor", "app/.cursor/mcp.json", "mcpServers"),
    ("vscode", "app/.vscode/mcp.json", "servers"),
    ("zed", "config/zed/settings.json", "context_servers"),
];
const CODEX: &str = "home/.codex/config.toml";

fn config<'a>(client: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["mcp-config", "--client", client], more].concat()
}

fn entry(site: &Site, file: &str, section: &str) -> Value {
    serde_json::from_str::<Value>(&site.read(file)).unwrap()[section]["app-main"].clone()
}

#[test]
fn every_client_gets_the_command_of_the_bridge() {
    let site = Site::new();
    site.create("main");
    for (client, _, section) in JSON {
        let printed = site.run(&config(client, &[])).ok().json();
        let entry = &printed[section]["app-main"];
        assert_eq!(entry["command"], env!("CARGO_BIN_EXE_agent-vm"), "{client}");
        assert_eq!(entry["args"], json!(["mcp", "app-main"]), "{client}");
        assert_eq!(printed.as_object().unwrap().len(), 1, "{client}");
    }
    assert_eq!(site.run(&config("vscode", &[])).ok().json()["servers"]["app-main"]["type"], "stdio");
    site.run(&config("codex", &[]))
        .ok()
        .prints("[mcp_servers.app-main]\ncommand = \"")
        .prints("args = [\"mcp\", \"app-main\"]\nstartup_timeout_sec = 120\n");
    // A program on PATH keeps its path from version to version.
    site.stand_in("agent-vm", "exit 0");
    let printed = site.run(&config("cursor", &["--server", "named"])).ok().json();
    let entry = &printed["mcpServers"]["app-main-named"];
    assert_eq!(entry["command"], site.path("bin/agent-vm").to_str().unwrap());
    assert_eq!(entry["args"], json!(["mcp", "app-main", "--server", "named"]));
    // Another state directory is part of the arguments.
    let elsewhere = site.path("elsewhere");
    let dir = elsewhere.to_str().unwrap();
    site.run(&["--state-dir", dir, "create"]).ok();
    let printed = site.run(&config("cursor", &["--state-dir", dir])).ok().json();
    assert_eq!(printed["mcpServers"]["app-main"]["args"], json!(["--state-dir", dir, "mcp", "app-main"]));
    site.run(&["mcp-config"]).exits(2);
    site.run(&config("emacs", &[])).exits(2);
}

#[test]
fn writing_twice_adds_one_entry_and_loses_nothing() {
    let site = Site::new();
    site.create("main");
    for (client, file, section) in JSON {
        let first = site.run(&config(client, &["--write"])).ok();
        assert!(first.stdout.contains("app-main is now in") && first.stdout.contains(file), "{}", first.stdout);
        let text = site.read(file);
        site.run(&config(client, &["--write"])).ok().prints("app-main is already in");
        assert_eq!(site.read(file), text);
        assert_eq!(entry(&site, file, section)["args"], json!(["mcp", "app-main"]));

        let mut mine =
            json!({ "zeta": [1, null], section: { "other": { "command": "x" } }, "alpha": { "b": 1, "a": 2 } });
        fs::write(site.path(file), mine.to_string()).unwrap();
        fs::set_permissions(site.path(file), fs::Permissions::from_mode(0o640)).unwrap();
        let changed = site.run(&config(client, &["--write", "--json"])).ok().json();
        assert_eq!((&changed["changed"], &changed["name"]), (&json!(true), &json!("app-main")));
        mine[section]["app-main"] = entry(&site, file, section);
        assert_eq!(serde_json::from_str::<Value>(&site.read(file)).unwrap(), mine);
        assert!(site.read(file).find("zeta") < site.read(file).find("alpha"), "the order of the keys changed");
        assert_eq!(fs::metadata(site.path(file)).unwrap().permissions().mode() & 0o777, 0o640);
    }
    fs::create_dir(site.path("home/.codex")).unwrap();
    let mine = "# mine\nmodel = \"o\" # really\n\n[mcp_servers.other]\ncommand = \"x\"\n";
    site.write(CODEX, mine);
    site.run(&config("codex", &["--write"])).ok().prints("is now in");
    assert!(site.read(CODEX).starts_with(mine));
    let text = site.read(CODEX);
    site.run(&config("codex", &["--write"])).ok().prints("is already in");
    assert_eq!(site.read(CODEX), text);
    assert_eq!(fs::read_dir(site.path("home/.codex")).unwrap().count(), 1, "a temporary file is left");
}

/// An entry in a project has this computer's paths, so it should not be committed.
#[test]
fn a_file_that_git_does_not_ignore_is_reported() {
    let site = Site::new();
    site.create("main");
    let write = |client: &str| site.run(&config(client, &["--write"])).ok();
    let exclude = site.path("app/.git/info/exclude");
    fs::create_dir_all(exclude.parent().unwrap()).unwrap();
    fs::write(&exclude, "").unwrap();
    let hint = format!("to ignore it: echo /.mcp.json >>{}", exclude.display());
    let notice = format!("notice: git does not ignore {}", site.path("app/.mcp.json").display());
    write("claude-code").says(&notice).says(&hint);
    write("claude-code").prints("is already in").says(&hint);
    write("vscode").says("echo /.vscode/mcp.json >>");
    write("zed").does_not_say("notice: ");
    // The hint's command suffices.
    let shell = site.command("sh").args(["-c", hint.strip_prefix("to ignore it: ").unwrap()]).status().unwrap();
    assert!(shell.success());
    write("claude-code").does_not_say("notice: ");
    fs::write(&exclude, "").unwrap();
    for (ignores, list) in [("app/.gitignore", ".mcp.json\n"), ("config/git/ignore", "/.mcp.json\n")] {
        fs::create_dir_all(site.path(ignores).parent().unwrap()).unwrap();
        site.write(ignores, list);
        write("claude-code").does_not_say("notice: ");
        fs::remove_file(site.path(ignores)).unwrap();
        write("claude-code").says("notice: ");
    }
    site.commit(".mcp.json", "{}\n");
    fs::write(&exclude, ".mcp.json\n").unwrap();
    write("claude-code")
        .says("notice: git tracks ")
        .says("do not commit its entry app-main, which is valid on this computer only");
    // Nothing of the repository runs.
    site.git(&["config", "core.fsmonitor", "touch fsmonitor-ran"]);
    write("claude-code").says("notice: git tracks ");
    assert!(!site.path("app/fsmonitor-ran").exists());
    // A repository that cannot be examined is no reason to fail.
    fs::rename(site.path("app/.git/index"), site.path("index")).unwrap();
    symlink(site.path("index"), site.path("app/.git/index")).unwrap();
    write("claude-code").does_not_say("notice: ");
}

#[test]
fn an_unusable_client_file_is_not_changed() {
    let site = Site::new();
    site.create("main");
    let broken = ["{", "[]", "// mine\n{}", "{\"a\": 1,}", "{\"a\": 1, \"a\": 2}"];
    for (client, file, section) in JSON {
        fs::create_dir_all(site.path(file).parent().unwrap()).unwrap();
        for text in broken.iter().map(|text| (*text).to_owned()).chain([format!("{{\"{section}\": []}}")]) {
            site.write(file, &text);
            site.run(&config(client, &["--write"]))
                .exits(1)
                .gives_one_error()
                .says("failed to change")
                .says("hint: run the command without --write");
            assert_eq!(site.read(file), text, "{client}");
        }
        fs::remove_file(site.path(file)).unwrap();
        fs::create_dir(site.path(file)).unwrap();
        site.run(&config(client, &["--write"])).exits(1).gives_one_error();
        fs::remove_dir(site.path(file)).unwrap();
        // Control: without the unusable file, the command works.
        site.run(&config(client, &["--write"])).ok();
    }
    fs::create_dir(site.path("home/.codex")).unwrap();
    for text in ["x = ", "mcp_servers = 1"] {
        site.write(CODEX, text);
        site.run(&config("codex", &["--write"])).exits(1).gives_one_error().says("failed to change");
        assert_eq!(site.read(CODEX), text);
    }
}

/// A branch may come from a machine, so links in a project are not followed. Links of the user's own settings are.
#[test]
fn links_in_a_project_are_refused_and_the_users_own_followed() {
    let site = Site::new();
    site.create("main");
    site.write("victim", "{}");
    symlink("../victim", site.path("app/.mcp.json")).unwrap();
    fs::create_dir(site.path("outside")).unwrap();
    symlink("../outside", site.path("app/.vscode")).unwrap();
    for client in ["claude-code", "vscode"] {
        site.run(&config(client, &["--write"])).exits(1).gives_one_error().says("is a symbolic link");
    }
    assert_eq!((site.read("victim"), fs::read_dir(site.path("outside")).unwrap().count()), ("{}".to_owned(), 0));
    fs::create_dir(site.path("config/zed")).unwrap();
    symlink("../../victim", site.path("config/zed/settings.json")).unwrap();
    site.run(&config("zed", &["--write"])).ok();
    assert!(site.read("victim").contains("app-main"));
    assert!(fs::symlink_metadata(site.path("config/zed/settings.json")).unwrap().is_symlink());
}

#[test]
fn http_clients_get_the_url_and_never_the_token() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    site.run(&config("codex", &["--http"])).exits(1).gives_one_error().says("hint: agent-vm start app-main");
    let _services = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    let url = site.run(&["status", "--json"]).ok().json()["mcp"]["url"].as_str().unwrap().to_owned();
    let token = fs::read_to_string(site.machine("app-main").join("tls/token")).unwrap();
    for (client, mention, authority) in [
        ("claude-code", "Bearer ${AGENT_VM_TOKEN}", "NODE_EXTRA_CA_CERTS"),
        ("cursor", "Bearer ${env:AGENT_VM_TOKEN}", "NODE_EXTRA_CA_CERTS"),
        ("vscode", "Bearer ${env:AGENT_VM_TOKEN}", "NODE_EXTRA_CA_CERTS"),
        ("codex", "bearer_token_env_var = \"AGENT_VM_TOKEN\"", "SSL_CERT_FILE"),
    ] {
        let done = site.run(&config(client, &["--http"])).ok().prints(&url).prints(mention);
        assert!(!done.stdout.contains(token.trim()) && !done.stderr.contains(token.trim()));
        // The printed lines can be pasted into a shell, and a program that it starts gets both values.
        let lines: Vec<_> = done.stderr.lines().filter(|line| line.starts_with("  export ")).collect();
        let show = format!("env | grep -E '^(AGENT_VM_TOKEN|{authority})='");
        let shell = site.command("sh").args(["-euc", &format!("{}\n{show}", lines.join("\n"))]).output().unwrap();
        let mut values: Vec<_> = std::str::from_utf8(&shell.stdout).unwrap().lines().collect();
        values.sort_unstable();
        let ca = site.machine("app-main").join("tls/ca.pem");
        assert!(ca.is_file());
        assert_eq!(values, [format!("AGENT_VM_TOKEN={}", token.trim()), format!("{authority}={}", ca.display())]);
    }
    site.run(&config("claude-code", &["--http", "--write"])).ok().says("notice: git does not ignore ");
    let written = site.read("app/.mcp.json");
    assert!(written.contains("Bearer ${AGENT_VM_TOKEN}") && !written.contains(token.trim()), "{written}");
    for client in ["claude-desktop", "zed"] {
        site.run(&config(client, &["--http"]))
            .exits(2)
            .says("would store the token in its configuration file")
            .says("leave out --http")
            .does_not_say("the client needs");
    }
}

#[test]
fn other_kinds_of_files_are_refused_and_stay() {
    use rustix::fs::{CWD, FileType, Mode, mkfifoat, mknodat};
    let site = Site::new();
    site.create("main");
    for (client, file, _) in [JSON[0], JSON[1], JSON[2], ("codex", CODEX, "")] {
        let path = site.path(file);
        let dir = path.parent().unwrap();
        fs::create_dir_all(dir).unwrap();
        let refused = |what: &str| {
            site.run(&config(client, &["--write"]))
                .exits(1)
                .gives_one_error()
                .says("failed to change")
                .says(what)
                .says("hint: ");
            assert!(fs::symlink_metadata(&path).is_ok(), "{client}: {what} is gone");
            assert_eq!(
                fs::read_dir(dir)
                    .unwrap()
                    .filter(|one| { one.as_ref().unwrap().file_name().to_string_lossy().contains("tmp") })
                    .count(),
                0,
                "{client}: {what}"
            );
        };
        mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
        refused("is a named pipe, not a file");
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refused("is a directory, not a file");
        fs::remove_dir(&path).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        refused("is a socket, not a file");
        drop(socket);
        fs::remove_file(&path).unwrap();
        // Only root may make devices.
        if mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 5)).is_ok() {
            refused("a device");
            fs::remove_file(&path).unwrap();
        }
        fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        refused("is larger than");
        fs::remove_file(&path).unwrap();
        fs::write(&path, [0xff, 0xfe]).unwrap();
        refused("is not valid UTF-8");
        fs::remove_file(&path).unwrap();
        // A link without a target; a link in a project is refused even with a target.
        symlink("nowhere", &path).unwrap();
        if file.starts_with("app/") {
            site.run(&config(client, &["--write"])).exits(1).gives_one_error().says("is a symbolic link");
        } else {
            refused("is a symbolic link, not a file");
        }
        fs::remove_file(&path).unwrap();
        // Root can read every file.
        if !rustix::process::geteuid().is_root() {
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
            refused("failed to read");
            fs::remove_file(&path).unwrap();
        }
        // Control: without the obstacle the file is written.
        site.run(&config(client, &["--write"])).ok().prints("is now in");
        fs::remove_file(&path).unwrap();
    }
    // A file is in the place of the client's directory.
    fs::remove_dir_all(site.path("app/.cursor")).unwrap();
    site.write("app/.cursor", "");
    site.run(&config("cursor", &["--write"])).exits(1).gives_one_error().says("failed to change");
    assert_eq!(site.read("app/.cursor"), "");
}
