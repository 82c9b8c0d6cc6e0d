//! `agent-vm set`

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value, json};

use super::{egress_lists, new_agents};
use crate::cli::{line, resolve_settings, target};
use crate::egress;
use crate::host::lock::Lock;
use crate::host::process::age;
use crate::limits::Means;
use crate::machine::context::Context;
use crate::machine::defaults::Defaults;
use crate::machine::egress_settings::Mode;
use crate::machine::number::Number;
use crate::machine::paths::MachinePath;
use crate::machine::settings::Settings;
use crate::machine::settings_change::{Assignment, Change, differences};
use crate::machine::settings_key::{Key, fixed, parse_key};
use crate::machine::settings_shown;
use crate::machine::time_limit::span;
use crate::machine::{Machine, host_address};
use crate::term::error::Failure;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::vm::live::{self, When};
use crate::vm::{disk, in_force, overcommit};

/// Flags of `set`.
#[derive(Args, Clone, Debug)]
pub struct SetArgs {
    /// A branch of the current repository, or a machine's name; a word with = is a setting [default: the current branch]
    #[arg(value_name = "BRANCH|MACHINE")]
    machine: Option<String>,
    /// The same, as a flag, also for a branch whose name has a =
    #[arg(long, value_name = "BRANCH", hide = true)]
    branch: Option<String>,
    /// Setting and value, such as memory=8192 or packages=nodejs,jq; the settings are those of `create --config`
    #[arg(value_name = "KEY=VALUE")]
    assignments: Vec<String>,
    /// Reset a setting to its default; can be repeated
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
}

impl SetArgs {
    /// Returns what names the machine, if anything, and all settings. The first word is a setting if it has a `=` or `--branch`
    /// names the machine.
    fn target(&self) -> (Option<&str>, Vec<&str>) {
        let first = self.machine.as_deref().filter(|word| self.branch.is_some() || word.contains('='));
        let machine = self.branch.as_deref().or(self.machine.as_deref().filter(|_| first.is_none()));
        (machine, first.into_iter().chain(self.assignments.iter().map(String::as_str)).collect())
    }

    /// Returns the line without the spaces around each `=`; None if it has none.
    fn joined(&self) -> Option<String> {
        let all: Vec<_> = self.machine.iter().chain(&self.assignments).map(String::as_str).collect();
        if !all.contains(&"=") {
            return None;
        }
        let mut joined: Vec<String> = Vec::new();
        for word in all {
            match joined.last_mut() {
                Some(last) if word == "=" || last.ends_with('=') => last.push_str(word),
                _ => joined.push(word.to_owned()),
            }
        }
        Some(format!("agent-vm set {}", line::join(&joined)))
    }

    /// Parses the change.
    ///
    /// # Errors
    /// A word is not a setting, cannot change, or has an invalid value.
    fn change(&self, context: &Context) -> Result<Change> {
        let (target, words) = self.target();
        let unset = || self.unset.iter().map(String::as_str);
        if let Some(word) = words.iter().copied().chain(unset()).find(|word| fixed(word, None).is_some()) {
            let machine = target::find(&context.state, target).ok();
            let known = machine.as_ref().and_then(|machine| Some((&machine.name, machine.settings().ok()?.branch)));
            if let Some(failure) = fixed(word, known.as_ref().map(|(name, branch)| (*name, branch))) {
                return Err(failure.into());
            }
        }
        if let Some(line) = self.joined() {
            return Err(Failure::usage("= stands alone: KEY=VALUE is one word").with_hint(line).into());
        }
        let assignments = words.into_iter().map(str::parse).collect::<Result<Vec<Assignment>, _>>()?;
        let unset = unset().map(parse_key).collect::<Result<Vec<_>, _>>()?;
        Ok(Change::parse(&assignments, &unset)?)
    }
}

