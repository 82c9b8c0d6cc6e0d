//! The verbs: the commands that work with a state directory.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::commands::{
    self, apply, attach, checkout, compare, cp, create, destroy, diff, doctor, edit, egress, events, exec, export,
    fetch, image, kept, list, log, logs, mcp, mcp_config, merge, metrics, open, port, profile, prune, ps, push, relink,
    restart, run, set, shell, ssh_config, start, stats, status, stop, update,
};
use super::target;
use crate::machine::context::Context;
use crate::remote::ssh::forwards;
use crate::watch;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a machine for a branch without starting it
    Create(Box<create::CreateArgs>),
    /// Change or show a machine's settings
    Set(set::SetArgs),
    /// Apply a machine's fetched commits to the source repository, or the settings of a file to the machine
    Apply(apply::ApplyArgs),
    /// Start a machine and wait until MCP answers
    Start(start::StartArgs),
    /// Power a machine off
    Stop(stop::StopArgs),
    /// Stop a machine if it is running, then start it
    Restart(restart::RestartArgs),
    /// Update a machine's guest to the newest nixpkgs; the next start builds it
    Update(update::UpdateArgs),
    /// Remove a machine; commits that only it has are kept in a bundle
    Destroy(destroy::DestroyArgs),
    /// Remove machines whose repository or declaration is missing, unused images and temporary files; commits are kept
    Prune(prune::PruneArgs),
    /// List, update and remove the built images of the Debian guest
    Image(image::ImageArgs),
    /// List, restore and remove what destroyed machines left: bundles and workspaces
    Kept(kept::KeptArgs),
    /// Fetch a machine's commits and changes into its source repository
    Fetch(fetch::FetchArgs),
    /// Show the fetched commits that the source repository's own branches lack
    Log(log::LogArgs),
    /// Show the fetched changes of a machine, committed or not
    Diff(diff::DiffArgs),
    /// Merge a machine's fetched commits into the checked-out branch
    Merge(merge::MergeArgs),
    /// Check out a branch that tracks a machine's fetched branch
    Checkout(checkout::CheckoutArgs),
    /// Bring the source repository's newer commits into a machine's origin
    #[command(visible_alias = "sync")]
    Push(push::PushArgs),
    /// Set a machine's source repository after a move
    Relink(relink::RelinkArgs),
    /// Show a machine's status
    Status(status::StatusArgs),
    /// Show what happened to a machine: starts, stops, crashes, denied egress
    Events(events::EventsArgs),
    /// Check this host and the machines, and print the commands that mend what is wrong
    Doctor(doctor::DoctorArgs),
    /// Show what machines use: processor, memory, disk, network, MCP and egress
    Stats(stats::StatsArgs),
    /// Print, write or serve the metrics of all machines for Prometheus
    Metrics(metrics::MetricsArgs),
    /// Show what a running machine's processes, threads and disks do
    Profile(profile::ProfileArgs),
    /// Open a shell in a machine
    Shell(shell::ShellArgs),
    /// Run one command in a machine's workspace
    Exec(exec::ExecArgs),
    /// Run a coding agent in a machine, which is created and started if necessary
    Run(run::RunArgs),
    /// Show a session of `run --detach` on this terminal
    Attach(attach::AttachArgs),
    /// List a machine's sessions of `run --detach`
    Ps(ps::PsArgs),
    /// Forward ports of this host to a machine, at once and at every start, or list them
    Port(port::PortArgs),
    /// Copy a file or directory between this host and a machine
    Cp(cp::CpArgs),
    /// Forward a port of a machine, print its URL, and open it in a browser
    Open(open::OpenArgs),
    /// Open a machine's workspace in an editor of this host, over ssh
    Edit(edit::EditArgs),
    /// Print or install the configuration with which ssh, scp, rsync and editors reach machines
    SshConfig(ssh_config::SshConfigArgs),
    /// Connect standard input and output to a machine's sshd; ssh uses this
    #[command(hide = true)]
    SshProxy(ssh_config::SshProxyArgs),
    /// Keep a running machine's ports forwarded; used by `start` and `port`
    #[command(hide = true)]
    KeepForwards(commands::Target),
    /// Watch a running machine; used by `start`
    #[command(hide = true)]
    Watch(commands::Target),
    /// Show and change a machine's egress: the hosts it may reach
    Egress(egress::EgressArgs),
    /// Show the log of a machine's agent service, or its console
    Logs(logs::LogsArgs),
    /// List the machines
    List(list::ListArgs),
    /// Bridge a machine's MCP server to stdio (for MCP clients)
    Mcp(mcp::McpArgs),
    /// Print or install MCP client configuration
    McpConfig(mcp_config::McpConfigArgs),
    /// Print what systemd, Nomad, Kubernetes or libvirt needs to run a machine
    Export(export::ExportArgs),
    /// Compare MCP servers of this host with those of a machine: tools, results and times
    Compare(compare::CompareArgs),
}

