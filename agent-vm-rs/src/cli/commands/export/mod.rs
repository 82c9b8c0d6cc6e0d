//! `agent-vm export`

mod kubernetes;
mod libvirt;
mod nomad;
mod systemd;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::Target;
use crate::cli::target;
use crate::host::account;
use crate::host::files::make_dir_durably;
use crate::host::user_dirs::{cache_dir, config_home};
use crate::limits::Wanted;
use crate::machine::Machine;
use crate::machine::accel::Accel;
use crate::machine::context::Context;
use crate::machine::number::Number;
use crate::machine::settings::Settings;
use crate::remote::ssh::config_file::own_program;
use crate::term::error::Failure;
use crate::term::output::print;
use crate::term::progress::note;

/// Longest time for a start, in seconds: an emulated machine on a busy host.
const START: u32 = 900;
/// Longest time for a stop, in seconds.
const STOP: u32 = 60;

/// Variables that say where things are.
const VARIABLES: [&str; 4] = ["HOME", "AGENT_VM_TOOLKIT", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"];
/// Directories of an installation, below its prefix.
const INSTALLED: [&str; 2] = ["share/agent-vm", "libexec/agent-vm"];
/// Processes of a machine for which none were set.
const PIDS: u32 = 1024;

/// What runs the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A unit of systemd
    Systemd,
    /// A job of Nomad, as JSON
    Nomad,
    /// A `StatefulSet` of Kubernetes, as JSON
    Kubernetes,
    /// A domain of libvirt, without egress
    Libvirt,
}

/// Flags of `export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    #[command(flatten)]
    target: Target,
    /// What shall run the machine
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// For systemd: a unit of the user's own service manager
    #[arg(long)]
    user: bool,
    /// For Kubernetes: image of a container with agent-vm, QEMU and bubblewrap
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// For libvirt: a new directory for the credentials, which the domain names
    #[arg(long, value_name = "DIR")]
    credentials: Option<PathBuf>,
}

/// What every format needs of a machine. No value is a secret.
struct Exported {
    name: String,
    settings: Settings,
    /// `agent-vm`.
    program: String,
    /// Its arguments.
    args: Vec<String>,
    /// The machine's state directory.
    state: String,
    /// The directory of built guests.
    cache: String,
    /// The machine's repository.
    source: String,
    /// The toolkit, if it is a directory.
    toolkit: Option<String>,
    /// Directory of the user's choices, which may not exist.
    config: String,
    /// Directories of the installation, which may not exist.
    installation: Vec<String>,
    /// Variables, by which the command finds what it finds now.
    environment: Vec<(&'static str, String)>,
    /// Name of this host.
    node: String,
    /// Name of the account.
    account: String,
    user: u32,
    group: u32,
}

/// Prints what another program needs to run a machine.
///
/// # Errors
/// There is no such machine, a path is not valid UTF-8, or a flag is missing.
pub fn export(context: &Context, args: &ExportArgs) -> Result<()> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    let exported = Exported::of(context, &machine)?;
    refuse_other_flags(args)?;
    let text = match args.format {
        Format::Systemd => systemd::unit(&exported, args.user),
        Format::Nomad => json(&nomad::job(&exported)?)?,
        Format::Kubernetes => {
            let image = args.image.as_deref().ok_or_else(|| {
                Failure::usage("no image given")
                    .with_hint(format!("agent-vm export {} --format kubernetes --image IMAGE", machine.name))
            })?;
            // The pod shares it, so that a later choice of the user applies to the pod, too.
            if let Err(error) = make_dir_durably(Path::new(&exported.config), 0o755) {
                tracing::info!("the pod gets no directory of choices: {error:#}");
            }
            json(&kubernetes::stateful_set(&exported, image, Path::new(&exported.config).is_dir()))?
        }
        Format::Libvirt => {
            let dir = args.credentials.as_deref().ok_or_else(|| {
                Failure::usage("no directory for the credentials given")
                    .with_hint(format!("agent-vm export {} --format libvirt --credentials DIR", machine.name))
            })?;
            libvirt::domain(&machine, &exported, dir, &cache_dir()?)?
        }
    };
    note(&exported.limits(args.format));
    print(&text)
}

/// Refuses flags of another format.
fn refuse_other_flags(args: &ExportArgs) -> Result<(), Failure> {
    let wrong = [
        ("--user", "systemd", args.user && args.format != Format::Systemd),
        ("--credentials", "libvirt", args.credentials.is_some() && args.format != Format::Libvirt),
        ("--image", "kubernetes", args.image.is_some() && args.format != Format::Kubernetes),
    ];
    match wrong.iter().find(|(.., is_wrong)| *is_wrong) {
        Some((flag, format, _)) => {
            Err(Failure::usage(format!("{flag} works with --format {format} only")).with_hint("leave it out"))
        }
        None => Ok(()),
    }
}

fn json(value: &serde_json::Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).context("failed to encode JSON")? + "\n")
}

