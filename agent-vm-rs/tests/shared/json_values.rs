//! Arbitrary JSON as text, with numbers, spaces and escapes that a parser would change.

use proptest::prelude::*;

/// Returns a value's text.
pub fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\u00e9\/\ud83d\ude00\u0000""#.to_owned()),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|all| format!("[ {}]", all.join(" , "))),
            prop::collection::vec((any::<String>(), inner), 0..6).prop_map(|all| {
                let members: Vec<String> = all
                    .iter()
                    .map(|(name, value)| format!("{} :{value}", serde_json::to_string(name).unwrap()))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Returns an object's text: one with unknown members beside the known ones, in any order.
pub fn message(known: Vec<(&'static str, String)>) -> impl Strategy<Value = String> {
    let unknown = prop::collection::vec(("x[a-z]{1,8}", value()), 0..3);
    unknown.prop_flat_map(move |unknown| {
        let mut members: Vec<String> = known.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let mut names = Vec::new();
        for (name, value) in unknown {
            if !names.contains(&name) {
                members.push(format!("\"{name}\": {value}"));
                names.push(name);
            }
        }
        Just(members).prop_shuffle().prop_map(|members| format!("{{{}}}", members.join(",")))
    })
}
