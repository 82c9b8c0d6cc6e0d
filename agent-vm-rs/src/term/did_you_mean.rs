//! Suggestions for a word that agent-vm does not have. Words of other programs come before similar words.

/// What a word would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A command.
    Verb,
    /// A subcommand of `egress`.
    EgressVerb,
    /// An egress mode.
    EgressMode,
    /// A setting, or the flag of `create` with that name.
    Setting,
}

/// Words of this program, each with words for the same in other programs.
pub const OTHER_WORDS: &[(Kind, &str, &[&str])] = &[
    (Kind::Verb, "create", &["add", "init", "make", "new"]),
    (Kind::Verb, "start", &["boot", "up"]),
    (Kind::Verb, "stop", &["down", "halt", "kill", "poweroff", "shutdown"]),
    (Kind::Verb, "restart", &["reboot", "reload"]),
    (Kind::Verb, "update", &["upgrade"]),
    (Kind::Verb, "destroy", &["del", "delete", "remove", "rm"]),
    (Kind::Verb, "prune", &["clean", "gc"]),
    (Kind::Verb, "status", &["info", "inspect", "show"]),
    (Kind::Verb, "metrics", &["monitor", "prometheus"]),
    (Kind::Verb, "stats", &["top", "usage"]),
    (Kind::Verb, "doctor", &["check", "diagnose", "health"]),
    (Kind::Verb, "shell", &["connect", "console", "enter", "login", "ssh"]),
    (Kind::Verb, "logs", &["journal"]),
    (Kind::Verb, "list", &["ls"]),
    (Kind::Verb, "set", &["config", "configure"]),
    (Kind::Verb, "egress", &["firewall", "net", "network"]),
    (Kind::EgressVerb, "allow", &["add", "permit"]),
    (Kind::EgressVerb, "deny", &["block", "del", "delete", "disallow", "remove", "rm"]),
    (Kind::EgressVerb, "list", &["ls", "show", "status"]),
    (Kind::EgressVerb, "log", &["logs"]),
    (Kind::EgressMode, "none", &["deny", "no", "nothing", "off"]),
    (Kind::EgressMode, "allowlist", &["allow", "list", "whitelist"]),
    (Kind::EgressMode, "monitor", &["audit", "log"]),
    (Kind::EgressMode, "open", &["all", "any", "full", "internet", "on"]),
    (Kind::Setting, "memory", &["mem", "ram"]),
    (Kind::Setting, "cores", &["cpu", "cpus", "processors", "vcpus"]),
    (Kind::Setting, "disk", &["disk_size", "storage"]),
    (Kind::Setting, "port", &["mcp_port"]),
    (Kind::Setting, "egress", &["egress.mode", "egress_mode", "mode"]),
    (Kind::Setting, "allow", &["egress.allow", "egress_allow", "whitelist"]),
    (Kind::Setting, "deny", &["blocklist", "egress.deny", "egress_deny"]),
];

/// Similarity above which a word is suggested, from 0 to 1.
const SIMILAR: f64 = 0.85;

/// Returns this program's word for a word of other programs.
#[must_use]
pub fn own_word(kind: Kind, typed: &str) -> Option<&'static str> {
    let entry = OTHER_WORDS.iter().find(|(of, _, others)| *of == kind && others.contains(&typed));
    entry.map(|(_, own, _)| *own)
}

/// Returns the word of `known` that was probably meant.
#[must_use]
pub fn suggestion<'a>(kind: Kind, typed: &str, known: &[&'a str]) -> Option<&'a str> {
    if let Some(own) = own_word(kind, typed)
        && let Some(word) = known.iter().find(|word| **word == own)
    {
        return Some(word);
    }
    nearest(typed, known)
}

/// Returns the word of `known` that is most similar to what was typed, if one is similar enough.
#[must_use]
pub fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let similarity = |word: &str| strsim::jaro_winkler(word, typed);
    let nearest = known.iter().max_by(|one, other| similarity(one).total_cmp(&similarity(other)));
    nearest.copied().filter(|nearest| similarity(nearest) > SIMILAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_other_programs_comes_before_a_similar_word() {
        assert_eq!(suggestion(Kind::Verb, "ls", &["apply", "list", "lss"]), Some("list"));
        // Control: without the other word, the similar one is suggested.
        assert_eq!(suggestion(Kind::Verb, "ls", &["apply", "lss"]), Some("lss"));
        assert_eq!(suggestion(Kind::Setting, "memroy", &["cores", "memory"]), Some("memory"));
        assert_eq!(suggestion(Kind::Setting, "xyzzy", &["cores", "memory"]), None);
    }

    #[test]
    fn no_word_has_two_meanings() {
        let all = OTHER_WORDS.iter().flat_map(|(kind, _, others)| others.iter().map(move |other| (*kind, *other)));
        for (kind, other) in all {
            let entries = OTHER_WORDS.iter().filter(|(of, _, others)| *of == kind && others.contains(&other));
            assert_eq!(entries.count(), 1, "{other}");
            let is_own = OTHER_WORDS.iter().any(|(of, own, _)| *of == kind && *own == other);
            assert!(!is_own, "{other} is a word of agent-vm");
        }
    }
}
