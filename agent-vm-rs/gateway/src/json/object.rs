//! An object whose members are changed one by one; the others stay as they were written.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

struct Member<'a> {
    name: String,
    /// The name as it was written.
    written: Cow<'a, str>,
    value: Cow<'a, str>,
}

/// The members of an object, in order.
#[derive(Default)]
pub struct Object<'a> {
    members: Vec<Member<'a>>,
}

impl<'a> Object<'a> {
    /// Reads an object; returns None for another value.
    pub fn parse(raw: &'a str) -> Option<Object<'a>> {
        serde_json::from_str(raw).ok()
    }

    /// Reads an object; returns an empty one for another value and for none.
    pub fn or_empty(raw: Option<&'a str>) -> Object<'a> {
        raw.and_then(Object::parse).unwrap_or_default()
    }

    /// Returns a member's value as JSON; of members with the same name, the last one counts.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.members.iter().rev().find(|member| member.name == name).map(|member| &*member.value)
    }

    /// Returns a member's value, if it is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|value| serde_json::from_str(value).ok())
    }

    /// Returns a member's value, if it is an object.
    pub fn object(&self, name: &str) -> Option<Object<'_>> {
        self.get(name).and_then(Object::parse)
    }

    /// Returns whether a member is there.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Returns the names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.members.iter().map(|member| (member.name.as_str(), &*member.value))
    }

    /// Returns whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Sets a member to a JSON value.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = Cow::Owned(value.into());
        match self.members.iter_mut().rev().find(|member| member.name == name) {
            Some(member) => member.value = value,
            None => {
                let written = Cow::Owned(super::quote(name));
                self.members.push(Member { name: name.to_owned(), written, value });
            }
        }
    }

    /// Sets a member unless it is there.
    pub fn set_default(&mut self, name: &str, value: &str) {
        if !self.has(name) {
            self.set(name, value);
        }
    }

    /// Removes a member; returns whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.members.len();
        self.members.retain(|member| member.name != name);
        self.members.len() < before
    }
}

impl fmt::Display for Object<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("{")?;
        for (number, member) in self.members.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(formatter, "{comma}{}:{}", member.written, member.value)?;
        }
        formatter.write_str("}")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((written, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    let name = serde_json::from_str(written.get()).map_err(serde::de::Error::custom)?;
                    members.push(Member {
                        name,
                        written: Cow::Borrowed(written.get()),
                        value: Cow::Borrowed(value.get()),
                    });
                }
                Ok(Object { members })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_not_named_stay_as_they_were_written() {
        let mut object = Object::parse(r#"{"a\u0062": 1.0e5, "b":{"c": [ 1 ]},"d":null}"#).unwrap();
        assert_eq!(object.get("ab"), Some("1.0e5"));
        object.set("d", "2");
        object.set("e", "\"x\"");
        assert_eq!(object.to_string(), r#"{"a\u0062":1.0e5,"b":{"c": [ 1 ]},"d":2,"e":"x"}"#);
        assert!(object.remove("b") && !object.remove("b"));
        assert_eq!(object.to_string(), r#"{"a\u0062":1.0e5,"d":2,"e":"x"}"#);
        assert!(Object::parse("[]").is_none());
        assert!(Object::or_empty(None).is_empty());
    }
}
