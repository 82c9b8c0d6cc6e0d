//! `agent-vm man`: the help texts as manual pages, agent-vm(1) and one for each command.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::Cli;
use crate::term::error::{EXIT_FAILURE, EXIT_TIMEOUT, EXIT_USAGE};

/// Arguments of `man`.
#[derive(Args, Clone, Debug)]
pub struct ManArgs {
    /// Directory for the pages; it must exist
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Commands that end with another program's exit code.
const PASS_ON: [&str; 5] = ["shell", "exec", "run", "attach", "logs"];
/// The files that users may look for, as in file-hierarchy(7).
const FILES: [(&str, &str); 4] = [
    (
        "$XDG_DATA_HOME/agent-vms",
        "The state directory, with a directory for each machine. The default is ~/.local/share/agent-vms; --state-dir and \
         AGENT_VM_STATE_DIR name another one.",
    ),
    ("STATE/MACHINE/config.json", "A machine's settings."),
    ("STATE/.bundles", "The commits of destroyed machines."),
    ("$XDG_CACHE_HOME/agent-vm", "Built guests. The default is ~/.cache/agent-vm. It can be removed."),
];

/// Writes the pages into a directory.
///
/// # Errors
/// A page cannot be written.
pub fn man(args: &ManArgs) -> Result<()> {
    for page in pages()? {
        let path = args.dir.join(page.name);
        fs::write(&path, page.text).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

struct Page {
    /// Name of its file.
    name: String,
    text: Vec<u8>,
}

fn pages() -> Result<Vec<Page>> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    add_pages(&root, &root, &mut pages).context("failed to write a manual page")?;
    Ok(pages)
}

fn add_pages(root: &clap::Command, command: &clap::Command, pages: &mut Vec<Page>) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add_pages(root, below, pages)?;
    }
    let is_root = command.get_name() == root.get_name();
    // agent-vm(1) has the global options.
    let shown = command.clone().mut_args(|arg| if is_root || !arg.is_global_set() { arg } else { arg.hide(true) });
    let man = Man::new(shown.clone()).source([root.get_name(), root.get_version().unwrap_or_default()].join(" "));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if shown.get_arguments().any(|arg| !arg.is_hide_set()) {
        man.render_options_section(&mut text)?;
    }
    if shown.get_subcommands().any(|below| !below.is_hide_set()) {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    exit_status(&mut rest, command.get_name());
    section(&mut rest, "FILES", &FILES.map(|(path, text)| (path.to_owned(), text)));
    see_also(&mut rest, root, command);
    rest.to_writer(&mut text)?;
    pages.push(Page { name: man.get_filename(), text });
    Ok(())
}

fn exit_status(roff: &mut Roff, command: &str) {
    let [failure, usage] = match command {
        "compare" => ["The answers differ.", "The command line is wrong, or there is nothing to compare."],
        _ => ["Failure.", "The command line is wrong."],
    };
    let mut codes = vec![
        ("0".to_owned(), "Success."),
        (EXIT_FAILURE.to_string(), failure),
        (EXIT_USAGE.to_string(), usage),
        (EXIT_TIMEOUT.to_string(), "The time limit was reached."),
        ("128+N".to_owned(), "Signal N interrupted the command: 130 after Ctrl-C."),
    ];
    if PASS_ON.contains(&command) {
        codes.push(("others".to_owned(), "The exit status of the program in the machine."));
    }
    section(roff, "EXIT STATUS", &codes);
}

fn section(roff: &mut Roff, title: &str, items: &[(String, &str)]) {
    roff.control("SH", [title]);
    for (item, text) in items {
        roff.control("TP", []);
        roff.text([bold(item.as_str())]);
        roff.text([roman(*text)]);
    }
}

/// Adds the page above, or of all commands.
fn see_also(roff: &mut Roff, root: &clap::Command, command: &clap::Command) {
    roff.control("SH", ["SEE ALSO"]);
    let own = name(command);
    if command.get_name() == root.get_name() {
        let below = root.get_subcommands().filter(|below| !below.is_hide_set());
        let mut list: Vec<Inline> = Vec::new();
        for below in below {
            list.extend(reference(name(below)));
            list.push(roman(", "));
        }
        list.pop();
        roff.text(list);
        return;
    }
    let above = own.strip_suffix(&format!("-{}", command.get_name())).unwrap_or(root.get_name());
    let mut list = reference(above).to_vec();
    if above != root.get_name() {
        list.push(roman(", "));
        list.extend(reference(root.get_name()));
    }
    list.push(roman(" has the global options."));
    roff.text(list);
}

fn reference(page: &str) -> [Inline; 2] {
    [bold(page), roman("(1)")]
}

/// Returns the name of a command's page, such as `agent-vm-egress-allow`.
fn name(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(page: &Page) -> &str {
        std::str::from_utf8(&page.text).unwrap()
    }

    #[test]
    fn every_visible_command_has_a_page() {
        let pages = pages().unwrap();
        let names: Vec<_> = pages.iter().map(|page| page.name.as_str()).collect();
        let mut root = Cli::command();
        root.build();
        let verbs = root.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help");
        for verb in verbs {
            assert!(names.contains(&format!("agent-vm-{}.1", verb.get_name()).as_str()), "{names:?}");
        }
        assert!(names.contains(&"agent-vm.1") && names.contains(&"agent-vm-egress-allow.1"), "{names:?}");
        // Hidden commands have none.
        assert!(!names.iter().any(|name| name.contains("landlocked") || name.contains("help")), "{names:?}");
    }

    #[test]
    fn every_page_has_the_usual_sections_and_only_known_requests() {
        for page in pages().unwrap() {
            let lines: Vec<_> = text(&page).lines().collect();
            let sections: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(".SH ")).collect();
            for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "\"EXIT STATUS\"", "FILES", "\"SEE ALSO\""] {
                assert_eq!(
                    sections.iter().filter(|found| **found == section).count(),
                    1,
                    "{}: {sections:?}",
                    page.name
                );
            }
            // A line of text that began with a dot would be a request.
            let known = [".ie", ".el", ".TH", ".SH", ".SS", ".TP", ".PP", ".RS", ".RE", ".IP", ".br"];
            let requests = lines.iter().filter(|line| line.starts_with(['.', '\'']));
            for request in requests {
                assert!(known.contains(&request.split(' ').next().unwrap()), "{}: {request}", page.name);
            }
            assert!(text(&page).chars().all(|c| c == '\n' || !c.is_control()), "{}", page.name);
        }
    }

    #[test]
    fn a_page_has_the_help_texts_and_the_global_options_only_once() {
        let pages = pages().unwrap();
        let page = |name: &str| text(pages.iter().find(|page| page.name == name).unwrap());
        let create = page("agent-vm-create.1");
        assert!(
            create.contains("agent\\-vm\\-create \\- Create a machine for a branch without starting it"),
            "{create}"
        );
        assert!(create.contains("\\-\\-all\\-branches") && !create.contains("\\-\\-verbose"), "{create}");
        assert!(page("agent-vm.1").contains("\\-\\-verbose"));
        assert!(page("agent-vm-exec.1").contains("The exit status of the program in the machine."));
        assert!(!create.contains("The exit status of the program in the machine."));
    }
}
