//! Patterns of names, addresses and the like, which agent-vm and Nix use too.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex_lite::Regex;

// Compiled in, and parsed by the test below. A pattern that could not be read matches nothing.
static PATTERNS: LazyLock<BTreeMap<String, String>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../../lib/policy/grammar.json")).unwrap_or_default());

/// Returns whether the whole text matches a pattern, in which `<NAME>` stands for a pattern of `grammar.json`.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let whole = expand(pattern).and_then(|pattern| Regex::new(&format!("^(?:{pattern})$")).ok());
    whole.is_some_and(|whole| whole.is_match(text))
}

/// Returns a pattern in which each `<NAME>` is replaced by the pattern of that name; None if one is unknown.
#[must_use]
pub fn expand(pattern: &str) -> Option<String> {
    let mut parts = pattern.split('<');
    let mut whole = parts.next()?.to_owned();
    for part in parts {
        let (name, rest) = part.split_once('>')?;
        whole.push_str(&format!("(?:{}){rest}", expand(PATTERNS.get(name)?)?));
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        assert!(matches("<server_name>", "my-server") && !matches("<server_name>", "a/b"));
        assert!(matches("<port>", "65535") && !matches("<port>", "65536"));
        assert!(!matches("<no_such_name>", ""));
    }
}
