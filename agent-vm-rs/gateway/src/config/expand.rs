//! Claude Code's variables in values.

/// Replaces `${NAME}` and `${NAME:-default}` by variables of the environment.
pub fn expand(value: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        expanded.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some((name, default, length)) = reference(rest) else {
            expanded.push_str("${");
            rest = &rest[2..];
            continue;
        };
        match variable(name).or_else(|| default.map(str::to_owned)) {
            Some(found) => expanded.push_str(&found),
            None => return Err(format!("the environment variable {name} is not set")),
        }
        rest = &rest[length..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Returns name, default and length of the reference at a text's start.
fn reference(text: &str) -> Option<(&str, Option<&str>, usize)> {
    let inner = &text[2..];
    let end = inner.find(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))?;
    let name = &inner[..end];
    if name.is_empty() || name.starts_with(|character: char| character.is_ascii_digit()) {
        return None;
    }
    let after = &inner[end..];
    if after.starts_with('}') {
        return Some((name, None, 2 + end + 1));
    }
    let default = after.strip_prefix(":-")?;
    let close = default.find('}')?;
    Some((name, Some(&default[..close]), 2 + end + 2 + close + 1))
}

#[cfg(test)]
mod tests {
    use super::expand;

    fn expanded(value: &str) -> Result<String, String> {
        expand(value, |name| (name == "SET").then(|| "x".to_owned()))
    }

    #[test]
    fn variables_are_replaced_and_everything_else_stays() {
        for (value, expected) in [
            ("${SET}", "x"),
            ("a${SET}${NO:-d}b", "axdb"),
            ("${NO:-}", ""),
            ("${SET:-d}", "x"),
            ("$5 ${} ${5} ${a-b} ${", "$5 ${} ${5} ${a-b} ${"),
            ("${${SET}", "${x"),
            ("é${SET}é", "éxé"),
        ] {
            assert_eq!(expanded(value).as_deref(), Ok(expected), "{value}");
        }
        assert_eq!(expanded("${NO}"), Err("the environment variable NO is not set".to_owned()));
    }
}
