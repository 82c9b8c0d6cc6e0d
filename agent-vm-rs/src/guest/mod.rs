//! Renders and builds the guest of a machine, and checks whether an existing one is current.

pub mod flake_lock;
pub mod images;
pub mod installation;
pub mod manifest;
pub mod nix;
mod package;
pub mod package_names;
pub mod render;
pub mod running;
pub mod server_names;
pub mod snapshot;
pub mod update;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use self::package::Condition;
use crate::guest::installation::Toolkit;
use crate::guest::manifest::{Manifest, Share};
use crate::host::files::{
    make_dir_durably, make_private_dir, read_text, remove_any, remove_file, rename_durably, write_file, write_unsynced,
};
use crate::host::hex::hex;
use crate::host::interrupt::Deadline;
use crate::host::lock::Lock;
use crate::host::process::Invocation;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::paths::MachinePath;
use crate::machine::run_state::RunDir;
use crate::machine::settings::{GuestKind, Settings};
use crate::term::error::Failure;
use crate::term::progress::note;
use crate::term::verbosity::Verbosity;

/// A built guest.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Path of the guest package.
    pub package: PathBuf,
    /// The guest's manifest.
    pub manifest: Manifest,
}

/// The inputs of a guest, to decide whether a rebuild is needed.
pub struct Recipe {
    flake: String,
    nix_args: Vec<String>,
    fingerprint: String,
    guest: GuestKind,
    toolkit: String,
    toolkit_is_local: bool,
}

impl Recipe {
    /// Returns the recipe of a machine's guest.
    ///
    /// # Errors
    /// The flake cannot be rendered.
    pub fn new(settings: &Settings, toolkit: &Toolkit, share: Share) -> Result<Self> {
        let snapshot = snapshot::chosen()?;
        let snapshot = snapshot.as_ref().map(snapshot::Snapshot::name);
        let flake = crate::guest::render::flake(settings, &toolkit.reference, share, snapshot)?;
        let mut hasher = Sha256::new();
        let parts = [flake.as_str(), &toolkit.fingerprint, env!("CARGO_PKG_VERSION")];
        for part in parts.into_iter().chain(settings.nix_args.iter().map(String::as_str)) {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Ok(Self {
            flake,
            nix_args: settings.nix_args.clone(),
            fingerprint: hex(&hasher.finalize()),
            guest: settings.guest,
            toolkit: toolkit.fingerprint.clone(),
            toolkit_is_local: toolkit.is_local,
        })
    }

    /// Returns a hash of the recipe and of the machine's flake lock, which pins nixpkgs.
    fn fingerprint(&self, machine: &Machine) -> Result<String> {
        let file = MachinePath::FlakeLock.of(&machine.dir);
        let lock = if file.symlink_metadata().is_ok() { read_text(&file)? } else { String::new() };
        let mut hasher = Sha256::new();
        hasher.update(&self.fingerprint);
        hasher.update(lock);
        Ok(hex(&hasher.finalize()))
    }
}

impl Guest {
    /// Returns the machine's present guest, even if its recipe has changed. A running machine has its own copy of the
    /// manifest, so it does not depend on the cache.
    ///
    /// # Errors
    /// No guest is built yet, or its manifest cannot be read.
    pub fn of(machine: &Machine) -> Result<Self> {
        let run = machine.run();
        let kept = run.qemu().and_then(|_| Manifest::parse(&read_text(&run.file(MachinePath::RunManifest)).ok()?).ok());
        match kept {
            Some(manifest) => {
                let link = MachinePath::Guest.of(&machine.dir);
                Ok(Self { package: fs::read_link(&link).unwrap_or(link), manifest })
            }
            None => Self::built(machine),
        }
    }

    /// Saves the manifest in the run directory for as long as the machine runs.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_for(&self, run: &RunDir) -> Result<()> {
        let text = serde_json::to_string(&self.manifest).context("failed to write the manifest as JSON")?;
        write_unsynced(&run.file(MachinePath::RunManifest), text, 0o600)?;
        point(&run.file(MachinePath::RunGuest), &self.package)
    }

