//! `--remote`: a laptop and a box are two home directories of one site. The box has the site's usual one.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::guest_services::GuestServices;
use crate::own_sshd::OwnSshd;
use crate::stand_ins::{STAYS, install, install_ssh, own_ports, recorded};
use crate::support::{Done, Running, Site, skip, wait_until, which};

const BOX: &str = "ssh://me@box:2222";

/// Runs agent-vm as on the laptop.
pub fn laptop(site: &Site, args: &[&str]) -> Done {
    let variables = variables(site);
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    site.run_with(&variables, args)
}

fn variables(site: &Site) -> Vec<(&'static str, String)> {
    let path = |name: &str| site.path(name).display().to_string();
    vec![
        ("HOME", path("laptop")),
        ("XDG_DATA_HOME", path("laptop/data")),
        ("XDG_RUNTIME_DIR", path("laptop/run")),
        ("AGENT_VM_REMOTE", BOX.to_owned()),
    ]
}

/// Returns the settings of the box's account as shell assignments.
fn of_box(site: &Site) -> String {
    let variables = [("HOME", "home"), ("XDG_DATA_HOME", "data"), ("XDG_RUNTIME_DIR", "box-run"), ("PATH", "bin")];
    let others = [
        ("TMPDIR", "tmp"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_CONFIG_HOME", "config"),
        ("AGENT_VM_TOOLKIT", "toolkit"),
    ];
    let proxyd = [("AGENT_VM_SOCKET_PROXYD", "bin/systemd-socket-proxyd"), ("AGENT_VM_VIRTIOFSD", "bin/virtiofsd")];
    let all = variables.iter().chain(&others).chain(&proxyd);
    all.map(|(name, path)| format!("{name}={} ", site.path(path).display())).collect()
}

/// Makes a laptop and a box, and an ssh that runs its command on the box.
pub fn prepare(site: &Site) {
    for dir in ["laptop", "laptop/run", "laptop/data", "box-run"] {
        fs::create_dir_all(site.path(dir)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_agent-vm"), site.path("bin/agent-vm")).unwrap();
    for program in ["tar", "chmod", "mkdir", "cat", "cut", "id", "mktemp"] {
        let place = site.path("bin").join(program);
        if !place.exists() {
            symlink(which(program).unwrap(), place).unwrap();
        }
    }
    install_ssh(site);
    fs::rename(site.path("bin/ssh"), site.path("bin/ssh-to-guest")).unwrap();
    site.stand_in(
        "ssh",
        &format!(
            "for last; do :; done\n\
             case \" $* \" in *' box '*) ;; *) exec ssh-to-guest \"$@\";; esac\n\
             printf '%s\\n' \"$last\" >>'{}/asked'; echo \"$*\" >>'{}/box'\n\
             cd /; exec env -i {} sh -c \"$last\"",
            site.path("record").display(),
            site.path("record").display(),
            of_box(site)
        ),
    );
}

/// Returns a site with a machine of the box that runs, made from the laptop.
fn running() -> (Site, GuestServices) {
    let site = Site::new();
    install(&site, STAYS);
    prepare(&site);
    let made = laptop(&site, &["create", "--json"]).ok().json();
    assert_eq!(made["name"], "app-main");
    own_ports(&site, "app-main");
    let services = GuestServices::of(&site, "app-main");
    laptop(&site, &["start"]).ok();
    (site, services)
}

#[test]
fn a_machine_of_another_host_gives_its_commits_to_this_one() {
    let site = Site::new();
    prepare(&site);
    site.git(&["branch", "other"]);
    let made = laptop(&site, &["create", "--json"]).ok().json();
    // The machine is the box's, and so is its repository.
    assert_eq!(made["directory"], json!(site.machine("app-main")));
    let mirror = made["settings"]["source"].as_str().unwrap().to_owned();
    assert!(mirror.starts_with(site.path("data/agent-vm-mirrors").to_str().unwrap()), "{mirror}");
    assert_eq!(site.git_in(&mirror, &["rev-parse", "refs/heads/other"]), site.git(&["rev-parse", "other"]));
    let workspace = site.machine("app-main").join("workspace");
    let commit = site.commit_in(&workspace, "work", "x");
    fs::write(workspace.join("unfinished"), "y").unwrap();

    let fetched = laptop(&site, &["fetch", "--json"]).ok().json();
    assert_eq!(fetched["commits"], 1, "{fetched}");
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), commit);
    assert!(site.git(&["show", "refs/agent-vm/app-main/uncommitted:unfinished"]) == "y");
    laptop(&site, &["fetch"]).ok().prints("has nothing new");
    laptop(&site, &["log", "--oneline"]).ok().prints("work");
    laptop(&site, &["diff", "--stat"]).ok().prints("unfinished");
    laptop(&site, &["merge"]).ok();
    assert_eq!(site.git(&["rev-parse", "main"]), commit);

    // A rewritten commit stays, here as there.
    site.git_in(&workspace, &["reset", "--quiet", "--hard", "HEAD~1"]);
    let new = site.commit_in(&workspace, "other work", "z");
    laptop(&site, &["fetch"]).ok().prints("updated");
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), new);
    site.git_in(&workspace, &["reset", "--quiet", "--hard", "HEAD~1"]);
    site.commit_in(&workspace, "third", "w");
    laptop(&site, &["fetch"]).ok().prints("rewritten");
    assert_eq!(site.git(&["rev-parse", &format!("refs/agent-vm/app-main/former/{new}")]), new);
    laptop(&site, &["fetch"]).ok().prints("has nothing new");

    // Each command is about the branch of the laptop.
    site.git(&["checkout", "--quiet", "other"]);
    assert_eq!(laptop(&site, &["create", "--json"]).ok().json()["name"], "app-other");
    let all = laptop(&site, &["list", "--json"]).ok().json();
    assert_eq!(all.as_array().unwrap().len(), 2, "{all}");
    laptop(&site, &["create"]).exits(1).says("the branch other already has a machine");
    let own = laptop(&site, &["--json", "status"]).ok().json();
    assert_eq!(own["name"], "app-other");
    laptop(&site, &["create", "--branch", "new", "--config", "/none"]).exits(1).says("failed to read /none");
    site.write("app/settings.json", r#"{"memory": 2048}"#);
    let made = laptop(&site, &["create", "--branch", "new", "--config", "settings.json", "--json"]).ok().json();
    assert_eq!(made["settings"]["memory"], 2048);
    laptop(&site, &["destroy", "app-new", "--yes"]).ok();
    assert!(!site.names().contains(&"app-new".to_owned()));
    // Nothing of it is in the laptop's own list.
    let here = site.run_with(&[("XDG_DATA_HOME", site.path("laptop/data").to_str().unwrap())], &["list", "--json"]);
    assert_eq!(here.ok().json(), json!([]));
}

