//! The pages of the documentation: their links lead somewhere, and the command line's page shows the current help texts.

use std::path::{Path, PathBuf};

use super::*;

const PROGRAM: &str = "agent-vm";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns every Markdown page of the repository.
fn pages() -> Vec<PathBuf> {
    let hidden = |name: &str| name.starts_with('.') || ["target", "node_modules", "result"].contains(&name);
    walkdir::WalkDir::new(root())
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !entry.file_name().to_str().is_some_and(hidden))
        .flatten()
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect()
}

/// Returns a page without its code, which has no links.
fn without_code(page: &str) -> String {
    let mut is_code = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.map(|line| line.split('`').step_by(2).collect::<Vec<_>>().join("x") + "\n").collect()
}

/// Returns the targets of `[text](target)` and `src="target"`.
fn links(page: &str) -> Vec<String> {
    let page = without_code(page);
    let after = |opening: &str, closing: char| -> Vec<String> {
        let parts = page.split(opening).skip(1);
        parts.filter_map(|part| part.split(closing).next()).map(|target| target.trim().to_owned()).collect()
    };
    [after("](", ')'), after("src=\"", '"')].concat()
}

/// Returns the anchors of a page's headings, as code forges make them.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}

/// Returns the relative links of the page in the file that lead nowhere.
fn broken(file: &Path, page: &str) -> Vec<String> {
    let leads_nowhere = |link: &String| {
        if link.contains("://") || link.starts_with("mailto:") {
            return false;
        }
        let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
        let target = file.with_file_name("").join(path);
        if !target.exists() {
            return true;
        }
        let text = if path.is_empty() { Ok(page.to_owned()) } else { std::fs::read_to_string(&target) };
        !anchor.is_empty() && !text.is_ok_and(|text| anchors(&text).iter().any(|found| found == anchor))
    };
    links(page).into_iter().filter(leads_nowhere).collect()
}

#[test]
fn every_relative_link_has_a_target() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for file in pages() {
        let page = std::fs::read_to_string(&file).unwrap();
        seen += links(&page).len();
        wrong.extend(broken(&file, &page).into_iter().map(|link| format!("{}: {link}", file.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 30, "only {seen} links were found");
}

#[test]
fn a_link_without_a_target_is_found() {
    let page = "# One two\n[a](README.md) [b](nowhere.md#x) `[c](d.md)`\n```\n[e](f.md)\n```\n[g](#one-two) [h](#three)\n\
                <img src=\"none.svg\"> [i](https://example.org/)\n";
    assert_eq!(broken(&root().join("page.md"), page), ["nowhere.md#x", "#three", "none.svg"]);
}

/// Returns the page of the command line: the help text of the program and of each command. Those that agent-vm calls itself are last.
fn command_line() -> String {
    let mut root = Cli::command().term_width(80);
    root.build();
    let mut page =
        "# Command line\n\nA test generates this page from the help texts. To update it, run the tests with \
                    `INSTA_UPDATE=always`.\n"
            .to_owned();
    let mut internal = String::new();
    let mut add = |title: &str, command: &mut clap::Command, is_internal: bool| {
        // Every command takes the global options; the program's own help shows them.
        let text = command.clone().term_width(80).render_long_help().to_string();
        let own = if title == PROGRAM { &text } else { text.split("\nGlobal options:").next().unwrap_or(&text) };
        let lines: Vec<_> = own.trim_end().lines().map(str::trim_end).collect();
        let (place, level) = if is_internal { (&mut internal, "###") } else { (&mut page, "##") };
        *place += &format!("\n{level} `{title}`\n\n```text\n{}\n```\n", lines.join("\n"));
    };
    add(PROGRAM, &mut root.clone(), false);
    for verb in root.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        let title = format!("{PROGRAM} {}", verb.get_name());
        let is_internal = verb.is_hide_set();
        add(&title, verb, is_internal);
        for part in verb.get_subcommands_mut().filter(|part| part.get_name() != "help") {
            let is_internal = is_internal || part.is_hide_set();
            add(&format!("{title} {}", part.get_name()), part, is_internal);
        }
    }
    page + "\n## Internal commands\n\nThese are only for the program itself. They may change in every version.\n"
        + &internal
}

#[test]
fn the_page_of_the_command_line_is_current() {
    let path = root().join("docs/reference/command-line.md");
    let page = command_line();
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/reference/command-line.md is not current: run this test with INSTA_UPDATE=always");
}
