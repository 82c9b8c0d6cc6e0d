//! Formats a status report as text.

use std::fmt::Write as _;
use std::time::Duration;

use super::expiry::end_line;
use super::{Mcp, Report, Vm};
use crate::git::workspace::WorkspaceState;
use crate::machine::helpers::{Helper, HelperState};
use crate::remote::servers::State;
use crate::term::text::{age, bytes, count, one_line};

const GOOD: &str = "🟢 ";
const UNSURE: &str = "🟡 ";
const BAD: &str = "🔴 ";
const OFF: &str = "⚪ ";

/// A label, which is empty for a further line of the previous one, and its text.
type Line = (&'static str, String);

/// Returns whether an output can show colours: it is a terminal, and neither NO_COLOR nor TERM=dumb is set.
fn has_colours(output: &impl anstream::stream::RawStream) -> bool {
    anstream::AutoStream::choice(output) != anstream::ColorChoice::Never
}

impl Report {
    /// Returns the report as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (mark, headline) = self.headline();
        // Files and terminals without colours get no emoji either.
        let mark = if has_colours(&std::io::stdout()) { mark } else { "" };
        let mut text = format!("VM Status: {}\n{mark}Agent Service: {headline}\n", self.name);
        for (label, value) in [
            self.run_lines(),
            self.expiry_lines(),
            self.egress_lines(),
            self.port_lines(),
            self.size_lines(),
            self.limit_lines(),
            self.source_lines(),
        ]
        .concat()
        {
            let _ = writeln!(text, "  {label:<10} {value}");
        }
        if let Some(lines) = self.service.as_ref().and_then(|service| service.last_lines.as_ref()) {
            text += &format!("  Last lines of the service:\n{}\n", indented(lines));
        }
        text
    }

    /// Returns the lines about the run and what answers in the machine.
    fn run_lines(&self) -> Vec<Line> {
        let mut lines = vec![("VM", self.vm.as_ref().map_or_else(|| self.state.to_owned(), vm_text))];
        lines.extend(self.helpers.as_ref().map(|helpers| ("Processes", helpers_text(helpers))));
        lines.extend(self.ssh.as_ref().map(|ssh| {
            let ok = if ssh.reachable { "answers" } else { "does not answer" };
            ("SSH", format!("{ok} on {}:{}", ssh.host, ssh.port))
        }));
        lines.extend(self.service.as_ref().map(|service| {
            let state = service.state.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
            ("Service", format!("{} ({state})", service.unit))
        }));
        lines.extend(self.servers.as_ref().map(|servers| ("Servers", servers.line())));
        lines.extend(self.mcp.iter().flat_map(mcp_lines));
        lines
    }

    /// Returns the line about the machine's time limits, or about why it was stopped.
    fn expiry_lines(&self) -> Vec<Line> {
        let idle = self.expiry.as_ref().map(|expiry| ("Idle", expiry.line(jiff::Timestamp::now())));
        idle.into_iter().chain(self.last_end.as_ref().map(|end| ("Ended", one_line(&end_line(end))))).collect()
    }

    fn egress_lines(&self) -> Vec<Line> {
        let Some(egress) = &self.egress else { return Vec::new() };
        let up = if egress.up == Some(false) { ", not running" } else { "" };
        let denied = egress.denied.map_or_else(String::new, |denied| format!(", {denied} denied since the start"));
        let mut lines = vec![("Egress", format!("{}{up}{denied}", egress.mode))];
        if let Some(proxy) = &egress.host_proxy {
            lines.push(("", one_line(&format!("through {proxy}"))));
        }
        if let Some(last) = &egress.last_denied {
            let reason = last.reason.as_deref().unwrap_or("refused");
            lines.push(("", one_line(&format!("last denied: {}:{} ({reason})", last.host, last.port))));
            let remedy = last.remedy(&self.name);
            lines.push(("", remedy.unwrap_or_else(|| format!("agent-vm egress log --denied {}", self.name))));
        }
        lines
    }

    fn port_lines(&self) -> Vec<Line> {
        let labels = std::iter::once("Ports").chain(std::iter::repeat(""));
        labels.zip(&self.forwards).map(|(label, forward)| (label, one_line(&forward.line()))).collect()
    }

    /// Returns the lines about what the machine has and uses of this host.
    fn size_lines(&self) -> Vec<Line> {
        let size = |mib: Option<u32>| mib.map_or_else(|| "?".to_owned(), |mib| bytes(u64::from(mib) << 20));
        let used = |count: Option<u64>| count.map_or_else(String::new, |count| format!("{} used of ", bytes(count)));
        let cpu = self.cores.map_or_else(|| "?".to_owned(), |cores| count(cores as usize, "core") + &self.cpu_text());
        let memory = used(self.vm.as_ref().map(|vm| vm.memory_bytes)) + &size(self.memory_mib);
        let mut lines = vec![("CPU", cpu), ("Memory", memory)];
        lines.extend(self.disk.as_ref().map(|disk| ("Disk", used(Some(disk.used_bytes)) + &size(disk.size_mib))));
        lines
    }

    /// Returns the lines about what enforces the machine's limits.
    fn limit_lines(&self) -> Vec<Line> {
        let labels = std::iter::once("Limits").chain(std::iter::repeat(""));
        labels.zip(self.limits.iter().flatten()).map(|(label, limit)| (label, one_line(&limit.line()))).collect()
    }

    /// Returns the lines about the workspace and its source, and the problems.
    fn source_lines(&self) -> Vec<Line> {
        let used = match self.workspace.bytes {
            Some(count) => format!(" ({})", bytes(count)),
            None if self.workspace.examined => " (too many files to count)".to_owned(),
            None => String::new(),
        };
        let mut lines = vec![("Workspace", format!("{}{used}", self.workspace.path.display()))];
        lines.extend(self.workspace.git.as_ref().map(|git| ("Git", git_text(git))));
        lines.extend(self.source.as_ref().map(|source| ("Source", source.display().to_string())));
        lines.extend(self.problems.iter().map(|problem| ("Problem", one_line(problem))));
        lines
    }

    /// Returns a coloured mark and a summary of the state.
    fn headline(&self) -> (&'static str, String) {
        let state = self.service.as_ref().and_then(|service| service.state.as_ref());
        let answers = self.mcp.as_ref().is_some_and(|mcp| mcp.responds);
        let (mark, words) = match (self.state, state, answers) {
            ("broken", ..) => (BAD, "the machine's settings cannot be read"),
            ("starting" | "running", Some(state), true) if state.running() => return self.servers_headline(),
            ("starting" | "running", Some(state), _) if state.failed() => {
                return (BAD, format!("Failed ({})", state.result));
            }
            ("starting", ..) => (UNSURE, "Starting"),
            ("running", Some(state), false) if state.running() => (BAD, "Running, but MCP does not answer"),
            ("running", Some(state), _) => return (UNSURE, format!("{} ({})", capitalised(&state.active), state.sub)),
            ("running", None, true) => (UNSURE, "MCP answers, but ssh does not"),
            ("running", None, false) => (BAD, "the machine does not answer"),
            _ => (OFF, "Stopped"),
        };
        (mark, words.to_owned())
    }

    /// Returns the summary of a service that runs and answers.
    fn servers_headline(&self) -> (&'static str, String) {
        let Some(servers) = self.servers.as_ref().filter(|servers| !servers.all_run()) else {
            return (GOOD, "Running".to_owned());
        };
        let failed = servers.servers.iter().filter(|server| server.state == State::Failed);
        match (servers.servers.first().map(|server| server.state), failed.count()) {
            (Some(State::Failed), _) => {
                (BAD, format!("Running, but its MCP server {} has failed", servers.servers[0].name))
            }
            (_, 0) if servers.problems.is_empty() => (UNSURE, "Running, its MCP servers are starting".to_owned()),
            (_, 0) => (UNSURE, "Running, but some MCP servers are not available".to_owned()),
            (_, 1) => (UNSURE, "Running, but an MCP server has failed".to_owned()),
            (_, failed) => (UNSURE, format!("Running, but {failed} MCP servers have failed")),
        }
    }

    fn cpu_text(&self) -> String {
        let Some(vm) = &self.vm else { return String::new() };
        let proxy = self.egress.as_ref().and_then(|egress| egress.cpu_seconds).unwrap_or(0);
        let whole = vm.cpu_seconds + proxy;
        let share = 100 * whole / vm.uptime_seconds.max(1);
        let of_proxy =
            if proxy > 0 { format!(" ({} by its proxy)", age(Duration::from_secs(proxy))) } else { String::new() };
        format!(", {} used{of_proxy}, on average {share} % of one core", age(Duration::from_secs(whole)))
    }
}