    fn built(machine: &Machine) -> Result<Self> {
        let link = MachinePath::Guest.of(&machine.dir);
        let package = fs::canonicalize(&link).with_context(|| {
            Failure::new(format!("{} has no guest: it was never built", machine.name))
                .with_hint(format!("agent-vm start {}", machine.name))
        })?;
        Self::read(package)
    }

    /// Reads the manifest of a guest package.
    fn read(package: PathBuf) -> Result<Self> {
        let path = package.join("share/agent-vm/manifest.json");
        // Nix may have made this path a link.
        let text = fs::canonicalize(&path).with_context(|| format!("failed to find {}", path.display()))?;
        let text = read_text(&text)?;
        let manifest =
            Manifest::parse(&text).with_context(|| format!("failed to read the manifest {}", path.display()))?;
        Ok(Self { package, manifest })
    }

    /// Makes an already built guest package the machine's guest. A later start without one builds the machine's own.
    ///
    /// # Errors
    /// It is not a guest package, or its guest is another kind. The machine's guest is then unchanged.
    pub fn use_package(machine: &Machine, package: &Path, kind: GuestKind) -> Result<Self> {
        let wrong = || {
            Failure::usage(format!("{} is not a guest package for this machine", package.display())).with_hint(
                "give the path that lib.mkAgentVm or system.build.agentVm of a NixOS configuration builds: --guest-package PATH",
            )
        };
        let found = fs::canonicalize(package).with_context(|| format!("failed to find {}", package.display()));
        let guest = found.and_then(Self::read).with_context(wrong)?;
        let runner = guest.package.join(&guest.manifest.runner);
        if !runner.is_file() {
            return Err(anyhow::anyhow!("it has no {}", runner.display()).context(wrong()));
        }
        if guest.manifest.guest != kind {
            let why = format!("its guest is {}, the machine's is {kind}", guest.manifest.guest);
            return Err(anyhow::anyhow!(why).context(wrong()));
        }
        make_dir_durably(&machine.flake(), 0o700)?;
        remove_file(&MachinePath::FlakeFingerprint.of(&machine.dir))?;
        point(&MachinePath::Guest.of(&machine.dir), &guest.package)?;
        Ok(guest)
    }

    /// Returns the machine's guest if it exists and was built from this recipe. Runs no Nix.
    #[must_use]
    pub fn current(machine: &Machine, recipe: &Recipe) -> Option<Self> {
        let made_from = read_text(&MachinePath::FlakeFingerprint.of(&machine.dir)).ok()?;
        let guest = (made_from == recipe.fingerprint(machine).ok()?).then(|| Self::built(machine).ok()).flatten()?;
        // Nix protects its own store from damage.
        let is_well = recipe.guest == GuestKind::Nixos || package::condition(&guest.package).ok()? == Condition::Well;
        is_well.then_some(guest)
    }

    /// Builds the machine's guest. `cache` holds built images and the private Nix store.
    ///
    /// # Errors
    /// Nix or the image builder fails. The machine keeps its previous guest.
    pub fn build(machine: &Machine, recipe: &Recipe, cache: &Path, context: &Context) -> Result<Self> {
        let verbosity = context.verbosity;
        let flake = machine.flake();
        make_dir_durably(&flake, 0o700)?;
        remove_file(&MachinePath::FlakeFingerprint.of(&machine.dir))?;
        write_file(&MachinePath::FlakeText.of(&machine.dir), &recipe.flake, 0o644)?;
        if recipe.toolkit_is_local {
            update::relock(machine, recipe, verbosity)?;
        }
        let link = MachinePath::Guest.of(&machine.dir);
        let call = nix::Call { verbosity, args: &recipe.nix_args };
        match recipe.guest {
            GuestKind::Nixos => {
                let build = nix::build_guest(&flake, &link, call)?.of_machine(&machine.dir);
                let built = context.timeline.run("Nix", || build.run_with_progress());
                built.context("failed to build the guest")?;
            }
            GuestKind::Debian => {
                let store = cache.join("nix");
                let eval = nix::eval_manifest(&flake, &store, call)?.of_machine(&machine.dir);
                let text = context.timeline.run("Nix", || eval.read()).context("failed to evaluate the guest")?;
                let package = context.timeline.run("image", || image(&text, cache, verbosity, machine))?;
                point(&link, &package)?;
            }
        }
        let guest = Self::built(machine)?;
        // The build may have written the lock, which is part of the fingerprint.
        write_file(&MachinePath::FlakeFingerprint.of(&machine.dir), recipe.fingerprint(machine)?, 0o644)?;
        Ok(guest)
    }
}

