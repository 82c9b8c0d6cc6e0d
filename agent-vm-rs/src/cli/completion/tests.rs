use std::cell::Cell;

use super::values::{MOST_READ, Purpose, branches_of};
use super::*;
use crate::machine::name::VmName;

/// Returns the values for the last word of a command line without the program's name; without their help.
fn complete_line(state: &Path, line: &str) -> Vec<String> {
    let words: Vec<_> = ["agent-vm"].into_iter().chain(line.split(' ')).map(OsString::from).collect();
    let lines = candidates(Some(state), &words).unwrap_or_default();
    lines.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn verbs_flags_and_values_are_completed() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["app-dev", "app-main"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let complete = |line: &str| complete_line(dir.path(), line);
    for (line, expected) in [
        ("sta", &["start", "stats", "status"][..]),
        ("egress al", &["allow"]),
        ("create --egress o", &["open"]),
        ("create --egress=o", &["--egress=open"]),
        ("start --fore", &["--foreground"]),
        ("start app-", &["app-dev", "app-main"]),
        ("start ", &["app-dev", "app-main"]),
        ("-v --timeout 5 start app-m", &["app-main"]),
        ("egress log --branch app-m", &["app-main"]),
        ("completions ", &["bash", "fish", "zsh"]),
        ("create --config ", &[":files"]),
        ("create --config=a/", &[":files"]),
        ("run co", &["codex"]),
        ("run claude app-m", &["app-main"]),
        ("create --agent cl", &["claude"]),
        ("man ", &[":files"]),
        ("--state-dir /nowhere start app-", &[]),
        ("exec app-main -- app-", &[]),
        ("start app-main app-", &[]),
        ("landl", &[]),
    ] {
        let mut found = complete(line);
        found.sort();
        assert_eq!(found, expected, "{line}");
    }
    let verbs = complete("");
    assert!(verbs.contains(&"create".to_owned()) && verbs.iter().all(|verb| !verb.starts_with('-')), "{verbs:?}");
    assert!(complete("start -").contains(&"--json".to_owned()));
}

#[test]
fn a_value_that_a_shell_would_change_is_left_out() {
    let shown = |values: &[&str]| lines(&values.iter().map(CompletionCandidate::new).collect::<Vec<_>>(), false);
    for value in [
        "$(id)",
        "a;b",
        "a&b",
        "a|b",
        "`id`",
        "a'b",
        "a\"b",
        "{a}",
        "a!b",
        "#a",
        "a\u{9b}b",
        "a\u{202e}b",
        "a\nb",
        "%1",
    ] {
        assert_eq!(shown(&[value, "plain"]), "plain\n", "{value:?}");
    }
    // Control: others are shown.
    assert_eq!(shown(&["feature/ünï-1.2_x", "--egress=open"]), "feature/ünï-1.2_x\n--egress=open\n");
    let help = CompletionCandidate::new("a").help(Some("b\u{1b}[31mc\nd".into()));
    assert!(lines(&[help], false).chars().filter(|c| c.is_control()).eq("\t\n".chars()));
}

#[test]
fn a_bounded_number_of_settings_is_read() {
    let names = (0..1_000).map(|number| format!("app-b{number:03}"));
    let machines: Vec<VmName> =
        ["old-relinked".to_owned()].into_iter().chain(names).map(|name| name.parse().unwrap()).collect();
    let read = Cell::new(0);
    let branches = |source: &str, typed: &str| {
        read.set(0);
        branches_of(Path::new("/src/app"), typed, &machines, |name| {
            read.set(read.get() + 1);
            let branch = name.as_str().trim_start_matches("app-").trim_start_matches("old-").parse().unwrap();
            Some(Purpose { source: source.into(), branch })
        })
    };
    assert_eq!((branches("/src/app", "").len(), read.get()), (MOST_READ, MOST_READ));
    // What is typed decides which settings are read first.
    assert!(branches("/src/app", "b99").contains("b999"));
    // A machine of a moved repository has another name.
    assert!(branches("/src/app", "r").contains("relinked"));
    assert_eq!((branches("/elsewhere/app", "").len(), read.get()), (0, MOST_READ));
}