fn mcp_lines(mcp: &Mcp) -> [Line; 3] {
    let ok = mcp.response_ms.map_or_else(|| "does not answer".to_owned(), |ms| format!("answers in {ms} ms"));
    let tls = mcp.ca_file.as_ref().map_or_else(
        || "no TLS: anyone on the network path can read it".to_owned(),
        |file| format!("TLS (CA file: {})", file.display()),
    );
    let auth = if mcp.auth { "with a token" } else { "no token: anyone who can connect may use it" };
    [("MCP", format!("{ok} at {}", mcp.url)), ("", format!("SSE: {}", mcp.sse_url)), ("", format!("{tls}, {auth}"))]
}

fn vm_text(vm: &Vm) -> String {
    let up = age(Duration::from_secs(vm.uptime_seconds));
    format!("{}, up {up} (pid {}, {}, workspace by {}, sandbox: {})", vm.state, vm.pid, vm.accel, vm.share, vm.confined)
}

/// Lists the helper processes; one that is not running has its state behind it.
fn helpers_text(helpers: &[Helper]) -> String {
    let text = |helper: &Helper| match helper.state {
        HelperState::Running => helper.name.trim_start_matches("the ").to_owned(),
        state => format!("{} ({})", helper.name.trim_start_matches("the "), state.to_string().to_uppercase()),
    };
    helpers.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn git_text(git: &WorkspaceState) -> String {
    let commit = git.commit.as_ref().map_or("no commit", |id| &id[..12]);
    let branch = git.branch.as_deref().unwrap_or("detached");
    format!(
        "{} at {commit}, {}, {}",
        one_line(branch),
        count(git.changed_files, "changed file"),
        git.new_commits.map_or_else(
            || "commits not compared with the source repository".to_owned(),
            |new| format!("{} not in the source repository", count(new, "commit"))
        )
    )
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
