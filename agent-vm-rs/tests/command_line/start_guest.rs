//! A start that succeeds, with a stand-in for the machine's services; then the other commands.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use crate::guest_services::GuestServices;
use crate::stand_ins::{STAYS, create, install, install_ssh, recorded};
use crate::support::{Done, Running, Site, kill, wait_until};

/// Creates and starts the machine `app-main`.
fn started(runner: &str, flags: &[&str]) -> (Site, GuestServices) {
    let site = Site::new();
    install(&site, runner);
    install_ssh(&site);
    create(&site, "main");
    let inside = GuestServices::of(&site, "app-main");
    let args: Vec<_> = ["start"].iter().chain(flags).copied().collect();
    site.run(&args).ok();
    (site, inside)
}

#[test]
fn start_prints_how_to_connect_and_a_second_one_does_nothing() {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    create(&site, "main");
    let _services = GuestServices::of(&site, "app-main");
    site.run(&["start"])
        .ok()
        .says("notice: ")
        .says("the workspace is shared over 9p")
        .says("  ssh: ")
        .prints("app-main is running.")
        .prints("agent-vm shell app-main")
        .prints("agent-vm stop app-main");
    let first = site.pids();
    let again = site.run(&["start"]).ok().says("app-main is already running").prints("app-main is running.");
    assert_eq!(site.pids(), first);
    let port = site.run(&["status", "--json"]).ok().json()["mcp"]["url"].as_str().unwrap().to_owned();
    assert!(again.stdout.contains(&port), "{port}: {}", again.stdout);
}

#[test]
fn status_and_list_show_a_running_machine() {
    let (site, _services) = started(STAYS, &[]);
    site.run(&["status"])
        .ok()
        .prints("VM Status: app-main\nAgent Service: Running\n")
        .prints("MCP        answers in ")
        .prints("SSH        answers on 127.0.0.1:");
    let status = site.run(&["status", "--json"]).ok().json();
    assert_eq!((&status["state"], &status["mcp"]["responds"]), (&"running".into(), &true.into()));
    assert_eq!((&status["service"]["state"]["active"], &status["vm"]["share"]), (&"active".into(), &"9p".into()));
    site.run(&["status"]).ok().prints(" 0 denied since the start\n");
    let list = site.run(&["list", "--json"]).ok().json();
    assert_eq!((&list[0]["state"], &list[0]["port"]), (&"running".into(), &site.settings("app-main")["port"]));
    site.run(&["create"]).exits(1).says("already has a machine");
}

