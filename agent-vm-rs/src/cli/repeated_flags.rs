//! Tests that the last one of a repeated flag wins, as in other programs.

use super::*;

/// Tests every flag of the command line, so that none is left out.
#[test]
fn the_last_of_a_repeated_flag_wins() {
    let mut root = Cli::command();
    root.build();
    let mut seen = 0;
    every_flag(&root, &mut vec!["agent-vm".to_owned()], &mut seen);
    // Control: all flags were tested.
    assert!(seen > 60, "{seen} flags");
}

/// Parses each flag of a command and its subcommands twice, with different values if it takes one.
fn every_flag(command: &clap::Command, path: &mut Vec<String>, seen: &mut usize) {
    for flag in command.get_arguments().filter(|flag| flag.get_long().is_some()) {
        let name = format!("--{}", flag.get_long().unwrap());
        if ["--help", "--version"].contains(&name.as_str()) {
            continue;
        }
        *seen += 1;
        let values = values_for(flag);
        let given = values.iter().flat_map(|value| match value {
            Some(value) => vec![format!("{name}={value}")],
            None => vec![name.clone()],
        });
        let needed = needed_by(command, flag);
        let line: Vec<_> = path.iter().cloned().chain(given).chain(needed).collect();
        let matches = Cli::command().try_get_matches_from(&line);
        let matches = matches.unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let innermost = std::iter::successors(Some(&matches), |m| m.subcommand().map(|(_, m)| m)).last().unwrap();
        let Some(last) = values.last().unwrap() else { continue };
        let raw: Vec<_> = innermost.get_raw(flag.get_id().as_str()).unwrap().collect();
        let expected = if matches!(flag.get_action(), clap::ArgAction::Append) { values.len() } else { 1 };
        assert_eq!((raw.len(), raw.last().copied()), (expected, Some(std::ffi::OsStr::new(last))), "{line:?}");
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()) {
        path.push(below.get_name().to_owned());
        every_flag(below, path, seen);
        path.pop();
    }
}

/// Returns two values that a flag accepts; none for a switch.
fn values_for(flag: &clap::Arg) -> [Option<String>; 2] {
    if !flag.get_action().takes_values() {
        return [None, None];
    }
    let possible = flag.get_possible_values();
    if let [first, .., last] = possible.as_slice() {
        return [first, last].map(|value| Some(value.get_name().to_owned()));
    }
    for pair in [
        ["300", "60"],
        ["first", "second"],
        ["A=one.example", "B=two.example"],
        ["memory", "cores"],
        ["30d", "2w"],
        ["30s", "2m"],
        ["ssh://one.example", "ssh://two.example"],
    ] {
        let taken = |value: &str| {
            let alone = clap::Arg::new("x").long("x").value_parser(flag.get_value_parser().clone());
            clap::Command::new("x").arg(alone).try_get_matches_from(["x", &format!("--x={value}")]).is_ok()
        };
        if pair.into_iter().all(taken) {
            return pair.map(|value| Some(value.to_owned()));
        }
    }
    panic!("no value is known for --{}", flag.get_long().unwrap());
}

/// Returns a command's other required arguments: flags first.
fn needed_by(command: &clap::Command, but: &clap::Arg) -> Vec<String> {
    let mut words = Vec::new();
    let required = |arg: &&clap::Arg| arg.is_required_set() && arg.get_id() != but.get_id();
    for arg in command.get_arguments().filter(required) {
        let is_free = arg.is_positional() && arg.get_possible_values().is_empty();
        let [value, _] = if is_free { [Some("one".to_owned()), None] } else { values_for(arg) };
        let value = value.unwrap_or_default();
        words.extend(match arg.get_long() {
            Some(name) => vec![format!("--{name}={value}")],
            None if arg.is_last_set() => vec!["--".to_owned(), value],
            None => vec![value],
        });
    }
    if command.has_subcommands() && command.is_subcommand_required_set() {
        let below = command.get_subcommands().find(|below| below.get_arguments().all(|arg| !arg.is_required_set()));
        words.extend(below.map(|below| below.get_name().to_owned()));
    }
    words
}

/// A global flag wins wherever it is last.
#[test]
fn the_last_global_flag_wins_before_and_after_the_command() {
    let timeout = |line: &str| {
        let cli = Cli::try_parse_from(line.split(' '));
        cli.unwrap_or_else(|error| panic!("{line}: {error}")).global.timeout.unwrap().as_secs()
    };
    assert_eq!(timeout("agent-vm --timeout 300 --timeout 60 list"), 60);
    assert_eq!(timeout("agent-vm --timeout 300 --timeout=60 list"), 60);
    assert_eq!(timeout("agent-vm --timeout 300 list --timeout 60"), 60);
    assert_eq!(timeout("agent-vm list --timeout 300 --timeout=60"), 60);
    assert_eq!(timeout("agent-vm --timeout 300 egress --timeout 200 list --timeout 60"), 60);
    // Control: a positional argument cannot be repeated.
    assert!(Cli::try_parse_from(["agent-vm", "status", "a", "b"]).is_err());
}
