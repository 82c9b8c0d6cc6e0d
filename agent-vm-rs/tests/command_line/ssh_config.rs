//! The configuration with which other programs reach machines by ssh, read by the real ssh; and editors and browsers.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use serde_json::json;

use crate::guest_services::running;
use crate::stand_ins::{create, recorded};
use crate::support::{Site, which};

/// Returns what the real ssh makes of a file for a machine.
fn read_by_ssh(file: &std::path::Path, alias: &str) -> String {
    let ssh = Command::new(which("ssh").unwrap()).arg("-G").arg("-F").arg(file).arg(alias).output().unwrap();
    assert!(ssh.status.success(), "{}", String::from_utf8_lossy(&ssh.stderr));
    String::from_utf8(ssh.stdout).unwrap()
}

fn mode(site: &Site, file: &str) -> u32 {
    fs::metadata(site.path(file)).unwrap().permissions().mode() & 0o777
}

#[test]
fn ssh_reads_every_path_as_it_is() {
    let site = Site::new();
    // All characters that ssh or a shell would interpret.
    let state = site.path("st ate/100%d \\t'#$HOME;*");
    let state = state.to_str().unwrap();
    site.run(&["--state-dir", state, "create"]).ok();
    let printed = site.run(&["--state-dir", state, "ssh-config"]).ok().stdout;
    site.write("ssh.config", &printed);
    let read = read_by_ssh(&site.path("ssh.config"), "agent-vm-app-main");
    let has = |line: &str| assert!(read.lines().any(|found| found == line), "{line}\n{read}");
    has(&format!("identityfile {state}/app-main/ssh/id_ed25519").replace("100%d", "100%%d"));
    for line in
        ["user dev", "hostkeyalias agent-vm", "identitiesonly yes", "forwardagent no", "stricthostkeychecking true"]
    {
        has(line);
    }
    // The shell gets the words of the command that the test runs.
    let proxy = read.lines().find_map(|line| line.strip_prefix("proxycommand ")).unwrap().replace("%%", "%");
    let words = shlex::split(&proxy).unwrap();
    assert_eq!(words[1..], ["--state-dir", state, "ssh-proxy", "app-main"]);

    site.run(&["--state-dir", site.path("a${HOME}").to_str().unwrap(), "create"]).ok();
    let refused = site.run(&["--state-dir", site.path("a${HOME}").to_str().unwrap(), "ssh-config"]);
    refused.exits(1).gives_one_error().says("ssh's configuration cannot contain the path");
}

#[test]
fn the_users_file_is_kept_and_machines_come_and_go() {
    let site = Site::new();
    create(&site, "main");
    fs::create_dir_all(site.path("home/.ssh")).unwrap();
    fs::create_dir(site.path("home/dotfiles")).unwrap();
    let own = "# mine\nHost other\n  User me\n";
    site.write("home/dotfiles/ssh", own);
    fs::set_permissions(site.path("home/dotfiles/ssh"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("../dotfiles/ssh", site.path("home/.ssh/config")).unwrap();

    let file = site.path("home/.ssh/agent-vm.config");
    let written = site.run(&["ssh-config", "--write", "--json"]).ok().json();
    assert_eq!(written, json!({ "file": file, "changed": true }));
    let with = format!("Include agent-vm.config\n{own}");
    assert_eq!(site.read("home/dotfiles/ssh"), with);
    site.run(&["ssh-config", "--write"]).ok().prints("ssh agent-vm-app-main\n");
    assert_eq!(site.read("home/.ssh/config"), with);
    assert!(fs::symlink_metadata(site.path("home/.ssh/config")).unwrap().is_symlink());
    assert_eq!((mode(&site, "home/dotfiles/ssh"), mode(&site, "home/.ssh/agent-vm.config")), (0o640, 0o600));

    create(&site, "other");
    assert!(site.read("home/.ssh/agent-vm.config").contains("Host agent-vm-app-other\n"));
    site.run(&["destroy", "other", "--yes"]).ok();
    assert!(!site.read("home/.ssh/agent-vm.config").contains("app-other"));
    assert!(site.read("home/.ssh/agent-vm.config").contains("Host agent-vm-app-main\n"));

    site.run(&["ssh-config", "--remove"]).ok().says("removed ");
    assert_eq!((site.read("home/.ssh/config").as_str(), file.exists()), (own, false));
    site.run(&["ssh-config", "--remove"]).ok().says("there was no ");
    // Control: without the file, nothing writes it again.
    create(&site, "third");
    assert!(!file.exists());
    let list = site.run(&["ssh-config", "--json"]).ok().json();
    assert_eq!((&list[0]["name"], &list[0]["alias"]), (&json!("app-main"), &json!("agent-vm-app-main")));
}

#[test]
fn the_proxy_follows_the_port_of_the_run() {
    let (site, _services) = running();
    let mut proxy = site.agent_vm(&["ssh-proxy", "app-main"]);
    let mut proxy = proxy.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut greeting = [0; 4];
    std::io::Read::read_exact(proxy.stdout.as_mut().unwrap(), &mut greeting).unwrap();
    assert_eq!(&greeting, b"SSH-");
    drop((proxy.stdin.take(), proxy.stdout.take()));
    assert!(proxy.wait().unwrap().success());
    site.run(&["stop"]).ok();
    site.run(&["ssh-proxy", "app-main"]).exits(1).gives_one_error().says("agent-vm start app-main");
}

#[test]
fn editors_and_browsers_get_the_machines_address() {
    let (site, _services) = running();
    site.run(&["edit"]).exits(1).gives_one_error().says("no editor was found");
    site.run(&["edit", "--editor", "zed"]).exits(1).says("the editor zed is not on PATH");
    let record = site.path("record/editor");
    for editor in ["cursor", "zed"] {
        site.stand_in(editor, &format!("echo {editor} \"$@\" >>'{}'; exit 3", record.display()));
    }
    site.run(&["edit"]).exits(3).says("~/.ssh/config now includes");
    site.run(&["edit", "app-main", "--editor", "zed"]).exits(3);
    let expected = ["cursor --remote ssh-remote+agent-vm-app-main /workspace", "zed ssh://agent-vm-app-main/workspace"];
    assert_eq!(recorded(&site, "editor"), expected);
    assert_eq!(site.read("home/.ssh/config"), "Include agent-vm.config\n");

    site.stand_in("xdg-open", &format!("echo \"$@\" >'{}'", site.path("record/browser").display()));
    let url = site.run(&["open", "3000"]).ok().stdout;
    let port = site.settings("app-main")["forwards"][0]["host"].to_string();
    assert_eq!(url, format!("http://127.0.0.1:{port}/\n"));
    assert!(!site.path("record/browser").exists(), "a browser without a display");
    assert_eq!(site.run_with(&[("DISPLAY", ":0")], &["open", "app-main", "3000"]).ok().stdout, url);
    site.wait_for("record/browser");
    assert_eq!(site.run(&["open", "3000", "--json"]).ok().json()["url"], json!(url.trim_end()));
    assert_eq!(site.settings("app-main")["forwards"].as_array().unwrap().len(), 1);
    site.run(&["open", "main", "0"]).exits(2).says("is not a port");
}
