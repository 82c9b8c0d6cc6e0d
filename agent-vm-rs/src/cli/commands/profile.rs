//! `agent-vm profile`, and `agent-vm start --profile`

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use super::Target;
use crate::cli::target;
use crate::cli::whole_numbers;
use crate::guest::running::running;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::profile::start::Profile;
use crate::profile::{boot, running as in_use, svg};
use crate::remote::ssh::Ssh;
use crate::term::output::{print, print_json};
use crate::term::progress::step;
use crate::term::terminal;

/// Format of a start's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    Text,
    /// A picture
    Svg,
    /// JSON
    Json,
}

/// Flags of `start` about its profile.
#[derive(Args, Clone, Debug)]
pub struct ProfileOfStart {
    /// Print how long each phase of the start took, instead of how to connect
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    profile: Option<Format>,
    /// Write the profile to FILE instead, and print how to connect
    #[arg(long, value_name = "FILE")]
    profile_file: Option<PathBuf>,
}

impl ProfileOfStart {
    /// Returns whether the profile is printed instead of how to connect.
    pub fn is_printed(&self) -> bool {
        self.profile.is_some() && self.profile_file.is_none()
    }

    /// Prints or writes the profile of a start, if it was asked for.
    ///
    /// # Errors
    /// The file cannot be written, or stdout is closed.
    pub fn show(&self, context: &Context, machine: &Machine) -> Result<()> {
        self.show_one(context, || of_start(context, machine))
    }

    /// Prints or writes the phases of a start up to its failure, if its profile was asked for.
    pub fn show_failed(&self, context: &Context, machine: &Machine) {
        let profile = || Profile::new(machine.name.as_str(), &context.timeline, None);
        if let Err(error) = self.show_one(context, profile) {
            tracing::warn!("{error:#}");
        }
    }

    fn show_one(&self, context: &Context, profile: impl FnOnce() -> Profile) -> Result<()> {
        let asked = self.profile.or_else(|| self.profile_file.as_ref().map(|_| Format::Text));
        let Some(format) = asked else { return Ok(()) };
        let format = if context.json && format == Format::Text { Format::Json } else { format };
        let profile = profile();
        let width = if self.profile_file.is_none() { terminal::width(std::io::stdout()) } else { None };
        let text = match format {
            Format::Text => profile.to_text(width),
            Format::Svg => svg::draw(&profile)?,
            Format::Json => serde_json::to_string_pretty(&profile).context("failed to encode JSON")? + "\n",
        };
        match &self.profile_file {
            Some(file) => write(file, &text),
            None => print(&text),
        }
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}

/// Returns the profile of the start that this command did. Without the guest's answer it has only this host's phases.
fn of_start(context: &Context, machine: &Machine) -> Profile {
    let reported = running(machine).and_then(|(guest, facts)| {
        boot::ask(&Ssh::to(machine, &guest.manifest, &facts, context.verbosity), &context.timeline)
    });
    if let Err(error) = &reported {
        tracing::warn!("the profile lacks the guest's phases: {error:#}");
    }
    Profile::new(machine.name.as_str(), &context.timeline, reported.ok())
}

/// Flags of `profile`.
#[derive(Args, Clone, Debug)]
pub struct ProfileArgs {
    #[command(flatten)]
    target: Target,
    /// For how long, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = whole_numbers::time)]
    length: Duration,
}

/// Prints what a running machine's processes, threads and disks did for some time.
///
/// # Errors
/// The machine is not running.
pub fn profile(context: &Context, args: &ProfileArgs) -> Result<()> {
    let machine = target::find_used(&context.state, args.target.as_deref())?;
    running(&machine)?;
    let what = format!("looking at {} for {} s", machine.name, args.length.as_secs());
    let report = step(&what, || in_use::watch(&machine, args.length))?;
    if context.json {
        return print_json(&report);
    }
    print(&report.to_text(terminal::width(std::io::stdout())))
}
