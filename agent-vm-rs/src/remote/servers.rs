//! The MCP servers inside a machine, as the guest's launcher reports them (`docs/reference/contract.md`). It is the guest's word: read
//! within bounds, parsed strictly, shown without control characters, and nothing hangs on it but what is shown.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::guest::manifest::Manifest;
use crate::machine::policy::Grammar;
use crate::remote::ssh::Ssh;
use crate::term::text::{count, one_line};

/// Bytes of the report that are read.
const LONGEST: usize = 64 << 10;
/// The launcher serves 33 servers at most; what it finds wrong is as many lines.
const MOST: usize = 64;
/// Characters of a text that are shown.
const LONGEST_TEXT: usize = 300;

/// What the guest says of its servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Servers {
    /// The default one first.
    pub servers: Vec<Server>,
    /// What is wrong with the files that name servers.
    pub problems: Vec<String>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// Its name, part of its URL.
    pub name: String,
    /// Whether it can be used.
    pub state: State,
    /// Starts after the first.
    pub restarts: u32,
    /// How its process ended, if it exited by itself.
    pub exit_code: Option<i32>,
    /// How its process ended, if a signal ended it.
    pub signal: Option<i32>,
    /// Why it has failed, as a verb with its object.
    pub why: Option<String>,
    /// What it wrote last to standard error.
    pub last_line: Option<String>,
}

/// State of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Started, and has not answered yet.
    Starting,
    /// Answers.
    Running,
    /// Ended; it is started again after a pause.
    Failed,
}

impl State {
    /// The word that the report uses.
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
    /// Parses what the guest wrote. Texts come out as they may be shown.
    ///
    /// # Errors
    /// It is not of the form that the contract has, or too much.
    pub fn parse(text: &str) -> Result<Self> {
        ensure!(text.len() <= LONGEST, "the guest's report of its servers is too long");
        // serde_json's message would repeat words of the guest's.
        let said: Self =
            serde_json::from_str(text).ok().context("the guest's report of its servers is not of the known form")?;
        ensure!(
            said.servers.len() <= MOST && said.problems.len() <= MOST,
            "the guest's report of its servers names too many"
        );
        ensure!(
            said.servers.iter().all(|server| Grammar::ServerName.matches(&server.name)),
            "the guest's report of its servers has a name that is none"
        );
        let shown = |text: Option<String>| text.map(|text| bounded(&text));
        let servers = said.servers.into_iter().map(|server| Server {
            why: shown(server.why),
            last_line: shown(server.last_line),
            ..server
        });
        Ok(Self {
            servers: servers.collect(),
            problems: said.problems.iter().map(|problem| bounded(problem)).collect(),
        })
    }

    /// Asks a running guest; None if it has no such report, as one that was built before there was one.
    ///
    /// # Errors
    /// The guest does not answer within `limit`, or not with a report.
    pub fn ask(ssh: &Ssh<'_>, manifest: &Manifest, limit: Duration) -> Result<Option<Self>> {
        let Some(script) = script(manifest) else { return Ok(None) };
        Self::of_answer(&ssh.read(&script, limit)?)
    }

    /// The report in what [`script`] printed; None if the service has written none yet.
    ///
    /// # Errors
    /// As [`Servers::parse`].
    pub fn of_answer(answer: &str) -> Result<Option<Self>> {
        if answer.trim().is_empty() { Ok(None) } else { Self::parse(answer).map(Some) }
    }

    /// Nothing is known but why.
    #[must_use]
    pub fn unknown(why: &anyhow::Error) -> Self {
        Self { servers: Vec::new(), problems: vec![format!("{why:#}")] }
    }

    /// Whether no server is still starting.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.servers.iter().all(|server| server.state != State::Starting)
    }

    /// Whether every server runs and nothing is wrong with the files that name them.
    #[must_use]
    pub fn all_run(&self) -> bool {
        self.problems.is_empty() && self.servers.iter().all(|server| server.state == State::Running)
    }

    /// One line: every server with its state.
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

    /// A sentence for each thing that is wrong, with the command that shows more of it.
    #[must_use]
    pub fn troubles(&self, machine: &str) -> Vec<String> {
        let failed = self.servers.iter().filter(|server| server.state == State::Failed).map(|server| {
            let why = server.why.as_deref().unwrap_or("ended");
            let said = server.last_line.as_ref().map_or_else(String::new, |line| format!(": {line}"));
            format!("the MCP server {} has failed: it {why}{said} (agent-vm logs {machine})", server.name)
        });
        failed.chain(self.problems.iter().cloned()).collect()
    }
}

/// The guest's command that prints the report; None for a guest that has none.
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
    fn a_report_is_words_for_people() {
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
        // Control: without the dead one all is well.
        let well = Servers::parse(&report(&[server("codemcp", "running")]).to_string()).unwrap();
        assert!(well.all_run() && well.troubles("app-main").is_empty());
        assert!(!Servers::parse(&report(&[server("codemcp", "starting")]).to_string()).unwrap().settled());
    }

    #[test]
    fn what_a_hostile_guest_says_is_refused_or_harmless() {
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
        let said = Servers::parse(&report(&[loud]).to_string()).unwrap();
        let shown = said.troubles("m").join("");
        assert!(shown.len() < 500 && !shown.chars().any(char::is_control), "{shown}");
        assert_eq!(Servers::of_answer(" \n").unwrap(), None);
    }
}
