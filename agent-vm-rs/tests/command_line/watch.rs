//! The watcher of a running machine: samples, events, and time limits.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;

use crate::bridge::Client;
use crate::guest_services::GuestServices;
use crate::stand_ins::{STAYS, create, install, install_ssh};
use crate::support::{Running, Site, kill, wait_until};

/// A site with a running machine.
fn running(settings: &[&str]) -> (Site, GuestServices) {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    if !settings.is_empty() {
        site.run(&[&["set"], settings].concat()).ok();
    }
    let inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    (site, inside)
}

fn events(site: &Site) -> Vec<Value> {
    let printed = site.run(&["events", "--json"]).ok().stdout;
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(site: &Site) -> Vec<String> {
    events(site).iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

fn samples(site: &Site) -> Vec<Value> {
    let text = fs::read_to_string(site.machine("app-main").join("samples.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pid_in(site: &Site, file: &str) -> u32 {
    let text = fs::read_to_string(site.machine("app-main").join("run").join(file)).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Waits until two more samples were taken, and returns the last one.
fn next_sample(site: &Site) -> Value {
    let before = samples(site).len();
    wait_until("two samples", || samples(site).len() >= before + 2);
    samples(site).pop().unwrap()
}

#[test]
fn a_crash_is_recorded_once_without_any_command() {
    let (site, inside) = running(&[]);
    assert_eq!(names(&site), ["created", "started", "ready"]);
    kill(pid_in(&site, "qemu.pid"), Signal::KILL);
    wait_until("the crash", || names(&site).contains(&"crashed".to_owned()));
    let crash = events(&site).pop().unwrap();
    assert_eq!(crash["reason"], "QEMU crashed or was killed");
    site.run(&["status"]).ok().prints("Ended      crashed: QEMU crashed or was killed");
    drop(inside);
    fs::remove_file(site.path("record/runner.cwd")).unwrap();
    let _inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    wait_until("a sample", || site.run(&["status"]).ok().stdout.contains("Idle       in use"));
    let status = site.run(&["status"]).ok().stdout;
    assert!(!status.contains("Ended"), "{status}");
    site.run(&["stop"]).ok();
    let all = names(&site);
    assert_eq!(all[3..], ["crashed", "started", "ready", "stopped"]);
    site.assert_nothing_left();
}

#[test]
fn a_killed_watcher_is_reported_and_started_again() {
    let (site, _inside) = running(&[]);
    let watcher = pid_in(&site, "watch.pid");
    kill(watcher, Signal::KILL);
    wait_until("status to see it", || site.run(&["status"]).ok().stdout.contains("the watcher has ended"));
    let limits = || {
        let limits = site.run(&["status", "--json"]).ok().json()["limits"].clone();
        limits.as_array().unwrap().iter().find(|limit| limit["name"] == "keep_free").unwrap()["by"].clone()
    };
    assert_eq!(limits(), Value::Null);
    site.run(&["start"]).ok();
    assert_ne!(pid_in(&site, "watch.pid"), watcher);
    let status = site.run(&["status"]).ok().stdout;
    assert!(!status.contains("the watcher has ended"), "{status}");
    assert_eq!(limits(), "the watcher");
}

/// A command that is killed while it starts the watcher.
#[test]
fn a_watcher_records_itself() {
    let (site, _inside) = running(&[]);
    kill(pid_in(&site, "watch.pid"), Signal::KILL);
    let record = site.machine("app-main").join("run/watch.pid");
    fs::remove_file(&record).unwrap();
    let watcher = Running::new(site.agent_vm(&["watch", "app-main"]).spawn().unwrap());
    wait_until("the record", || fs::read_to_string(&record).is_ok_and(|text| text.ends_with('\n')));
    let pid = pid_in(&site, "watch.pid");
    site.run(&["start"]).ok();
    assert_eq!(pid_in(&site, "watch.pid"), pid, "there is no second one");
    site.run(&["stop"]).ok();
    drop(watcher);
}

#[test]
fn a_machine_that_nothing_uses_is_stopped_and_one_in_use_is_not() {
    let (site, inside) = running(&["idle_timeout=1s"]);
    // A session, of which the machine knows nothing.
    let go = site.path("go");
    let script = format!("until [ -e '{}' ]; do sleep 0.1; done", go.display());
    let mut session = Running::new(
        site.agent_vm(&["exec", "--", "sh", "-c", &script])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    assert_eq!(next_sample(&site)["idle_seconds"], 0);
    assert!(!session.ended());
    // A client that connects to MCP now and then, for a moment.
    let ports: Value = serde_json::from_str(&site.read("data/agent-vms/app-main/run/ports.json")).unwrap();
    let port = u16::try_from(ports["port"].as_u64().unwrap()).unwrap();
    fs::write(&go, "").unwrap();
    wait_until("the session to end", || session.ended());
    let before = samples(&site).len();
    wait_until("two samples", || {
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        client.write_all(b"GET /mcp HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        client.read_to_end(&mut Vec::new()).unwrap();
        samples(&site).len() >= before + 2
    });
    assert_eq!(samples(&site).pop().unwrap()["idle_seconds"], 0);
    // Our own queries, which also connect to MCP, are no use.
    wait_until("the machine to be stopped", || {
        site.run(&["status"]).ok();
        names(&site).last().unwrap() == "idle-stop"
    });
    drop(inside);
    wait_until("the watcher to end", || !site.machine("app-main").join("run").exists());
    site.assert_nothing_left();
    site.run(&["status"]).ok().prints("Ended      stopped: not used for ");
    let status = site.run(&["status", "--json"]).ok().json();
    assert_eq!((&status["state"], &status["last_end"]["event"]), (&"stopped".into(), &"idle-stop".into()));
}

/// A tool may run for hours without a byte on its connection.
#[test]
fn a_call_of_mcp_that_waits_for_its_answer_is_a_use() {
    let (site, _inside) = running(&[]);
    let is_used = || {
        let file = fs::File::open(site.machine("app-main").join("run/in-use"));
        file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
    };
    let mut client = Client::new(&site, &["mcp"]);
    client.begin();
    wait_until("the first call to end", || !is_used());
    client.send(r#"{"jsonrpc":"2.0","id":1,"method":"slow"}"#);
    wait_until("the call", is_used);
    client.send(r#"{"jsonrpc":"2.0","id":2,"method":"late"}"#);
    client.line();
    client.line();
    // The client stays connected, which is no use.
    wait_until("the calls to end", || !is_used());
}

/// Prometheus asks all the time.
#[test]
fn every_query_of_our_own_is_counted() {
    let (site, _inside) = running(&[]);
    let queries = || fs::read(site.machine("app-main").join("run/queries")).map_or(0, |file| file.len());
    site.stand_in("tmux", "exit 0");
    for command in ["status", "metrics", "stats", "ps"] {
        let before = queries();
        site.run(&[command]).ok();
        // Its begin and its end.
        assert_eq!(queries(), before + 2, "{command}");
    }
}

#[test]
fn a_time_to_live_ends_also_a_used_machine_and_its_foreground_command() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    let _inside = GuestServices::of(&site, "app-main");
    let start = site.agent_vm(&["start", "--foreground"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Running::new(start);
    wait_until("the machine to be ready", || names(&site).contains(&"ready".to_owned()));
    // It takes effect at once.
    site.run(&["set", "ttl=9h"]).ok().does_not_say("warning: ");
    site.run(&["set", "ttl=1s", "idle_timeout=1h"])
        .ok()
        .says("ttl changed at once")
        .says("warning: app-main is stopped now: it has run for ");
    let done = crate::support::Done::new("start --foreground".to_owned(), &start.output());
    done.exits(75)
        .says("error: app-main was stopped by a time limit: its time to live of 1s passed")
        .says("hint: agent-vm start app-main");
    assert_eq!(names(&site).last().unwrap(), "ttl-stop");
    site.assert_nothing_left();
}

#[test]
fn events_can_be_followed_and_limited() {
    let site = Site::new();
    install(&site, STAYS);
    create(&site, "main");
    let mut follow = site.agent_vm(&["events", "--follow", "--json"]);
    let follow = Running::new(follow.stdout(fs::File::create(site.path("followed")).unwrap()).spawn().unwrap());
    wait_until("the first event", || site.read("followed").contains("\"created\""));
    site.run(&["set", "memory=2048"]).ok();
    wait_until("the second event", || site.read("followed").contains("\"changed\""));
    // A reader that has what it wanted, as in `events -f | head -1`.
    let mut piped = site.agent_vm(&["events", "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    piped.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let mut piped = Running::new(piped);
    wait_until("the end without a reader", || piped.ended());
    assert!(piped.output().status.success());
    follow.signal(Signal::INT);
    assert!(follow.output().status.success());
    let printed = site.read("followed");
    assert_eq!(printed.lines().count(), 2, "{printed}");
    site.run(&["events"]).ok().prints("Z  settings changed: memory (4096 MiB to 2048 MiB)\n");
    site.run(&["events", "--since", "1h"]).ok().prints("created");
    let old = r#"{"time":"2001-01-01T00:00:00Z","event":"powered-off"}"#;
    let log = site.machine("app-main").join("events.jsonl");
    // The clock was set back since.
    let future = r#"{"time":"2999-01-01T00:00:00Z","event":"ready","after_ms":1500}"#;
    fs::write(&log, format!("{old}\n{}{future}\n", fs::read_to_string(&log).unwrap())).unwrap();
    site.run(&["events"]).ok().prints("2001-01-01 00:00:00Z  the guest powered off\n");
    let recent = site.run(&["events", "--since", "1h"]).ok().prints("created").prints("ready after 1.5 s").stdout;
    assert!(!recent.contains("powered off"), "{recent}");
}
