//! `start --foreground`, as a service manager runs it, and `start --guest-package`.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::guest_services::GuestServices;
use crate::stand_ins::{ENDS, STAYS, change_runner, create, install, install_ssh, manifest};
use crate::support::{Done, Running, Site, end, kill, suspend, wait_until};

/// A site with a machine that can be started.
fn ready(runner: &str) -> (Site, GuestServices) {
    let site = Site::new();
    install(&site, runner);
    install_ssh(&site);
    create(&site, "main");
    let inside = GuestServices::of(&site, "app-main");
    (site, inside)
}

/// A service manager's socket, and the command that reports to it.
fn start(site: &Site, flags: &[&str]) -> (UnixDatagram, Running) {
    let path = site.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = site.agent_vm(&[&["start", "--foreground"], flags].concat());
    command.env("NOTIFY_SOCKET", &path).stdout(Stdio::piped()).stderr(Stdio::piped());
    (socket, Running::new(command.spawn().unwrap()))
}

fn notification(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let read = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..read]).into_owned()
}

fn done(command: Running) -> Done {
    Done::new("start --foreground".to_owned(), &command.output())
}

#[test]
fn it_reports_readiness_and_a_signal_stops_the_machine() {
    for signal in [Signal::TERM, Signal::INT] {
        let (site, _services) = ready(STAYS);
        let (socket, command) = start(&site, &[]);
        assert!(notification(&socket).contains("READY=1"));
        assert!(
            !site.read("record/runner.env").contains("NOTIFY_SOCKET"),
            "the guest's runner can talk to the manager"
        );
        command.signal(signal);
        assert!(notification(&socket).contains("STOPPING=1"));
        done(command).ok().says("app-main: ");
        site.assert_nothing_left();
        assert!(!site.machine("app-main").join("run").exists());
    }
}

#[test]
fn it_ends_with_the_machine() {
    let (site, _services) = ready(STAYS);
    let (socket, mut command) = start(&site, &[]);
    assert!(notification(&socket).contains("READY=1"));
    assert!(!command.ended());
    site.run(&["stop"]).ok();
    assert!(notification(&socket).contains("STOPPING=1"));
    done(command).ok().says("app-main ended");
    site.assert_nothing_left();
}

#[test]
fn it_ends_with_a_machine_that_powers_off_by_itself() {
    let (site, _services) = ready("echo 'kernel: hello'; trap 'exit 0' USR1; while true; do sleep 0.1; done");
    end_qemu(&site, Signal::USR1).ok().says("app-main ended").does_not_say("error:");
}

/// A service manager starts a machine again that failed.
#[test]
fn it_fails_with_the_machine() {
    let killed = "QEMU crashed or was killed";
    let panics = "trap 'echo \"Kernel panic - not syncing: a test\"; exit 0' USR1; while true; do sleep 0.1; done";
    for (runner, signal, reason) in
        [(STAYS, Signal::KILL, killed), (panics, Signal::USR1, "the guest's kernel panicked: a test")]
    {
        let (site, _services) = ready(runner);
        end_qemu(&site, signal)
            .exits(1)
            .says(&format!("error: app-main failed: {reason}"))
            .says("hint: agent-vm logs --console app-main");
        site.run(&["logs", "--console"]).ok();
        // The reason is kept until the next start.
        site.run(&["status"]).ok().prints(&format!("it stopped unexpectedly: {reason}; "));
        change_runner(&site, ENDS);
        site.run(&["start"]).exits(1);
        site.run(&["status"]).ok().does_not_say("stopped unexpectedly");
    }
}

/// The command is not the one that started the QEMU which fails, so the exit status is unknown.
#[test]
fn it_fails_with_a_machine_that_another_command_started() {
    let (site, services) = ready(STAYS);
    site.run(&["start"]).ok();
    let (socket, command) = start(&site, &[]);
    assert!(notification(&socket).contains("READY=1"));
    // Another command starts it again, and this one sees only that it runs.
    suspend(command.pid());
    site.run(&["stop"]).ok();
    drop(services);
    fs::remove_file(site.path("record/runner.cwd")).unwrap();
    let _services = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    command.signal(Signal::CONT);
    kill(qemu(&site), Signal::KILL);
    done(command).exits(1).says("error: app-main failed: QEMU crashed or was killed");
    site.assert_nothing_left();
}

/// `stop` removes what the failed run left before the command sees it.
#[test]
fn it_fails_also_after_another_command_cleaned_up() {
    let (site, _services) = ready(STAYS);
    let (socket, command) = start(&site, &[]);
    assert!(notification(&socket).contains("READY=1"));
    suspend(command.pid());
    end(qemu(&site));
    wait_until("QEMU to end", || site.run(&["stop"]).ok().stderr.contains("was not running"));
    assert!(!site.machine("app-main").join("run").exists());
    command.signal(Signal::CONT);
    done(command).exits(1).says("error: app-main failed: QEMU crashed or was killed");
}

