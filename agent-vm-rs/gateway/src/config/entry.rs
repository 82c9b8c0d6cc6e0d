//! One server of a file.

use std::path::Path;

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use rustix::fs::Access;
use serde_json::{Map, Value};

use super::expand::expand;
use super::shown;

/// A server and how to reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Segment of its URL.
    pub name: String,
    /// How it is started or reached.
    pub launch: Launch,
}

/// How a server is started or reached.
#[derive(Clone, Debug, PartialEq)]
pub enum Launch {
    /// A program that speaks on standard input and output.
    Program {
        /// The program and its arguments.
        argv: Vec<String>,
        /// Variables added to its environment.
        env: Vec<(String, String)>,
    },
    /// A server on the network.
    Remote(Remote),
}

/// A server on the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Remote {
    /// How it speaks.
    pub kind: RemoteKind,
    /// Where it is.
    pub url: Uri,
    /// Headers of each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// How a server on the network speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteKind {
    /// Streamable HTTP.
    Http,
    /// HTTP+SSE of 2024-11-05.
    Sse,
}

/// Reads a server's entry.
pub fn parse(name: &str, entry: &str) -> Result<Server, String> {
    let mut characters = name.chars();
    let valid = name.len() <= 64
        && characters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && characters.all(|other| other.is_ascii_alphanumeric() || "._-".contains(other));
    if !valid {
        return Err("invalid name: it must be at most 64 letters, digits, '.', '_' and '-'".to_owned());
    }
    let entry: Value = serde_json::from_str(entry)
        .map_err(|_| "it contains a character that cannot be passed to a program".to_owned())?;
    let Value::Object(entry) = entry else { return Err("not an object".to_owned()) };
    let kind = match entry.get("type") {
        None if entry.contains_key("url") && !entry.contains_key("command") => "http",
        None => "stdio",
        Some(kind) => kind.as_str().unwrap_or_default(),
    };
    let launch = match kind {
        "stdio" => program(&entry)?,
        "http" | "streamable-http" | "streamableHttp" => remote(RemoteKind::Http, &entry)?,
        "sse" => remote(RemoteKind::Sse, &entry)?,
        _ => return Err("only servers of type stdio, http and sse are served".to_owned()),
    };
    Ok(Server { name: name.to_owned(), launch })
}

fn program(entry: &Map<String, Value>) -> Result<Launch, String> {
    let mut env = Vec::new();
    for (name, value) in object(entry, "env")? {
        if name.is_empty() || name.contains('=') || name.contains('\0') {
            return Err(format!("\"env\" has an invalid name {}", shown(name)));
        }
        env.push((name.clone(), word(value, "env")?));
    }
    let arguments = match entry.get("args") {
        None => &Vec::new(),
        Some(arguments) => arguments.as_array().ok_or("\"args\" is not a list")?,
    };
    let command = word(entry.get("command").ok_or("it has no \"command\"")?, "command")?;
    let mut argv = vec![command.clone()];
    for argument in arguments {
        argv.push(word(argument, "args")?);
    }
    let own = env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
    let path = own.or_else(|| std::env::var("PATH").ok()).unwrap_or_default();
    if !installed(&command, &path) {
        return Err(format!("its command {} is not installed in this machine", shown(&command)));
    }
    Ok(Launch::Program { argv, env })
}

fn remote(kind: RemoteKind, entry: &Map<String, Value>) -> Result<Launch, String> {
    let text = word(entry.get("url").ok_or("it has no \"url\"")?, "url")?;
    let url: Uri = text.parse().map_err(|_| format!("its URL {} is not valid", shown(&text)))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
        return Err(format!("its URL {} does not begin with http:// or https://", shown(&text)));
    }
    let mut headers = Vec::new();
    for (name, value) in object(entry, "headers")? {
        let value = word(value, "headers")?;
        let header: HeaderName =
            name.parse().map_err(|_| format!("\"headers\" has an invalid name {}", shown(name)))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| format!("the value of the header {} is not valid", shown(name)))?;
        headers.push((header, value));
    }
    Ok(Launch::Remote(Remote { kind, url, headers }))
}

/// Returns a member that is an object; nothing if it is missing.
fn object<'a>(
    entry: &'a Map<String, Value>,
    member: &str,
) -> Result<Box<dyn Iterator<Item = (&'a String, &'a Value)> + 'a>, String> {
    match entry.get(member) {
        None => Ok(Box::new(std::iter::empty())),
        Some(Value::Object(members)) => Ok(Box::new(members.iter())),
        Some(_) => Err(format!("\"{member}\" is not an object")),
    }
}

fn word(value: &Value, member: &str) -> Result<String, String> {
    let Some(value) = value.as_str() else {
        return Err(format!("\"{member}\" contains a value that is not a string"));
    };
    let expanded = expand(value, |name| std::env::var(name).ok())?;
    if expanded.contains('\0') {
        return Err(format!("\"{member}\" contains a character that cannot be passed to a program"));
    }
    Ok(expanded)
}

/// Returns whether a command can be started; a relative path counts from the working directory.
fn installed(command: &str, path: &str) -> bool {
    let executable = |file: &Path| file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok();
    if command.contains('/') {
        return executable(Path::new(command));
    }
    !command.is_empty() && std::env::split_paths(path).any(|directory| executable(&directory.join(command)))
}