impl Verb {
    /// Whether an interrupted run leaves something that it has to clean up.
    pub fn cleans_up(&self) -> bool {
        !matches!(self, Self::Logs(_) | Self::SshProxy(_))
    }

    /// Whether a run also finishes what killed commands of other machines left. Commands that run for long or often do not.
    pub fn sweeps(&self) -> bool {
        let is_frequent = matches!(
            self,
            Self::Shell(_)
                | Self::Exec(_)
                | Self::Run(_)
                | Self::Attach(_)
                | Self::Metrics(_)
                | Self::Profile(_)
                | Self::Stats(_)
                | Self::Logs(_)
                | Self::Mcp(_)
                | Self::KeepForwards(_)
                | Self::Watch(_)
                | Self::SshProxy(_)
        );
        !is_frequent
    }

    /// Whether it can add or remove machines.
    pub fn changes_the_list(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Run(_) | Self::Destroy(_) | Self::Prune(_))
    }

    /// Runs the command and returns its exit status.
    ///
    /// # Errors
    /// The command failed.
    pub fn run(&self, context: &Context) -> Result<ExitCode> {
        match self {
            Self::Shell(args) => return shell::shell(context, args).map(commands::exit_with),
            Self::Exec(args) => return exec::exec(context, args).map(commands::exit_with),
            Self::Run(args) => return run::run(context, args).map(commands::exit_with),
            Self::Attach(args) => return attach::attach(context, args).map(commands::exit_with),
            Self::Edit(args) => return edit::edit(context, args).map(commands::exit_with),
            Self::Logs(args) => return logs::logs(context, args).map(commands::exit_with),
            Self::List(args) => return list::list(context, args).map(commands::exit_with),
            Self::Stats(args) => return stats::stats(context, args).map(commands::exit_with),
            Self::Doctor(args) => return doctor::doctor(context, args).map(commands::exit_with),
            Self::Compare(args) => return compare::compare(context, args),
            Self::Export(args) => export::export(context, args),
            Self::Create(args) => create::create(context, args),
            Self::Set(args) => set::set(context, args),
            Self::Apply(args) => apply::apply(context, args),
            Self::Prune(args) => prune::prune(context, args),
            Self::Start(args) => start::start(context, args),
            Self::Stop(args) => stop::stop(context, args),
            Self::Restart(args) => restart::restart(context, args),
            Self::Update(args) => update::update(context, args),
            Self::Destroy(args) => destroy::destroy(context, args),
            Self::Image(args) => image::image(context, args),
            Self::Kept(args) => kept::kept(context, args),
            Self::Fetch(args) => fetch::fetch(context, args),
            Self::Log(args) => log::log(context, args),
            Self::Diff(args) => diff::diff(context, args),
            Self::Merge(args) => merge::merge(context, args),
            Self::Checkout(args) => checkout::checkout(context, args),
            Self::Push(args) => push::push(context, args),
            Self::Relink(args) => relink::relink(context, args),
            Self::Status(args) => status::status(context, args),
            Self::Events(args) => events::events(context, args),
            Self::Metrics(args) => metrics::metrics(context, args),
            Self::Profile(args) => profile::profile(context, args),
            Self::Ps(args) => ps::ps(context, args),
            Self::Port(args) => port::port(context, args),
            Self::KeepForwards(of) => {
                target::find_used(&context.state, of.as_deref()).and_then(|machine| forwards::keep(context, &machine))
            }
            Self::Watch(of) => {
                target::find_used(&context.state, of.as_deref()).and_then(|machine| watch::keep::keep(&machine))
            }
            Self::Cp(args) => cp::cp(context, args),
            Self::Open(args) => open::open(context, args),
            Self::SshConfig(args) => ssh_config::ssh_config(context, args),
            Self::SshProxy(args) => ssh_config::ssh_proxy(context, args),
            Self::Egress(args) => egress::egress(context, args),
            Self::Mcp(args) => mcp::mcp(context, args),
            Self::McpConfig(args) => mcp_config::mcp_config(context, args),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}