/// Changes settings of a machine and prints what changed. Without settings, it prints all.
///
/// # Errors
/// There is no such machine, or a value is invalid. The settings are then unchanged.
pub fn set(context: &Context, args: &SetArgs) -> Result<()> {
    if let (word, []) = (args.target().0, &args.target().1[..])
        && args.unset.is_empty()
    {
        return show(context, word);
    }
    let change = args.change(context)?;
    change.set.validate()?;
    let machine = target::find(&context.state, args.target().0)?;
    let _lock = machine.lock(context.deadline())?;
    let before = machine.settings()?;
    let after = make(context, &machine, &before, change)?;
    report(context, &machine, &before, &after)
}

/// Prints the settings of a machine.
fn show(context: &Context, word: Option<&str>) -> Result<()> {
    let machine = target::find(&context.state, word).map_err(|error| {
        // The name of a setting is no machine: the value was forgotten.
        let setting = word.filter(|word| fixed(word, None).is_some() || parse_key(word).is_ok());
        setting.and_then(|word| word.parse::<Assignment>().err()).map_or(error, Into::into)
    })?;
    let settings = machine.settings()?;
    if context.json {
        return print_json(&json!({ "name": machine.name, "settings": settings_shown::as_json(&settings) }));
    }
    print(&settings_shown::as_text(&settings))
}

/// Applies a change and returns the new settings. The caller holds the machine's lock.
///
/// # Errors
/// A value is invalid, a port is in use, or a file cannot be written. The settings are then unchanged.
pub fn make(context: &Context, machine: &Machine, before: &Settings, mut change: Change) -> Result<Settings> {
    resolve_settings::check(&change.set, before.guest)?;
    let defaults = Defaults::load()?;
    if change.set.cores.is_some() || change.unset.contains(&Key::Cores) {
        change.set.cores = Some(resolve_settings::cores(change.set.cores, &defaults));
    }
    let mut after = change.apply_to(before, &defaults);
    if after == *before {
        return Ok(after);
    }
    // Held until the settings are written, so that no other command chooses the same ports.
    let _ports = Lock::take(&machine.state.ports_lock(), context.deadline())?;
    resolve_settings::Ports::reset(machine, &change.unset, &mut after, &defaults)?;
    resolve_settings::Ports::check(machine, before, &after)?;
    resolve_settings::write(machine, before, &after)?;
    Ok(after)
}

