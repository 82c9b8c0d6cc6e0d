//! Failures of real machines, and that the next command works.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::site::{Done, Running, Site, kill, pid_in, site, suspend, wait_until};

/// QEMU is suspended; then a forwarder and virtiofsd are killed under a running machine. `status` reports each, and the
/// machine is restarted.
pub fn a_killed_forwarder_or_virtiofsd_is_reported(site: &Site) {
    let run = site.machine("app-main").join("run");

    // A suspended QEMU is reported at once, also by `exec`, whose session never opens.
    let soon = |args: &[&str]| {
        let began = Instant::now();
        let done = site.run(args);
        assert!(began.elapsed() < Duration::from_secs(20), "{args:?} took {:?}", began.elapsed());
        done
    };
    suspend(site.qemu("app-main"));
    soon(&["status", "main"]).ok().says("is suspended, by SIGSTOP").says("agent-vm restart app-main");
    soon(&["exec", "main", "--timeout", "3", "--", "true"]).exits(1).says("is suspended, by SIGSTOP");
    kill(site.qemu("app-main"), "CONT");
    site.exec("main", &["true"]).ok();

    // The MCP port's forwarder, if QEMU has a network namespace of its own.
    let forwarder = run.join("forward-mcp.pid");
    if forwarder.exists() {
        kill(pid_in(&forwarder), "KILL");
        wait_until("status to see that the forwarder is gone", || {
            site.run(&["status", "main"]).ok().stdout.contains("the MCP port's forwarder has ended")
        });
        soon(&["start", "main"]).exits(1).says("hint: agent-vm restart app-main");
    }

    kill(pid_in(&run.join("virtiofsd.pid")), "KILL");
    wait_until("status to see that virtiofsd is gone", || {
        site.run(&["status", "main"]).ok().stdout.contains("virtiofsd has ended")
    });
    site.run(&["restart", "main"]).ok().says("app-main is running");
    assert_eq!(site.exec("main", &["cat", "/workspace/README"]).ok().stdout, "hello\n");
}

/// All helpers end with a QEMU that was killed, and `status` reports it.
pub fn a_killed_qemu_is_reported(site: &Site) {
    assert!(site.processes("app-main").len() > 2);
    kill(site.qemu("app-main"), "KILL");
    wait_until("the helpers to end", || site.processes("app-main").is_empty());
    wait_until("QEMU to end", || site.status("main")["state"] == "stopped");
    site.run(&["status", "main"])
        .ok()
        .says("it stopped unexpectedly: QEMU crashed or was killed")
        .says("Agent Service: Stopped");
    site.exec("main", &["true"]).exits(1).says("app-main is not running").says("agent-vm start app-main");
}

/// `start` times out and shows the guest's console, is interrupted, and is killed with -9 while the guest boots. Only
/// after -9 does the next command have to clean up.
#[test]
fn a_start_that_is_cut_short_leaves_nothing() {
    let Some(site) = site() else { return };
    site.create("main");
    let run = site.machine("app-main").join("run");
    site.run(&["start", "main", "--timeout", "1"])
        .exits(124)
        .says("timed out after 1 s")
        .says("hint: to see the whole console: agent-vm logs --console app-main\n");
    assert!(site.processes("app-main").is_empty());

    for (signal, code) in [("INT", Some(130)), ("TERM", Some(143)), ("KILL", None)] {
        let start = site.agent_vm(&["start", "main"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut start = Running(start);
        wait_until("QEMU to run", || run.join("ports.json").exists());
        assert!(!site.processes("app-main").is_empty());
        kill(i32::try_from(start.0.id()).unwrap(), signal);
        assert_eq!(start.0.wait().unwrap().code(), code, "after {signal}");
        if signal != "KILL" {
            assert!(site.processes("app-main").is_empty(), "{signal} left something running");
            assert!(!run.exists());
        }
    }
    // KILL leaves a machine that runs: the next start takes it over or starts it again.
    site.start("main");
    wait_until("MCP", || site.status("main")["mcp"]["responds"] == true);
    assert_eq!(site.exec("main", &["true"]).code, Some(0));
}

/// Two starts of one machine and one of another machine, at once.
#[test]
fn concurrent_starts_do_not_interfere() {
    let Some(site) = site() else { return };
    site.create("main");
    site.create("other");
    let begin = |branch: &str| {
        let args = ["start", branch, "--timeout", "300"];
        site.agent_vm(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = [begin("main"), begin("main"), begin("other")];
    let done: Vec<_> = children.map(|child| Done::from(child.wait_with_output().unwrap(), &["start"]).ok()).into();
    assert_eq!(done.iter().filter(|start| start.stderr.contains("is already running")).count(), 1);
    let ports: Vec<_> =
        ["main", "other"].iter().map(|branch| site.status(branch)["ssh"]["port"].as_u64().unwrap()).collect();
    assert_ne!(ports[0], ports[1]);
    assert_eq!(site.exec("main", &["hostname"]).ok().stdout, "app-main\n");
    assert_eq!(site.exec("other", &["hostname"]).ok().stdout, "app-other\n");
}

/// The service is killed: systemd restarts it, and `status` counts the restart. Its port is taken: it fails, and
/// `status` shows its last lines.
pub fn a_failing_service_is_reported_with_its_journal(site: &Site) {
    site.exec("main", &["pkill", "-KILL", "-f", "[a]gent-mcp serve"]).ok();
    wait_until("the service to come back", || {
        let status = site.status("main");
        status["service"]["state"]["restarts"].as_u64().is_some_and(|count| count >= 1)
            && status["mcp"]["responds"] == true
    });

    // The gateway's port is taken in the five seconds before systemd starts the service again.
    let squatter = "pkill -KILL -f '[a]gent-mcp serve'; exec python3 -c 'import socket, time; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\nwhile True:\n    try: s.bind((\"127.0.0.1\", 8001)); break\n    except OSError: time.sleep(0.1)\ns.listen(); time.sleep(3600)'";
    let squatter = site
        .agent_vm(&["exec", "main", "--", "sh", "-c", squatter])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _squatter = Running(squatter);
    wait_until("status to report the failure", || {
        let text = site.run(&["status", "main"]).ok().stdout;
        !text.contains("Agent Service: Running\n") && text.contains("cannot listen on 127.0.0.1 port 8001")
    });
    fs::metadata(site.machine("app-main")).unwrap();
}
