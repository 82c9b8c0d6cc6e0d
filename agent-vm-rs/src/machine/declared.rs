//! The declaration that `apply` applied last, so that the next `apply` changes only what is declared differently.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::host::files::{is_absent, read_if_there, write_file};
use crate::machine::Machine;
use crate::machine::egress_settings::Destination;
use crate::machine::name::VmName;
use crate::machine::paths::MachinePath;
use crate::machine::settings::{Settings, SettingsPatch};
use crate::machine::settings_change::Change;
use crate::machine::settings_key::Key;
use crate::term::error::Failure;

/// A machine's declaration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// File that it was read from.
    pub file: PathBuf,
    /// Settings in that file.
    pub settings: SettingsPatch,
}

impl Declared {
    /// Returns the last applied declaration; None for a machine without one.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub fn read(machine: &Machine) -> Result<Option<Self>> {
        let path = MachinePath::Declared.of(&machine.dir);
        let parse = |text: String| serde_json::from_str(&text);
        read_if_there(&path)?.map(parse).transpose().with_context(|| {
            Failure::new(format!("{} is not valid", path.display()))
                .with_hint("remove that file; the next agent-vm apply then applies the whole declaration")
        })
    }

    /// Writes this declaration, durably.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, machine: &Machine) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("failed to write a declaration as JSON")?;
        write_file(&MachinePath::Declared.of(&machine.dir), text + "\n", 0o600)
    }

    /// Returns whether its file no longer exists; false if the file cannot be examined.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        is_absent(&self.file)
    }
}

/// Returns the change from the `last` declaration to `now`. A value that is no longer declared gets its default. Destinations
/// that `set` or `egress` added stay.
///
/// # Errors
/// It differs in a setting that is fixed once the machine exists.
pub fn change(name: &VmName, settings: &Settings, last: &SettingsPatch, now: &SettingsPatch) -> Result<Change> {
    check_fixed(name, settings, last, now)?;
    let (last_values, values) = (values(last)?, values(now)?);
    let differs = |key: &Key| last_values.get(key.name()) != values.get(key.name());
    let is_declared = |key: &Key| values.contains_key(key.name());
    let all = <Key as clap::ValueEnum>::value_variants();
    let mut patch = Map::new();
    for key in all.iter().filter(|key| differs(key)) {
        let value = match key {
            Key::Allow => Some(json!(merged(&settings.egress.allow, last.allow.as_deref(), now.allow.as_deref()))),
            Key::Deny => Some(json!(merged(&settings.egress.deny, last.deny.as_deref(), now.deny.as_deref()))),
            _ => values.get(key.name()).cloned(),
        };
        if let Some(value) = value {
            patch.insert(key.name().to_owned(), value);
        }
    }
    let is_list = |key: &Key| matches!(key, Key::Allow | Key::Deny);
    let unset = all.iter().filter(|key| differs(key) && !is_declared(key) && !is_list(key)).copied().collect();
    let set = serde_json::from_value(Value::Object(patch)).context("failed to read a declaration's values")?;
    Ok(Change { set, unset })
}

/// Checks the settings that only a new machine can have.
fn check_fixed(name: &VmName, settings: &Settings, last: &SettingsPatch, now: &SettingsPatch) -> Result<(), Failure> {
    let fixed = |what: &str| {
        Failure::usage(format!("the declared {what} is not the machine's, and cannot change after its creation"))
            .with_hint(format!("create the machine again; this keeps its commits: agent-vm destroy {name}\nthen: agent-vm apply --create --config FILE"))
    };
    if now.guest.is_some_and(|guest| guest != settings.guest) {
        return Err(fixed("guest"));
    }
    // A list that is no longer declared is empty.
    let is_declared = now.secrets.is_some() || last.secrets.is_some();
    if is_declared && *now.secrets.as_deref().unwrap_or_default() != settings.egress.secrets {
        return Err(fixed("list of secrets"));
    }
    if now.branch.as_ref().is_some_and(|branch| *branch != settings.branch) {
        return Err(fixed("branch"));
    }
    Ok(())
}

