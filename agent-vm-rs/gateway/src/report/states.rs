//! The states of all servers: a file for `agent-vm status`, and a line for `systemctl status`.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use tokio::task::spawn_local;
use tokio::time::sleep;

use super::notify;

/// Maximal number of problems in the file, so that readers can limit its size.
const MOST_PROBLEMS: usize = 32;
/// Maximal number of characters of a text.
const LONGEST: usize = 300;
/// Time between an answered request and the file that counts it. Writing the file for each would slow them down.
const COUNTING: Duration = Duration::from_secs(2);

/// Whether a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not answered yet.
    Starting,
    /// It has answered.
    Running,
    /// It has ended.
    Failed,
}

/// A server in the file.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The server's name.
    pub name: String,
    /// Whether it answers.
    pub state: State,
    /// Number of restarts after it ended by itself.
    pub restarts: u32,
    /// Exit status of a failed server.
    pub exit_code: Option<i32>,
    /// Signal that ended a failed server.
    pub signal: Option<i32>,
    /// Why it is failed.
    pub why: Option<String>,
    /// Last line on standard error of a failed server.
    pub last_line: Option<String>,
    /// Requests of clients that it answered.
    pub calls: Calls,
}

/// Requests that a server answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Calls {
    /// Their number.
    pub count: u64,
    /// Number of those that were answered with an error.
    pub errors: u64,
    /// Time of all of them, in milliseconds.
    pub time_ms: u64,
}

impl Calls {
    /// Returns them with one more, which took this time.
    #[must_use]
    pub fn with(self, took: Duration, is_error: bool) -> Calls {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Calls {
            count: self.count.saturating_add(1),
            errors: self.errors.saturating_add(u64::from(is_error)),
            time_ms: self.time_ms.saturating_add(ms),
        }
    }
}

#[derive(Serialize)]
struct File<'a> {
    servers: &'a [Status],
    problems: &'a [String],
}

/// The states of all servers.
pub struct States {
    path: Option<PathBuf>,
    servers: RefCell<Vec<Status>>,
    problems: Vec<String>,
    /// Whether the file will soon be written.
    is_due: Cell<bool>,
}

impl States {
    /// Returns the states of no servers, to be written to a file.
    pub fn new(path: Option<PathBuf>, problems: &[String]) -> States {
        let problems = problems.iter().take(MOST_PROBLEMS).map(|problem| short(problem)).collect();
        States { path, servers: RefCell::default(), problems, is_due: Cell::new(false) }
    }

    /// Records the state of a server.
    pub fn changed(&self, mut status: Status) {
        status.why = status.why.as_deref().map(short);
        status.last_line = status.last_line.as_deref().map(short);
        {
            let mut servers = self.servers.borrow_mut();
            match servers.iter_mut().find(|server| server.name == status.name) {
                Some(server) => *server = status,
                None => servers.push(status),
            }
        }
        self.write();
        notify(&format!("STATUS={}", self.summary()));
    }

    /// Records the requests that a server answered. The file has them a moment later.
    pub fn counted(self: &Rc<Self>, name: &str, calls: Calls) {
        if let Some(server) = self.servers.borrow_mut().iter_mut().find(|server| server.name == name) {
            server.calls = calls;
        }
        if self.is_due.replace(true) {
            return;
        }
        let states = Rc::clone(self);
        spawn_local(async move {
            sleep(COUNTING).await;
            states.is_due.set(false);
            states.write();
        });
    }

    /// Returns the states on one line.
    pub fn summary(&self) -> String {
        let servers = self.servers.borrow();
        let each: Vec<String> = servers
            .iter()
            .map(|server| {
                let state = match server.state {
                    State::Starting => "starting",
                    State::Running => "running",
                    State::Failed => "failed",
                };
                format!("{} {state}", server.name)
            })
            .collect();
        short(&each.join(", "))
    }

    /// Returns the contents of the file.
    pub fn to_json(&self) -> String {
        let servers = self.servers.borrow();
        serde_json::to_string(&File { servers: &servers, problems: &self.problems }).unwrap_or_default()
    }

    fn write(&self) {
        let Some(path) = &self.path else { return };
        let text = self.to_json();
        let new = path.with_extension("new");
        // The file is only for display: servers run without it.
        if fs::write(&new, text).is_ok() {
            let _ = fs::rename(&new, path);
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_documented_members() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("servers.json");
        let states = States::new(Some(path.clone()), &["wrong".repeat(100)]);
        let mut status = Status {
            name: "s".to_owned(),
            state: State::Failed,
            restarts: 2,
            exit_code: Some(3),
            signal: None,
            why: Some("exited with status 3".to_owned()),
            last_line: Some("é".repeat(400)),
            calls: Calls::default().with(Duration::from_millis(7), true),
        };
        states.changed(status.clone());
        status.name = "t".to_owned();
        status.state = State::Running;
        states.changed(status);
        let read: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let keys: Vec<&String> = read["servers"][0].as_object().unwrap().keys().collect();
        let mut expected = ["calls", "exit_code", "last_line", "name", "restarts", "signal", "state", "why"];
        expected.sort_unstable();
        let mut keys: Vec<&str> = keys.into_iter().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!(read["servers"][0]["state"], "failed");
        assert_eq!(read["servers"][0]["last_line"].as_str().unwrap().chars().count(), LONGEST);
        assert_eq!(read["problems"][0].as_str().unwrap().len(), LONGEST);
        assert_eq!(read["servers"][0]["calls"], serde_json::json!({ "count": 1, "errors": 1, "time_ms": 7 }));
        assert_eq!(states.summary(), "s failed, t running");
    }

    #[tokio::test(start_paused = true)]
    async fn many_answers_are_written_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("servers.json");
        let states = Rc::new(States::new(Some(path.clone()), &[]));
        let status = Status {
            name: "s".to_owned(),
            state: State::Running,
            restarts: 0,
            exit_code: None,
            signal: None,
            why: None,
            last_line: None,
            calls: Calls::default(),
        };
        let count = || {
            let read: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            read["servers"][0]["calls"]["count"].as_u64().unwrap()
        };
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                states.changed(status);
                let mut calls = Calls::default();
                for _ in 0..100 {
                    calls = calls.with(Duration::from_millis(1), false);
                    states.counted("s", calls);
                }
                assert_eq!(count(), 0);
                sleep(COUNTING * 2).await;
                assert_eq!(count(), 100);
                states.counted("s", calls.with(Duration::ZERO, false));
                sleep(COUNTING * 2).await;
                assert_eq!(count(), 101);
            })
            .await;
    }
}