#[test]
fn commands_get_their_arguments_input_and_exit_code() {
    let (site, _services) = started(STAYS, &[]);
    let odd = "a b\t'q' \"d\" $HOME `id` \\ *;&|\n#x é";
    assert_eq!(site.run(&["exec", "--", "printf", "%s|", odd, ""]).ok().stdout, format!("{odd}||"));
    let inside = site.path("inside");
    assert_eq!(site.run(&["exec", "main", "--", "sh", "-c", "pwd"]).ok().stdout.trim_end(), inside.to_str().unwrap());
    assert_eq!(site.run(&["exec", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).exits(7).stderr, "err\n");
    site.run(&["exec", "--", "sh", "-c", "exit 255"]).exits(255);
    site.run(&["exec", "--", "no-such-program"]).exits(127).does_not_say("sh -c");
    let hint = "agent-vm exec app-main -- sh -c 'make test && ls'\n";
    site.run(&["exec", "--", "make test && ls"]).exits(127).says(hint);
    // Control: the line as hinted.
    site.run(&["exec", "app-main", "--", "sh", "-c", "true && exit 7"]).exits(7).does_not_say("sh -c");
    site.run(&["exec", "--"]).exits(2);
    site.run(&["exec", "echo"]).exits(2);

    let mut cat = site.agent_vm(&["exec", "--", "cat"]);
    let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(b"to and fro").unwrap();
    let done = Done::new("exec -- cat".to_owned(), &cat.wait_with_output().unwrap()).ok();
    assert_eq!(done.stdout, "to and fro");
    // The words reach the machine as one script; none of them is an option of ssh.
    site.run(&["exec", "--", "-oProxyCommand=id"]).exits(127);
}

/// Output of the guest is shown without escape sequences.
#[test]
fn logs_show_the_journal_and_the_console_without_escape_sequences() {
    let (site, _services) = started("printf 'boot\\033[2J\\033]0;title\\007 done\\n'; exec sleep 1000", &[]);
    // Control: the guest's output has the sequences.
    let said = || site.read("data/agent-vms/app-main/run/console.log");
    wait_until("the guest's output", || said().ends_with("done\n"));
    assert!(said().contains("\u{1b}[2J"));
    let console = site.run(&["logs", "--console"]).ok();
    assert_eq!(console.stdout, "boot done\n");
    let journal = site.run(&["logs", "-n", "7"]).ok().prints("the journal of journalctl").prints("--lines=7");
    assert!(!journal.stdout.contains('\u{1b}'), "{:?}", journal.stdout);
    site.run(&["logs", "-n", "7", "-f"]).ok().prints("--follow");
    // After a stop, the console log is still there.
    site.run(&["stop"]).ok();
    assert_eq!(site.run(&["logs", "--console"]).ok().stdout, "boot done\n");
    site.run(&["logs"]).exits(1).gives_one_error().says("agent-vm logs --console app-main");
}

/// Output of the guest takes a limited amount of memory: 1 MiB for an answer and 64 KiB for a line.
#[test]
fn endless_output_of_a_guest_is_cut_off() {
    let (site, _services) = started(STAYS, &[]);
    let floods = "for last; do :; done\n\
        case \" $* \" in *' -O check '*) exit;; esac\n\
        case $last in\n\
        exit) exit;;\n\
        systemctl*) exec cat /dev/zero;;\n\
        *) head -c 200000 /dev/zero | tr '\\0' x; echo; printf 'oh \\033[2Jno\\n' >&2; exit 3;;\n\
        esac";
    site.stand_in("ssh", floods);
    site.run(&["status"]).ok().prints("the output of ssh exceeded 1.00 MiB");
    let journal = site.run(&["logs"]).exits(3).says("oh no");
    let lengths: Vec<_> = journal.stdout.lines().map(str::len).collect();
    assert_eq!(lengths, [65_536, 65_536, 65_536, 200_000 - 3 * 65_536]);
    assert!(!journal.stderr.contains('\u{1b}'), "{:?}", journal.stderr);
}

#[test]
fn following_the_console_ends_with_the_machine() {
    let (site, _services) = started(STAYS, &[]);
    let mut follow = site.agent_vm(&["logs", "--console", "--follow"]);
    let shown = std::fs::File::create(site.path("shown")).unwrap();
    let mut follow = Running::new(follow.stdout(shown).spawn().unwrap());
    wait_until("the console", || site.read("shown").contains("kernel: hello"));
    assert!(!follow.ended());
    let console = site.machine("app-main").join("run/console.log");
    std::fs::OpenOptions::new().append(true).open(console).unwrap().write_all(b"one more\n").unwrap();
    wait_until("the new line", || site.read("shown").contains("one more"));
    site.run(&["stop"]).ok();
    assert!(follow.output().status.success());
}

/// A guest that floods its console fills no disk, even if other processes of agent-vm have ended, and it keeps running
/// if the log's writer ends.
#[test]
fn the_console_log_is_truncated() {
    const LONGEST: usize = 16 << 20;
    let site = Site::new();
    let (again, without) = (site.path("again"), site.path("without"));
    let flood = format!("head -c {} /dev/zero | tr '\\0' x; echo; echo", LONGEST + 1);
    let until = |file: &std::path::Path| format!("until [ -e '{}' ]; do sleep 0.05; done", file.display());
    install(
        &site,
        &format!(
            "{flood} the first; {}; {flood} the second; {}; trap '' PIPE; echo the third; touch '{}'; exec sleep 1000",
            until(&again),
            until(&without),
            site.path("third").display()
        ),
    );
    install_ssh(&site);
    create(&site, "main");
    let console = "data/agent-vms/app-main/run/console.log";
    let shortened = |last: &str| {
        let log = site.read(console);
        (1..LONGEST).contains(&log.len()) && log.ends_with(last)
    };
    let start = site.spawn(&["start"]);
    wait_until("the first flood's end", || shortened("the first\n"));
    // The start waits for ssh, which answers only now.
    let _services = GuestServices::of(&site, "app-main");
    assert!(start.output().status.success());

    // Kill all processes of agent-vm except the guest and the writer of its log.
    for (pid, words) in site.processes() {
        if words.contains("agent-vm") && !words.contains("run-agent-vm") {
            kill(pid, rustix::process::Signal::KILL);
        }
    }
    std::fs::write(&again, "").unwrap();
    wait_until("the second flood's end", || shortened("the second\n"));
    site.run(&["logs", "--console", "-n", "1"]).ok().prints("the second\n");

    let keeps = |pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        words.contains("keep-log") && words.contains(site.path(console).to_str().unwrap())
    };
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let keepers: Vec<u32> = pids.filter(keeps).collect();
    assert_eq!(keepers.len(), 1);
    let said = "the console log's writer has ended: agent-vm logs --console shows no new output";
    let status = site.run(&["status"]).ok();
    assert!(!status.stdout.contains(said), "control: {status:?}");
    kill(keepers[0], rustix::process::Signal::KILL);
    wait_until("the log's writer to end", || !keeps(&keepers[0]));
    site.run(&["status"]).ok().prints(said).prints("agent-vm restart app-main");
    // The machine does not need its console log.
    site.run(&["exec", "--", "true"]).ok();
    std::fs::write(&without, "").unwrap();
    site.wait_for("third");
    assert!(shortened("the second\n"));
    site.run(&["stop"]).ok();
}