#[test]
fn what_the_machine_sends_is_checked_here_too() {
    let site = Site::new();
    prepare(&site);
    laptop(&site, &["create"]).ok();
    let workspace = site.machine("app-main").join("workspace");
    site.commit_in(&workspace, "large", &"0123456789abcdef".repeat(1 << 17));
    laptop(&site, &["fetch", "--max-size", "1"]).exits(1).says("at most 1.00 MiB are fetched");
    laptop(&site, &["fetch"]).ok();
    // The box's repository has an object that git refuses: a tree with an entry `.git`.
    let made = laptop(&site, &["status", "--json"]).ok();
    drop(made);
    let mirror = site.settings("app-main")["source"].as_str().unwrap().to_owned();
    let blob = site.git_in(&mirror, &["rev-parse", "refs/heads/main:README"]);
    let input = format!("printf '100644 blob {blob}\\t.git\\n' | git mktree");
    let made = site.command(which("sh").unwrap()).args(["-c", &input]).current_dir(&mirror).output().unwrap();
    let tree = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let names = ["-c", "user.name=x", "-c", "user.email=x@example.invalid"];
    let commit = site.git_in(&mirror, &[&names[..], &["commit-tree", &tree, "-m", "evil"]].concat());
    site.git_in(&mirror, &["update-ref", "refs/agent-vm/app-main/kept/evil", &commit]);
    laptop(&site, &["fetch"]).exits(1).says("git could not fetch from box");
    assert!(site.git(&["for-each-ref", "refs/agent-vm/app-main/kept"]).is_empty());
    // Control: without it, the fetch works.
    site.git_in(&mirror, &["update-ref", "-d", "refs/agent-vm/app-main/kept/evil"]);
    laptop(&site, &["fetch"]).ok();
}

