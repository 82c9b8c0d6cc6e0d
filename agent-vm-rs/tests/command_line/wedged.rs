//! Machines whose processes have ended, hang or are late: the error comes at once, with the command that helps.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::guest_services::GuestServices;
use crate::stand_ins::{STAYS, create, install, install_ssh};
use crate::support::{Done, Running, Site, end, kill, namespaces, suspend, wait_until};

/// Longer than any command here may take on a busy host; a command that waits for a time limit takes longer.
const SOON: Duration = Duration::from_secs(15);

fn site(runner: &str) -> Site {
    let site = Site::new();
    install(&site, runner);
    install_ssh(&site);
    create(&site, "main");
    site
}

fn pid_in(site: &Site, file: &str) -> u32 {
    let text = site.read(format!("data/agent-vms/app-main/run/{file}"));
    text.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{file}: {text:?}"))
}

/// Starts a process and records it in `run/` as one of the machine's.
fn remembered(site: &Site, file: &str) -> Running {
    let process = Running::new(std::process::Command::new("sleep").arg("1000").spawn().unwrap());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
    let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    let line = format!("{} {started} {boot}", process.pid());
    fs::write(site.machine("app-main").join("run").join(file), line).unwrap();
    process
}

#[track_caller]
fn soon(what: &str, run: impl FnOnce() -> Done) -> Done {
    let began = Instant::now();
    let done = run();
    assert!(began.elapsed() < SOON, "{what} took {:?}: {done:?}", began.elapsed());
    done
}

/// `start` of a running machine checks each process first and does not wait for one that has ended.
#[test]
fn an_ended_forwarder_is_an_error_with_the_restart_command() {
    let site = site(STAYS);
    let _services = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    for (file, name) in
        [("forward-ssh.pid", "the ssh port's forwarder"), ("forward-mcp.pid", "the MCP port's forwarder")]
    {
        let forwarder = remembered(&site, file);
        // Control: while the forwarder runs, there is no problem.
        site.run(&["start"]).ok();
        let status = site.run(&["status", "--json"]).ok().json();
        assert!(!status["problems"].to_string().contains("forwarder"), "{status}");
        let state = |status: &serde_json::Value| {
            let helpers = status["helpers"].as_array().unwrap();
            helpers.iter().find(|one| one["name"] == name).unwrap()["state"].clone()
        };
        assert_eq!(state(&status), "running");

        suspend(forwarder.pid());
        assert_eq!(state(&site.run(&["status", "--json"]).ok().json()), "suspended");
        site.run(&["start"]).exits(1).gives_one_error().says("is suspended").says("agent-vm restart app-main");
        drop(forwarder);
        soon("start", || site.run(&["start"]))
            .exits(1)
            .gives_one_error()
            .says(&format!("{name} has ended"))
            .says("hint: agent-vm restart app-main");
        // A command that finds no ssh connection reports the same error.
        let real = site.read("bin/ssh");
        site.stand_in("ssh", "case \" $* \" in *' -O check '*) exit 1;; esac; echo refused >&2; exit 255");
        site.run(&["exec", "--", "true"]).exits(1).gives_one_error().says(&format!("{name} has ended"));
        site.stand_in("ssh", real.trim_start_matches("#!/bin/sh\n"));
        assert_eq!(state(&site.run(&["status", "--json"]).ok().json()), "ended");
        site.run(&["status"]).ok().prints(&format!("{name} has ended")).prints("(ENDED)");
        fs::remove_file(site.machine("app-main").join("run").join(file)).unwrap();
    }
}

/// `start` restores what it can restore.
#[test]
fn start_restores_the_ssh_connection() {
    let site = site(STAYS);
    let _services = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    for signal in [Signal::KILL, Signal::STOP] {
        let old = pid_in(&site, "ssh.pid");
        if signal == Signal::KILL {
            end(old);
            // A killed ssh leaves no socket on which it answers.
            fs::remove_file(site.machine("app-main").join("run/ssh.sock")).unwrap();
        } else {
            suspend(old);
        }
        site.run(&["start"]).ok();
        assert_ne!(pid_in(&site, "ssh.pid"), old, "after {signal:?}");
        site.run(&["exec", "--", "true"]).ok();
    }
}

/// A suspended QEMU does not answer: `status` reports it, and `stop` kills it.
#[test]
fn a_suspended_machine_is_reported_and_can_be_stopped() {
    let site = site(STAYS);
    let inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    drop(inside);
    suspend(pid_in(&site, "qemu.pid"));
    let status = soon("status", || site.run(&["status"])).ok();
    let status = status.prints("is suspended, by SIGSTOP").prints("agent-vm restart app-main");
    assert!(!status.stdout.contains("no answer"), "{}", status.stdout);
    for args in [&["start"][..], &["exec", "--", "true"], &["shell"], &["logs"]] {
        soon(args[0], || site.run(args))
            .exits(1)
            .gives_one_error()
            .says("is suspended")
            .says("agent-vm restart app-main");
    }
    soon("stop", || site.run(&["stop"])).ok().says("stopped with SIGKILL");
    site.assert_nothing_left();
}

/// QEMU is suspended after `status` has looked at it: its ssh does that.
#[test]
fn a_machine_that_is_suspended_during_the_queries_is_reported() {
    let site = site(STAYS);
    let inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    drop(inside);
    let qemu = pid_in(&site, "qemu.pid");
    let suspends = format!("kill -STOP {qemu}; until grep -q '^State:.T' /proc/{qemu}/status; do sleep 0.01; done");
    site.stand_in("ssh", &format!("case \" $* \" in *' -O check '*) exit;; esac; {suspends}; exit 255"));
    let status = soon("status", || site.run(&["status"])).ok().prints("is suspended, by SIGSTOP");
    let status = status.prints("VM         suspended,");
    assert!(!status.stdout.contains("SSH ") && !status.stdout.contains("no answer"), "{}", status.stdout);
}

