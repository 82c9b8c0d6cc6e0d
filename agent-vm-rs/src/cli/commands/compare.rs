//! `agent-vm compare`

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use super::Target;
use super::mcp::{require_server, server_name};
use crate::cli::target;
use crate::guest::running::running;
use crate::host::interrupt::Deadline;
use crate::host::ports::next_free;
use crate::host::process::{Child, Invocation, find};
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::policy;
use crate::mcp::compare::{Difference, Exchange, Http, Peer, Session, Stdio, Volatile, differences, run};
use crate::term::error::{EXIT_FAILURE, EXIT_USAGE, Failure, exit_code, report as report_error};
use crate::term::output::{print, print_json};
use crate::term::table::Columns;
use crate::term::terminal;
use crate::term::text::count;

/// Time limit of each request.
const LIMIT: Duration = Duration::from_secs(60);
/// First port to try for the servers of this host.
const FIRST_PORT: u16 = 18_000;
/// Time for the servers of this host to listen. They may be built first.
const LISTEN: Duration = Duration::from_secs(120);
/// Largest number of differences that are printed for a request.
const MOST_PRINTED: usize = 10;
/// Keys that differ from call to call.
const VOLATILE: [&str; 1] = ["_meta"];
/// Names of both sides.
const SIDES: [&str; 2] = ["direct", "machine"];
/// Exit code for answers that differ.
const EXIT_DIFFERENT: u8 = EXIT_FAILURE;
/// Exit code if there is nothing to compare.
const EXIT_TROUBLE: u8 = EXIT_USAGE;
/// The program of the flake that runs the servers on this host.
const DIRECT: &str = "agent-direct";

/// Flags of `compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    #[command(flatten)]
    target: Target,
    /// Program of this host that is an MCP server on its standard streams, as a shell's command line [default: agent-direct]
    #[arg(long, value_name = "COMMAND")]
    direct: Option<String>,
    /// URL of an MCP server of this host
    #[arg(long, value_name = "URL", conflicts_with = "direct")]
    direct_url: Option<String>,
    /// Directory of the servers on this host [default: the machine's repository]
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
    /// Use this named server of the machine and not the default one
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    server: Option<String>,
    /// File with the messages of the session, one JSON message a line [default: a session that changes nothing]
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    /// Key of the answers that may differ, such as timestamp; can be repeated
    #[arg(long, value_name = "KEY")]
    ignore: Vec<String>,
}

/// Runs one MCP session with the servers of this host and with those of a machine, and prints both side by side. Returns the
/// exit code: as that of diff(1), it is 1 only if they differ.
///
/// # Errors
/// The command line or the session's file is not valid, a time limit passed, or a signal arrived.
pub fn compare(context: &Context, args: &CompareArgs) -> Result<ExitCode> {
    match compared(context, args) {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => Ok(EXIT_DIFFERENT.into()),
        Err(error) if exit_code(&error) == EXIT_DIFFERENT => {
            report_error(&error);
            Ok(EXIT_TROUBLE.into())
        }
        Err(error) => Err(error),
    }
}

/// Returns whether both are the same.
fn compared(context: &Context, args: &CompareArgs) -> Result<bool> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    let (guest, facts) = running(&machine)?;
    if let Some(name) = &args.server {
        require_server(context, &machine, &guest, &facts, name)?;
    }
    let session = match &args.session {
        Some(file) => of_file(file)?,
        None => Session::standard(),
    };
    let workspace = match &args.workspace {
        Some(dir) => fs::canonicalize(dir).with_context(|| format!("failed to find {}", dir.display()))?,
        None => machine.settings()?.source,
    };
    let mut direct = Direct::start(args, &workspace)?;
    let mut bridge = Stdio::start(&bridge(context, &machine, args.server.as_deref())?)?;
    let limit = context.timeout.unwrap_or(LIMIT);
    let exchanges = run(&session, [direct.peer.as_mut(), &mut bridge], limit)?;
    exchanges.first().map_or(Ok(()), both_answered)?;
    let keys = VOLATILE.iter().map(|key| (*key).to_owned()).chain(args.ignore.iter().cloned()).collect();
    let inside = policy::workspace().path.to_string_lossy().into_owned();
    let volatile = Volatile { keys, same: vec![(workspace.display().to_string(), inside)] };
    let compared: Vec<_> = exchanges.into_iter().map(|both| Compared::new(both, &volatile)).collect();
    let same = compared.iter().all(Compared::same);
    report(context, &machine, &compared, same)?;
    Ok(same)
}

/// Checks that both servers answered a request, the session's first: without that, there is nothing to compare.
fn both_answered(both: &[Exchange; 2]) -> Result<()> {
    let failed =
        SIDES.iter().zip(both).filter_map(|(side, one)| Some(format!("{side}: {}", one.answer.as_ref().err()?)));
    let failed: Vec<_> = failed.collect();
    if failed.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(format!("a server gave no answer to {} of the session", both[0].what));
    Err(anyhow::anyhow!(failed.join("; ")).context(failure))
}

fn of_file(file: &Path) -> Result<Session> {
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    Session::of_lines(&text).with_context(|| {
        Failure::usage(format!("{} is not a session", file.display()))
            .with_hint("write one JSON-RPC request or notification a line, initialize first")
    })
}

/// Returns the bridge to the machine, which checks what it sends.
fn bridge(context: &Context, machine: &Machine, server: Option<&str>) -> Result<Invocation> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let bridge = Invocation::new(program).with_our_environment().arg("--state-dir").arg(context.state.path());
    let bridge = bridge.args(["mcp", machine.name.as_str()]);
    Ok(server.into_iter().fold(bridge, |bridge, server| bridge.args(["--server", server])))
}

