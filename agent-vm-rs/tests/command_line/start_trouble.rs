//! A start that fails: the error shows why, and no process keeps running.

use std::fs;

use rustix::process::Signal;

use crate::stand_ins::{ENDS, STAYS, change_runner, create, install, recorded};
use crate::support::{Done, Running, Site, kill, namespaces, skip, wait_until};

fn site(runner: &str) -> Site {
    let site = Site::new();
    install(&site, runner);
    create(&site, "main");
    site
}

#[test]
fn a_guest_that_ends_at_once_is_an_error_with_its_console() {
    let site = site(ENDS);
    let done = site.run(&["start"]).exits(1).gives_one_error();
    done.says("the last lines of the console of app-main:\nkernel: hello\nkernel: panic\n")
        .says("error: app-main did not start completely")
        .says("exit status: 3")
        .says("hint: to see the whole console: agent-vm logs --console app-main\n");
    site.assert_nothing_left();
    site.run(&["status"]).ok().prints("Agent Service: Stopped");
    site.run(&["logs", "--console"]).ok().prints("kernel: panic");
    change_runner(&site, "echo second run; exit 4");
    site.run(&["start"]).exits(1).says("exit status: 4").does_not_say("kernel: panic");
}

/// The process around QEMU ends with it, and is not what the user knows.
#[test]
fn a_qemu_that_is_killed_is_named() {
    let site = site(STAYS);
    let start = site.spawn(&["start"]);
    let facts = site.machine("app-main").join("run/ports.json");
    wait_until("QEMU", || facts.exists());
    let pid = site.read("data/agent-vms/app-main/run/qemu.pid");
    let pid = pid.split(' ').next().unwrap().parse().unwrap();
    kill(pid, Signal::KILL);
    let done = Done::new("start".to_owned(), &start.output()).exits(1).gives_one_error();
    done.says("error: app-main did not start completely\ncaused by: ")
        .says("caused by: QEMU ended (killed by signal 9)")
        .does_not_say("unshare ended")
        .does_not_say("137");
    site.assert_nothing_left();
}

/// The error names the cause and a remedy, and not only the step that failed.
#[test]
fn a_console_that_shows_the_cause_is_explained() {
    let site = site("echo 'systemd-journald: Failed to open system journal: No space left on device'; exit 3");
    site.run(&["start"])
        .exits(1)
        .gives_one_error()
        .says("error: app-main did not start completely\ncaused by: the guest's disk is full\n")
        .says("hint: make the disk larger, in MiB: agent-vm set app-main disk=40960\n");
    // Control: without such a line there is only the step.
    change_runner(&site, "echo hello; exit 3");
    site.run(&["start"]).exits(1).does_not_say("disk is full").says("exit status: 3");
}

/// The process that writes the console log starts late: it writes to the file that is kept, and creates none.
#[test]
fn the_console_is_kept_if_its_writer_starts_late() {
    let site = site(ENDS);
    let run = site.machine("app-main").join("run");
    let setsid = fs::canonicalize(site.path("bin/setsid")).unwrap();
    let (run, setsid) = (run.display(), setsid.display());
    site.stand_in(
        "setsid",
        &format!("case \"$*\" in *keep-log*) while [ -e '{run}' ]; do sleep 0.01; done;; esac\nexec '{setsid}' \"$@\""),
    );
    site.run(&["start"]).exits(1).says("app-main did not start completely").does_not_say("kernel: panic");
    let kept = "data/agent-vms/app-main/console.log";
    wait_until("the last line of the console", || site.read(kept) == "kernel: hello\nkernel: panic\n");
    assert!(!site.machine("app-main").join("run").exists());
}

#[test]
fn a_guest_that_never_greets_times_out() {
    let site = site(STAYS);
    site.run(&["start", "--timeout", "2"])
        .exits(124)
        .gives_one_error()
        .says("timed out after 2 s waiting for ssh")
        .says("kernel: hello")
        .says("set a longer limit in seconds: agent-vm start app-main --timeout ");
    site.assert_nothing_left();
    assert!(!site.machine("app-main").join("run").exists());
    site.run(&["status"]).ok().prints("Agent Service: Stopped");
}

/// Output of the guest cannot control the user's terminal.
#[test]
fn the_console_in_an_error_has_no_escape_sequences() {
    let site = site("printf 'a\\033[2Jb\\033]0;t\\007c\\rd\\n'; exit 1");
    let done = site.run(&["start"]).exits(1).says("abc");
    assert!(!done.stderr.contains(['\u{1b}', '\r', '\u{7}']), "{:?}", done.stderr);
    // Control: the guest printed the sequences.
    assert!(site.read("data/agent-vms/app-main/console.log").contains('\u{1b}'));
}

