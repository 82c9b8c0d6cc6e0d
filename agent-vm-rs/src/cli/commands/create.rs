//! `agent-vm create`

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::new_workspace::{Bring, NewWorkspace, fill};
use super::{new_agents, relink};
use crate::cli::{resolve_settings, target};
use crate::egress::secrets;
use crate::git::Source;
use crate::git::url_source::{Fetched, Remote};
use crate::guest::installation;
use crate::host::files::places::Mounts;
use crate::host::files::{make_dir_durably, remove_any, rename_durably, sync_tree, write_unsynced};
use crate::host::lock::Lock;
use crate::host::user_dirs::data_home;
use crate::machine::agents;
use crate::machine::branch::BranchName;
use crate::machine::context::Context;
use crate::machine::defaults::Defaults;
use crate::machine::egress_settings::{Destination, Egress, HostProxy, Mode, SecretSpec};
use crate::machine::number::Number;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::end_processes_of;
use crate::machine::settings::{GuestKind, Settings, SettingsPatch, VERSION};
use crate::machine::state_dir::StateDir;
use crate::machine::{Machine, host_address, sweep};
use crate::mcp::endpoint;
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::text;

/// Flags of `create`.
#[derive(Args, Clone, Debug, Default)]
pub struct CreateArgs {
    /// Branch of the machine; a new branch starts at HEAD and is created in the machine only [default: the current one]
    #[arg(long, value_name = "BRANCH", allow_hyphen_values = true)]
    branch: Option<String>,
    /// Clone a remote repository (https or ssh) instead of using that of the current directory; a --secret for its host is used
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    from: Option<String>,
    /// Copy every branch and tag, and not only the branch, its upstream and the remote's default branch
    #[arg(long)]
    all_branches: bool,
    #[command(flatten)]
    bring: Bring,
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
    #[arg(help = with_default(|d| format!("Egress mode: which hosts the machine may reach [default: {}]", d.egress.as_str())), long, value_name = "MODE")]
    egress: Option<Mode>,
    /// Destination to allow: HOST, HOST:PORT, *.DOMAIN, @GROUP, or * for every host; can be repeated, or a list with commas
    #[arg(long, value_name = "DESTINATION", value_delimiter = ',')]
    allow: Vec<Destination>,
    /// Secret variable: the proxy sends its value to HOST over TLS (default port: 443), and the guest never has it; can be repeated
    #[arg(long = "secret", value_name = "NAME=HOST[:PORT]")]
    secrets: Vec<SecretSpec>,
    /// Proxy of this host that egress goes through: `auto` for that of `HTTPS_PROXY`, `none`, or a URL [default: auto]
    #[arg(long, value_name = "PROXY")]
    host_proxy: Option<HostProxy>,
}

impl CreateArgs {
    /// Returns the flags for a machine of a branch, or else of the current one, with an agent.
    #[must_use]
    pub fn with_agent(branch: Option<&str>, agent: Option<&str>) -> Self {
        let agents = agent.map(str::to_owned).into_iter().collect();
        Self { branch: branch.map(str::to_owned), agents, ..Self::default() }
    }
}

/// Returns a flag's help with its default value, which the policy defines.
fn with_default(help: impl Fn(&Defaults) -> String) -> String {
    Defaults::load().map_or_else(|_| String::new(), |defaults| help(&defaults))
}

/// Creates a machine and prints its settings.
///
/// # Errors
/// The branch already has a machine, the repository cannot be cloned, a port is in use…
pub fn create(context: &Context, args: &CreateArgs) -> Result<()> {
    let (machine, settings) = make(context, args)?;
    if context.json {
        return print_json(
            &serde_json::json!({ "name": machine.name, "directory": machine.dir, "settings": settings }),
        );
    }
    print(&format!("To start {0}: agent-vm start {0}\n", machine.name))
}

/// Creates a machine.
///
/// # Errors
/// As [`create`].
pub fn make(context: &Context, args: &CreateArgs) -> Result<(Machine, Settings)> {
    let patch = patch(context, args)?;
    let branch = args.branch.as_deref().or(patch.branch.as_ref().map(BranchName::as_str));
    let bring = args.bring.clone();
    let Some(url) = &args.from else {
        let (source, branch) = target::current(&context.state, branch)?;
        return make_for(context, patch, NewWorkspace { source: &source, branch, bring, unfetched: None });
    };
    let fetched = from_url(&context.state, url, branch, patch.secrets.as_deref().unwrap_or_default())?;
    let Fetched { source, branch, unfetched, _in_use } = fetched;
    make_for(context, patch, NewWorkspace { source: &source, branch, bring, unfetched: Some(unfetched) })
}