impl Exported {
    fn of(context: &Context, machine: &Machine) -> Result<Self> {
        let text = |path: PathBuf| {
            let path = path.into_os_string().into_string().map_err(|path| {
                Failure::new(format!("the path {} is not valid UTF-8", path.display()))
                    .with_hint("move it to a path that is valid UTF-8")
            })?;
            // Not every format can contain them.
            if path.chars().any(char::is_control) {
                return Err(Failure::new(format!("the path {path:?} has a control character"))
                    .with_hint("move it to a path without line breaks and other control characters"));
            }
            Ok(path)
        };
        let settings = machine.settings()?;
        let state = text(context.state.path().to_owned())?;
        let name = machine.name.to_string();
        let variable = |name: &str| std::env::var(name).ok().filter(|path| path.starts_with('/'));
        let toolkit = variable("AGENT_VM_TOOLKIT").map(|toolkit| text(toolkit.into())).transpose()?;
        variable("HOME").ok_or_else(|| Failure::new("HOME is not set to an absolute path"))?;
        let environment: Vec<_> = VARIABLES
            .into_iter()
            .filter_map(|name| Some(text(variable(name)?.into()).map(|value| (name, value))))
            .collect::<Result<_, _>>()?;
        let program = own_program()?;
        let prefix = program.parent().filter(|dir| dir.ends_with("bin")).and_then(Path::parent);
        let installation = prefix.into_iter().flat_map(|prefix| INSTALLED.map(|dir| text(prefix.join(dir))));
        Ok(Self {
            installation: installation.collect::<Result<_, _>>()?,
            program: text(program)?,
            config: text(config_home()?.join("agent-vm"))?,
            environment,
            account: account::name(),
            args: ["--state-dir", &state, "start", "--foreground", &name].map(str::to_owned).to_vec(),
            cache: text(cache_dir()?)?,
            source: text(settings.source.clone())?,
            toolkit,
            node: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            user: rustix::process::getuid().as_raw(),
            group: rustix::process::getgid().as_raw(),
            name,
            settings,
            state,
        })
    }

    /// Returns the processor time for all processes of the machine, in percent of a processor.
    fn processor_percent(&self) -> u32 {
        self.settings.limits.cpu_quota.unwrap_or_else(|| self.settings.cores.saturating_add(1).saturating_mul(100))
    }

    /// Returns the number of processes and threads of the machine.
    fn pids(&self) -> u32 {
        self.settings.limits.pids.unwrap_or(PIDS)
    }

    /// Returns memory for all processes of the machine, in MiB.
    fn memory(&self) -> u32 {
        // Whether a machine is emulated shows at each start only, so that the memory has to be enough for both.
        let most = Wanted::new(Path::new("/"), &self.settings, Accel::Tcg).memory.unwrap_or_default();
        u32::try_from(most >> 20).unwrap_or(u32::MAX)
    }

    /// Returns what the output does not contain.
    fn limits(&self, format: Format) -> String {
        let Self { name, state, settings, .. } = self;
        let mut lines = vec![format!(
            "notice: the workspace, the disk and the keys of {name} stay in {state}, to which the output refers"
        )];
        if !settings.egress.secrets.is_empty() {
            lines.push("the values of its secrets stay in that directory, too".to_owned());
        }
        lines.push(match format {
            Format::Systemd | Format::Nomad => format!(
                "MCP and ssh stay on {}, ports {} and {} unless they are taken",
                settings.host, settings.port, settings.ssh_port
            ),
            Format::Libvirt => format!(
                "the machine has no egress; MCP is on 127.0.0.1:{}, ssh on 127.0.0.1:{}; start it with libvirt only",
                settings.port, settings.ssh_port
            ),
            Format::Kubernetes => {
                format!("MCP is on port {} of the pod's own loopback: kubectl port-forward", settings.port)
            }
        });
        // The watcher and the forwarders enforce these, and a cgroup of agent-vm.
        let of_agent_vm = [Number::Pids, Number::NetworkBandwidth, Number::WorkspaceSize, Number::KeepFree];
        let set = of_agent_vm.into_iter().filter(|limit| settings.limits.asked(*limit).is_some());
        let times = [("idle_timeout", &settings.idle_timeout), ("ttl", &settings.ttl)];
        let times = times.into_iter().filter(|(_, time)| time.get().is_some()).map(|(name, _)| name);
        let set: Vec<_> = set.map(Number::name).chain(times).collect();
        if format == Format::Libvirt && !set.is_empty() {
            lines.push(format!("warning: under libvirt, nothing enforces {}", set.join(", ")));
        }
        if matches!(format, Format::Nomad | Format::Kubernetes)
            && (settings.idle_timeout.get().is_some() || settings.ttl.get().is_some())
        {
            let engine = if format == Format::Nomad { "Nomad" } else { "Kubernetes" };
            lines.push(format!(
                "warning: {engine} starts a machine again that a time limit stopped; first: agent-vm set {name} idle_timeout=none ttl=none"
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
fn sample() -> Exported {
    let text = include_str!("../../../../tests/data/config.json");
    let settings: Settings = serde_json::from_str(text).unwrap();
    Exported {
        name: "app-main".to_owned(),
        settings,
        program: "/usr/bin/agent-vm".to_owned(),
        args: ["--state-dir", "/home/me/state 100%", "start", "--foreground", "app-main"].map(str::to_owned).to_vec(),
        state: "/home/me/state 100%".to_owned(),
        cache: "/home/me/.cache/agent-vm".to_owned(),
        source: "/home/me/app".to_owned(),
        toolkit: Some("/opt/agent-vm".to_owned()),
        config: "/home/me/.config/agent-vm".to_owned(),
        installation: vec!["/usr/share/agent-vm".to_owned()],
        environment: vec![("HOME", "/home/me".to_owned()), ("AGENT_VM_TOOLKIT", "/opt/agent-vm".to_owned())],
        account: "me".to_owned(),
        node: "box".to_owned(),
        user: 1000,
        group: 1000,
    }
}
