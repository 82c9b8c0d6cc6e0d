//! Tests of `agent-vm exec` on a terminal.

use rustix::process::Signal;

use crate::attached::{lives, number_in, started};
use crate::own_terminal::{LED_BY_A_SHELL, OwnTerminal};
use crate::support::{Site, kill, wait_until};

/// Answers agent-vm's check of the ssh connection.
const CHECK: &str = "case \" $* \" in *' -O check '*) exit;; esac\n";

/// Runs agent-vm on a terminal.
pub fn on_terminal(site: &Site, args: &[&str]) -> OwnTerminal {
    OwnTerminal::run(site.command("setsid").args(LED_BY_A_SHELL).arg(env!("CARGO_BIN_EXE_agent-vm")).args(args))
}

/// Makes a stand-in for ssh that runs each command on a terminal in a session of its own, as sshd does.
fn install_sessions(site: &Site) {
    let session =
        "for last; do :; done\ncase $last in exit) exit;; esac\nSHELL=/bin/sh exec script -qec \"$last\" /dev/null";
    site.stand_in("ssh", &format!("{CHECK}{session}"));
}

#[test]
fn exec_has_a_terminal_if_its_streams_are_one_or_by_flag() {
    let (site, _services) = started();
    let kind = "case \" $* \" in *' -tt '*) echo terminal;; *' -T '*) echo pipes;; esac";
    site.stand_in("ssh", &format!("{CHECK}{kind}; echo closed >&2"));
    for (flags, piped, own) in [
        (&[][..], "pipes", "terminal"),
        (&["-T", "-t", "-t"], "terminal", "terminal"),
        (&["-t", "--no-tty"], "pipes", "pipes"),
    ] {
        let args = [&["exec"], flags, &["--", "true"]].concat();
        let done = site.run(&args).ok();
        assert_eq!(done.stdout, format!("{piped}\n"), "{flags:?}");
        // On a terminal, ssh reports that its session has ended.
        assert_eq!(done.stderr.contains("closed"), piped == "pipes", "{flags:?}");
        let mut terminal = on_terminal(&site, &args);
        assert_eq!(terminal.ends(), Some(0));
        assert!(terminal.output().contains(own), "{flags:?}: {}", terminal.output());
    }
}

#[test]
fn a_command_on_a_terminal_ends_with_exec() {
    let (site, _services) = started();
    install_sessions(&site);
    let plain = "echo $$ >first; echo $$ >second; exec sleep 1000";
    let stubborn = "trap '' TERM HUP INT; echo $$ >first; setpriv sh -c 'echo $$ >second; exec sleep 1000'; sleep 1000";
    let end = |script: &str, signal: Option<Signal>| {
        let mut terminal = on_terminal(&site, &["exec", "--", "sh", "-c", script]);
        let pids = ["inside/first", "inside/second"].map(|file| number_in(&site, file));
        // Control: both run.
        assert!(pids.iter().all(|pid| lives(*pid)), "{script}");
        match signal {
            Some(signal) => kill(terminal.pid(), signal),
            None => terminal.close(),
        }
        let code = terminal.ends();
        // A closed terminal has no modes. After SIGKILL, only the real ssh restores them.
        assert!(matches!(signal, None | Some(Signal::KILL)) || terminal.is_restored());
        wait_until("the command to end", || !pids.iter().any(|pid| lives(*pid)));
        for file in ["inside/first", "inside/second"] {
            std::fs::remove_file(site.path(file)).unwrap();
        }
        code
    };
    assert_eq!(end(plain, Some(Signal::TERM)), Some(143));
    assert_eq!(end(plain, None), None);
    assert_eq!(end(stubborn, Some(Signal::HUP)), Some(129));
    assert_eq!(end(stubborn, Some(Signal::KILL)), Some(137));
}

/// The part of the script that ends a session starts slowly here, as on a busy host.
#[test]
fn a_terminal_that_is_closed_at_once_ends_the_command() {
    let (site, _services) = started();
    let delay = "[ $BASHPID = $$ ] || [ ${slowed:-0} -gt 8 ] || { slowed=$((slowed + 1)); sleep 0.2; }";
    site.write("slow", format!("set -T; trap '{delay}' DEBUG\n"));
    let session = format!(
        "for last; do :; done\ncase $last in exit) exit;; esac\nBASH_ENV='{}' SHELL=/bin/bash exec script -qec \"$last\" /dev/null",
        site.path("slow").display()
    );
    site.stand_in("ssh", &format!("{CHECK}{session}"));
    let script = "trap '' TERM HUP INT; echo $$ >first; sleep 1000";
    let mut terminal = on_terminal(&site, &["exec", "--", "sh", "-c", script]);
    let pid = number_in(&site, "inside/first");
    terminal.close();
    terminal.ends();
    wait_until("the command to end", || !lives(pid));
}

#[test]
fn keys_and_exit_codes_pass_through_the_terminal() {
    let (site, _services) = started();
    install_sessions(&site);
    let mut terminal = on_terminal(
        &site,
        &["exec", "--", "sh", "-c", "trap 'stty size' WINCH; stty size; echo $$ >first; sleep 1000; sleep 1000"],
    );
    let first = number_in(&site, "inside/first");
    terminal.shows("33 101");
    terminal.types("\x03");
    assert_eq!(terminal.ends(), Some(130), "{}", terminal.output());
    assert!(!lives(first));
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137)] {
        assert_eq!(on_terminal(&site, &["exec", "--", "sh", "-c", script]).ends(), Some(code));
    }
}

/// ssh restores the terminal at its end; here it is killed.
#[test]
fn the_terminal_is_restored_after_a_killed_ssh() {
    let (site, _services) = started();
    let client = site.path("client");
    let raw = format!("stty raw -echo\necho $$ >'{0}.new'; mv '{0}.new' '{0}'\nexec sleep 1000", client.display());
    site.stand_in("ssh", &format!("{CHECK}{raw}"));
    let mut terminal = on_terminal(&site, &["exec", "--", "true"]);
    let client = number_in(&site, "client");
    assert!(!terminal.is_restored(), "control");
    kill(client, Signal::KILL);
    assert_eq!(terminal.ends(), Some(137));
    assert!(terminal.is_restored());
}

/// The session's leader gets the hang-up of a closed terminal; here it ignores it, and agent-vm gets no signal.
#[test]
fn exec_notices_that_its_terminal_was_closed() {
    let (site, _services) = started();
    site.stand_in("ssh", &format!("{CHECK}echo begins; exec sleep 1000"));
    let script = format!("trap '' HUP; '{}' exec -- true; echo $? >code", env!("CARGO_BIN_EXE_agent-vm"));
    let mut terminal = OwnTerminal::run(site.command("setsid").args(["--ctty", "sh", "-c", &script]));
    terminal.shows("begins");
    terminal.close();
    assert_eq!(terminal.ends(), Some(0));
    assert_eq!(std::fs::read_to_string(site.repo().join("code")).unwrap(), "129\n");
}

/// The kernel continues a read of the terminal after a signal that has a handler.
#[test]
fn a_signal_ends_a_question() {
    let site = Site::new();
    site.create("main");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut terminal = on_terminal(&site, &["destroy", "main"]);
        terminal.shows("[y/N]");
        kill(terminal.pid(), signal);
        assert_eq!(terminal.ends(), Some(code));
        assert_eq!(site.names(), ["app-main"]);
    }
}