/// The servers of this host.
struct Direct {
    peer: Box<dyn Peer>,
    _process: Option<Child>,
}

impl Direct {
    fn start(args: &CompareArgs, workspace: &Path) -> Result<Self> {
        if let Some(url) = &args.direct_url {
            return Ok(Self { peer: Box::new(Http::at(url)), _process: None });
        }
        if let Some(command) = &args.direct {
            let program = Invocation::new("sh").args(["-c", command]).with_our_environment().cwd(workspace);
            return Ok(Self { peer: Box::new(Stdio::start(&program)?), _process: None });
        }
        let program = find(DIRECT.as_ref()).map_err(|_| {
            Failure::new(format!("{DIRECT}, which runs the servers on this host, is not on PATH")).with_hint(
                "name another MCP server: agent-vm compare --direct COMMAND\nwith Nix: nix run TOOLKIT#agent-direct, and --direct-url http://127.0.0.1:8000/mcp",
            )
        })?;
        let port = next_free(Ipv4Addr::LOCALHOST, FIRST_PORT, &std::collections::BTreeSet::new())?;
        let call = Invocation::new(program).with_our_environment().args(["--port", &port.to_string(), "--workspace"]);
        let process = Child::start(&call.arg(workspace), DIRECT)?;
        Deadline::after(LISTEN).poll(DIRECT, Duration::from_millis(100), || {
            Ok(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok())
        })?;
        let peer = Box::new(Http::at(&format!("http://127.0.0.1:{port}/mcp")));
        Ok(Self { peer, _process: Some(process) })
    }
}

/// A request with both answers.
struct Compared {
    both: [Exchange; 2],
    differences: Vec<Difference>,
}

impl Compared {
    fn new(both: [Exchange; 2], volatile: &Volatile) -> Self {
        let differences = match (&both[0].answer, &both[1].answer) {
            (Ok(direct), Ok(machine)) => differences(direct, machine, volatile),
            (direct, machine) => {
                let why = |answer: &Result<Value, String>| match answer {
                    Ok(_) => "an answer".to_owned(),
                    Err(why) => why.clone(),
                };
                // Without any answer, nothing shows that both are the same.
                vec![Difference { pointer: String::new(), direct: Some(why(direct)), machine: Some(why(machine)) }]
            }
        };
        Self { both, differences }
    }

    fn same(&self) -> bool {
        self.differences.is_empty()
    }

    fn json(&self) -> Value {
        let side = |one: &Exchange| {
            let (answer, error) = match &one.answer {
                Ok(answer) => (Some(answer), None),
                Err(why) => (None, Some(why)),
            };
            json!({ "milliseconds": milliseconds(one.took), "answer": answer, "error": error })
        };
        json!({
            "request": self.both[0].what, "same": self.same(),
            "direct": side(&self.both[0]), "machine": side(&self.both[1]), "differences": self.differences,
        })
    }

    fn row(&self) -> [String; 6] {
        let [direct, machine] = &self.both;
        let verdict = if self.same() { "same".to_owned() } else { count(self.differences.len(), "difference") };
        [direct.what.clone(), shown(direct), time(direct), shown(machine), time(machine), verdict]
    }

    fn details(&self) -> String {
        let value = |text: &Option<String>| text.clone().unwrap_or_else(|| "(none)".to_owned());
        let lines = self.differences.iter().take(MOST_PRINTED).map(|one| {
            format!(
                "  {}\n    direct:  {}\n    machine: {}\n",
                if one.pointer.is_empty() { "/" } else { &one.pointer },
                value(&one.direct),
                value(&one.machine)
            )
        });
        let more = self.differences.len().saturating_sub(MOST_PRINTED);
        let more = if more > 0 { format!("  and {more} more\n") } else { String::new() };
        format!("\n{}:\n{}{more}", self.both[0].what, lines.collect::<String>())
    }
}

fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

fn time(one: &Exchange) -> String {
    format!("{:.1} ms", milliseconds(one.took))
}

/// Returns an answer in few words.
fn shown(one: &Exchange) -> String {
    let list = |answer: &Value, key: &str| {
        answer.get(key).and_then(Value::as_array).map(|list| count(list.len(), key.trim_end_matches('s')))
    };
    match &one.answer {
        Err(why) => format!("failed: {why}"),
        Ok(answer) => {
            let lists = ["tools", "resources", "prompts"].iter().find_map(|key| list(answer, key));
            let server = || Some(crate::term::text::one_line(answer.pointer("/serverInfo/name")?.as_str()?));
            let error = || answer.get("error").map(|_| "error".to_owned());
            lists.or_else(server).or_else(error).unwrap_or_else(|| format!("{} bytes", answer.to_string().len()))
        }
    }
}

fn report(context: &Context, machine: &Machine, compared: &[Compared], same: bool) -> Result<()> {
    if context.json {
        let requests: Vec<_> = compared.iter().map(Compared::json).collect();
        return print_json(&json!({ "name": machine.name, "same": same, "requests": requests }));
    }
    let columns = Columns {
        header: ["REQUEST", "DIRECT", "TIME", "MACHINE", "TIME", "RESULT"],
        gives_way: &[(1, 12), (3, 12), (0, 12)],
        shorten_start: &[],
    };
    let rows = compared.iter().map(Compared::row).collect();
    let details = compared.iter().filter(|one| !one.same()).map(Compared::details);
    print(&(columns.format(rows, terminal::width(std::io::stdout())) + &details.collect::<String>()))
}