/// Reports what changed, and when it takes effect.
///
/// # Errors
/// Stdout is closed or full.
pub fn report(context: &Context, machine: &Machine, before: &Settings, after: &Settings) -> Result<()> {
    let differences = differences(before, after);
    let name = &machine.name;
    let runs = machine.run().qemu().is_some();
    let keys: Vec<_> = differences.iter().map(|(key, ..)| *key).filter(|_| runs).collect();
    let applied = live::apply(machine, after, &keys);
    let with = |wanted: fn(&When) -> bool| -> Vec<Key> {
        applied.iter().filter(|(_, when)| wanted(when)).map(|(key, _)| *key).collect()
    };
    let at_once = with(|when| *when == When::Now);
    let later = with(|when| matches!(when, When::NextStart | When::Partly(_)));
    if context.json {
        let changed: Map<String, Value> = differences
            .iter()
            .map(|(key, before, after)| (key.name().to_owned(), json!({ "before": before, "after": after })))
            .collect();
        let at_start: Vec<_> = later.iter().map(|key| key.name()).collect();
        print_json(
            &json!({ "name": name, "changed": changed, "at_once": at_once.iter().map(|key| key.name()).collect::<Vec<_>>(), "at_next_start": at_start }),
        )?;
    } else if differences.is_empty() {
        print(&format!("{name}: nothing changed\n"))?;
    } else {
        let lines = differences.iter().map(|(key, before, after)| {
            let [before, after] = [before, after].map(|value| settings_shown::value(*key, value));
            format!("{name}: {} changed from {before} to {after}\n", key.name())
        });
        print(&lines.collect::<String>())?;
    }
    if let Some(warning) = after.endpoint_warning().filter(|_| (before.tls, before.auth) != (after.tls, after.auth)) {
        note(&warning);
    }
    if before.host != after.host {
        resolve_settings::warn_of_address(&after.host, host_address::forward_address(&after.host)?);
    }
    let is_list = |key: &Key| matches!(key, Key::Allow | Key::Deny);
    let is_ignored = egress::rules::mode_in_force(&machine.dir) == Some(Mode::None);
    if is_ignored && at_once.iter().any(is_list) {
        note(&format!("notice: {name} has egress mode none: allow and deny lists are ignored"));
    }
    let said: Vec<_> = at_once.iter().filter(|key| !(is_ignored && is_list(key))).map(|key| key.name()).collect();
    if !said.is_empty() {
        note(&format!("notice: {name} is running; {} changed at once", said.join(" and ")));
    }
    if at_once.contains(&Key::Ttl) {
        note_ttl(machine, after);
    }
    for (key, when) in &applied {
        if let When::Partly(how) = when {
            note(&format!("notice: {} changed in part: {how}", key.name()));
        }
    }
    // A run without means to enforce them: the next one has none either, unless the host changes.
    let is_unenforced = |key: &Key| {
        *key == Key::CpuQuota
            && after.limits.asked(Number::CpuQuota).is_some()
            && Means::of_run(&machine.dir) == Means::Single
    };
    let (unenforced, later): (Vec<_>, Vec<_>) = later.into_iter().partition(is_unenforced);
    note_limits(machine, after, &[at_once, unenforced].concat());
    if (before.memory, before.cores) != (after.memory, after.cores) {
        overcommit::warnings(machine, after).iter().for_each(|warning| note(warning));
    }
    if !later.is_empty() {
        let keys: Vec<_> = later.iter().map(|key| key.name()).collect();
        note(&format!(
            "notice: {name} is running; {} will change at its next start: agent-vm restart {name}",
            keys.join(", ")
        ));
    }
    for (agent, missing) in new_agents::unreachable(before, after) {
        let command = egress_lists::command("allow", Some(name.as_str()), missing);
        note(&format!("notice: {agent} needs hosts that are not on the allow list: {command}"));
    }
    if before.disk != after.disk {
        note_disk_size(machine, after);
    }
    Ok(())
}

/// Warns if the machine has run for longer than its new time to live.
fn note_ttl(machine: &Machine, settings: &Settings) {
    let ran = machine.run().qemu().as_ref().and_then(age);
    if let Some((ran, ttl)) = ran.zip(settings.ttl.get()).filter(|(ran, ttl)| ran >= ttl) {
        note(&format!(
            "warning: {} is stopped now: it has run for {}, longer than {}",
            machine.name,
            span(ran.as_secs()),
            span(ttl.as_secs())
        ));
    }
}

/// Reports changed limits that nothing on this host enforces.
fn note_limits(machine: &Machine, settings: &Settings, changed: &[Key]) {
    let run = machine.run();
    let all = run.qemu().zip(run.facts()).map(|(qemu, facts)| in_force::all(&run, settings, &facts, &qemu));
    let of_change = all.iter().flatten().filter(|limit| changed.iter().any(|key| key.name() == limit.name));
    of_change.filter_map(in_force::LimitState::notice).for_each(|notice| note(&notice));
}

/// Prints a notice if the disk has another size than the settings. A disk keeps its size.
pub fn note_disk_size(machine: &Machine, settings: &Settings) {
    let name = &machine.name;
    if let Some(size) = disk::size_mib(&MachinePath::Disk.of(&machine.dir)).filter(|size| *size != settings.disk) {
        note(&format!(
            "notice: the disk of {name} keeps its {size} MiB; for a new disk with {} MiB: agent-vm start {name} --new-disk",
            settings.disk
        ));
    }
}
