//! The MCP servers in a machine, as the guest's gateway reports them (`docs/reference/contract.md`). The guest is not trusted:
//! the report is bounded, parsed strictly and shown without control characters, and only used for display.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::guest::manifest::Manifest;
use crate::machine::policy::Grammar;
use crate::remote::ssh::Ssh;
use crate::term::text::{count, one_line};

/// Maximal length of a report, in bytes.
const LONGEST: usize = 64 << 10;
/// Maximal number of servers and of problems. The gateway serves 33 servers at most.
const MOST: usize = 64;
/// Number of characters of a text that are shown.
const LONGEST_TEXT: usize = 300;

/// A guest's report of its MCP servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    /// The servers, the default one first.
    pub servers: Vec<Server>,
    /// Problems in the files that configure servers.
    pub problems: Vec<String>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its name, which is part of its URL.
    pub name: String,
    /// Its state.
    pub state: State,
    /// Number of starts after the first.
    pub restarts: u32,
    /// Exit code of its last process, if that exited by itself.
    pub exit_code: Option<i32>,
    /// Signal that ended its last process, if one did.
    pub signal: Option<i32>,
    /// Why it failed: a verb with its object, such as `exited with status 3`.
    pub why: Option<String>,
    /// The last line that it wrote to standard error.
    pub last_line: Option<String>,
    /// The requests that it answered; None from an older gateway.
    #[serde(default)]
    pub calls: Option<Calls>,
}

/// Requests of clients that a server answered since the gateway began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// Their number.
    pub count: u64,
    /// Number of those that were answered with an error.
    pub errors: u64,
    /// Time of all of them, in milliseconds.
    pub time_ms: u64,
}

/// State of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Started, but has not answered yet.
    Starting,
    /// Answers requests.
    Running,
    /// Ended; it is restarted after a pause.
    Failed,
}

impl State {
    /// Returns the state's name in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }
}

impl Servers {
    /// Returns the report that the guest wrote, with its texts made printable.
    ///
    /// # Errors
    /// It does not have the format of the contract, or is too long.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.len() <= LONGEST, "the guest's report of its servers is too long");
        // serde_json's message could contain text of the guest's.
        let report: Self =
            serde_json::from_str(text).ok().context("the guest's report of its servers has an unknown format")?;
        ensure!(
            report.servers.len() <= MOST && report.problems.len() <= MOST,
            "the guest's report of its servers lists too many"
        );
        ensure!(
            report.servers.iter().all(|server| Grammar::ServerName.matches(&server.name)),
            "the guest's report of its servers has an invalid server name"
        );
        let shown = |text: Option<String>| text.map(|text| bounded(&text));
        let servers = report.servers.into_iter().map(|server| Server {
            why: shown(server.why),
            last_line: shown(server.last_line),
            ..server
        });
        Ok(Self {
            servers: servers.collect(),
            problems: report.problems.iter().map(|problem| bounded(problem)).collect(),
        })
    }

    /// Returns a running guest's report; None if the guest is too old to have one.
    ///
    /// # Errors
    /// The guest does not answer within `limit`, or its report is not valid.
    pub fn ask(ssh: &Ssh<'_>, manifest: &Manifest, limit: Duration) -> Result<Option<Self>> {
        let Some(script) = script(manifest) else { return Ok(None) };
        Self::of_answer(&ssh.read(&script, limit)?)
    }

    /// Returns the report in the output of [`script`]; None if the service has not written one yet.
    ///
    /// # Errors
    /// See [`Servers::parse`].
    pub fn of_answer(answer: &str) -> Result<Option<Self>> {
        if answer.trim().is_empty() { Ok(None) } else { Self::parse(answer).map(Some) }
    }

    /// Returns a report without servers whose only problem is an error.
    #[must_use]
    pub fn unknown(why: &anyhow::Error) -> Self {
        Self { servers: Vec::new(), problems: vec![format!("{why:#}")] }
    }

    /// Checks that no server is still starting.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.servers.iter().all(|server| server.state != State::Starting)
    }

    /// Checks that every server runs and no configuration file has a problem.
    #[must_use]
    pub fn all_run(&self) -> bool {
        self.problems.is_empty() && self.servers.iter().all(|server| server.state == State::Running)
    }

    /// Returns one line: every server with its state.
    #[must_use]
    pub fn line(&self) -> String {
        let words = |server: &Server| {
            let restarts = match server.restarts {
                0 => String::new(),
                restarts => format!(" ({})", count(restarts as usize, "restart")),
            };
            format!("{} {}{restarts}", server.name, server.state.as_str())
        };
        self.servers.iter().map(words).collect::<Vec<_>>().join(", ")
    }

    /// Returns a sentence for each problem, with the command that shows more.
    #[must_use]
    pub fn troubles(&self, machine: &str) -> Vec<String> {
        let failed = self.servers.iter().filter(|server| server.state == State::Failed).map(|server| {
            let why = server.why.as_deref().unwrap_or("ended");
            let report = server.last_line.as_ref().map_or_else(String::new, |line| format!(": {line}"));
            format!("the MCP server {} has failed: it {why}{report} (agent-vm logs {machine})", server.name)
        });
        failed.chain(self.problems.iter().cloned()).collect()
    }
}

