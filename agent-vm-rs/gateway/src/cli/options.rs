//! Arguments.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::reverse_proxy::ReverseProxyArgs;
use crate::supervise::Settings;

/// Serves the MCP servers of a machine.
#[derive(Parser)]
#[command(name = "agent-mcp", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Start the MCP servers, and serve them over HTTP
    Serve(Box<ServeOptions>),
    /// Run nginx as the reverse proxy in front of the gateway
    ReverseProxy(ReverseProxyArgs),
    /// Connect standard input and output to a server's socket
    Connect {
        /// Path of the socket
        socket: PathBuf,
    },
}

/// Arguments of `serve`.
#[derive(Args)]
pub struct ServeOptions {
    /// Server at /mcp and /sse
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = named)]
    pub default_server: (String, String),
    /// Server that is known to have only versions of the protocol with sessions, so that it is not asked for others
    #[arg(long, value_name = "NAME")]
    pub sessions_only: Vec<String>,
    /// Directory the servers run in
    #[arg(long, value_name = "DIR")]
    pub workspace: PathBuf,
    /// File that lists more servers, relative to the workspace or absolute; the first use of a name wins
    #[arg(long, value_name = "FILE")]
    pub servers_file: Vec<PathBuf>,
    /// Address to listen on
    #[arg(long)]
    pub host: IpAddr,
    /// Port to listen on; 0 takes any, which the first line on standard output names
    #[arg(long)]
    pub port: u16,
    /// URL path that answers whether the gateway runs
    #[arg(long, value_name = "PATH")]
    pub health_path: String,
    /// Name of the systemd credential with the log level
    #[arg(long, value_name = "NAME")]
    pub log_level_credential: String,
    /// Web origin that may call; * allows any
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
    /// Program to serve HTTP in place of this one: mcp-proxy, which gets each server as `agent-mcp connect SOCKET`
    #[arg(long, value_name = "PROGRAM")]
    pub mcp_proxy: Option<PathBuf>,
    /// Times of the tests.
    #[command(flatten)]
    pub times: Times,
}

/// Times in milliseconds, for tests.
#[derive(Args)]
pub struct Times {
    #[arg(long, hide = true)]
    pause: Option<u64>,
    #[arg(long, hide = true)]
    steady: Option<u64>,
    #[arg(long, hide = true)]
    spacing: Option<u64>,
    #[arg(long, hide = true)]
    deadline: Option<u64>,
    #[arg(long, hide = true)]
    ping: Option<u64>,
    #[arg(long, hide = true)]
    discovery: Option<u64>,
    #[arg(long, hide = true)]
    grace: Option<u64>,
    #[arg(long, hide = true)]
    patience: Option<u64>,
    #[arg(long, hide = true)]
    refill: Option<u64>,
    #[arg(long, hide = true)]
    idle: Option<u64>,
    #[arg(long, hide = true)]
    gives_way: Option<u64>,
    #[arg(long, hide = true)]
    sweep: Option<u64>,
    #[arg(long, hide = true)]
    answer_within: Option<u64>,
    #[arg(long, hide = true)]
    most_processes: Option<usize>,
}

impl Times {
    /// Returns settings with these times.
    pub fn applied_to(&self, mut settings: Settings) -> Settings {
        let set = |time: &mut Duration, value: Option<u64>| {
            if let Some(value) = value {
                *time = Duration::from_millis(value);
            }
        };
        if let Some(pause) = self.pause {
            settings.pauses = vec![Duration::from_millis(pause)];
        }
        set(&mut settings.steady, self.steady);
        set(&mut settings.spacing, self.spacing);
        set(&mut settings.deadline, self.deadline);
        set(&mut settings.ping, self.ping);
        set(&mut settings.discovery, self.discovery);
        set(&mut settings.grace, self.grace);
        set(&mut settings.patience, self.patience);
        set(&mut settings.refill, self.refill);
        set(&mut settings.idle, self.idle);
        set(&mut settings.gives_way, self.gives_way);
        set(&mut settings.sweep, self.sweep);
        set(&mut settings.answer_within, self.answer_within);
        settings.most_processes = self.most_processes.unwrap_or(settings.most_processes);
        settings
    }
}

fn named(value: &str) -> Result<(String, String), String> {
    match value.split_once('=') {
        Some((name, program)) if !name.is_empty() && !program.is_empty() => Ok((name.to_owned(), program.to_owned())),
        _ => Err("must be NAME=PROGRAM".to_owned()),
    }
}
