//! Random commands side by side, some of them killed at a random moment: no commit is lost, no machine is stuck, and no process
//! is left. `make soak` does it for an hour.

mod actions;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use proptest::strategy::Strategy as _;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use self::actions::{Action, Deed};
use self::world::World;
use crate::stand_ins::DefaultPorts;
use crate::support::{Done, Running, skip, which};

/// Seconds for which it runs; one case, if it is not set.
const SOAK: &str = "AGENT_VM_SOAK_SECONDS";

#[test]
fn commands_beside_each_other_lose_nothing_however_they_end() {
    if which("python3").is_none() {
        skip("there is no python3 for the stand-in of the guest");
        return;
    }
    let seconds = std::env::var(SOAK).map_or(0, |seconds| seconds.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let (mut cases, mut totals) = (0, BTreeMap::new());
    loop {
        let rounds = actions::rounds().new_tree(&mut runner).unwrap().current();
        let world = World::new();
        for round in &rounds {
            world.run(round);
        }
        world.finish();
        cases += 1;
        world.count(&mut totals);
        if Instant::now() >= end {
            break;
        }
    }
    println!("{cases} cases; no commit lost, no machine stuck, no process left; successful commands: {totals:?}");
}

/// Eight machines that want the same ports are created, started and stopped at once.
#[test]
fn many_machines_start_at_once() {
    if which("python3").is_none() {
        skip("there is no python3 for the stand-in of the guest");
        return;
    }
    let _ports = DefaultPorts::take();
    let site = world::site_with_guests();
    let branches: Vec<_> = (0..8).map(|number| format!("branch-{number}")).collect();
    let all_at_once = |verb: &[&str], flag: &[&str]| {
        let commands = branches.iter().map(|branch| site.spawn(&[verb, &[branch.as_str()], flag].concat()));
        for command in commands.collect::<Vec<_>>() {
            Done::new(format!("{verb:?}"), &command.output()).ok();
        }
    };
    all_at_once(&["create", "--branch"], &[]);
    all_at_once(&["start"], &[]);
    let list = site.run(&["list", "--json"]).ok().json();
    let rows = list.as_array().unwrap();
    assert!(rows.len() == 8 && rows.iter().all(|row| row["state"] == "running"), "{list}");
    let ports: BTreeSet<_> =
        rows.iter().flat_map(|row| [&row["port"], &row["ssh_port"]]).map(|port| port.as_u64()).collect();
    assert_eq!(ports.len(), 16, "{list}");
    all_at_once(&["stop"], &[]);
    site.assert_nothing_left();
}

fn action(deed: Deed) -> Vec<Action> {
    vec![Action { deed, branch: "main", signal: None }]
}

/// Control for the commits.
#[test]
#[should_panic(expected = "is lost")]
fn a_lost_commit_is_noticed() {
    let world = World::new();
    for deed in [Deed::Create, Deed::Commit, Deed::Destroy] {
        world.run(&action(deed));
    }
    let kept = world.site().kept();
    assert_eq!(kept.len(), 1);
    std::fs::remove_file(&kept[0]).unwrap();
    std::fs::remove_dir_all(world.site().path("restored.git")).unwrap();
    world.run(&action(Deed::List));
}

/// Control for the processes.
#[test]
#[should_panic(expected = "is left")]
fn a_leaked_process_is_noticed() {
    let world = World::new();
    world.run(&action(Deed::Create));
    let mut left = world.site().command(which("sleep").unwrap());
    let _left =
        Running::new(left.arg("1000").env("AGENT_VM_MACHINE", world.site().machine("app-main")).spawn().unwrap());
    world.run(&action(Deed::List));
}