#[test]
fn a_removed_machine_leaves_its_commits_on_this_host() {
    let site = Site::new();
    prepare(&site);
    laptop(&site, &["create"]).ok();
    let workspace = site.machine("app-main").join("workspace");
    let commit = site.commit_in(&workspace, "work", "x");
    laptop(&site, &["fetch"]).ok();
    let new = site.commit_in(&workspace, "more work", "z");
    fs::write(workspace.join("unfinished"), "y").unwrap();
    // A fetch that fails here keeps the machine.
    let lock = site.path("app/.git/refs/agent-vm/app-main/heads/main.lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&lock, "").unwrap();
    laptop(&site, &["destroy", "--yes"]).exits(1).says("app-main was not removed");
    assert_eq!(site.names(), ["app-main"]);
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), commit);
    fs::remove_file(&lock).unwrap();

    laptop(&site, &["destroy", "--yes"]).ok();
    assert_eq!(site.names(), [""; 0]);
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), new);
    assert!(site.git(&["show", "refs/agent-vm/app-main/uncommitted:unfinished"]) == "y");
    laptop(&site, &["log", "app-main", "--oneline"]).ok().prints("more work");

    // A machine of the box's own repository is the box's affair, and so is one of which nothing is to be kept.
    site.git(&["branch", "other"]);
    site.run(&["create", "--branch", "other"]).ok();
    laptop(&site, &["destroy", "app-other", "--yes", "--json"]).ok().json();
    assert_eq!(site.names(), [""; 0]);
    laptop(&site, &["create"]).ok();
    let lost = site.commit_in(&workspace, "lost", "w");
    laptop(&site, &["destroy", "--yes", "--keep", "nothing"]).ok();
    assert_eq!(site.names(), [""; 0]);
    assert_ne!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), lost, "control");
}

/// A fetch that reached the other host's repository and not this one leaves nothing that only that repository has.
#[test]
fn a_machine_of_a_repository_that_is_not_known_here_is_not_removed() {
    let site = Site::new();
    prepare(&site);
    laptop(&site, &["create"]).ok();
    let commit = site.commit_in(site.machine("app-main").join("workspace"), "work", "x");
    // As a fetch of the laptop that is killed once the box has fetched.
    site.run(&["fetch", "app-main"]).ok();
    let elsewhere = |args: &[&str]| {
        let mut command = site.agent_vm(args);
        command.envs(variables(&site)).current_dir(site.path("laptop"));
        Done::new(args.join(" "), &command.output().unwrap())
    };
    elsewhere(&["destroy", "app-main", "--yes"]).exits(1).says("its repository is not known here").says("cd into");
    assert_eq!(site.names(), ["app-main"]);
    // Control: in the repository, or if nothing is to be kept, it is removed.
    laptop(&site, &["destroy", "app-main", "--yes"]).ok();
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), commit);
    laptop(&site, &["create"]).ok();
    elsewhere(&["destroy", "app-main", "--yes", "--keep", "nothing"]).ok();
    assert_eq!(site.names(), [""; 0]);
}