/// Fetches a remote repository.
fn from_url(state: &StateDir, url: &str, branch: Option<&str>, secrets: &[SecretSpec]) -> Result<Fetched> {
    let host = Remote::https_host(url);
    let spec = secrets.iter().find(|spec| Some((spec.host.clone(), spec.port)) == host);
    let secret = spec.map(secrets::value).transpose()?;
    let remote = Remote::new(url, secret.as_deref())?;
    let fetched = remote.source(&data_home()?, state, branch)?;
    note(&format!("the source repository is {}", fetched.source.dir.display()));
    Ok(fetched)
}

/// Creates the machine of a repository's branch.
///
/// # Errors
/// As [`create`].
pub fn make_for(context: &Context, patch: SettingsPatch, workspace: NewWorkspace<'_>) -> Result<(Machine, Settings)> {
    let (source, branch) = (workspace.source, workspace.branch.clone());
    // Validate the settings before creating any file.
    let guest = patch.guest.map_or_else(installation::default_guest, Ok)?;
    resolve_settings::check(&patch, guest)?;
    let state = &context.state;
    // A guest writes these objects.
    source.require_own_objects(state.path())?;
    make_dir_durably(state.path(), 0o700)?;
    refuse_second(state, source, &branch)?;
    relink::refuse_beside_lost(state, source, &branch)?;
    let machine = target::free_name(state, &source.dir, &branch)?;
    let lock = machine.lock_name(context.deadline())?;
    // Another command may have created it while this one waited for the lock.
    refuse_second(state, source, &branch)?;
    let staging = state.staging(&machine.name);
    // A killed command may have left these. Under the lock, no running command uses them.
    for left in [&staging, &state.path().join(format!("{}{}", sweep::GONE, machine.name))] {
        end_processes_of(left)?;
        remove_any(left)?;
    }
    let guest_asked = patch.guest.is_some();
    match (Wanted { workspace, guest, patch }).make(context, &machine, &staging) {
        Ok(settings) => {
            announce(&machine, &settings, guest_asked);
            Ok((machine, settings))
        }
        Err(error) => {
            end_processes_of(&staging)?;
            remove_any(&staging)?;
            lock.retire()?;
            Err(error.context(format!("failed to create {}", machine.name)))
        }
    }
}

/// A machine to create.
struct Wanted<'a> {
    workspace: NewWorkspace<'a>,
    guest: GuestKind,
    patch: SettingsPatch,
}

impl Wanted<'_> {
    /// Makes the machine in `staging`, and renames that to its place once it is complete.
    fn make(self, context: &Context, machine: &Machine, staging: &Path) -> Result<Settings> {
        let Self { workspace, guest, patch } = self;
        let secrets = patch.secrets.as_deref().unwrap_or_default();
        fill(staging, &workspace, patch.all_branches.unwrap_or(false), secrets)?;
        // Held until the settings are in place, so that no other command chooses the same ports.
        let _ports = Lock::take(&context.state.ports_lock(), context.deadline())?;
        let chosen = Chosen::new(&context.state, &patch, guest)?;
        let address = chosen.address;
        let settings = settings(patch, chosen, workspace.source, workspace.branch);
        endpoint::ensure(staging, machine.name.as_str(), &settings.host, address)?;
        write_unsynced(&MachinePath::Settings.of(staging), settings.to_json()?, 0o600)?;
        // Sync before the rename, so that a power cut leaves a complete machine or none.
        sync_tree(staging)?;
        rename_durably(staging, &machine.dir)?;
        Ok(settings)
    }
}

/// File that codemcp, which every machine serves, requires in the root of the workspace.
const CODEMCP_SETTINGS: &str = "codemcp.toml";

/// Prints what was created, a warning if MCP is not protected, and a notice if codemcp cannot be used yet.
fn announce(machine: &Machine, settings: &Settings, guest_asked: bool) {
    if let Some(warning) = settings.endpoint_warning() {
        note(&warning);
    }
    let why = if guest_asked { "asked for" } else { "this installation's default" };
    note(&format!(
        "created {}: guest {} ({why}), {} MiB, {}",
        machine.name,
        settings.guest,
        settings.memory,
        text::count(settings.cores as usize, "core")
    ));
    for preset in settings.agents.iter().filter_map(|name| agents::find(name)) {
        note(&new_agents::notice(preset, settings));
    }
    // No guest has written to the workspace yet.
    if machine.workspace().join(CODEMCP_SETTINGS).symlink_metadata().is_err() {
        note(&format!(
            "notice: {} has no {CODEMCP_SETTINGS}; through codemcp, agents can edit only after it exists in the machine: docs/tutorial/first-machine.md shows one",
            settings.branch
        ));
    }
}

