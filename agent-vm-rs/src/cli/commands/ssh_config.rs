//! `agent-vm ssh-config`, and the hidden command that its ProxyCommand runs.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use super::Target;
use crate::cli::target;
use crate::guest::running::running;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::remote::ssh::config::{alias, block};
use crate::remote::ssh::config_file::{SshDir, own_program};
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;

/// Flags of `ssh-config`.
#[derive(Args, Clone, Debug)]
pub struct SshConfigArgs {
    /// A branch of the current repository, or a machine's name [default: all machines]
    #[arg(value_name = "BRANCH|MACHINE")]
    machine: Option<String>,
    /// The same, as a flag
    #[arg(long = "branch", value_name = "BRANCH", hide = true, conflicts_with = "machine")]
    branch: Option<String>,
    /// Write all machines to ~/.ssh/agent-vm.config, and include that file in ~/.ssh/config
    #[arg(long)]
    write: bool,
    /// Remove that file, and the line that includes it
    #[arg(long, conflicts_with = "write")]
    remove: bool,
}

/// Prints or installs the configuration with which other programs reach machines by ssh.
///
/// # Errors
/// There is no such machine, or a file cannot be written.
pub fn ssh_config(context: &Context, args: &SshConfigArgs) -> Result<()> {
    let machines = match args.machine.as_deref().or(args.branch.as_deref()) {
        Some(named) => vec![target::find_used(&context.state, Some(named))?],
        None => {
            let all = context.state.names()?.into_iter().map(|name| Machine::new(&context.state, name));
            all.filter(Machine::exists).collect()
        }
    };
    if args.write || args.remove {
        return change(context, &machines, args.write);
    }
    let program = own_program()?;
    let blocks = machines.iter().map(|machine| block(machine, &program)).collect::<Result<Vec<_>>>()?;
    if context.json {
        let list = machines.iter().zip(&blocks).map(|(machine, block)| described(machine, block));
        return print_json(&list.collect::<Vec<_>>());
    }
    print(&blocks.join("\n"))
}

fn described(machine: &Machine, block: &str) -> Value {
    json!({ "name": machine.name, "alias": alias(&machine.name), "config": block })
}

fn change(context: &Context, machines: &[Machine], writes: bool) -> Result<()> {
    let dir = SshDir::of_user()?;
    let changed = if writes { dir.install(&context.state)? } else { dir.uninstall()? };
    let file = dir.ours();
    if context.json {
        return print_json(&json!({ "file": file, "changed": changed }));
    }
    if !writes {
        let what = if changed { "removed" } else { "there was no" };
        note(&format!("{what} {}", file.display()));
        return Ok(());
    }
    note(&format!("wrote {}, which ~/.ssh/config includes", file.display()));
    for machine in machines {
        print(&format!("ssh {}\n", alias(&machine.name)))?;
    }
    Ok(())
}

/// Writes the installed configuration again after a command that may have added or removed machines. A failure is a notice.
pub fn refresh(context: &Context) {
    let refreshed = SshDir::of_user().and_then(|dir| dir.refresh(&context.state));
    if let Err(error) = refreshed {
        note(&format!("notice: failed to update the machines in ~/.ssh/agent-vm.config: {error:#}"));
    }
}

/// Flags of the hidden `ssh-proxy`.
#[derive(Args, Clone, Debug)]
pub struct SshProxyArgs {
    #[command(flatten)]
    target: Target,
}

/// Connects standard input and output to a running machine's sshd, whatever port this run has.
///
/// # Errors
/// The machine does not run, or its port does not answer.
pub fn ssh_proxy(context: &Context, args: &SshProxyArgs) -> Result<()> {
    let named = args.target.as_deref().unwrap_or_default();
    // By name only: ssh runs this in any directory.
    let machine = named.parse().ok().map(|name| Machine::new(&context.state, name)).filter(Machine::exists);
    let machine = machine.ok_or_else(|| crate::machine::unknown::no_machine(&context.state, named))?;
    let (_, facts) = running(&machine)?;
    let address = SocketAddr::from((facts.reachable(), facts.ssh_port));
    let socket = TcpStream::connect_timeout(&address, context.answer_limit()).with_context(|| {
        Failure::new(format!("cannot connect to {} at {address}", machine.name))
            .general_hint(format!("to see why: agent-vm status {}", machine.name))
    })?;
    // A key press must not wait for the answer to the one before.
    socket.set_nodelay(true).context("failed to set up the connection")?;
    let to_machine = socket.try_clone().context("failed to set up the connection")?;
    std::thread::spawn(move || {
        pass_on(std::io::stdin().lock(), &to_machine);
        // The connection may have ended already.
        drop(to_machine.shutdown(Shutdown::Write));
    });
    // This process ends with sshd's side; ssh ends it earlier by closing standard output.
    pass_on(&socket, std::io::stdout().lock());
    Ok(())
}

/// Copies until either side is closed.
fn pass_on(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