#[test]
fn commands_files_and_mcp_reach_a_running_machine() {
    let (site, _services) = running();
    let words = ["exec", "-T", "--", "printf", "<%s>", "a b", "'$HOME'\"\\`id`\n!", "", "ünï"];
    let done = laptop(&site, &words).ok();
    assert_eq!(done.stdout, "<a b><'$HOME'\"\\`id`\n!><><ünï>");
    laptop(&site, &["exec", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7).prints("out").says("err");
    laptop(&site, &["exec", "--", "true"]).ok();

    site.write("app/file", "text");
    laptop(&site, &["cp", "file", ":copy"]).ok();
    assert_eq!(site.read("inside/copy"), "text");
    fs::create_dir_all(site.path("inside/tree/sub")).unwrap();
    site.write("inside/tree/sub/x", "deep");
    laptop(&site, &["cp", "main:tree", "back"]).ok();
    assert_eq!(site.read("app/back/sub/x"), "deep");
    laptop(&site, &["cp", ":none", "x"]).exits(1).says("none: no such file or directory");

    let config = laptop(&site, &["mcp-config", "--client", "claude-code", "--json"]).ok().json();
    let text = config.to_string();
    assert!(text.contains("\"--remote\",\"ssh://me@box:2222\",\"mcp\",\"app-main\""), "{text}");
    let mut command = site.agent_vm(&["mcp"]);
    command.envs(variables(&site)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let _running = Running::new(child);
    writeln!(input, r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-06-18"}}}}"#)
        .unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["id"], 0, "{line}");

    let newer = site.commit("newer", "x");
    let origin = site.path("inside/.git/origin.git");
    site.git(&["clone", "--quiet", "--bare", ".", origin.to_str().unwrap()]);
    site.git_in(&origin, &["update-ref", "refs/heads/main", "HEAD~1"]);
    laptop(&site, &["push"]).ok().prints("origin of app-main");
    assert_eq!(site.git_in(&origin, &["rev-parse", "main"]), newer);
    laptop(&site, &["stop"]).ok();
    assert_eq!(laptop(&site, &["exec", "--", "true"]).code, Some(1));
}

#[test]
fn a_host_without_the_same_agent_vm_gets_a_hint() {
    let site = Site::new();
    prepare(&site);
    let reply = |script: &str| {
        site.stand_in("ssh", script);
        laptop(&site, &["list"]).exits(1).gives_one_error()
    };
    reply("echo 'ssh: connect to host box port 22: refused' >&2; exit 255")
        .says("cannot connect to box")
        .says("refused");
    reply("exit 127").says("box has no agent-vm on PATH").says("install agent-vm");
    reply("echo '{\"protocol\":99,\"version\":\"9.0\"}'").says("the agent-vm of box is version 9.0 (protocol 99)");
    reply("echo \"error: unrecognized subcommand 'on-host'\" >&2; exit 2")
        .says("the agent-vm of box is another version");
    // What the host prints is shown, and no part of it is executed.
    reply("printf '$(touch /tmp/x)\\033[2J' >&2; exit 255").says("$(touch /tmp/x)").does_not_say("\u{1b}[2J");
    for (words, says) in [
        (&["--remote", "ssh://-oProxyCommand=id", "list"][..], "is not ssh://"),
        (&["edit"], "an editor or ssh of this host does not work with --remote"),
        (&["relink"], "relink does not work with --remote"),
        (&["destroy", "app-main", "--yes", "--keep-in", "here"], "a path of this host does not work with --remote"),
        (&["metrics", "--textfile", "here"], "a path of this host does not work with --remote"),
        (&["start", "--profile-file", "here"], "a path of this host does not work with --remote"),
        (&["kept", "restore", "x", "--into", "here"], "a path of this host does not work with --remote"),
        (&["compare", "--session", "here"], "a path of this host does not work with --remote"),
        (&["create", "--dirty"], "a copy of files that are not committed does not work with --remote"),
    ] {
        laptop(&site, words).exits(2).gives_one_error().says(says);
    }
}

#[test]
fn every_login_shell_passes_the_request_on() {
    let site = Site::new();
    prepare(&site);
    laptop(&site, &["exec", "nope", "--", "a 'b' \\ $x !"]).exits(1);
    let line = recorded(&site, "asked").pop().unwrap();
    // What agent-vm gets.
    fs::remove_file(site.path("bin/agent-vm")).unwrap();
    site.stand_in("agent-vm", "printf '%s\n' \"$#\" \"$@\"");
    let mut shells = 0;
    for shell in ["sh", "bash", "dash", "zsh", "fish", "tcsh", "ksh"] {
        let Some(path) = which(shell) else { continue };
        let output = site.command(path).args(["-c", &line]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let [count, verb, request] = lines[..] else { panic!("{shell}: {text} {:?}", output.stderr) };
        assert_eq!((count, verb), ("2", "on-host"), "{shell}");
        assert!(line.ends_with(request) && request.len() > 100, "{shell}: {request}");
        shells += 1;
    }
    assert!(shells >= 2, "only {shells} shells were tried");
}

/// Returns the number of agent-vm's processes on the box that do what another host asked.
fn asked_programs(site: &Site) -> usize {
    let home = format!("HOME={}", site.path("home").display());
    let has = |path: std::path::PathBuf, text: &str| {
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).split('\0').any(|word| word == text)
    };
    let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    all.filter(|dir| has(dir.join("cmdline"), "on-host") && has(dir.join("environ"), &home)).count()
}

/// A machine's program may serve one connection only, as debuggers do.
#[test]
fn a_forwarded_port_is_awaited_without_a_connection() {
    const LISTEN: &str = "
import socket, sys
port = int(sys.argv[sys.argv.index('-L') + 1].split(':')[1])
server = socket.create_server(('127.0.0.1', port))
while True:
    client = server.accept()[1][1]
    with open(sys.argv[1], 'a') as clients:
        print(client, file=clients)
";
    let (site, _services) = running();
    fs::rename(site.path("bin/ssh"), site.path("bin/ssh-to-box")).unwrap();
    site.write("record/listen.py", LISTEN);
    site.write("record/clients", "");
    let [listen, clients] = ["listen.py", "clients"].map(|name| site.path("record").join(name).display().to_string());
    let python = which("python3").unwrap();
    site.stand_in(
        "ssh",
        &format!(
            "case \" $* \" in *' -N '*' box '*) exec '{}' '{listen}' '{clients}' \"$@\";; esac; exec ssh-to-box \"$@\"",
            python.display()
        ),
    );
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    laptop(&site, &["port", &format!("3000:{free}")]).ok();
    // Control: a connection is recorded. An earlier one would be recorded before it.
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, free)).unwrap();
    let own = format!("{}\n", client.local_addr().unwrap().port());
    wait_until("the connection", || site.read("record/clients").ends_with(&own));
    assert_eq!(site.read("record/clients"), own);
    laptop(&site, &["port", "--remove", "3000"]).ok();
}

