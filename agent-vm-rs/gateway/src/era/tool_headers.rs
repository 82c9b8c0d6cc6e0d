//! Arguments of tools that a client repeats as headers (`x-mcp-header`).

use crate::json::Object;

/// An argument that is also a header.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolHeader {
    /// Name of the header, lower case.
    pub header: String,
    /// Names of the members that lead to the argument.
    pub path: Vec<String>,
}

/// Maximal depth of an argument.
const DEEPEST: usize = 32;

/// Returns the tools of a result of `tools/list`, with their arguments that are headers.
pub fn tool_headers(result: &str) -> Vec<(String, Vec<ToolHeader>)> {
    if !result.contains("x-mcp-header") {
        return Vec::new();
    }
    let result = Object::or_empty(Some(result));
    let tools: Vec<Object> = result.get("tools").and_then(|tools| serde_json::from_str(tools).ok()).unwrap_or_default();
    let mut found = Vec::new();
    for tool in &tools {
        let (Some(name), Some(schema)) = (tool.text("name"), tool.object("inputSchema")) else { continue };
        let mut headers = Vec::new();
        collect(&schema, &mut Vec::new(), &mut headers);
        found.push((name, headers));
    }
    found
}

fn collect(schema: &Object, path: &mut Vec<String>, headers: &mut Vec<ToolHeader>) {
    if path.len() == DEEPEST {
        return;
    }
    let Some(properties) = schema.object("properties") else { return };
    for (name, property) in properties.iter() {
        let Some(property) = Object::parse(property) else { continue };
        path.push(name.to_owned());
        if let Some(header) = property.text("x-mcp-header") {
            headers
                .push(ToolHeader { header: format!("mcp-param-{}", header.to_ascii_lowercase()), path: path.clone() });
        }
        collect(&property, path, headers);
        path.pop();
    }
}

impl ToolHeader {
    /// Returns whether a header's value is that of the argument. Both may be missing.
    pub fn agrees(&self, params: Option<&str>, header: Option<&str>) -> bool {
        let params: serde_json::Value = params.and_then(|params| serde_json::from_str(params).ok()).unwrap_or_default();
        let mut value = &params["arguments"];
        for name in &self.path {
            value = &value[name];
        }
        match (value, header) {
            (serde_json::Value::Null, header) => header.is_none(),
            (_, None) => false,
            (serde_json::Value::String(text), Some(header)) => text == header,
            (serde_json::Value::Bool(on), Some(header)) => header == if *on { "true" } else { "false" },
            (serde_json::Value::Number(number), Some(header)) => header.parse::<f64>().ok() == number.as_f64(),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_tools_are_compared_with_arguments() {
        let list = r#"{"tools":[{"name":"t","inputSchema":{"properties":{"a":{"type":"string","x-mcp-header":"Region"},
            "b":{"properties":{"c":{"type":"integer","x-mcp-header":"Deep"}}},"d":{"items":{"x-mcp-header":"No"}}}}}]}"#;
        let found = tool_headers(list);
        let (name, headers) = &found[0];
        assert_eq!((name.as_str(), headers.len()), ("t", 2));
        assert_eq!(
            headers[1],
            ToolHeader { header: "mcp-param-deep".to_owned(), path: vec!["b".to_owned(), "c".to_owned()] }
        );
        for (arguments, header, agrees) in [
            (r#"{"a":"x"}"#, Some("x"), true),
            (r#"{"a":"x"}"#, Some("y"), false),
            (r#"{"a":"x"}"#, None, false),
            (r#"{"a":null}"#, None, true),
            ("{}", None, true),
            ("{}", Some("x"), false),
            (r#"{"a":true}"#, Some("true"), true),
        ] {
            let params = format!(r#"{{"arguments":{arguments}}}"#);
            assert_eq!(headers[0].agrees(Some(&params), header), agrees, "{arguments} {header:?}");
        }
        let params = Some(r#"{"arguments":{"b":{"c":42}}}"#);
        assert!(headers[1].agrees(params, Some("42.0")) && !headers[1].agrees(params, Some("43")));
    }
}