#[test]
fn each_missing_program_is_named_and_nothing_is_started() {
    for (program, package) in
        [("nix", "nix"), ("qemu-system-x86_64", "qemu"), ("qemu-img", "qemu"), ("setsid", "util-linux")]
    {
        let site = site(ENDS);
        site.without(program);
        site.run(&["start"])
            .exits(1)
            .gives_one_error()
            .says(&format!("{program} is not on PATH"))
            .says("hint: install it: ")
            .says(package);
        site.assert_nothing_left();
        assert!(recorded(&site, "runner.env").is_empty(), "the guest was started without {program}");
    }
}

#[test]
fn a_missing_account_is_a_notice_for_root() {
    if !rustix::process::geteuid().is_root() {
        skip("an ordinary user needs no other account");
        return;
    }
    let site = site(ENDS);
    let ids = |others: &str| format!("case \" $* \" in *' agent-vm '*) {others};; *) echo 65534;; esac");
    for (others, told) in [("exit 1", true), ("echo 65534", false)] {
        site.stand_in("id", &ids(others));
        let said = site.run(&["start"]).exits(1);
        assert_eq!(said.stderr.contains("notice: the account agent-vm does not exist"), told, "{}", said.stderr);
    }
}

#[test]
fn a_shared_network_is_a_notice() {
    let site = site(ENDS);
    if !site.with_sandbox("bwrap") {
        return;
    }
    for (proxy, told) in [(false, true), (true, false)] {
        if proxy {
            site.stand_in("systemd-socket-proxyd", "exit 1");
        }
        let said = site.run(&["start"]).exits(1);
        assert_eq!(said.stderr.contains("notice: QEMU shares this host's network"), told, "{}", said.stderr);
    }
}

/// Debian installs mke2fs in a directory that is not on an ordinary user's PATH.
#[test]
fn mke2fs_is_also_found_in_sbin() {
    let site = site(ENDS);
    site.without("mke2fs");
    let done = site.run(&["start"]).exits(1);
    let elsewhere = ["/usr/sbin/mke2fs", "/sbin/mke2fs"].iter().any(|path| std::path::Path::new(path).exists());
    assert_eq!(done.stderr.contains("mke2fs is not on PATH"), !elsewhere, "{}", done.stderr);
    // Control: the guest starts only if mke2fs was found.
    assert_eq!(recorded(&site, "runner.env").is_empty(), !elsewhere);
}

#[test]
fn a_failing_nix_is_shown_with_its_last_lines() {
    let site = site(ENDS);
    site.stand_in(
        "nix",
        "for n in 1 2 3 4 5 6 7 8 9; do echo \"line $n\" >&2; done; echo 'error: infinite' >&2; exit 1",
    );
    site.run(&["start"])
        .exits(1)
        .gives_one_error()
        .says("failed to evaluate the guest")
        .says("nix failed (exit status: 1)")
        .says("line 9\n  error: infinite")
        .does_not_say("line 1\n");
    site.assert_nothing_left();
}

#[test]
fn a_failed_disk_creation_leaves_no_file() {
    let site = site(ENDS);
    site.stand_in("qemu-img", "for last; do :; done; echo half >\"$last\"; echo 'no space' >&2; exit 1");
    site.run(&["start"]).exits(1).gives_one_error().says("failed to create the disk").says("no space");
    let machine = site.machine("app-main");
    assert!(!machine.join("disk.qcow2").exists());
    install(&site, ENDS);
    site.run(&["start"]).exits(1).says("did not start completely");
    assert!(machine.join("disk.qcow2").exists());
    let names: Vec<_> = fs::read_dir(&machine).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".tmp-")), "{names:?}");
    // An existing disk is not made again: its contents belong to the guest.
    fs::write(machine.join("disk.qcow2"), "precious").unwrap();
    site.run(&["start"]).exits(1);
    assert_eq!(site.read("data/agent-vms/app-main/disk.qcow2"), "precious");
}

#[test]
fn a_port_in_use_is_replaced_unless_requested() {
    let site = Site::new();
    install(&site, ENDS);
    create(&site, "main");
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    site.set("app-main", "port", port.into());
    site.run(&["start"])
        .exits(1)
        .says(&format!("notice: port {port} is in use; this run uses"))
        .says("did not start completely");
    site.set("app-main", "port_asked", true.into());
    site.run(&["start"])
        .exits(1)
        .gives_one_error()
        .says(&format!("port {port} on 127.0.0.1 is taken by"))
        .says("agent-vm set app-main port=PORT");
    site.assert_nothing_left();
}

