//! Nix, which evaluates or builds the guests, and nixpkgs, from which it builds them.

use std::time::Duration;

use super::programs::{first_line, numbers};
use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::guest::installation::default_guest;
use crate::host::process::{Invocation, find};
use crate::machine::Machine;
use crate::machine::settings::GuestKind;
use crate::machine::state_dir::StateDir;

/// The oldest Nix that is tested, of Debian 12.
const OLDEST: (u32, u32) = (2, 8);
const TIMEOUT: Duration = Duration::from_secs(3);
/// Time for the binary cache to answer.
const REACHING: Duration = Duration::from_secs(6);
const STORE: &str = "https://cache.nixos.org";

/// What Nix says.
enum Nix {
    Missing,
    Failed(String),
    Version(String),
}

/// Checks that Nix runs, and its version.
pub fn check_nix() -> Vec<Finding> {
    let nix = match find("nix".as_ref()) {
        Err(_) => Nix::Missing,
        Ok(path) => match Invocation::new(path).arg("--version").with_our_environment().time_limit(TIMEOUT).read() {
            Ok(version) => Nix::Version(version),
            Err(error) => Nix::Failed(format!("{error:#}")),
        },
    };
    vec![judge(&nix)]
}

fn judge(nix: &Nix) -> Finding {
    const CHECK: &str = "nix";
    match nix {
        Nix::Missing => Finding::fault(CHECK, Fault::NixMissing, "not installed: no guest can be built"),
        Nix::Failed(why) => Finding::fault(CHECK, Fault::NixFails, why),
        Nix::Version(text) => match numbers(text) {
            Some(version) if version < OLDEST => {
                let (major, minor) = OLDEST;
                Finding::fault(CHECK, Fault::NixOld, format!("{}, older than {major}.{minor}", first_line(text)))
            }
            Some(_) => Finding::ok(CHECK, first_line(text)),
            None => {
                Finding::fault(CHECK, Fault::NixFails, format!("it prints an unknown version: {}", first_line(text)))
            }
        },
    }
}

/// Checks that Nix reaches the binary cache of nixpkgs, if a machine has the NixOS guest or new machines get it.
pub fn check_nixpkgs(_: &StateDir, machines: &[Machine]) -> Vec<Finding> {
    let is_nixos = |machine: &Machine| machine.settings().is_ok_and(|settings| settings.guest == GuestKind::Nixos);
    let is_default = default_guest().is_ok_and(|guest| guest == GuestKind::Nixos);
    if !is_default && !machines.iter().any(is_nixos) {
        return Vec::new();
    }
    let ask = Invocation::new("nix").args(["--extra-experimental-features", "nix-command"]);
    let ask = ask.args(["store", "ping", "--store", STORE]).with_our_environment().time_limit(REACHING);
    vec![judge_nixpkgs(ask.checked().map(drop).map_err(|error| format!("{error:#}")))]
}

fn judge_nixpkgs(reached: Result<(), String>) -> Finding {
    const CHECK: &str = "nixpkgs";
    match reached {
        Ok(()) => Finding::ok(CHECK, format!("Nix reaches {STORE}")),
        Err(why) => Finding::fault(
            CHECK,
            Fault::NixpkgsUnreachable,
            format!("Nix does not reach {STORE}, from which the NixOS guest is built: {why}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nix_is_judged_by_its_version() {
        let version = |text: &str| judge(&Nix::Version(text.to_owned())).fault;
        assert_eq!(version("nix (Nix) 2.8.0\n"), None);
        assert_eq!(version("nix (Nix) 2.24.9-pre\n"), None);
        assert_eq!(version("nix (Lix, like Nix) 2.91.1\n"), None);
        assert_eq!(version("nix (Nix) 2.3.16\n"), Some(Fault::NixOld));
        assert_eq!(version("hello"), Some(Fault::NixFails));
        assert_eq!(judge(&Nix::Missing).fault, Some(Fault::NixMissing));
        assert_eq!(judge(&Nix::Failed("x".to_owned())).fault, Some(Fault::NixFails));
        assert_eq!(judge_nixpkgs(Ok(())).fault, None);
        assert_eq!(judge_nixpkgs(Err("no route".to_owned())).fault, Some(Fault::NixpkgsUnreachable));
    }
}