/// Returns the values that a patch has, by key.
fn values(patch: &SettingsPatch) -> Result<Map<String, Value>> {
    match serde_json::to_value(patch).context("failed to write a declaration as JSON")? {
        Value::Object(map) => Ok(map.into_iter().filter(|(_, value)| !value.is_null()).collect()),
        _ => Ok(Map::new()),
    }
}

/// Returns a list without the entries declared last, and with those declared now.
fn merged(list: &[Destination], last: Option<&[Destination]>, now: Option<&[Destination]>) -> Vec<Destination> {
    let (last, now) = (last.unwrap_or_default(), now.unwrap_or_default());
    let kept = list.iter().filter(|one| !last.contains(one) && !now.contains(one));
    now.iter().chain(kept).cloned().collect()
}

/// Returns the absolute path of a declaration. Links are not resolved, since a link can point to a newer file later.
///
/// # Errors
/// The current directory cannot be found.
pub fn place_of(file: &Path) -> Result<PathBuf> {
    std::path::absolute(file).with_context(|| format!("failed to make the path {} absolute", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::defaults::Defaults;
    use crate::machine::settings::tests::sample;

    fn change(settings: &Settings, last: &SettingsPatch, now: &SettingsPatch) -> Result<Change> {
        super::change(&"app-main".parse().unwrap(), settings, last, now)
    }

    fn patch(text: &str) -> SettingsPatch {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_what_is_declared_differently_changes() {
        let mut settings = Settings { memory: 4096, cores: 2, port: 8005, port_asked: true, ..sample() };
        settings.servers = vec!["nixos".into()];
        settings.egress.allow = ["@npm", "by.hand"].map(|one| one.parse().unwrap()).to_vec();
        let last = patch(
            r#"{"memory":4096,"cores":4,"disk":20480,"port":8005,"servers":[],"egress":"allowlist","allow":["@npm"]}"#,
        );
        let now = patch(
            r#"{"memory":2048,"cores":4,"disk":20480,"ssh_port":2200,"servers":[],"egress":"none","allow":["@pypi"]}"#,
        );
        let defaults = Defaults::load().unwrap();
        let after = change(&settings, &last, &now).unwrap().apply_to(&settings, &defaults);
        // What is declared as before stays as `set` changed it.
        assert_eq!((after.memory, after.cores, &after.servers[..]), (2048, 2, &["nixos".to_owned()][..]));
        assert_eq!((after.port, after.port_asked, after.ssh_port, after.ssh_port_asked), (8005, false, 2200, true));
        let allow: Vec<_> = after.egress.allow.iter().map(ToString::to_string).collect();
        assert_eq!((after.egress.mode.as_str(), allow), ("none", vec!["@pypi".to_owned(), "by.hand".to_owned()]));
        // The same declaration again changes nothing.
        assert_eq!(change(&after, &now, &now).unwrap().apply_to(&after, &defaults), after);
    }

    #[test]
    fn what_only_a_new_machine_can_have_is_refused() {
        let other = match sample().guest {
            crate::machine::settings::GuestKind::Debian => r#"{"guest":"nixos"}"#,
            crate::machine::settings::GuestKind::Nixos => r#"{"guest":"debian"}"#,
        };
        let none = SettingsPatch::default();
        assert!(change(&sample(), &none, &patch(other)).is_err());
        let error = change(&sample(), &none, &patch(r#"{"branch":"another"}"#)).unwrap_err();
        assert!(crate::term::error::hint_of(&error).unwrap().contains("agent-vm destroy app-main\n"));
        // A secret that is no longer declared would stay.
        let mut settings = sample();
        let declared = patch(r#"{"secrets":["TOKEN=api.example.com"]}"#);
        settings.egress.secrets = declared.secrets.clone().unwrap();
        assert!(change(&settings, &declared, &declared).is_ok());
        assert!(change(&settings, &declared, &none).is_err());
        assert!(change(&settings, &none, &none).is_ok());
    }
}
