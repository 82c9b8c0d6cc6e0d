//! Reads plain configuration files as git does, without a process: most have neither quotes nor escapes. (git-config(1),
//! "Syntax")

/// Characters of values that mean more than themselves.
const SPECIAL: [char; 5] = ['"', '\\', '#', ';', '\u{feff}'];

/// Returns the entries of a configuration file: names with sections and keys in lower case, and values. None if git should read
/// it: it is not plain, or not valid.
pub fn parse(text: &[u8]) -> Option<Vec<(String, Option<String>)>> {
    let text = std::str::from_utf8(text).ok()?;
    if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
        return None;
    }
    let mut entries = Vec::new();
    let mut section = None;
    for line in text.split('\n').map(|line| line.trim_matches([' ', '\t'])) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[') {
            section = Some(self::section(header.strip_suffix(']')?)?);
            continue;
        }
        let (key, value) = match line.split_once('=') {
            Some((key, value)) => (key.trim_end_matches([' ', '\t']), Some(value.trim_start_matches([' ', '\t']))),
            None => (line, None),
        };
        let is_key = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(is_of_name);
        // Git versions differ in what they make of tabs.
        let is_plain = |value: &str| !value.contains(SPECIAL) && !value.contains('\t');
        if !is_key || !value.is_none_or(is_plain) {
            return None;
        }
        let name = format!("{}.{}", section.as_ref()?, key.to_ascii_lowercase());
        entries.push((name, value.map(str::to_owned)));
    }
    Some(entries)
}

/// Returns a section's name from its header without brackets: `name` or `name "subsection"`.
fn section(header: &str) -> Option<String> {
    let (name, sub) = match header.split_once(' ') {
        Some((name, quoted)) => (name, Some(quoted.strip_prefix('"')?.strip_suffix('"')?)),
        None => (header, None),
    };
    let is_name = !name.is_empty() && name.chars().all(is_of_name);
    let is_sub = sub.is_none_or(|sub| !sub.is_empty() && !sub.contains(['"', '\\', '\t']));
    if !is_name || !is_sub {
        return None;
    }
    let name = name.to_ascii_lowercase();
    Some(sub.map_or_else(|| name.clone(), |sub| format!("{name}.{sub}")))
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::git::call::git;
    use crate::git::config::Config;

    /// Returns what git reads, None if it refuses the file.
    fn by_git(text: &str) -> Option<Config> {
        let list = git().args(["config", "--no-includes", "--null", "--list", "--file", "-"]).cwd("/").stdin(text);
        let output = list.output().unwrap();
        output.status.success().then(|| Config::parse(&output.stdout))
    }

    /// Fails if it is read otherwise than by git, and returns whether it was read.
    fn is_read(text: &str) -> bool {
        let Some(entries) = parse(text.as_bytes()) else { return false };
        let config = by_git(text).unwrap_or_else(|| panic!("git refuses {text:?}"));
        assert_eq!(Config::of_entries(entries), config, "{text:?}");
        true
    }

    #[test]
    fn ordinary_files_are_read() {
        for text in [
            "",
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
             [remote \"origin\"]\n\turl = https://host.example/a b.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n\
             [branch \"Main/x\"]\n\tremote = origin\n\tmerge = refs/heads/main\n",
            "# a comment\n; another\n\n[Core]\n  Bare\n  x=\n  y = a  b \n[core]\nx=1",
            "[user]\n\tname = J\u{f6}rg\n[a-1 \"\u{fc}.x]\"]\nb-2=[c]=d",
        ] {
            assert!(is_read(text), "{text:?}");
        }
    }

    #[test]
    fn git_reads_what_is_not_plain() {
        for text in [
            "x = 1\n",
            "[a]\nb = \"c\"\n",
            "[a]\nb = c # d\n",
            "[a]\nb = c\\\nd\n",
            "[a]\nb = c\td\n",
            "[a.B]\nc = d\n",
            "[a] b = c\n",
            "[a \"b\\\\c\"]\nd = e\n",
            "[a \"\"]\nb = c\n",
            "[a  \"b\"]\nc = d\n",
            "[a]\r\nb = c\r\n",
            "[a]\n1b = c\n",
            "[a]\nb c\n",
            "[a",
            "\u{feff}[a]\nb = c\n",
            "[a]\nb = c\u{0}d\n",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse(b"[a]\nb = \xff\n"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn nothing_is_read_otherwise_than_by_git(
            lines in prop::collection::vec(
                prop_oneof![
                    "\\[[a-cA-C.-]{1,3}\\]",
                    "[ \t]{0,1}\\[[a-c]{1,2}[ \t]{0,2}\"[a-c \\\\.\t\"#;\\]\u{fc}]{0,4}\"[ ]{0,1}\\][ ]{0,1}[#;a]{0,1}",
                    "[ \t]{0,2}[a-cA-C1-]{1,3}[ \t]{0,2}",
                    "[ \t]{0,2}[a-cA-C1-]{1,3}[ \t]{0,2}=[ \t]{0,2}[a-c \t\"\\\\#;=\\[\\]\u{fc}\u{b}\u{a0}]{0,5}",
                    "[#; \t]{0,2}[a-c]{0,2}",
                ],
                0..6,
            ),
            header in prop::bool::weighted(0.8),
        ) {
            let text = format!("{}{}", if header { "[h]\n" } else { "" }, lines.join("\n"));
            is_read(&text);
        }
    }
}
