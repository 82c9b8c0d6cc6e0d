//! This host's view of a machine of another one: a machine's directory with settings and without a machine.

use anyhow::Result;

use super::Drive;
use crate::host::files::make_private_dir;
use crate::machine::Machine;
use crate::machine::settings::Settings;
use crate::term::error::Failure;

impl Drive<'_> {
    /// Returns this host's view of a machine, which may not exist.
    fn viewed(&self, name: &str) -> Result<Machine> {
        let name = name.parse().map_err(|_| Failure::new("the other host sent a name that is no machine's"))?;
        Ok(Machine::new(&self.context.state, name))
    }

    /// Returns whether a machine has its branch from this host. `settings` are those there.
    pub fn has_source_here(&self, name: &str, settings: &Settings) -> Result<bool> {
        Ok(self.is_of_this_repository(settings) || self.viewed(name)?.settings().is_ok())
    }

    /// Returns whether a machine is of the repository of the current directory.
    fn is_of_this_repository(&self, settings: &Settings) -> bool {
        let id = settings.source.parent().and_then(|dir| dir.file_name()?.to_str());
        self.repository.as_ref().is_some_and(|repository| id == Some(repository.id.as_str()))
    }

    /// Returns this host's view of a machine. `settings` are those there.
    pub fn view(&self, name: &str, settings: Settings) -> Result<Machine> {
        let machine = self.viewed(name)?;
        let known = machine.settings().ok().map(|known| known.source);
        let here = self.source.as_ref().map(|source| source.dir.clone());
        let is_mine = self.is_of_this_repository(&settings);
        let source = if is_mine { here } else { known.or(here) };
        let source = source.ok_or_else(|| {
            Failure::new(format!("no repository of this host belongs to {}", machine.name))
                .with_hint("cd into the repository, and repeat the command")
        })?;
        make_private_dir(&machine.dir)?;
        let settings = Settings { source, source_mount: None, ..settings };
        machine.write_settings(&settings)?;
        Ok(machine)
    }
}
