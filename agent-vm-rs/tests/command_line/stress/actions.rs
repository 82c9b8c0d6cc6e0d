//! What happens in a round: commands side by side, some of which are killed.

use proptest::prelude::*;
use rustix::process::Signal;

/// The branches that have machines.
pub const BRANCHES: [&str; 3] = ["main", "one", "two/x"];

/// One thing that a user, a guest or a script does with the machine of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Create,
    Start,
    Stop,
    Restart,
    Destroy,
    Fetch,
    Push,
    Log,
    Set,
    Status,
    Exec,
    List,
    Prune,
    Kept,
    /// The guest commits in its workspace.
    Commit,
}

impl Deed {
    /// Returns the arguments of agent-vm; None if it is no command of it.
    pub fn args(self, branch: &'static str) -> Option<Vec<&'static str>> {
        Some(match self {
            Self::Create => vec!["create", "--branch", branch],
            Self::Start => vec!["start", branch],
            Self::Stop => vec!["stop", branch],
            Self::Restart => vec!["restart", branch],
            Self::Destroy => vec!["destroy", "--yes", branch],
            Self::Fetch => vec!["fetch", branch],
            Self::Push => vec!["push", branch],
            Self::Log => vec!["log", branch],
            Self::Set => vec!["set", branch, "memory=1024"],
            Self::Status => vec!["status", "--json", branch],
            Self::Exec => vec!["exec", branch, "--", "true"],
            Self::List => vec!["list", "--json"],
            Self::Prune => vec!["prune", "--yes"],
            Self::Kept => vec!["kept", "list"],
            Self::Commit => return None,
        })
    }
}

/// A deed, for which machine, and whether a signal ends its command.
#[derive(Clone, Debug)]
pub struct Action {
    pub deed: Deed,
    pub branch: &'static str,
    /// The signal, and after how many milliseconds it comes.
    pub signal: Option<(Signal, u64)>,
}

/// Returns random rounds; the actions of one round begin at the same time. The first one creates all machines.
pub fn rounds() -> impl Strategy<Value = Vec<Vec<Action>>> {
    let first = BRANCHES.map(|branch| signal().prop_map(move |signal| Action { deed: Deed::Create, branch, signal }));
    let others = proptest::collection::vec(proptest::collection::vec(action(), 1..=4), 10..=14);
    (first, others).prop_map(|(first, others)| std::iter::once(first.to_vec()).chain(others).collect())
}

/// Returns no signal, or one and the time when it comes.
fn signal() -> impl Strategy<Value = Option<(Signal, u64)>> {
    prop_oneof![
        3 => Just(None),
        1 => (prop_oneof![3 => Just(Signal::KILL), 1 => Just(Signal::INT)], 0_u64..700).prop_map(Some),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    use Deed::{Commit, Create, Destroy, Exec, Fetch, Kept, List, Log, Prune, Push, Restart, Set, Start, Status, Stop};
    let deed = prop_oneof![
        3 => Just(Create),
        5 => Just(Start),
        3 => prop_oneof![Just(Stop), Just(Restart), Just(Destroy), Just(Destroy)],
        5 => Just(Commit),
        3 => prop_oneof![Just(Fetch), Just(Push), Just(Log)],
        3 => prop_oneof![Just(Set), Just(Status), Just(Exec), Just(List), Just(Prune), Just(Kept)],
    ];
    let signal = prop_oneof![
        2 => Just(None),
        1 => (prop_oneof![3 => Just(Signal::KILL), 1 => Just(Signal::INT)], 0_u64..700).prop_map(Some),
    ];
    (deed, proptest::sample::select(BRANCHES.to_vec()), signal).prop_map(|(deed, branch, signal)| Action {
        deed,
        branch,
        signal,
    })
}