/// The machine ends before the command prints how to connect: the queue of the service manager's socket is full, so that the
/// command waits in its first report.
#[test]
fn a_machine_that_ends_at_once_is_no_other_error() {
    let (site, _services) = ready("trap 'exit 0' USR1; while true; do sleep 0.1; done");
    let path = site.path("notify");
    let (socket, command) = start(&site, &[]);
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.send_to(b"X=1", &path).is_ok() {}
    let run = site.machine("app-main").join("run");
    wait_until("the start to be over", || run.join("started").exists());
    let qemu = qemu(&site);
    kill(qemu, Signal::USR1);
    let ended = |stat: String| stat.contains(") Z ");
    wait_until("QEMU to end", || fs::read_to_string(format!("/proc/{qemu}/stat")).map_or(true, ended));
    while notification(&socket) == "X=1" {}
    done(command).ok().says("app-main ended").does_not_say("error:");
    site.assert_nothing_left();
}

/// Returns QEMU's process id.
fn qemu(site: &Site) -> u32 {
    site.read("data/agent-vms/app-main/run/qemu.pid").split_whitespace().next().unwrap().parse().unwrap()
}

/// Runs `start --foreground`, and sends a signal to QEMU once the machine is ready.
fn end_qemu(site: &Site, signal: Signal) -> Done {
    let (socket, command) = start(site, &[]);
    assert!(notification(&socket).contains("READY=1"));
    kill(qemu(site), signal);
    let done = done(command);
    site.assert_nothing_left();
    done
}

#[test]
fn a_machine_that_does_not_come_up_is_not_ready() {
    let (site, _services) = ready(ENDS);
    let (socket, command) = start(&site, &[]);
    done(command).exits(1).gives_one_error();
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 100]).is_err());
    site.assert_nothing_left();
}

/// A signal during the start ends the start, with nothing left.
#[test]
fn a_signal_during_the_start_ends_it() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    let (socket, command) = start(&site, &[]);
    wait_until("QEMU to run", || site.machine("app-main").join("run/qemu.pid").exists());
    command.signal(Signal::TERM);
    done(command).exits(143);
    socket.set_nonblocking(true).unwrap();
    while let Ok(read) = socket.recv(&mut [0; 4096]) {
        assert_eq!(read, b"STOPPING=1".len(), "it reported more than its end");
    }
    site.assert_nothing_left();
}

/// A machine that another command has started already is followed, too. A failed start does not stop it.
#[test]
fn a_machine_that_runs_already_is_followed() {
    let (site, _services) = ready(STAYS);
    site.run(&["start"]).ok();
    let other = package(&site, "other", |_| {});
    let (_, command) = start(&site, &["--guest-package", &other]);
    done(command).exits(1).gives_one_error().says("is running with another guest package");
    drop(fs::remove_file(site.path("notify")));
    let (socket, command) = start(&site, &[]);
    assert!(notification(&socket).contains("READY=1"));
    command.signal(Signal::TERM);
    done(command).ok();
    site.assert_nothing_left();
}

/// Creates a guest package, as Nix builds one.
fn package(site: &Site, name: &str, change: impl Fn(&mut serde_json::Value)) -> String {
    let dir = site.path(name);
    fs::create_dir_all(dir.join("bin")).unwrap();
    fs::create_dir_all(dir.join("share/agent-vm")).unwrap();
    fs::copy(site.path("runner"), dir.join("bin/run-agent-vm")).unwrap();
    fs::write(dir.join("vmlinux"), "").unwrap();
    let mut manifest = manifest(site);
    change(&mut manifest);
    fs::write(dir.join("share/agent-vm/manifest.json"), manifest.to_string()).unwrap();
    dir.to_str().unwrap().to_owned()
}

#[test]
fn a_guest_package_is_not_built_again() {
    let (site, inside) = ready(STAYS);
    let path = package(&site, "closure", |_| {});
    site.run(&["start", "--guest-package", &path]).ok();
    assert!(!site.path("record/nix").exists() && !site.path("record/builder").exists());
    site.run(&["start", "--guest-package", &path]).ok().says("is already running");
    let other = package(&site, "other", |_| {});
    site.run(&["start", "--guest-package", &other])
        .exits(1)
        .gives_one_error()
        .says("is running with another guest package");
    // Nothing answers in the guest now, so that both commands end soon.
    drop(inside);
    site.run(&["restart", "--timeout", "2"]).exits(124);
    assert!(!site.path("record/nix").exists());
    // Control: without it the machine's own is built.
    site.run(&["start", "--timeout", "2"]).exits(124);
    assert!(site.path("record/nix").exists());
}

#[test]
fn a_path_that_is_not_a_guest_package_is_refused() {
    let (site, _services) = ready(STAYS);
    let nixos = package(&site, "nixos", |manifest| manifest["guest"] = "nixos".into());
    let odd = package(&site, "odd", |manifest| manifest["runner"] = "bin/none".into());
    let broken = package(&site, "broken", |manifest| manifest["version"] = 99.into());
    for path in [&nixos, &odd, &broken, "/nowhere", site.repo().to_str().unwrap()] {
        site.run(&["start", "--guest-package", path])
            .exits(2)
            .gives_one_error()
            .says("is not a guest package")
            .says(path);
    }
    site.assert_nothing_left();
    wait_until("no process", || site.pids().is_empty());
}
