//! Identities of requests and progress tokens.

/// An identity that can be compared: two spellings of a string are equal, `1` and `"1"` are not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Id {
    /// A string, decoded.
    Text(String),
    /// Any other JSON value as it was written. Numbers of any size stay what they are.
    Other(String),
}

impl Id {
    /// Returns the identity that a JSON value stands for.
    pub fn of(raw: &str) -> Id {
        match serde_json::from_str::<String>(raw) {
            Ok(text) => Id::Text(text),
            Err(_) => Id::Other(raw.to_owned()),
        }
    }

    /// Returns the identity as JSON.
    pub fn to_json(&self) -> String {
        match self {
            Id::Text(text) => super::quote(text),
            Id::Other(raw) => raw.clone(),
        }
    }

    /// Returns the number of a request that the gateway numbered itself.
    pub fn number(&self) -> Option<u64> {
        match self {
            Id::Other(raw) => raw.parse().ok(),
            Id::Text(_) => None,
        }
    }

    /// Returns the text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Id::Text(text) => Some(text),
            Id::Other(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_differ_and_spellings_do_not() {
        assert_ne!(Id::of("1"), Id::of("\"1\""));
        assert_eq!(Id::of("\"a\""), Id::of("\"\\u0061\""));
        assert_eq!(Id::of("123456789012345678901234567890").to_json(), "123456789012345678901234567890");
        assert_eq!(Id::of("\"a\\nb\"").to_json(), "\"a\\nb\"");
    }
}