#[test]
fn stop_reports_how_the_machine_stopped() {
    let (site, _services) = started(STAYS, &[]);
    site.run(&["stop"]).ok().says("did not power off; stopped by ending QEMU");
    site.assert_nothing_left();
    assert!(!site.machine("app-main").join("run").exists());
    site.run(&["stop"]).ok().says("app-main: was not running");
    site.run(&["status"]).ok().prints("Agent Service: Stopped");
}

#[test]
fn a_machine_that_ignores_sigterm_is_killed() {
    let (site, _services) = started("trap '' TERM; echo deaf; while :; do sleep 1000; done", &[]);
    site.run(&["stop"]).ok().says("stopped with SIGKILL");
    site.assert_nothing_left();
}

#[test]
fn destroy_ends_a_running_machine() {
    let (site, _services) = started(STAYS, &[]);
    assert!(!site.processes().is_empty());
    site.run(&["destroy"]).ok().says("removed app-main");
    site.assert_nothing_left();
    assert!(site.names().is_empty());
}

/// Every program with a verbosity option gets it.
#[test]
fn verbose_and_debug_reach_the_programs() {
    for (flag, nix, builder, ssh, level) in [
        (None, "eval", "warn", "LogLevel=ERROR", "warn"),
        (Some("--verbose"), "--verbose eval", "info", "LogLevel=VERBOSE", "info"),
        (Some("--debug"), "--debug eval", "debug", "LogLevel=DEBUG3", "debug"),
    ] {
        let site = Site::new();
        install(&site, STAYS);
        install_ssh(&site);
        create(&site, "main");
        let _services = GuestServices::of(&site, "app-main");
        let args: Vec<_> = flag.into_iter().chain(["start"]).collect();
        let done = site.run(&args).ok();
        assert!(recorded(&site, "nix")[0].contains(&format!("flakes {nix}")), "{:?}", recorded(&site, "nix"));
        assert!(recorded(&site, "builder")[0].ends_with(&format!(" {builder}")));
        assert!(recorded(&site, "ssh")[0].contains(ssh), "{:?}", recorded(&site, "ssh"));
        assert_eq!(site.read("data/agent-vms/app-main/run/qemu/credentials/agent-vm.log-level"), level);
        // agent-vm itself also logs which programs it runs.
        let line = done.stderr.lines().find(|line| line.contains("running nix "));
        assert_eq!(line.is_some(), flag.is_some(), "{}", done.stderr);
        // Each line has the time of day: 12:34:56.789Z.
        assert!(line.is_none_or(|line| line.find("Z ").is_some_and(|end| end == 12)), "{line:?}");
        let qemu = recorded(&site, "runner.args").join("\n");
        assert!(qemu.contains("-fw_cfg"), "{qemu}");
        assert_eq!(qemu.contains("-d guest_errors"), flag == Some("--debug"), "{qemu}");
    }
}

#[test]
fn the_runner_gets_only_the_documented_environment() {
    let (site, _services) = started(STAYS, &[]);
    let machine = site.machine("app-main");
    let environment = recorded(&site, "runner.env");
    let mut names: Vec<_> = environment.iter().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    assert_eq!(
        names,
        [
            "AGENT_VM_MACHINE",
            "AGENT_VM_QEMU",
            "HOME",
            "NIX_DISK_IMAGE",
            "PATH",
            "QEMU_NET_OPTS",
            "TMPDIR",
            "USE_TMPDIR"
        ]
    );
    assert_eq!(recorded(&site, "runner.cwd"), [machine.join("run/qemu").to_str().unwrap()]);
    let value = |name: &str| environment.iter().find_map(|l| l.strip_prefix(&format!("{name}=")[..])).unwrap();
    assert_eq!(value("NIX_DISK_IMAGE"), machine.join("disk.qcow2").to_str().unwrap());
    let (port, ssh_port) = (&site.settings("app-main")["port"], &site.settings("app-main")["ssh_port"]);
    let forwards = format!("hostfwd=tcp:127.0.0.1:{ssh_port}-:22,hostfwd=tcp:127.0.0.1:{port}-:8000");
    assert_eq!(value("QEMU_NET_OPTS"), forwards);
    assert!(Path::new(value("AGENT_VM_QEMU")).is_absolute());
    let arguments = recorded(&site, "runner.args").join("\n");
    assert!(arguments.contains("-fw_cfg") && !arguments.contains(site.root().to_str().unwrap()), "{arguments}");
}
