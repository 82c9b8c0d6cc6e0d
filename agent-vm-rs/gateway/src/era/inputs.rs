//! Inputs that a server without sessions asks for in the result of a call, and that a client with a session is asked for by
//! requests.

use crate::json::{Object, quote};

/// Methods of which the result may ask for inputs.
pub const ASKING: [&str; 3] = ["tools/call", "prompts/get", "resources/read"];

/// Methods of requests to a client, and the capability that each needs.
const NEEDS: [(&str, &str); 3] =
    [("elicitation/create", "elicitation"), ("sampling/createMessage", "sampling"), ("roots/list", "roots")];

/// Returns the capability that a client needs for a request; None for an unknown method.
pub fn capability(method: &str) -> Option<&'static str> {
    NEEDS.iter().find(|(known, _)| *known == method).map(|(_, capability)| *capability)
}

/// A result that asks for inputs.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    /// Key, method and parameters of each input.
    pub inputs: Vec<(String, String, String)>,
    /// State that the client sends back, as JSON.
    pub state: Option<String>,
}

impl Wanted {
    /// Reads a result; returns None if it asks for nothing.
    pub fn parse(result: &str) -> Option<Wanted> {
        // Most results are not parsed twice: they may be large.
        if !result.contains("input_required") {
            return None;
        }
        let object = Object::parse(result)?;
        if object.text("resultType").as_deref() != Some("input_required") {
            return None;
        }
        let requests = object.object("inputRequests").unwrap_or_default();
        let mut inputs = Vec::new();
        for (key, request) in requests.iter() {
            let request = Object::or_empty(Some(request));
            let method = request.text("method").unwrap_or_default();
            inputs.push((key.to_owned(), method, request.get("params").unwrap_or("{}").to_owned()));
        }
        Some(Wanted { inputs, state: object.get("requestState").map(str::to_owned) })
    }

    /// Returns the result as JSON.
    pub fn to_json(&self) -> String {
        let mut inputs = Object::default();
        for (key, method, params) in &self.inputs {
            inputs.set(key, format!(r#"{{"method":{},"params":{params}}}"#, quote(method)));
        }
        let mut result = Object::default();
        result.set("resultType", "\"input_required\"");
        if !self.inputs.is_empty() {
            result.set("inputRequests", inputs.to_string());
        }
        if let Some(state) = &self.state {
            result.set("requestState", state.as_str());
        }
        result.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_that_ask_are_told_from_others() {
        let asking = r#"{"resultType":"input_required","inputRequests":{"a":{"method":"roots/list","params":{}}},"requestState":"s"}"#;
        let wanted = Wanted::parse(asking).unwrap();
        assert_eq!(wanted.inputs, [("a".to_owned(), "roots/list".to_owned(), "{}".to_owned())]);
        assert_eq!(wanted.state.as_deref(), Some("\"s\""));
        assert_eq!(wanted.to_json(), asking);
        assert_eq!(Wanted::parse(r#"{"resultType":"complete","content":"input_required"}"#), None);
    }
}
