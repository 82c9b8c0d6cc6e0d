//! What confines a machine's processes on this host.

use crate::confine::{self, Confinement, landlock};
use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::machine::Machine;
use crate::machine::state_dir::StateDir;

/// Newest version of Landlock that is used.
const NEWEST: u32 = 6;

/// Makes a trial sandbox, as a start does.
pub fn check_namespaces(state: &StateDir, machines: &[Machine]) -> Vec<Finding> {
    let place = machines.first().map_or(state.path(), |machine| &machine.dir);
    let tried = confine::choose(place).map_err(|error| format!("{error:#}"));
    let tried = tried.map(|(confinement, why)| (confinement, why.map(|why| format!("{why:#}"))));
    vec![judge(tried)]
}

fn judge(tried: Result<(Confinement, Option<String>), String>) -> Finding {
    const CHECK: &str = "namespaces";
    match tried {
        Ok((confinement, None)) => Finding::ok(CHECK, format!("QEMU is confined by {}", confinement.describe())),
        Ok((_, Some(why))) => {
            Finding::fault(CHECK, Fault::NamespacesOff, format!("QEMU runs without namespaces: {why}"))
        }
        Err(why) => Finding::fault(CHECK, Fault::NamespacesOffForRoot, why),
    }
}

/// Asks the kernel for its version of Landlock.
pub fn check_landlock() -> Finding {
    judge_landlock(landlock::version())
}

fn judge_landlock(version: Option<u32>) -> Finding {
    const CHECK: &str = "landlock";
    match version {
        None => {
            Finding::fault(CHECK, Fault::LandlockOff, "the kernel has no Landlock: one layer around QEMU is missing")
        }
        Some(version) if version < NEWEST => {
            Finding::ok(CHECK, format!("version {version}; Linux 6.12 has version {NEWEST}"))
        }
        Some(version) => Finding::ok(CHECK, format!("version {version}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_confinement_has_its_finding() {
        let none = Confinement::default;
        assert_eq!(judge(Ok((none(), None))).fault, None);
        assert_eq!(judge(Ok((none(), Some("no bwrap".to_owned())))).fault, Some(Fault::NamespacesOff));
        assert_eq!(judge(Err("root".to_owned())).fault, Some(Fault::NamespacesOffForRoot));
        assert_eq!(judge_landlock(None).fault, Some(Fault::LandlockOff));
        assert_eq!((judge_landlock(Some(1)).fault, judge_landlock(Some(6)).fault), (None, None));
    }
}