/// Returns the command that prints the report in the guest; None for a guest that has none.
#[must_use]
pub fn script(manifest: &Manifest) -> Option<String> {
    let file = manifest.service.servers_state.as_ref()?;
    Some(format!("head --bytes={} {file} 2>/dev/null || true", LONGEST + 1))
}

fn bounded(text: &str) -> String {
    let line = one_line(text);
    match line.char_indices().nth(LONGEST_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn server(name: &str, state: &str) -> Value {
        json!({ "name": name, "state": state, "restarts": 0, "exit_code": null, "signal": null, "why": null, "last_line": null })
    }

    fn report(servers: &[Value]) -> Value {
        json!({ "servers": servers, "problems": [] })
    }

    #[test]
    fn a_report_is_shown_as_text() {
        let mut dead = server("own", "failed");
        dead["restarts"] = json!(2);
        dead["exit_code"] = json!(3);
        dead["why"] = json!("exited with status 3");
        dead["last_line"] = json!("no module named x");
        let servers = Servers::parse(&report(&[server("codemcp", "running"), dead]).to_string()).unwrap();
        assert_eq!(servers.line(), "codemcp running, own failed (2 restarts)");
        assert_eq!(
            servers.troubles("app-main"),
            ["the MCP server own has failed: it exited with status 3: no module named x (agent-vm logs app-main)"]
        );
        assert!(servers.settled() && !servers.all_run());
        // Control: without the failed server there is no problem.
        let well = Servers::parse(&report(&[server("codemcp", "running")]).to_string()).unwrap();
        assert!(well.all_run() && well.troubles("app-main").is_empty());
        assert!(!Servers::parse(&report(&[server("codemcp", "starting")]).to_string()).unwrap().settled());
    }

    #[test]
    fn calls_are_read_and_an_older_gateway_has_none() {
        let mut counting = server("codemcp", "running");
        counting["calls"] = json!({ "count": 7, "errors": 1, "time_ms": 350 });
        let servers = Servers::parse(&report(&[counting.clone(), server("own", "running")]).to_string()).unwrap();
        assert_eq!(servers.servers[0].calls, Some(Calls { count: 7, errors: 1, time_ms: 350 }));
        assert_eq!(servers.servers[1].calls, None);
        for wrong in [json!(-1), json!(1.5), json!("1"), json!(null)] {
            counting["calls"]["count"] = wrong;
            assert!(Servers::parse(&report(&[counting.clone()]).to_string()).is_err());
        }
    }

    #[test]
    fn a_hostile_report_is_refused_or_made_printable() {
        for wrong in [
            "null".to_owned(),
            "{}".to_owned(),
            "[".repeat(100_000),
            format!("{{\"servers\":[],\"problems\":[{}\"\"]}}", "\"\",".repeat(100)),
            report(&[server("../x", "running")]).to_string(),
            report(&[server("\u{1b}[2J", "running")]).to_string(),
            report(&[server("", "running")]).to_string(),
            report(&[server("x", "happy")]).to_string(),
            report(&vec![server("x", "running"); MOST + 1]).to_string(),
            json!({ "servers": [], "problems": [], "more": 1 }).to_string(),
            json!({ "servers": [], "problems": ["x".repeat(LONGEST)] }).to_string(),
        ] {
            let error = Servers::parse(&wrong).unwrap_err();
            assert!(format!("{error:#}").starts_with("the guest's report of its servers"), "{error:#}");
        }
        let mut loud = server("x", "failed");
        loud["last_line"] = json!(format!("\u{1b}]0;title\u{7}\n{}", "y".repeat(5_000)));
        let report = Servers::parse(&report(&[loud]).to_string()).unwrap();
        let shown = report.troubles("m").join("");
        assert!(shown.len() < 500 && !shown.chars().any(char::is_control), "{shown}");
        assert_eq!(Servers::of_answer(" \n").unwrap(), None);
    }
}
