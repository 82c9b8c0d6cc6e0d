//! Escapes values for the inside of a double-quoted Nix string.

use std::fmt::{self, Write};

/// askama's escaper for `.nix` templates.
///
/// It escapes every character that has a meaning inside `"…"`. Every `$` is escaped, and not only `${`: a value that
/// ends in `$` and a following one that starts with `{` must not join into an interpolation.
#[derive(Clone, Copy, Debug, Default)]
pub struct NixString;

impl askama::filters::Escaper for NixString {
    fn write_escaped_str<W: Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '"' => dest.write_str("\\\"")?,
                '\\' => dest.write_str("\\\\")?,
                '$' => dest.write_str("\\$")?,
                '\n' => dest.write_str("\\n")?,
                '\r' => dest.write_str("\\r")?,
                '\t' => dest.write_str("\\t")?,
                c => dest.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use askama::filters::Escaper as _;
    use proptest::prelude::*;
    use rnix::ast::{self, AstToken as _, HasEntry as _, InterpolPart};
    use rowan::ast::AstNode as _;

    fn escaped(parts: &[&str]) -> String {
        let mut text = String::from("\"");
        for part in parts {
            NixString.write_escaped_str(&mut text, part).unwrap();
        }
        text + "\""
    }

    /// Returns the value of a string literal as Nix reads it; None if the literal has more than one part.
    fn parsed(text: &str) -> Option<String> {
        let parse = rnix::Root::parse(text);
        assert!(parse.errors().is_empty(), "{text:?}: {:?}", parse.errors());
        let Some(ast::Expr::Str(string)) = parse.tree().expr() else { panic!("{text:?} is not a string") };
        let mut value = String::new();
        for part in string.normalized_parts() {
            match part {
                InterpolPart::Literal(literal) => value.push_str(&literal),
                InterpolPart::Interpolation(_) => return None,
            }
        }
        Some(value)
    }

    #[test]
    fn the_parser_sees_an_interpolation_that_is_not_escaped() {
        assert_eq!(parsed("\"${x}\""), None);
    }

    #[test]
    fn values_cannot_join_into_an_interpolation() {
        assert_eq!(parsed(&escaped(&["$", "{builtins.abort \"x\"}"])).unwrap(), "${builtins.abort \"x\"}");
        assert_eq!(parsed(&escaped(&["$$", "{x}"])).unwrap(), "$${x}");
        assert_eq!(parsed(&escaped(&["\\", "${x}"])).unwrap(), "\\${x}");
    }

    proptest! {
        /// Any text becomes one string that has the text as its value.
        #[test]
        fn any_text_is_one_string(parts in prop::collection::vec("[\\x00-\\x7f]{0,6}|\\PC{0,6}|[${}\"\\\\\n\r]{0,6}", 1..4)) {
            // Nix strings cannot hold NUL, and neither can arguments and file names.
            let parts: Vec<_> = parts.iter().map(|p| p.replace('\0', "")).collect();
            let parts: Vec<_> = parts.iter().map(String::as_str).collect();
            prop_assert_eq!(parsed(&escaped(&parts)), Some(parts.concat()));
        }

        /// In an attribute set, it remains the only value of the only attribute.
        #[test]
        fn nothing_leaks_out_of_the_quotes(text in "\\PC{0,20}") {
            let text = format!("{{ a = {}; }}", escaped(&[&text]));
            let parse = rnix::Root::parse(&text);
            prop_assert!(parse.errors().is_empty());
            let Some(ast::Expr::AttrSet(set)) = parse.tree().expr() else { panic!("no set") };
            prop_assert_eq!(set.entries().count(), 1);
            let comments = set.syntax().descendants_with_tokens().filter_map(|e| e.into_token());
            prop_assert_eq!(comments.filter(|t| ast::Comment::can_cast(t.kind())).count(), 0);
        }
    }
}
