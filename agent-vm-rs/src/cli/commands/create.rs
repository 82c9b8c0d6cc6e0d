//! `agent-vm create`

use std::path::Path;

use anyhow::Result;

pub use super::create_args::CreateArgs;
use super::new_settings::{Chosen, settings};
use super::new_workspace::{NewWorkspace, fill};
use super::{new_agents, relink};
use crate::cli::{resolve_settings, target};
use crate::egress::secrets;
use crate::git::Source;
use crate::git::url_source::{Fetched, Remote};
use crate::guest::installation;
use crate::host::files::{make_dir_durably, remove_any, rename_durably, sync_tree, write_unsynced};
use crate::host::lock::Lock;
use crate::host::user_dirs::data_home;
use crate::machine::agents;
use crate::machine::branch::BranchName;
use crate::machine::context::Context;
use crate::machine::egress_settings::SecretSpec;
use crate::machine::events::{self, What};
use crate::machine::paths::MachinePath;
use crate::machine::run_state::end_processes_of;
use crate::machine::settings::{GuestKind, Settings, SettingsPatch};
use crate::machine::state_dir::StateDir;
use crate::machine::{Machine, sweep};
use crate::mcp::endpoint;
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::text;
use crate::vm::overcommit;

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
    let patch = args.patch(context)?;
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
            events::record(&machine.dir, What::Created);
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
    overcommit::warnings(machine, settings).iter().for_each(|warning| note(warning));
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
            "notice: {} has no {CODEMCP_SETTINGS}; through codemcp, agents can edit only after it exists in the machine; the tutorial of agent-vm shows one",
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