/// A pid file from before the host rebooted: the number may belong to another process now.
#[test]
fn a_stale_pid_file_is_ignored() {
    let site = site(ENDS);
    let innocent = Running::new(std::process::Command::new("sleep").arg("1000").spawn().unwrap());
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", innocent.pid())).unwrap();
    // The start time is the twentieth field after the name in parentheses.
    let started = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    let run = site.machine("app-main").join("run");
    let remember = |line: String| {
        fs::create_dir_all(&run).unwrap();
        for file in ["qemu.pid", "virtiofsd.pid", "ssh.pid"] {
            fs::write(run.join(file), &line).unwrap();
        }
    };
    let pid = innocent.pid();
    // Control: with the right start time and boot id, the pid file counts. There are no facts of a finished start.
    remember(format!("{pid} {started} {boot}"));
    assert_eq!(site.run(&["list", "--json"]).ok().json()[0]["state"], "starting");
    for stale in [
        format!("{pid} {started} 00000000-0000-0000-0000-000000000000\n"),
        format!("{pid} 1 {boot}"),
        format!("{pid}\n"),
        "1\n".to_owned(),
        "-1 1 x\n".to_owned(),
        "not a number\n".to_owned(),
        String::new(),
    ] {
        for verb in ["start", "stop", "restart"] {
            remember(stale.clone());
            site.run(&["status"]).ok().prints("Agent Service: Stopped");
            assert_eq!(site.run(&["list", "--json"]).ok().json()[0]["state"], "stopped");
            site.run(&["exec", "--", "true"]).exits(1).says("app-main is not running");
            let done = site.run(&[verb]);
            if verb == "stop" {
                done.ok()
            } else {
                done.exits(1).says("app-main did not start completely")
            };
            assert!(!run.exists());
        }
    }
    remember(format!("{pid} 1 {boot}"));
    site.run(&["destroy"]).ok();
    assert!(crate::support::exists(pid), "another program's process was killed");
}

/// `status` reports that the machine stopped unexpectedly, until the next `stop`.
#[test]
fn status_distinguishes_a_killed_machine_from_a_stopped_one() {
    let site = site(ENDS);
    let run = site.machine("app-main").join("run");
    fs::create_dir(&run).unwrap();
    fs::write(run.join("console.log"), "kernel: last words\n").unwrap();
    site.run(&["status"]).ok().prints("it stopped unexpectedly").prints("agent-vm logs --console app-main");
    site.run(&["logs", "--console"]).ok().prints("kernel: last words");
    site.run(&["stop"]).ok().says("was not running");
    let status = site.run(&["status"]).ok();
    assert!(!status.stdout.contains("stopped unexpectedly"), "{}", status.stdout);
    site.run(&["logs", "--console"]).ok().prints("kernel: last words");
}

#[test]
fn an_old_virtiofsd_is_a_notice_and_9p_is_used() {
    for (said, why) in
        [("virtiofsd 1.10.0", "is older than 1.13"), ("virtiofsd version 7.2 (Debian)", "is older than 1.13")]
    {
        let site = site(ENDS);
        site.stand_in("virtiofsd", &format!("echo '{said}'"));
        site.run(&["start"]).exits(1).says("notice: ").says(why).says("the workspace is shared over 9p");
        let options = recorded(&site, "runner.env").join("\n");
        assert!(site.read("data/agent-vms/app-main/flake/flake.nix").contains("share = \"9p\""), "{options}");
    }
}

#[test]
fn a_virtiofsd_that_ends_at_once_ends_the_start() {
    if namespaces(&["--mount", "--pid", "--net", "--fork"]).is_none() {
        return;
    }
    let site = site(STAYS);
    site.stand_in(
        "virtiofsd",
        "[ \"$1\" = --version ] && echo 'virtiofsd 1.13.2' && exit; echo 'no socket' >&2; exit 9",
    );
    let done = site.run(&["start"]).exits(1).gives_one_error();
    done.says("error: virtiofsd ended (exit status: 9):\n").says("no socket").says("virtiofsd.log");
    site.assert_nothing_left();
    assert!(recorded(&site, "runner.env").is_empty(), "the guest was started without its workspace");
    // Control: with a virtiofsd that keeps running, the start reaches the guest.
    site.stand_in(
        "virtiofsd",
        "[ \"$1\" = --version ] && echo 'virtiofsd 1.13.2' && exit; touch virtiofsd.sock; exec sleep 1000",
    );
    site.run(&["start", "--timeout", "2"]).exits(124).says("waiting for ssh").does_not_say("9p");
    site.assert_nothing_left();
}
