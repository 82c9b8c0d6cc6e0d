//! The terminal's width, and text wrapped to it: between words, and never inside a command that a user may copy.

use std::os::fd::AsFd;

use textwrap::core::display_width;

/// Start of an agent-vm command in a message.
const COMMAND: &str = "agent-vm ";
/// Characters that end a command in a message.
const ENDS: [char; 5] = [',', ';', ')', ':', '`'];
/// Marks a space at which no line may break. Displayed text contains no private-use characters.
const GLUE: char = '\u{e000}';
/// Narrower terminals are treated as having no width.
const NARROWEST: usize = 20;

/// Returns the number of columns of a terminal; None if `output` is not a terminal.
#[must_use]
pub fn width(output: impl AsFd) -> Option<usize> {
    let (width, _) = terminal_size::terminal_size_of(output)?;
    Some(usize::from(width.0)).filter(|width| *width >= NARROWEST)
}

/// Returns the number of columns for help texts: the terminal's, else `COLUMNS`, else 80.
#[must_use]
pub fn help_width() -> usize {
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
    width(std::io::stdout()).or_else(columns).unwrap_or(80)
}

/// Wraps each line between words to `width` columns; `None` changes nothing. A continued line is indented to the text
/// after its label, or by two columns.
#[must_use]
pub fn wrap(text: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return text.to_owned() };
    let lines: Vec<_> = text.split('\n').map(|line| wrap_line(line, width)).collect();
    lines.join("\n")
}

fn wrap_line(line: &str, width: usize) -> String {
    if display_width(line) <= width {
        return line.to_owned();
    }
    let indent = hanging_indent(line).min(width / 2);
    let margin = " ".repeat(indent);
    let options = textwrap::Options::new(width)
        .subsequent_indent(&margin)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
    textwrap::fill(&glue_commands(line, width - indent), options).replace(GLUE, " ")
}

/// Returns the indent of continued lines: the column of the text after a label, or the line's own indent plus two.
fn hanging_indent(line: &str) -> usize {
    let after = |text: &str, from: usize, is_gap: bool| {
        text[from..].find(|c| (c == ' ') != is_gap).map_or(text.len(), |length| from + length)
    };
    let text = after(line, 0, true);
    let label_end = after(line, text, false);
    let value = after(line, label_end, true);
    if value - label_end >= 2 && value < line.len() { value } else { text + 2 }
}

/// Marks the spaces inside agent-vm commands as unbreakable if the command fits on one line.
fn glue_commands(line: &str, width: usize) -> String {
    let mut glued = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(COMMAND) {
        let length = rest[start..].find(ENDS).unwrap_or(rest.len() - start);
        let (before, command) = (&rest[..start], &rest[start..start + length]);
        glued += before;
        // The delimiter is copied in the next round.
        if display_width(command) < width {
            glued += &command.replace(' ', GLUE.encode_utf8(&mut [0; 4]));
        } else {
            glued += command;
        }
        rest = &rest[start + length..];
    }
    glued + rest
}

/// Returns the text; if it is wider than `width`, its end after `…`.
#[must_use]
pub fn shorten_start(text: &str, width: usize) -> String {
    let reversed: String = text.chars().rev().collect();
    shorten_end(&reversed, width).chars().rev().collect()
}

/// Returns the text; if it is wider than `width`, its start before `…`.
#[must_use]
pub fn shorten_end(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if display_width(&short) >= width {
            short.pop();
            break;
        }
    }
    // A cut grapheme may leave a combining character alone, which is harmless.
    short + "…"
}

/// Returns the text, padded with spaces to `width` columns.
#[must_use]
pub fn pad(text: &str, width: usize) -> String {
    text.to_owned() + &" ".repeat(width.saturating_sub(display_width(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_break_between_words_and_not_within_a_command() {
        let hint = "hint: look at the log of the machine, then agent-vm restart app-main; it is kept";
        assert_eq!(
            wrap(hint, Some(50)),
            "hint: look at the log of the machine, then\n  agent-vm restart app-main; it is kept"
        );
        // Control: without a terminal nothing is broken.
        assert_eq!(wrap(hint, None), hint);
        let long = format!("hint: agent-vm start {}", "x".repeat(100));
        assert_eq!(wrap(&long, Some(40)), format!("hint: agent-vm start\n  {}", "x".repeat(100)));
    }

    #[test]
    fn continued_lines_are_indented_to_the_text_after_the_label() {
        assert_eq!(wrap("  Problem    one two three four", Some(28)), "  Problem    one two three\n             four");
        assert_eq!(wrap("  one two three four five six", Some(20)), "  one two three four\n    five six");
    }

    #[test]
    fn text_is_shortened_by_columns() {
        assert_eq!(shorten_end("abcdef", 4), "abc…");
        assert_eq!(shorten_start("abcdef", 4), "…def");
        assert_eq!((shorten_end("abc", 3), shorten_start("abc", 3)), ("abc".to_owned(), "abc".to_owned()));
        assert_eq!(display_width(&shorten_start("日本語日本語", 6)), 5);
        assert_eq!(pad("日本", 6), "日本  ");
    }

    proptest! {
        #[test]
        fn wrapping_changes_only_white_space_and_lines_fit(words in proptest::collection::vec("[a-z日é-]{1,9}", 1..40), width in 24_usize..100) {
            let text = words.join(" ");
            let wrapped = wrap(&text, Some(width));
            prop_assert_eq!(wrapped.split_whitespace().collect::<Vec<_>>().join(" "), text);
            prop_assert!(wrapped.lines().all(|line| display_width(line) <= width), "{}", wrapped);
        }

        #[test]
        fn shortened_text_fits(text in "\\PC{0,40}", width in 1_usize..30) {
            prop_assert!(display_width(&shorten_end(&text, width)) <= width);
            prop_assert!(display_width(&shorten_start(&text, width)) <= width.max(1));
        }
    }
}
