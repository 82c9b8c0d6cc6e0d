//! `agent-vm edit`

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use super::Target;
use crate::cli::target;
use crate::guest::running::running;
use crate::host::process::{Invocation, find};
use crate::machine::context::Context;
use crate::machine::policy;
use crate::remote::ssh::config::alias;
use crate::remote::ssh::config_file::SshDir;
use crate::term::error::Failure;
use crate::term::progress::note;

/// An editor that works over ssh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Editor {
    /// Visual Studio Code, with its extension Remote - SSH
    Code,
    /// Cursor
    Cursor,
    /// Zed
    Zed,
}

impl Editor {
    /// Returns the names of its program, the usual one first.
    const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Code => &["code"],
            Self::Cursor => &["cursor"],
            // Some distributions rename it, since ZFS has a program zed.
            Self::Zed => &["zeditor", "zed"],
        }
    }

    fn installed(self) -> Option<PathBuf> {
        self.programs().iter().find_map(|program| find(program.as_ref()).ok())
    }

    /// Returns the arguments that open a directory of the machine with this alias.
    fn arguments(self, alias: &str, directory: &str) -> Vec<String> {
        match self {
            Self::Code | Self::Cursor => {
                vec!["--remote".to_owned(), format!("ssh-remote+{alias}"), directory.to_owned()]
            }
            Self::Zed => vec![format!("ssh://{alias}{directory}")],
        }
    }
}

/// Flags of `edit`.
#[derive(Args, Clone, Debug)]
pub struct EditArgs {
    #[command(flatten)]
    target: Target,
    /// Editor to start [default: the first one that is installed]
    #[arg(long, value_name = "EDITOR")]
    editor: Option<Editor>,
}

/// Opens the workspace of a running machine in an editor of this host, over ssh.
///
/// # Errors
/// The machine is not running, no editor is installed, or ssh's configuration cannot be written.
pub fn edit(context: &Context, args: &EditArgs) -> Result<i32> {
    let machine = target::find(&context.state, args.target.as_deref())?;
    let editor = args.editor.or_else(|| Editor::value_variants().iter().copied().find(|one| one.installed().is_some()));
    let editor = editor.ok_or_else(|| {
        Failure::new("no editor was found: code, cursor or zed")
            .with_hint(format!("to work in a terminal: agent-vm shell {}", machine.name))
    })?;
    let program = editor.installed().ok_or_else(|| {
        let name = editor.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        Failure::new(format!("the editor {name} is not on PATH"))
            .with_hint(format!("install its command, or work in a terminal: agent-vm shell {}", machine.name))
    })?;
    running(&machine)?;
    let dir = SshDir::of_user()?;
    if dir.install(&context.state)? {
        note(&format!(
            "~/.ssh/config now includes {}; to undo that: agent-vm ssh-config --remove",
            dir.ours().display()
        ));
    }
    let workspace = policy::workspace().path.to_string_lossy();
    let arguments = editor.arguments(&alias(&machine.name), &workspace);
    Invocation::new(program).args(arguments).with_our_environment().run_attached(|| Ok(()))
}
