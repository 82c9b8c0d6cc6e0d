//! Checks of this host.

mod cgroups;
mod clock;
mod confinement;
mod kvm;
mod memory;
mod nix;
mod ports;
mod programs;
mod space;

use super::finding::Finding;
use crate::machine::Machine;
use crate::machine::state_dir::StateDir;

/// A check, with its name.
pub type Check = (&'static str, Box<dyn FnOnce() -> Vec<Finding> + Send>);

/// Returns the checks of this host. `machines` are those of the state directory.
pub fn checks(state: &StateDir, machines: &[Machine]) -> Vec<Check> {
    let of = |name, check: fn(&StateDir, &[Machine]) -> Vec<Finding>| -> Check {
        let (state, machines) = (state.clone(), machines.to_vec());
        (name, Box::new(move || check(&state, &machines)))
    };
    vec![
        of("kvm", kvm::check),
        of("nested", |_, _| kvm::check_nested()),
        of("qemu", programs::check_qemu),
        of("virtiofsd", |_, _| programs::check_virtiofsd()),
        of("programs", |_, _| programs::check_others()),
        of("namespaces", confinement::check_namespaces),
        of("landlock", |_, _| vec![confinement::check_landlock()]),
        of("nix", |_, _| nix::check_nix()),
        of("nixpkgs", nix::check_nixpkgs),
        of("cgroups", |_, _| cgroups::check_cgroups()),
        of("systemd", |_, _| vec![cgroups::check_systemd()]),
        of("space", space::check),
        of("ports", ports::check),
        of("clock", clock::check),
        of("memory", memory::check),
    ]
}