#[test]
fn a_real_sshd_carries_commands_commits_files_and_ports() {
    let site = Site::new();
    install(&site, STAYS);
    prepare(&site);
    let _sshd = match OwnSshd::start(&site.path("sshd"), &of_box(&site), "ssh-to-guest") {
        Ok(sshd) => sshd,
        Err(why) => return skip(&why),
    };
    fs::copy(site.path("sshd/bin/ssh"), site.path("laptop/ssh")).unwrap();
    fs::rename(site.path("laptop/ssh"), site.path("bin/ssh")).unwrap();
    let laptop = |args: &[&str]| {
        let mut variables = variables(&site);
        variables.push(("AGENT_VM_REMOTE", "ssh://box".to_owned()));
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        site.run_with(&variables, args)
    };
    assert_eq!(laptop(&["create", "--json"]).ok().json()["name"], "app-main");
    // One connection is shared.
    let sockets = fs::read_dir(site.path("laptop/run/agent-vm")).unwrap().count();
    assert_eq!(sockets, 1);
    // Later, the workspace belongs to another account.
    let commit = site.commit_in(site.machine("app-main").join("workspace"), "work", "x");
    own_ports(&site, "app-main");
    let _services = GuestServices::of(&site, "app-main");
    laptop(&["start"]).ok();
    laptop(&["exec", "--", "sh", "-c", "echo out; exit 7"]).exits(7).prints("out");
    site.write("app/file", "text");
    laptop(&["cp", "file", ":copy"]).ok();
    assert_eq!(site.read("inside/copy"), "text");
    laptop(&["fetch"]).ok();
    assert_eq!(site.git(&["rev-parse", "refs/agent-vm/app-main/heads/main"]), commit);

    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let spec = format!("3000:{free}");
    let tunnel = laptop(&["port", &spec, "--json"]).ok().json();
    assert_eq!((&tunnel[0]["guest"], &tunnel[0]["host"]), (&json!(3000), &json!(free)));
    // The stand-in for the guest's ssh forwards nothing, but the port of the box is now the machine's.
    let there = u16::try_from(tunnel[0]["there"].as_u64().unwrap()).unwrap();
    assert_eq!(site.settings("app-main")["forwards"], json!([{ "guest": 3000, "host": there }]));
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, there)).unwrap();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, free)).unwrap();
    let (mut served, _) = server.accept().unwrap();
    served.write_all(b"hello\n").unwrap();
    let mut line = String::new();
    BufReader::new(&mut client).read_line(&mut line).unwrap();
    assert_eq!(line, "hello\n");
    assert_eq!(laptop(&["port", "--json"]).ok().json(), tunnel);
    laptop(&["port", "--remove", "3000"]).ok().prints("no port is forwarded");
    wait_until("the end of the forward", || TcpStream::connect((Ipv4Addr::LOCALHOST, free)).is_err());

    // A command there ends with the connection. (The stand-in for the guest's ssh leaves the guest's process.)
    let mut command = site.agent_vm(&["exec", "-T", "--", "sh", "-c", "echo $$ >pid; exec sleep 60"]);
    command.envs(variables(&site)).env("AGENT_VM_REMOTE", "ssh://box").stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = Running::new(command.spawn().unwrap());
    wait_until("the command", || !site.read("inside/pid").is_empty());
    assert_eq!(asked_programs(&site), 1, "control");
    drop(child);
    wait_until("the end of the command", || asked_programs(&site) == 0);
    laptop(&["stop"]).ok();
}
