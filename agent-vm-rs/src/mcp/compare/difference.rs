//! Where two JSON values differ.

use serde_json::Value;

use crate::term::text::one_line;

/// Largest number of differences of two values.
const MOST: usize = 200;
/// Longest text of a value, in characters.
const LONGEST: usize = 200;

/// What may differ.
#[derive(Clone, Debug, Default)]
pub struct Volatile {
    /// Keys of objects that are left out.
    pub keys: Vec<String>,
    /// Texts that mean the same: the one of the first server, and that of the second.
    pub same: Vec<(String, String)>,
}

/// A place where two values differ.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Where, as in RFC 6901.
    pub pointer: String,
    /// The first value; None if there is none.
    pub direct: Option<String>,
    /// The second value; None if there is none.
    pub machine: Option<String>,
}

/// Returns the places where two answers differ. Lists of objects with names are compared by their names.
#[must_use]
pub fn differences(direct: &Value, machine: &Value, volatile: &Volatile) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(direct), Some(machine), volatile, &mut found);
    found
}

fn compare(at: &str, one: Option<&Value>, other: Option<&Value>, volatile: &Volatile, found: &mut Vec<Difference>) {
    if found.len() >= MOST {
        return;
    }
    let below = |key: &str| format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
    match (one, other) {
        (Some(Value::Object(one)), Some(Value::Object(other))) => {
            let others = other.keys().filter(|key| !one.contains_key(*key));
            for key in one.keys().chain(others).filter(|key| !volatile.keys.contains(key)) {
                compare(&below(key), one.get(key), other.get(key), volatile, found);
            }
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => match (by_name(one), by_name(other)) {
            (Some(named), Some(others)) => {
                let more = others.iter().filter(|(name, _)| !named.iter().any(|(known, _)| known == name));
                for (name, _) in named.iter().chain(more) {
                    let value = |all: &[(&str, &'_ Value)]| {
                        all.iter().find(|(known, _)| known == name).map(|(_, value)| (*value).clone())
                    };
                    compare(&below(name), value(&named).as_ref(), value(&others).as_ref(), volatile, found);
                }
            }
            _ => {
                for index in 0..one.len().max(other.len()) {
                    compare(&below(&index.to_string()), one.get(index), other.get(index), volatile, found);
                }
            }
        },
        (Some(Value::String(one)), Some(Value::String(other))) => {
            let replaced = volatile.same.iter().fold(one.clone(), |text, (from, to)| text.replace(from, to));
            if replaced != *other {
                found.push(Difference {
                    pointer: at.to_owned(),
                    direct: Some(short(one)),
                    machine: Some(short(other)),
                });
            }
        }
        (one, other) if one == other => {}
        (one, other) => {
            let shown = |value: Option<&Value>| value.map(|value| short(&value.to_string()));
            found.push(Difference { pointer: at.to_owned(), direct: shown(one), machine: shown(other) });
        }
    }
}

/// Returns the items of a list by their names; None if one has none, or two have the same.
fn by_name(list: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let named: Option<Vec<_>> = list.iter().map(|item| Some((item.get("name")?.as_str()?, item))).collect();
    let named = named.filter(|named| !named.is_empty())?;
    let mut names: Vec<_> = named.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    (names.len() == named.len()).then_some(named)
}

fn short(text: &str) -> String {
    one_line(&text.chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn differences_are_named_and_volatile_ones_are_not() {
        let one = json!({ "tools": [{ "name": "a", "x": 1 }, { "name": "b" }], "at": 5, "dir": "/home/me/app/x" });
        let other = json!({ "tools": [{ "name": "b" }, { "name": "a", "x": 2 }, { "name": "c" }], "at": 6, "dir": "/workspace/x" });
        let volatile =
            Volatile { keys: vec!["at".to_owned()], same: vec![("/home/me/app".to_owned(), "/workspace".to_owned())] };
        let found = differences(&one, &other, &volatile);
        let pointers: Vec<_> = found.iter().map(|one| one.pointer.as_str()).collect();
        assert_eq!(pointers, ["/tools/a/x", "/tools/c"]);
        assert_eq!((found[0].direct.as_deref(), found[0].machine.as_deref()), (Some("1"), Some("2")));
        assert_eq!(found[1].direct, None);
        assert_eq!(differences(&one, &other, &Volatile::default()).len(), 4);
        assert_eq!(differences(&json!({ "a/b": "\u{1b}[2J" }), &json!({}), &Volatile::default())[0].pointer, "/a~1b");
        assert!(
            !differences(&json!("\u{1b}[2J"), &json!("x"), &Volatile::default())[0]
                .direct
                .clone()
                .unwrap()
                .contains('\u{1b}')
        );
        let many = Value::Array((0..1000).map(Value::from).collect());
        assert_eq!(differences(&many, &json!([]), &Volatile::default()).len(), MOST);
    }
}
