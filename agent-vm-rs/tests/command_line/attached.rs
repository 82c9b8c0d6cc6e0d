//! Tests that no process of a command outlives `agent-vm exec`, however `exec` ends.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::guest_services::{GuestServices, running};
use crate::stand_ins::{STAYS, create, install, install_ssh};
use crate::support::{Done, Running, Site, kill, namespaces, wait_until};

/// Starts a machine. Its stand-in for ssh runs each command in a session of its own, as sshd does: when the client
/// (here `cat`) ends, the command only loses its standard output.
pub fn started() -> (Site, GuestServices) {
    started_after(|_| {})
}

/// Starts a machine after `prepare` has changed the site.
fn started_after(prepare: impl FnOnce(&Site)) -> (Site, GuestServices) {
    let site = Site::new();
    install(&site, STAYS);
    install_ssh(&site);
    prepare(&site);
    create(&site, "main");
    let inside = GuestServices::of(&site, "app-main");
    site.run(&["start"]).ok();
    let client = site.path("client");
    site.stand_in(
        "ssh",
        &format!(
            "for last; do :; done\n\
             case \" $* \" in *' -O check '*) exit;; esac\n\
             case $last in exit) exit;; esac\n\
             mkfifo session.$$\n\
             setsid sh -c \"$last\" >session.$$ &\n\
             echo $$ >'{}'\n\
             exec cat session.$$",
            client.display()
        ),
    );
    (site, inside)
}

/// Returns whether a process still runs; a zombie does not.
pub fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Waits until a file holds a number and returns the number.
pub fn number_in(site: &Site, file: &str) -> u32 {
    let number = || site.read(file).trim().parse().ok();
    wait_until(file, || number().is_some());
    number().unwrap()
}

#[test]
fn a_command_ends_with_exec_however_exec_ends() {
    let (site, _services) = started();
    // The first script reacts to signals. The second ignores them and starts another program.
    let plain = "echo $$ >first; echo $$ >second; exec sleep 1000";
    let stubborn = "trap '' TERM HUP INT; echo $$ >first; setpriv sh -c 'echo $$ >second; exec sleep 1000'; sleep 1000";
    for (script, signal, code) in [
        (plain, Signal::INT, Some(130)),
        (plain, Signal::TERM, Some(143)),
        (plain, Signal::HUP, Some(129)),
        (plain, Signal::KILL, None),
        (stubborn, Signal::KILL, None),
    ] {
        let exec = site.spawn(&["exec", "--", "sh", "-c", script]);
        let pids = ["inside/first", "inside/second", "client"].map(|file| number_in(&site, file));
        // Control: all of them run.
        assert!(pids.iter().all(|pid| lives(*pid)), "{script}");
        exec.signal(signal);
        let output = exec.output();
        assert_eq!(output.status.code(), code, "{signal:?}: {}", String::from_utf8_lossy(&output.stderr));
        wait_until("the command to end", || !pids.iter().any(|pid| lives(*pid)));
        for file in ["inside/first", "inside/second", "client"] {
            fs::remove_file(site.path(file)).unwrap();
        }
    }
}

/// The process that keeps the ssh connection inherits the client's streams and holds them until the guest closes the
/// session.
#[test]
fn an_interrupted_exec_closes_its_output() {
    let (site, _services) = started();
    site.stand_in(
        "ssh",
        &format!(
            "case \" $* \" in *' -O check '*) exit;; esac\n\
             echo first; setsid sleep 1000 & echo $! >'{0}.new'; mv '{0}.new' '{0}'; exec sleep 1000",
            site.path("keeps").display()
        ),
    );
    for signal in [Signal::INT, Signal::KILL] {
        let mut exec = site.spawn(&["exec", "--", "true"]);
        let keeps = number_in(&site, "keeps");
        assert!(lives(keeps), "control");
        // A command that is killed passes nothing more on.
        assert_eq!(exec.line(), "first\n");
        exec.signal(signal);
        // The output ends only when no process holds its write end.
        let output = exec.output();
        assert_eq!(output.stdout, b"", "{signal:?}");
        assert!(lives(keeps), "{signal:?}");
        kill(keeps, Signal::KILL);
        fs::remove_file(site.path("keeps")).unwrap();
    }
}