fn refuse_second(state: &StateDir, source: &Source, branch: &BranchName) -> Result<()> {
    let Some(there) = target::machine_of(state, &source.dir, branch)? else { return Ok(()) };
    Err(Failure::new(format!("the branch {branch} already has a machine: {}", there.name))
        .with_hint(format!("to start it: agent-vm start {0}\nto remove it: agent-vm destroy {0}", there.name))
        .into())
}

fn patch(context: &Context, args: &CreateArgs) -> Result<SettingsPatch> {
    let file = args.config.as_deref().map(SettingsPatch::read).transpose()?.unwrap_or_default();
    let CreateArgs {
        host,
        port,
        ssh_port,
        guest,
        memory,
        cores,
        disk,
        no_tls,
        no_auth,
        egress,
        allow,
        packages,
        agents,
        secrets,
        host_proxy,
        ..
    } = args.clone();
    let given = |list: Vec<_>| (!list.is_empty()).then_some(list);
    let flags = SettingsPatch {
        host,
        port,
        ssh_port,
        all_branches: args.all_branches.then_some(true),
        // --no-tls and --no-auth can only switch off.
        tls: no_tls.then_some(false),
        auth: no_auth.then_some(false),
        guest,
        memory,
        cores,
        disk,
        nix_args: context.nix_args.clone(),
        egress,
        allow: given(allow),
        packages: (!packages.is_empty()).then_some(packages),
        agents: (!agents.is_empty()).then_some(agents),
        secrets: (!secrets.is_empty()).then_some(secrets),
        host_proxy,
        ..SettingsPatch::default()
    };
    let patch = flags.or(file);
    patch.validate()?;
    Ok(new_agents::complete(patch, new_agents::is_set))
}

/// Values of a new machine that depend on this host.
struct Chosen {
    guest: GuestKind,
    host: String,
    address: Ipv4Addr,
    ports: resolve_settings::Ports,
    cores: u32,
    defaults: Defaults,
}

impl Chosen {
    /// Chooses the values. The caller holds the lock of the ports.
    fn new(state: &StateDir, patch: &SettingsPatch, guest: GuestKind) -> Result<Self> {
        let defaults = Defaults::load()?;
        let host = patch.host.clone().unwrap_or_else(|| defaults.host.clone());
        let address = host_address::forward_address(&host)?;
        resolve_settings::warn_of_address(&host, address);
        let ports = resolve_settings::Ports::choose(state, address, patch, &defaults)?;
        Ok(Self { guest, host, address, ports, cores: resolve_settings::cores(patch.cores, &defaults), defaults })
    }
}

/// Returns the settings of a new machine: the requested ones, and defaults for the others.
fn settings(patch: SettingsPatch, chosen: Chosen, source: &Source, branch: BranchName) -> Settings {
    let Chosen { guest, host, ports, cores, defaults, .. } = chosen;
    Settings {
        version: VERSION,
        source: source.dir.clone(),
        source_mount: Mounts::read().point_of(&source.dir),
        branch,
        all_branches: patch.all_branches.unwrap_or(false),
        created: jiff::Timestamp::now(),
        guest,
        host,
        port: ports.mcp,
        port_asked: patch.port.is_some(),
        ssh_port: ports.ssh,
        ssh_port_asked: patch.ssh_port.is_some(),
        tls: patch.tls.unwrap_or(true),
        auth: patch.auth.unwrap_or(true),
        memory: patch.memory.unwrap_or(defaults.memory),
        cores,
        disk: patch.disk.unwrap_or(defaults.disk),
        packages: patch.packages.unwrap_or_default(),
        servers: patch.servers.unwrap_or_default(),
        proxy: patch.proxy.unwrap_or_default(),
        agents: patch.agents.unwrap_or_default(),
        nix_args: patch.nix_args.unwrap_or_default(),
        egress: Egress {
            mode: patch.egress.unwrap_or(defaults.egress),
            allow: patch.allow.unwrap_or_default(),
            deny: patch.deny.unwrap_or_default(),
            secrets: patch.secrets.unwrap_or_default(),
            host_proxy: patch.host_proxy.unwrap_or_default(),
        },
        forwards: Vec::new(),
    }
}