/// Returns the package of the image in a manifest: from the cache, or newly built.
fn image(text: &str, cache: &Path, verbosity: Verbosity, machine: &Machine) -> Result<PathBuf> {
    let manifest = Manifest::parse(text)?;
    let image = manifest.image.context("invalid manifest: it names no image to build")?;
    let guests = images::directory(cache);
    make_private_dir(&guests)?;
    let package = images::path_of(&guests, &image.hash);
    // Before the image is looked at, so that `prune` does not remove it meanwhile.
    images::register(&package, &machine.dir);
    if package::condition(&package)? == Condition::Well {
        return Ok(package);
    }
    // Another agent-vm may build the same image, which takes minutes; a builder may also outlive its agent-vm.
    let _lock =
        Lock::take(&images::lock_of(&guests, &image.hash), Deadline::after(std::time::Duration::from_secs(3_600)))?
            .shared_with_children()?;
    // Before the lock was taken, `prune` may have removed it as a record of an image that nothing builds.
    images::register(&package, &machine.dir);
    match package::condition(&package)? {
        Condition::Well => return Ok(package),
        Condition::Missing => {}
        Condition::Damaged(why) => {
            note(&format!("notice: rebuilding the guest image {}: it is damaged ({why})", package.display()));
        }
    }
    // The builder refuses to write into an existing directory.
    remove_any(&package)?;
    // `scripts/prepare-image` builds it while this program is being compiled. The builder makes a whole directory, or none.
    let prepared = images::prepared_of(&guests, &image.hash);
    if prepared.is_dir() {
        rename_durably(&prepared, &package)?;
        package::remember(&package)?;
        return Ok(package);
    }
    let spec = guests.join(format!(".spec-{}.json", &image.hash[..16]));
    write_unsynced(&spec, text, 0o600)?;
    note("  building the guest image (once; machines with the same settings share it; usually 1 to 3 minutes)");
    let build = Invocation::new(&image.builder)
        .args([&spec, &package])
        .env("AGENT_VM_LOG", verbosity.log_level())
        .of_machine(&machine.dir);
    // The builder needs the user's proxy and certificate variables.
    let build = build.with_our_environment();
    build.run_with_progress().map_err(|error| not_built(error, machine))?;
    remove_file(&spec)?;
    package::remember(&package)?;
    Ok(package)
}

/// Adds a hint to the error of the builder, which prints the reason itself: its name of a package may be wrong, and `create` knows
/// no names before the first image.
fn not_built(error: anyhow::Error, machine: &Machine) -> anyhow::Error {
    let failure = Failure::new("failed to build the guest image");
    let packages = machine.settings().map(|settings| settings.packages).unwrap_or_default();
    if packages.is_empty() {
        return error.context(failure);
    }
    let name = &machine.name;
    let hint =
        format!("{name} adds the packages {}; to add none: agent-vm set {name} --unset packages", packages.join(", "));
    error.context(failure.with_hint(hint))
}

/// Creates or replaces a symbolic link atomically.
fn point(link: &Path, target: &Path) -> Result<()> {
    let new = link.with_extension("new");
    remove_file(&new)?;
    symlink(target, &new).with_context(|| format!("failed to link {}", link.display()))?;
    rename_durably(&new, link)
}
