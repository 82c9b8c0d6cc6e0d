//! Sessions in a machine that go on without a client: tmux holds their terminals. The guest is not trusted: its list of sessions
//! is bounded and parsed strictly.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Serialize;

use crate::machine::policy::Grammar;
use crate::remote::ssh::Ssh;

/// tmux with a server of its own, apart from that of the agent's user, and without that user's configuration.
const TMUX: &str = "tmux -L agent-vm -f /dev/null";
/// Settings of the server. A program's session stays after its end, to show its last lines and its exit code. The prefix is a key
/// that agents do not use.
const SETTINGS: &str = "start-server \\; \
    set-option -g remain-on-exit on \\; \
    set-option -g remain-on-exit-format 'ended with exit code #{pane_dead_status}; to leave: Ctrl-] d' \\; \
    set-option -g status off \\; \
    set-option -g prefix 'C-]' \\; \
    set-option -g escape-time 10 \\; \
    set-option -g history-limit 50000 \\; \
    set-option -g window-size latest \\; \
    set-option -g focus-events on \\; \
    set-option -g extended-keys on \\; \
    set-option -g default-terminal tmux-256color";
/// Maximal number of sessions of a machine.
const MOST: usize = 64;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Its name.
    pub session: String,
    /// Whether its program runs.
    pub running: bool,
    /// The exit code of its program, if that has ended by itself.
    pub exit_code: Option<i32>,
    /// When it was started.
    pub started: Timestamp,
    /// Number of terminals that show it.
    pub attached: u32,
}

/// Returns the name of a program's session: its file name, without characters that have a meaning in tmux.
#[must_use]
pub fn name_of(command: &str) -> String {
    let file = command.rsplit('/').next().unwrap_or(command);
    let name: String = file.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "program".to_owned() } else { name.chars().take(40).collect() }
}

/// Returns the script that starts a session with a command in a directory, after the end of one with the same name.
///
/// # Errors
/// A word contains a NUL byte.
pub fn start(name: &str, dir: &str, command: &[String]) -> Result<String> {
    let line = shlex::try_join(command.iter().map(String::as_str)).context("an argument contains a NUL byte")?;
    // One word, since tmux separates its own commands by words that end in a semicolon.
    let line = shlex::try_quote(&line).context("an argument contains a NUL byte")?.into_owned();
    Ok(format!(
        "{TMUX} kill-session -t ={name} 2>/dev/null; {TMUX} {SETTINGS} \\; new-session -d -s {name} -c {dir} {line}",
        dir = shlex::try_quote(dir).context("a path contains a NUL byte")?,
    ))
}

/// Returns the command that shows a session on a terminal. Once its program has ended, the session is removed, and the exit code
/// is the program's.
#[must_use]
pub fn attach(name: &str) -> Vec<String> {
    let script = format!(
        "{TMUX} attach-session -t ={name} || exit\n\
         set -- $({TMUX} display-message -p -t ={name}: '#{{pane_dead}} #{{pane_dead_status}}' 2>/dev/null)\n\
         [ \"$1\" = 1 ] || exit 0\n\
         {TMUX} kill-session -t ={name}\n\
         exit \"${{2:-1}}\""
    );
    ["sh", "-c", &script].map(str::to_owned).to_vec()
}

/// Returns the script that lists the sessions.
#[must_use]
pub fn list() -> String {
    let format = "#{session_name} #{pane_dead} #{session_created} #{session_attached} #{pane_dead_status}";
    // Without a server there are no sessions, and tmux fails.
    format!("{TMUX} list-panes -a -F '{format}' 2>/dev/null | head -n {}; exit 0", MOST + 1)
}

/// Returns a machine's sessions.
///
/// # Errors
/// The guest does not answer within `limit`, or its list is not valid.
pub fn all(ssh: &Ssh<'_>, limit: Duration) -> Result<Vec<Session>> {
    parse(&ssh.read(&list(), limit)?)
}

fn parse(text: &str) -> Result<Vec<Session>> {
    let all: Option<Vec<_>> = text.lines().map(line_of).collect();
    all.filter(|all| all.len() <= MOST).context("the machine's list of sessions is too long, or has an unknown format")
}

fn line_of(line: &str) -> Option<Session> {
    let words: Vec<_> = line.split(' ').collect();
    let [name, dead, started, attached, code] = words[..] else { return None };
    let running = dead != "1";
    Grammar::ServerName.matches(name).then_some(Session {
        session: name.to_owned(),
        running,
        exit_code: if running || code.is_empty() { None } else { Some(code.parse().ok()?) },
        started: Timestamp::from_second(started.parse().ok()?).ok()?,
        attached: attached.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sessions_is_parsed_strictly() {
        let sessions = parse("claude 0 1767225600 2 \nmake 1 1767225600 0 7\nkilled 1 1767225600 0 \n").unwrap();
        let facts = |one: &Session| (one.session.clone(), one.running, one.exit_code, one.attached);
        assert_eq!(
            sessions.iter().map(facts).collect::<Vec<_>>(),
            [
                ("claude".to_owned(), true, None, 2),
                ("make".to_owned(), false, Some(7), 0),
                ("killed".to_owned(), false, None, 0),
            ]
        );
        assert_eq!(parse("").unwrap(), []);
        for wrong in ["claude", "a;b 0 1 0 ", "a 0 x 0 ", "a 0 1 0 7 8", "a 1 1 0 x", "a 0 99999999999999999 0 "] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse(&"a 0 1 0 \n".repeat(MOST)).is_ok() && parse(&"a 0 1 0 \n".repeat(MOST + 1)).is_err());
    }

    #[test]
    fn names_have_no_meaning_in_tmux() {
        for (command, name) in
            [("claude", "claude"), ("/usr/bin/top", "top"), ("a.b:c=d", "a-b-c-d"), ("./-", "program"), ("", "program")]
        {
            assert_eq!(name_of(command), name);
            assert!(Grammar::ServerName.matches(name));
        }
    }

    #[test]
    fn a_command_is_one_word_of_tmux() {
        let script = start("claude", "/work space", &["claude".to_owned(), "a b;".to_owned(), ";".to_owned()]).unwrap();
        let words = shlex::split(&script).unwrap();
        assert_eq!(words.last().unwrap(), "claude 'a b;' ';'");
        assert!(words.contains(&"/work space".to_owned()), "{words:?}");
    }
}
