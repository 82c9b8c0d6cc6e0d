//! Whether machines run with KVM on this host.

use std::fs;
use std::path::Path;

use crate::confine::{self, Confinement};
use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::guest::Guest;
use crate::host::account;
use crate::host::user_dirs::cache_dir;
use crate::machine::Machine;
use crate::machine::state_dir::StateDir;
use crate::vm::accel::{self, Choice, Refusal};

const CHECK: &str = "kvm";
const NESTED: &str = "nested";

/// What the probe says.
enum Kvm {
    /// No guest is built that the probe could boot; the device opens, or does not.
    Unbooted(Option<Refusal>),
    /// The device does not open, or a guest's kernel was booted.
    Booted(Option<Refusal>, Choice),
    /// The probe itself failed.
    Failed(String),
}

/// Boots a guest's kernel with KVM, as a start does, in the confinement of the first machine that has a guest.
pub fn check(state: &StateDir, machines: &[Machine]) -> Vec<Finding> {
    let built = machines.iter().find_map(|machine| Some((machine, Guest::of(machine).ok()?)));
    let place = built.as_ref().map_or(state.path(), |(machine, _)| &machine.dir);
    let confinement = match confine::choose(place) {
        Ok((confinement, _)) => confinement,
        Err(_) => Confinement::default(),
    };
    let account = match confinement.account() {
        Some(account) => format!("the account {} of a machine", account.uid),
        None => account::name(),
    };
    vec![judge(&look(built.as_ref().map(|(_, guest)| guest), &confinement), &account)]
}

fn look(guest: Option<&Guest>, confinement: &Confinement) -> Kvm {
    let refusal = match accel::refusal(confinement) {
        Ok(refusal) => refusal,
        Err(error) => return Kvm::Failed(format!("{error:#}")),
    };
    let Some(guest) = guest else { return Kvm::Unbooted(refusal) };
    let choice = cache_dir().and_then(|cache| accel::choose(guest, confinement, &cache));
    choice.map_or_else(|error| Kvm::Failed(format!("{error:#}")), |choice| Kvm::Booted(refusal, choice))
}

fn judge(kvm: &Kvm, account: &str) -> Finding {
    match kvm {
        Kvm::Booted(None, Choice::Kvm) => Finding::ok(CHECK, format!("a kernel runs with KVM, as {account}")),
        Kvm::Unbooted(None) => {
            Finding::ok(CHECK, format!("{account} can open the device; the first start tests whether a kernel runs"))
        }
        Kvm::Unbooted(Some(refusal)) | Kvm::Booted(Some(refusal), _) => {
            let fault = match refusal {
                Refusal::Missing(_) => Fault::KvmMissing,
                Refusal::Forbidden { joinable: true, .. } => Fault::KvmForbidden,
                Refusal::Forbidden { joinable: false, .. } => Fault::KvmClosed,
                Refusal::Broken(_) => Fault::KvmBroken,
            };
            Finding::fault(CHECK, fault, format!("machines are emulated: {refusal}")).with("user", account::name())
        }
        Kvm::Booted(None, Choice::NoKvm(why)) => {
            Finding::fault(CHECK, Fault::KvmBroken, format!("machines are emulated: {why}"))
        }
        Kvm::Booted(None, Choice::Unknown(why)) | Kvm::Failed(why) => {
            Finding::fault(CHECK, Fault::KvmUnknown, format!("the probe failed: {why}"))
        }
    }
}

/// Checks whether this host, if it is a virtual machine, can run others with its processor.
pub fn check_nested() -> Vec<Finding> {
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    vec![judge_nested(&flags, Path::new(confine::KVM).exists())]
}

fn judge_nested(cpuinfo: &str, has_device: bool) -> Finding {
    let flags: Vec<_> = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags")?.split_once(':'))
        .map(|(_, flags)| flags.split_whitespace().collect())
        .unwrap_or_default();
    let has = |flag: &str| flags.contains(&flag);
    let virtualizes = has("vmx") || has("svm") || has_device;
    match (has("hypervisor"), virtualizes) {
        (false, _) => Finding::ok(NESTED, "this host is not a virtual machine"),
        (true, true) => Finding::ok(NESTED, "this host is a virtual machine that can run others"),
        (true, false) => Finding::fault(
            NESTED,
            Fault::NestedOff,
            "this host is a virtual machine without nested virtualization: machines are emulated",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_the_probe_has_its_finding() {
        let forbidden = |joinable| Refusal::Forbidden { text: "me may not open /dev/kvm".to_owned(), joinable };
        let missing = Refusal::Missing("/dev/kvm does not exist".to_owned());
        let broken = Refusal::Broken("cannot open /dev/kvm: busy".to_owned());
        for (kvm, fault) in [
            (Kvm::Booted(None, Choice::Kvm), None),
            (Kvm::Unbooted(None), None),
            (Kvm::Unbooted(Some(missing)), Some(Fault::KvmMissing)),
            (Kvm::Unbooted(Some(forbidden(true))), Some(Fault::KvmForbidden)),
            (Kvm::Booted(Some(forbidden(false)), Choice::NoKvm(String::new())), Some(Fault::KvmClosed)),
            (Kvm::Unbooted(Some(broken)), Some(Fault::KvmBroken)),
            (Kvm::Booted(None, Choice::NoKvm("a kernel hangs".to_owned())), Some(Fault::KvmBroken)),
            (Kvm::Booted(None, Choice::Unknown("busy".to_owned())), Some(Fault::KvmUnknown)),
            (Kvm::Failed("no bash".to_owned()), Some(Fault::KvmUnknown)),
        ] {
            let found = judge(&kvm, "me");
            assert_eq!(found.fault, fault, "{found:?}");
        }
    }

    #[test]
    fn nesting_is_judged_by_the_processors_flags() {
        for (flags, device, fault) in [
            ("flags\t\t: fpu vmx\n", false, None),
            ("flags\t\t: fpu\n", false, None),
            ("flags\t\t: fpu hypervisor vmx\n", false, None),
            ("flags\t\t: fpu hypervisor\n", true, None),
            ("processor: 0\nflags\t\t: fpu hypervisor\n", false, Some(Fault::NestedOff)),
            ("", false, None),
        ] {
            assert_eq!(judge_nested(flags, device).fault, fault, "{flags}");
        }
    }
}
