//! A machine of another host, driven through a real sshd.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::own_sshd::OwnSshd;
use crate::site::{Done, Running, Site, site, skip, wait_until};

/// Returns an agent-vm command of the laptop.
fn laptop(site: &Site, root: &Path, args: &[&str]) -> std::process::Command {
    let mut command = site.agent_vm(args);
    let path = std::env::var("PATH").unwrap();
    command
        .env("PATH", format!("{}:{path}", root.join("sshd/bin").display()))
        .env("HOME", root.join("laptop"))
        .env("AGENT_VM_STATE_DIR", root.join("laptop/state"))
        .env("XDG_RUNTIME_DIR", root.join("laptop/run"))
        .env("AGENT_VM_REMOTE", "ssh://box");
    command
}

/// The domain has every argument of the runner that is about the guest's devices, and libvirt's own schema accepts it.
fn libvirt_gets_what_the_runner_gives_qemu(site: &Site, root: &Path) {
    let credentials = root.join("credentials");
    let args = ["export", "app-main", "--format", "libvirt", "--credentials", credentials.to_str().unwrap()];
    let domain = site.run(&args).ok().stdout;
    for part in [
        "restrict=on",
        "nvme,serial=base,drive=base",
        "virtio-blk-pci,drive=disk",
        "virtio-net-pci,netdev=net0",
        "<target dir='workspace'/>",
    ] {
        assert!(domain.contains(part), "{part}: {domain}");
    }
    let token = fs::read_to_string(site.machine("app-main").join("tls/token")).unwrap();
    assert!(!domain.contains(token.trim()), "the domain has the token");
    for entry in fs::read_dir(&credentials).unwrap().flatten() {
        let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{entry:?}");
    }
    fs::write(root.join("domain.xml"), &domain).unwrap();
    match std::process::Command::new("virt-xml-validate").arg(root.join("domain.xml")).arg("domain").output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => println!("virt-xml-validate was not run: {error}"),
    }
}

#[test]
fn a_machine_of_another_host_is_used_over_ssh() {
    let Some(site) = site() else { return };
    let root = site.repo().parent().unwrap().to_owned();
    for dir in ["laptop/run", "box-data", "box-bin"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    // What the box's account has.
    let program = site.agent_vm(&[]).get_program().to_owned();
    let link = format!("#!/bin/sh\nexec '{}' \"$@\"\n", Path::new(&program).display());
    fs::write(root.join("box-bin/agent-vm"), link).unwrap();
    fs::set_permissions(root.join("box-bin/agent-vm"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let variable = |name: &str| {
        site.agent_vm(&[])
            .get_envs()
            .find(|(key, _)| *key == name)
            .and_then(|(_, value)| Some(value?.to_str()?.to_owned()))
    };
    let cache = variable("XDG_CACHE_HOME").unwrap();
    let path = format!("{}:{}", root.join("box-bin").display(), std::env::var("PATH").unwrap());
    let at = root.display();
    let environment = format!(
        "PATH={path} HOME={at}/home AGENT_VM_STATE_DIR={at}/state XDG_DATA_HOME={at}/box-data XDG_CACHE_HOME={cache}"
    );
    let _sshd = match OwnSshd::start(&root.join("sshd"), &environment, "false") {
        Ok(sshd) => sshd,
        Err(why) => return skip(&why),
    };
    let run = |args: &[&str]| Done::from(laptop(&site, &root, args).output().unwrap(), args);

    let made = run(&["create", "--memory", "1024", "--cores", "2", "--disk", "1024", "--json"]).ok().json();
    assert_eq!(made["name"], "app-main");
    assert_eq!(made["directory"], json!(site.machine("app-main")));
    run(&["start"]).ok();
    assert_eq!(
        run(&["exec", "--", "sh", "-c", "printf '<%s>' \"$1\"; exit 7", "sh", "a 'b' $c"]).exits(7).stdout,
        "<a 'b' $c>"
    );

    // MCP.
    let mut child = laptop(&site, &root, &["mcp"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let bridge = Running(child);
    let mut ask = |message: Value| -> Value {
        writeln!(input, "{message}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    let client = json!({ "name": "test", "version": "1" });
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client });
    let hello = ask(json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }));
    assert!(hello["result"]["serverInfo"]["name"].is_string(), "{hello}");
    drop(bridge);

    // Commits and files.
    run(&["exec", "--", "sh", "-ec", "echo made >made; git add made; git commit -qm made"]).ok();
    run(&["fetch"]).ok();
    assert_eq!(site.git(&["show", "refs/agent-vm/app-main/heads/main:made"]), "made\n");
    fs::write(site.repo().join("sent"), "sent").unwrap();
    run(&["cp", "sent", ":"]).ok();
    run(&["exec", "--", "sh", "-ec", "test \"$(cat sent)\" = sent; echo back >back"]).ok();
    run(&["cp", ":back", "."]).ok();
    assert_eq!(fs::read_to_string(site.repo().join("back")).unwrap(), "back\n");

    // A port.
    run(&["run", "--command", "python3", "--detach", "--", "-m", "http.server", "3000"]).ok();
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    run(&["port", &format!("3000:{port}")]).ok();
    wait_until("the machine's web server", || {
        let Ok(mut socket) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
        socket.write_all(b"GET /made HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).is_ok() && page.ends_with("made\n")
    });
    run(&["port", "--remove", "3000"]).ok();
    // A command ends with its connection, also in the machine.
    let mut child = laptop(&site, &root, &["exec", "-T", "--", "sh", "-c", "exec sleep 98765"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let is_there = || {
        run(&["exec", "--", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -qx '[9]8765'"]).code
            == Some(0)
    };
    wait_until("the command", is_there);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of the command", || !is_there());
    run(&["stop"]).ok();
    assert!(site.processes("app-main").is_empty());
    libvirt_gets_what_the_runner_gives_qemu(&site, &root);
}
