//! Commands without JSON output: they pass on what a program prints, or print or write files of other programs.

use crate::term::error::Failure;

/// Names of these commands.
const WITHOUT_JSON: [&str; 11] =
    ["shell", "exec", "run", "attach", "edit", "logs", "mcp", "completions", "man", "metrics", "export"];

/// Refuses `--json` for a command that would print something else.
///
/// # Errors
/// The command has no JSON output.
pub fn check(matches: &clap::ArgMatches) -> Result<(), Failure> {
    match matches.subcommand_name().filter(|name| WITHOUT_JSON.contains(name)) {
        Some(name) if matches.get_flag("json") => {
            Err(Failure::usage(format!("{name} has no JSON output")).with_hint("leave out --json"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_either_documents_its_json_or_refuses_the_flag() {
        let page = include_str!("../../../docs/reference/json.md");
        let root = Cli::command();
        let visible = |command: &clap::Command| !command.is_hide_set() && command.get_name() != "help";
        let below = |command: &clap::Command| -> Vec<_> {
            let all = command.get_subcommands().filter(|one| visible(one));
            all.map(|one| format!("{} {}", command.get_name(), one.get_name())).collect()
        };
        let names = root.get_subcommands().filter(|one| visible(one)).flat_map(|one| match below(one) {
            names if names.is_empty() => vec![one.get_name().to_owned()],
            names => names,
        });
        for name in names {
            let documented = page.contains(&format!("`agent-vm {name} --json`"));
            let refused = WITHOUT_JSON.contains(&name.as_str());
            assert!(documented != refused, "{name}: documented is {documented}, refused is {refused}");
        }
        assert!(page.contains("`agent-vm --json`"));
    }

    #[test]
    fn the_flag_is_refused_before_and_after_the_command() {
        let check = |line: &str| check(&Cli::command().try_get_matches_from(line.split(' ')).unwrap());
        for line in ["agent-vm --json logs", "agent-vm logs main --json", "agent-vm exec --json -- ls"] {
            assert!(check(line).is_err(), "{line}");
        }
        // Control: another command has JSON output, and the guest's command may have that flag.
        for line in ["agent-vm --json status", "agent-vm logs", "agent-vm exec -- ls --json", "agent-vm --json"] {
            assert!(check(line).is_ok(), "{line}");
        }
    }
}
