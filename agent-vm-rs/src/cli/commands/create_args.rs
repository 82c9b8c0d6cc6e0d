//! The flags of `agent-vm create`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use super::limit_args::LimitArgs;
use super::new_agents;
use super::new_workspace::Bring;
use crate::machine::agents;
use crate::machine::context::Context;
use crate::machine::defaults::Defaults;
use crate::machine::egress_settings::{Destination, HostProxy, Mode, SecretSpec};
use crate::machine::number::Number;
use crate::machine::settings::{GuestKind, SettingsPatch};
use crate::machine::time_limit::TimeLimit;

/// Flags of `create`.
#[derive(Args, Clone, Debug, Default)]
pub struct CreateArgs {
    /// Branch of the machine; a new branch starts at HEAD and is created in the machine only [default: the current one]
    #[arg(long, value_name = "BRANCH", allow_hyphen_values = true)]
    pub(super) branch: Option<String>,
    /// Clone a remote repository (https or ssh) instead of using that of the current directory; a --secret for its host is used
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    pub(super) from: Option<String>,
    /// Copy every branch and tag, and not only the branch, its upstream and the remote's default branch
    #[arg(long)]
    all_branches: bool,
    #[command(flatten)]
    pub(super) bring: Bring,
    #[arg(help = with_default(|d| format!("Address of this host to bind the machine's ports to [default: {}]", d.host)), long, value_name = "HOST")]
    host: Option<String>,
    #[arg(help = with_default(|d| format!("Host port of MCP [default: {} or the next free one]", d.mcp_port)), long, value_name = "PORT", value_parser = |text: &str| Number::Port.parse_port(text))]
    port: Option<u16>,
    #[arg(help = with_default(|d| format!("Host port of ssh [default: {} or the next free one]", d.ssh_port)), long, value_name = "PORT", value_parser = |text: &str| Number::SshPort.parse_port(text))]
    ssh_port: Option<u16>,
    /// Package to install in the guest, such as nodejs; can be repeated, or a list with commas
    #[arg(long = "package", value_name = "NAME", value_delimiter = ',')]
    packages: Vec<String>,
    /// Coding agent to install in the guest; can be repeated, or a list with commas
    #[arg(long = "agent", value_name = "NAME", value_delimiter = ',', value_parser = agents::names())]
    agents: Vec<String>,
    /// JSON file with any of these settings, `servers` and `nix_args`; flags take precedence
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve MCP without TLS; anyone on the network path can read it
    #[arg(long)]
    no_tls: bool,
    /// Serve MCP without a token; anyone who can connect may use it
    #[arg(long)]
    no_auth: bool,
    /// Guest system [default: that of this installation]
    #[arg(long, value_name = "GUEST")]
    guest: Option<GuestKind>,
    #[arg(help = with_default(|d| format!("{} [default: {}]", d.help.memory, d.memory)), long, value_name = "MIB", value_parser = |text: &str| Number::Memory.parse(text))]
    memory: Option<u32>,
    #[arg(help = with_default(|d| format!("{}, at most those of the host [default: {}]", d.help.cores, d.cores)), long, value_name = "N", value_parser = |text: &str| Number::Cores.parse(text))]
    cores: Option<u32>,
    #[arg(help = with_default(|d| format!("{} [default: {}]", d.help.disk, d.disk)), long, value_name = "MIB", value_parser = |text: &str| Number::Disk.parse(text))]
    disk: Option<u32>,
    #[command(flatten)]
    limits: LimitArgs,
    #[arg(help = with_default(|d| format!("Egress mode: which hosts the machine may reach [default: {}]", d.egress.as_str())), long, value_name = "MODE")]
    egress: Option<Mode>,
    /// Destination to allow: HOST, HOST:PORT, *.DOMAIN, @GROUP, or * for every host; can be repeated, or a list with commas
    #[arg(long, value_name = "DESTINATION", value_delimiter = ',')]
    allow: Vec<Destination>,
    /// Secret variable: the proxy sends its value to HOST over TLS (default port: 443), and the guest never has it; can be repeated
    #[arg(long = "secret", value_name = "NAME=HOST[:PORT]")]
    pub(super) secrets: Vec<SecretSpec>,
    /// Proxy of this host that egress goes through: `auto` for that of `HTTPS_PROXY`, `none`, or a URL [default: auto]
    #[arg(long, value_name = "PROXY")]
    host_proxy: Option<HostProxy>,
    /// Stop the machine when nothing has used it for this long, such as 30m [default: none]
    #[arg(long, value_name = "TIME")]
    idle_timeout: Option<TimeLimit>,
    /// Stop the machine this long after each start, such as 8h [default: none]
    #[arg(long, value_name = "TIME")]
    ttl: Option<TimeLimit>,
}

impl CreateArgs {
    /// Returns the flags for a machine of a branch, or else of the current one, with an agent.
    #[must_use]
    pub fn with_agent(branch: Option<&str>, agent: Option<&str>) -> Self {
        let agents = agent.map(str::to_owned).into_iter().collect();
        Self { branch: branch.map(str::to_owned), agents, ..Self::default() }
    }

    /// Returns the settings that the flags and the file of `--config` ask for.
    ///
    /// # Errors
    /// The file cannot be read, or a setting is invalid.
    pub(super) fn patch(&self, context: &Context) -> Result<SettingsPatch> {
        let file = self.config.as_deref().map(SettingsPatch::read).transpose()?.unwrap_or_default();
        let CreateArgs {
            host,
            port,
            ssh_port,
            guest,
            memory,
            cores,
            disk,
            limits,
            no_tls,
            no_auth,
            egress,
            allow,
            packages,
            agents,
            secrets,
            host_proxy,
            idle_timeout,
            ttl,
            ..
        } = self.clone();
        let given = |list: Vec<_>| (!list.is_empty()).then_some(list);
        let flags = SettingsPatch {
            host,
            port,
            ssh_port,
            all_branches: self.all_branches.then_some(true),
            // --no-tls and --no-auth can only switch off.
            tls: no_tls.then_some(false),
            auth: no_auth.then_some(false),
            guest,
            memory,
            cores,
            disk,
            limits: limits.limits(),
            nix_args: context.nix_args.clone(),
            egress,
            allow: given(allow),
            packages: (!packages.is_empty()).then_some(packages),
            agents: (!agents.is_empty()).then_some(agents),
            secrets: (!secrets.is_empty()).then_some(secrets),
            host_proxy,
            idle_timeout,
            ttl,
            ..SettingsPatch::default()
        };
        let patch = flags.or(file);
        patch.validate()?;
        Ok(new_agents::complete(patch, new_agents::is_set))
    }
}

/// Returns a flag's help with its default value, which the policy defines.
fn with_default(help: impl Fn(&Defaults) -> String) -> String {
    Defaults::load().map_or_else(|_| String::new(), |defaults| help(&defaults))
}
