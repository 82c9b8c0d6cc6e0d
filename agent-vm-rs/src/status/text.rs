//! Formats a status report as text.

use std::fmt::Write as _;
use std::time::Duration;

use super::{Report, Vm};
use crate::git::workspace::WorkspaceState;
use crate::machine::helpers::{Helper, HelperState};
use crate::remote::servers::State;
use crate::term::text::{age, bytes, count, one_line};

const GOOD: &str = "🟢 ";
const UNSURE: &str = "🟡 ";
const BAD: &str = "🔴 ";
const OFF: &str = "⚪ ";

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
        let mut line = |label: &str, value: String| {
            let _ = writeln!(text, "  {label:<10} {value}");
        };
        line("VM", self.vm.as_ref().map_or_else(|| self.state.to_owned(), vm_text));
        if let Some(helpers) = &self.helpers {
            line("Processes", helpers_text(helpers));
        }
        if let Some(ssh) = &self.ssh {
            let ok = if ssh.reachable { "answers" } else { "does not answer" };
            line("SSH", format!("{ok} on {}:{}", ssh.host, ssh.port));
        }
        if let Some(service) = &self.service {
            let state = service.state.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
            line("Service", format!("{} ({state})", service.unit));
        }
        if let Some(servers) = &self.servers {
            line("Servers", servers.line());
        }
        if let Some(mcp) = &self.mcp {
            let ok = mcp.response_ms.map_or_else(|| "does not answer".to_owned(), |ms| format!("answers in {ms} ms"));
            line("MCP", format!("{ok} at {}", mcp.url));
            line("", format!("SSE: {}", mcp.sse_url));
            let tls = mcp.ca_file.as_ref().map_or_else(
                || "no TLS: anyone on the network path can read it".to_owned(),
                |file| format!("TLS (CA file: {})", file.display()),
            );
            let auth = if mcp.auth { "with a token" } else { "no token: anyone who can connect may use it" };
            line("", format!("{tls}, {auth}"));
        }
        if let Some(egress) = &self.egress {
            let up = if egress.up == Some(false) { ", not running" } else { "" };
            let denied = egress.denied.map_or_else(String::new, |denied| format!(", {denied} denied"));
            line("Egress", format!("{}{up}{denied}", egress.mode));
            if let Some(last) = &egress.last_denied {
                let reason = last.reason.as_deref().unwrap_or("refused");
                line("", one_line(&format!("last denied: {}:{} ({reason})", last.host, last.port)));
                let remedy = last.remedy(&self.name);
                line("", remedy.unwrap_or_else(|| format!("agent-vm egress log --denied {}", self.name)));
            }
        }
        let size = |mib: Option<u32>| mib.map_or_else(|| "?".to_owned(), |mib| bytes(u64::from(mib) << 20));
        let used = |count: Option<u64>| count.map_or_else(String::new, |count| format!("{} used of ", bytes(count)));
        line(
            "CPU",
            self.cores.map_or_else(|| "?".to_owned(), |cores| count(cores as usize, "core") + &self.cpu_text()),
        );
        line("Memory", used(self.vm.as_ref().map(|vm| vm.memory_bytes)) + &size(self.memory_mib));
        if let Some(disk) = &self.disk {
            line("Disk", used(Some(disk.used_bytes)) + &size(disk.size_mib));
        }
        line(
            "Workspace",
            format!(
                "{} ({})",
                self.workspace.path.display(),
                self.workspace.bytes.map_or("too many files to count".to_owned(), bytes)
            ),
        );
        if let Some(git) = &self.workspace.git {
            line("Git", git_text(git));
        }
        if let Some(source) = &self.source {
            line("Source", source.display().to_string());
        }
        for problem in &self.problems {
            line("Problem", one_line(problem));
        }
        if let Some(lines) = self.service.as_ref().and_then(|service| service.last_lines.as_ref()) {
            text += &format!("  Last lines of the service:\n{}\n", indented(lines));
        }
        text
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
        format!(", {} used{of_proxy}, {share} % of one on average", age(Duration::from_secs(whole)))
    }
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
        git.new_commits.map_or_else(|| "new commits unknown".to_owned(), |new| count(new, "new commit"))
    )
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