/// The ports accept connections and never answer, as the forwarders of a hung guest do.
#[test]
fn status_waits_for_all_answers_at_the_same_time() {
    let site = site(STAYS);
    let inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    drop(inside);
    let ports: serde_json::Value = serde_json::from_str(&site.read("data/agent-vms/app-main/run/ports.json")).unwrap();
    let silent = ["port", "ssh_port"].map(|name| {
        let port = u16::try_from(ports[name].as_u64().unwrap()).unwrap();
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap()
    });
    site.stand_in("ssh", "case \" $* \" in *' -O check '*) exit;; esac; trap '' TERM; sleep 1000");
    let began = Instant::now();
    let status = site.run(&["status"]).ok();
    let took = began.elapsed();
    status.prints("ssh: no answer in 6.0 s").prints("MCP: no answer in 6.0 s").prints("the machine does not answer");
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop(silent);
}

/// The error names the process that ended.
#[test]
fn an_ended_virtiofsd_ends_the_start() {
    if namespaces(&["--mount", "--pid", "--net", "--fork"]).is_none() {
        return;
    }
    let site = site(STAYS);
    for package in ["package.json", "from-nix.json"] {
        site.write(package, site.read(package).replace("\"share\":\"9p\"", "\"share\":\"virtiofs\""));
    }
    site.stand_in(
        "virtiofsd",
        "[ \"$1\" = --version ] && echo 'virtiofsd 1.13.2' && exit; : >virtiofsd.sock; exec sleep 1000",
    );
    let start = site.spawn(&["start"]);
    wait_until("the start to wait", || site.machine("app-main").join("run/ports.json").exists());
    kill(pid_in(&site, "virtiofsd.pid"), Signal::KILL);
    soon("start", || Done::new("start".to_owned(), &start.output()))
        .exits(1)
        .gives_one_error()
        .says("error: app-main did not start completely")
        .says("caused by: virtiofsd has ended: /workspace does not work in the machine");
    site.assert_nothing_left();
}

#[test]
fn a_kernel_panic_ends_the_start() {
    let site = site("echo '[    1.2] Kernel panic - not syncing: VFS: no root'; exec sleep 1000");
    soon("start", || site.run(&["start"]))
        .exits(1)
        .says("caused by: the guest's kernel panicked: VFS: no root")
        .says("agent-vm start app-main");
    site.assert_nothing_left();
}

/// Greets as sshd does, with no other service.
struct Greeter(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);

impl Greeter {
    fn of(site: &Site) -> Self {
        let port = u16::try_from(site.settings("app-main")["ssh_port"].as_u64().unwrap()).unwrap();
        let stop = Arc::<AtomicBool>::default();
        let (stopped, up) = (Arc::clone(&stop), site.path("record/runner.cwd"));
        let thread = std::thread::spawn(move || {
            // The start first checks that the port is free.
            wait_until("the guest", || up.exists() || stopped.load(Ordering::Relaxed));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            listener.set_nonblocking(true).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((mut stream, _)) = listener.accept() {
                    drop(stream.write_all(b"SSH-2.0-stand-in\r\n"));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        drop(self.1.take().map(std::thread::JoinHandle::join));
    }
}

/// Neither a failed login nor a late answer ends a start before its time limit.
#[test]
fn a_slow_guest_gets_the_whole_time_limit() {
    let site = site(STAYS);
    let greeter = Greeter::of(&site);
    let record = site.path("record");
    let record = record.display();
    let state = |active: &str| format!("printf 'ActiveState={active}\\nResult=timeout\\nNRestarts=7\\n'");
    // The first call hangs; the later ones report a service that systemd restarts again and again because it times out.
    site.stand_in(
        "systemctl",
        &format!(
            "echo >>'{record}/systemctl'\n\
             [ \"$(wc -l <'{record}/systemctl')\" -gt 1 ] || sleep 1000\n{}",
            state("activating")
        ),
    );
    // The first login fails.
    let real = site.read("bin/ssh");
    site.stand_in(
        "ssh",
        &format!(
            "case \" $* \" in *' -M '*) [ -e '{record}/login' ] || {{ : >'{record}/login'; echo 'Connection reset by peer' >&2; exit 255; }};; esac\n\
             {}",
            real.trim_start_matches("#!/bin/sh\n")
        ),
    );
    let start = site.spawn(&["start", "--timeout", "300"]);
    wait_until("systemd to be asked again", || site.read("record/systemctl").lines().count() > 1);
    drop(greeter);
    let inside = GuestServices::of(&site, "app-main");
    Done::new("start".to_owned(), &start.output()).ok().prints("app-main is running.");

    // Control: the start does not wait for a service that systemd has given up.
    site.run(&["stop"]).ok();
    drop(inside);
    fs::remove_file(site.path("record/runner.cwd")).unwrap();
    let _greeter = Greeter::of(&site);
    site.stand_in("systemctl", &state("failed"));
    soon("start", || site.run(&["start", "--timeout", "300"]))
        .exits(1)
        .gives_one_error()
        .says("MCP of app-main does not answer")
        .says("failed (failed, ");
    site.run(&["stop"]).ok();
}
