//! One result of a check: what was found, how bad it is, and what mends it.

use serde::Serialize;

use super::commands::Commands;
use super::fault::Fault;
use super::level::Level;
use crate::term::text::one_line;

/// One result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The machine it is about; None for this host.
    pub machine: Option<String>,
    /// What was checked.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, on one line.
    pub message: String,
    /// The kind of fault; None if all is well.
    pub fault: Option<Fault>,
    /// What mends it, for each family of distributions.
    pub commands: Option<Commands>,
}

impl Finding {
    /// Returns a check that found nothing wrong.
    #[must_use]
    pub fn ok(check: &'static str, message: impl AsRef<str>) -> Self {
        Self {
            machine: None,
            check,
            level: Level::Ok,
            message: one_line(message.as_ref()),
            fault: None,
            commands: None,
        }
    }

    /// Returns a check that found a fault.
    #[must_use]
    pub fn fault(check: &'static str, fault: Fault, message: impl AsRef<str>) -> Self {
        Self { level: fault.level(), fault: Some(fault), commands: Some(fault.commands()), ..Self::ok(check, message) }
    }

    /// Sets a value of its commands.
    #[must_use]
    pub fn with(self, name: &str, value: impl AsRef<str>) -> Self {
        Self { commands: self.commands.map(|commands| commands.with(name, value.as_ref())), ..self }
    }

    /// Replaces the commands that change GRUB's file.
    #[must_use]
    pub fn without_grub(self) -> Self {
        Self { commands: self.commands.map(Commands::without_grub), ..self }
    }

    /// Sets a path of its commands, quoted for a shell.
    #[must_use]
    pub fn with_path(self, path: &std::path::Path) -> Self {
        let quoted = crate::host::files::quoted(path);
        self.with("path", quoted)
    }

    /// Sets the machine that it is about, also in its commands.
    #[must_use]
    pub fn of_machine(self, machine: &str) -> Self {
        Self { machine: Some(machine.to_owned()), ..self.with("machine", machine) }
    }
}
