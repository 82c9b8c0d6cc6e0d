//! Terminals in a machine: their type, their size and their end.

use std::process::Command;

use crate::own_terminal::{LED_BY_A_SHELL, OwnTerminal};
use crate::site::{Site, kill, wait_until};

/// Runs agent-vm on a terminal of this type.
pub fn on_terminal(site: &Site, kind: &str, args: &[&str]) -> OwnTerminal {
    let command = site.agent_vm(args);
    let mut session = Command::new("setsid");
    session.args(LED_BY_A_SHELL).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => session.env(name, value),
            None => session.env_remove(name),
        };
    }
    OwnTerminal::run(session.env("TERM", kind).current_dir(site.repo()))
}

/// Runs a script in the machine on a terminal.
fn exec(site: &Site, script: &str) -> OwnTerminal {
    on_terminal(site, "xterm-256color", &["exec", "main", "--", "sh", "-c", script])
}

/// Returns whether `sleep SECONDS` runs in the machine.
fn sleeps(site: &Site, seconds: &str) -> bool {
    site.exec("main", &["pgrep", "-fc", &format!("^[s]leep {seconds}")]).stdout.trim() != "0"
}

/// `exec` and `shell` have the terminal that they were given.
pub fn terminals_pass(site: &Site) {
    // Without a terminal there is none, unless it is asked for.
    site.exec("main", &["tty"]).exits(1).says("not a tty");
    site.run(&["exec", "-t", "main", "--", "tty"]).ok().says("/dev/pts/");
    let mut none = on_terminal(site, "xterm", &["exec", "-T", "main", "--", "tty"]);
    assert_eq!(none.ends(), Some(1), "{}", none.output());

    size_and_keys_pass(site);
    a_lost_client_ends_its_command(site);
    exit_codes_pass(site);
    terminal_types_are_known_or_replaced(site);
}

fn size_and_keys_pass(site: &Site) {
    let mut terminal = exec(site, "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done; : 4321");
    terminal.shows("33 101");
    assert!(!terminal.is_restored(), "control: keys go to the machine");
    terminal.resize(40, 120);
    terminal.shows("40 120");
    terminal.types("\x03");
    assert_eq!(terminal.ends(), Some(130), "{}", terminal.output());
    assert!(terminal.is_restored());

    let mut terminal = exec(site, "read -r line; echo \"<$line>\"");
    terminal.types("typed\n");
    terminal.shows("<typed>");
    assert_eq!(terminal.ends(), Some(0));
}

fn a_lost_client_ends_its_command(site: &Site) {
    let stubborn = "trap '' HUP INT TERM; echo begins; setpriv sleep 4321; sleep 4321";
    for signal in ["KILL", "HUP", "TERM"] {
        let mut terminal = exec(site, stubborn);
        terminal.shows("begins");
        wait_until("the command to run", || sleeps(site, "4321"));
        kill(terminal.pid().try_into().unwrap(), signal);
        terminal.ends();
        wait_until("the terminal to be restored", || terminal.is_restored());
        wait_until("the command to end in the machine", || !sleeps(site, "4321"));
    }
    let mut terminal = exec(site, stubborn);
    wait_until("the command to run", || sleeps(site, "4321"));
    terminal.close();
    terminal.ends();
    wait_until("the command to end in the machine", || !sleeps(site, "4321"));

    // Control: what a command leaves in the background on purpose remains.
    let mut terminal = exec(site, "setsid sleep 4322 >/dev/null 2>&1 & sleep 0.1");
    assert_eq!(terminal.ends(), Some(0), "{}", terminal.output());
    assert!(sleeps(site, "4322"));
    site.exec("main", &["pkill", "-f", "^[s]leep 4322"]).ok();
}

fn exit_codes_pass(site: &Site) {
    for (script, code) in [("exit 7", 7), ("kill -9 $$", 137), ("exit 255", 255)] {
        let mut terminal = exec(site, script);
        assert_eq!(terminal.ends(), Some(code), "{script}: {}", terminal.output());
    }
    let mut missing = on_terminal(site, "xterm", &["exec", "main", "--", "no-such-program"]);
    assert_eq!(missing.ends(), Some(127));
    assert!(missing.output().contains("no-such-program: command not found"), "{}", missing.output());
}

fn terminal_types_are_known_or_replaced(site: &Site) {
    let known = [
        "alacritty",
        "foot",
        "linux",
        "rxvt-unicode-256color",
        "screen-256color",
        "tmux-256color",
        "wezterm",
        "xterm",
        "xterm-256color",
        "xterm-kitty",
    ];
    let replaced = [
        ("no-such-type", "xterm-256color"),
        ("xterm-ghostty", "xterm-256color"),
        ("screen.no-such-type", "screen-256color"),
        ("", "dumb"),
    ];
    for (kind, expected) in known.map(|kind| (kind, kind)).into_iter().chain(replaced) {
        let args = ["exec", "main", "--", "sh", "-c", "tput cols >/dev/null && echo \"<$TERM>\""];
        let mut terminal = on_terminal(site, kind, &args);
        assert_eq!(terminal.ends(), Some(0), "{kind}: {}", terminal.output());
        terminal.shows(&format!("<{expected}>"));
    }
    let mut shell = on_terminal(site, "no-such-type", &["shell", "main"]);
    shell.types("echo \"<$TERM>\" in $PWD; exit 5\n");
    assert_eq!(shell.ends(), Some(5), "{}", shell.output());
    shell.shows("<xterm-256color> in /workspace");
}