/// All output arrives, however slowly it is read, and `exec` ends when its reader has gone.
#[test]
fn all_output_of_exec_arrives() {
    let (site, _services) = started();
    let large =
        "i=0; while [ $i -lt 3000 ]; do echo 'a line that is not short, of which there are many'; i=$((i + 1)); done";
    let exec = format!("'{}' exec -- sh -c \"$1\"", env!("CARGO_BIN_EXE_agent-vm"));
    let pipe = |reads: &str| {
        let script = format!("{exec} | {reads}");
        let output = site.command("sh").args(["-c", &script, "sh", large]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(pipe("{ sleep 1; wc -l; }"), "3000");
    assert_eq!(pipe("head -n 1"), "a line that is not short, of which there are many");
}

/// A file that is both stdout and stderr keeps the output of `exec`, also when something is written after it.
#[test]
fn a_file_keeps_the_output_of_exec() {
    let (site, _services) = started();
    let script = format!(
        "{{ echo before; '{}' exec -- sh -c 'echo output'; echo after; }} >'{}' 2>&1",
        env!("CARGO_BIN_EXE_agent-vm"),
        site.path("file").display()
    );
    assert!(site.command("sh").args(["-c", &script]).status().unwrap().success());
    assert_eq!(site.read("file"), "before\noutput\nafter\n");
}

/// A process that a command deliberately leaves in the background outlives the command.
#[test]
fn a_background_process_outlives_its_command() {
    let (site, _services) = started();
    site.run(&["exec", "--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $! >left"]).ok();
    let left = number_in(&site, "inside/left");
    assert!(lives(left));
    kill(left, Signal::KILL);
}

/// In a real machine, a process that uses the workspace blocks forever once virtiofsd has ended, and no signal in the
/// guest ends it.
#[test]
fn exec_does_not_wait_for_a_lost_workspace() {
    if namespaces(&["--mount", "--pid", "--net", "--fork"]).is_none() {
        return;
    }
    let (site, _services) = started_after(|site| {
        for package in ["package.json", "from-nix.json"] {
            site.write(package, site.read(package).replace("\"share\":\"9p\"", "\"share\":\"virtiofs\""));
        }
        site.stand_in(
            "virtiofsd",
            "[ \"$1\" = --version ] && echo 'virtiofsd 1.13.2' && exit; : >virtiofsd.sock; exec sleep 1000",
        );
    });
    // Control: while virtiofsd runs, commands run.
    site.run(&["exec", "--", "true"]).ok();
    let exec = site.spawn(&["exec", "--", "sh", "-c", "echo $$ >first; exec sleep 1000"]);
    let first = number_in(&site, "inside/first");
    let daemon = site.read("data/agent-vms/app-main/run/virtiofsd.pid");
    let began = Instant::now();
    kill(daemon.split(' ').next().unwrap().parse().unwrap(), Signal::KILL);
    let gone = |done: Done| {
        done.exits(1)
            .gives_one_error()
            .says("error: virtiofsd has ended: /workspace does not work in the machine")
            .says("hint: agent-vm restart app-main");
    };
    gone(Done::new("exec".to_owned(), &exec.output()));
    wait_until("the command to end", || !lives(first));
    gone(site.run(&["exec", "--", "sleep", "1000"]));
    gone(site.run(&["shell"]));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// `exec`, `shell` and `logs` time out if ssh opens no session or the guest is silent.
#[test]
fn a_guest_that_does_not_answer_is_an_error() {
    let (site, inside) = started();
    let hangs = "case \" $* \" in *' -O check '*) exit;; esac; exec sleep 1000";
    site.stand_in("ssh", hangs);
    drop(inside);
    for args in
        [&["exec", "--timeout", "2", "--", "true"][..], &["shell", "--timeout", "2"], &["logs", "--timeout", "2"]]
    {
        let began = Instant::now();
        site.run(args)
            .exits(124)
            .gives_one_error()
            .says("app-main does not answer: no ssh session in 2 s")
            .says("agent-vm restart app-main");
        assert!(began.elapsed() < Duration::from_secs(20), "{args:?} took {:?}", began.elapsed());
    }
}

/// A guest that sends its ssh greeting is given more time to open the session.
#[test]
fn a_session_that_opens_late_is_no_timeout() {
    let (site, _services) = started();
    site.stand_in("ssh", "case \" $* \" in *' -O check '*) exit;; esac; sleep 4; echo late");
    let done = site.run(&["exec", "--timeout", "1", "--", "true"]).ok();
    assert_eq!(done.stdout, "late\n");
}

/// A message of ssh itself becomes an error of agent-vm; the command's standard error has only what the command
/// printed.
#[test]
fn a_failure_of_ssh_is_an_error_with_its_message() {
    let (site, _services) = started();
    let refuses = "log=; for word; do [ \"$log\" != next ] || log=$word; [ \"$word\" != -E ] || log=next; done\n\
        case \" $* \" in *' -O check '*) exit;; esac\n\
        echo 'debug1: noise' >>\"$log\"; echo 'exec request failed on channel 2' >>\"$log\"; exit 255";
    site.stand_in("ssh", refuses);
    site.run(&["exec", "--", "true"])
        .exits(1)
        .gives_one_error()
        .says("app-main did not run the command")
        .says("exec request failed on channel 2")
        .does_not_say("noise")
        .says("hint: to see why: agent-vm status app-main\n");
    // Control: a command may exit with 255 too.
    site.stand_in("ssh", "case \" $* \" in *' -O check '*) exit;; esac; exit 255");
    site.run(&["exec", "--", "true"]).exits(255).does_not_say("error");
}

/// Root's login has the key of this run and no shared connection. The rest of the host's commands keep the agent's.
#[test]
fn root_logs_in_by_a_key_of_its_own() {
    let (site, _services) = started();
    let key = site.machine("app-main").join("run/root_ed25519");
    assert!(fs::read_to_string(&key).unwrap().contains("PRIVATE KEY"));
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    let given = site.machine("app-main").join("run/qemu/credentials/agent-vm.keys.root");
    assert_eq!(fs::read_to_string(given).unwrap(), format!("restrict,pty {public}"));

    let recorded = site.path("recorded");
    let records = format!("printf '%s\\n' \"$@\" >>'{}'; exit 255", recorded.display());
    site.stand_in("ssh", &format!("case \" $* \" in *' -O check '*) exit;; esac; {records}"));
    site.run(&["exec", "--root", "--", "id", "-u"]).exits(255).does_not_say("error");
    let words = fs::read_to_string(&recorded).unwrap();
    for word in ["IdentityFile=run/root_ed25519", "ControlPath=none", "root@127.0.0.1"] {
        assert!(words.lines().any(|line| line == word), "{word}: {words}");
    }
    assert!(words.contains("; /usr/lib/agent-vm/writable </dev/null && cd "), "{words}");
    // Control: the agent's own login.
    fs::remove_file(&recorded).unwrap();
    site.run(&["exec", "--", "true"]).exits(255);
    let words = fs::read_to_string(&recorded).unwrap();
    for word in ["IdentityFile=ssh/id_ed25519", "ControlPath=run/ssh.sock", "dev@127.0.0.1"] {
        assert!(words.lines().any(|line| line == word), "{word}: {words}");
    }
    assert!(!words.contains("writable"), "{words}");

    // A guest that an earlier release started has no such key.
    fs::remove_file(&key).unwrap();
    for verb in [&["exec", "--root", "--", "true"][..], &["shell", "--root"]] {
        site.run(verb).exits(1).gives_one_error().says("app-main was started without a login for root");
    }
}

/// Commands that find no ssh connection open one together, and none of them closes it for the others.
#[test]
fn concurrent_commands_share_one_ssh_connection() {
    let (site, _services) = running();
    let masters =
        || site.read("record/ssh").lines().filter(|line| line.contains(" -M ") && !line.contains("egress")).count();
    let before = masters();
    kill(site.read("data/agent-vms/app-main/run/ssh.pid").split(' ').next().unwrap().parse().unwrap(), Signal::KILL);
    fs::remove_file(site.machine("app-main").join("run/ssh.sock")).unwrap();
    let begin = || {
        let mut exec = site.agent_vm(&["exec", "--", "echo", "here"]);
        Running::new(exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    for exec in [begin(), begin(), begin()] {
        let done = Done::new("exec".to_owned(), &exec.output()).ok();
        assert_eq!(done.stdout, "here\n");
    }
    assert_eq!(masters(), before + 1);
}
