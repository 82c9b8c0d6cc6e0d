//! Renders the configuration of nginx. Nothing is quoted: each value must match a grammar without special characters.

use std::path::PathBuf;

use super::Refused;
use crate::policy::MCP;
use crate::policy::grammar::{expand, matches};

/// Maximal number of host names.
const MOST_HOSTS: usize = 64;
/// nginx ignores case in its lookup, so tokens must not differ in case alone.
const TOKEN: &str = "[0-9a-f]{32,128}";
const PATH: &str = "/[A-Za-z0-9._@/-]+";
const LISTEN: &str = r"(?:<ipv4>|\[[0-9A-Fa-f:.]+\]):(?:<port>)";

/// What nginx serves.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Address, in brackets if it is IPv6, and port to listen on.
    pub listen: String,
    /// Port of the gateway on the loopback.
    pub inner_port: String,
    /// Web origins that may call; `*` allows any.
    pub origins: Vec<String>,
    /// Names by which clients may call this endpoint, as in the Host header without the port.
    pub hosts: Vec<String>,
    /// Certificate and key; None without TLS.
    pub certificate: Option<Pair>,
    /// Token that clients must send; None if anyone may call.
    pub token: Option<String>,
    /// Token that allows replacing the certificate by another one for the same key; None forbids it.
    pub renewal_token: Option<String>,
    /// URL path for replacing the certificate.
    pub renewal_path: String,
    /// Directory that only nginx's account can access.
    pub runtime: PathBuf,
}

/// Paths of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM file of the certificate.
    pub certificate: String,
    /// PEM file of the private key.
    pub key: String,
}

/// Returns the whole configuration.
///
/// # Errors
/// A value does not match its grammar. The error does not contain the value, which may be a secret.
pub fn render(endpoint: &Endpoint) -> Result<String, Refused> {
    if endpoint.hosts.is_empty() || endpoint.hosts.len() > MOST_HOSTS {
        return Err(Refused::new(format!("the endpoint must have 1 to {MOST_HOSTS} host names")));
    }
    for host in &endpoint.hosts {
        checked("<endpoint_host>", "name of a host", host)?;
    }
    let (any, origins): (Vec<&String>, Vec<&String>) = endpoint.origins.iter().partition(|origin| *origin == "*");
    for origin in &origins {
        checked("<origin>", "web origin", origin)?;
    }
    for token in [&endpoint.token, &endpoint.renewal_token].into_iter().flatten() {
        checked(TOKEN, "token: 32 to 128 digits of 0-9 and a-f", token)?;
    }
    let tls = endpoint.certificate.is_some();
    let (mut certificate, mut key) = ("", "");
    if let Some(pair) = &endpoint.certificate {
        certificate = checked(PATH, "path of a certificate", &pair.certificate)?;
        key = checked(PATH, "path of a key", &pair.key)?;
    }
    let renews = tls && endpoint.renewal_token.is_some();
    let origins: String = origins.iter().map(|origin| format!("    \"{origin}\" allowed;\n")).collect();
    let longest = MCP.longest_message;
    // The parts come first: they contain other names.
    Ok([
        ("tls", if tls { include_str!("../../templates/tls.conf") } else { PLAIN }),
        ("renewal", if renews { include_str!("../../templates/renewal.conf") } else { "" }),
        ("token", &token("agent_token", endpoint.token.as_deref(), "right")),
        ("renewal_token", &token("agent_renewal", endpoint.renewal_token.as_deref(), "wrong")),
        ("certificate", certificate),
        ("key", key),
        ("renewal_path", checked(PATH, "path of the renewal", &endpoint.renewal_path)?),
        ("origins", &origins),
        ("other_origins", if any.is_empty() { "foreign" } else { "allowed" }),
        ("listen", checked(LISTEN, "address to listen on", &endpoint.listen)?),
        ("ssl", if tls { " ssl" } else { "" }),
        ("hosts", &endpoint.hosts.join(" ")),
        ("inner", checked("<port>", "port", &endpoint.inner_port)?),
        ("runtime", checked(PATH, "directory", &endpoint.runtime.to_string_lossy())?),
        ("health", &MCP.health_path),
        ("paths", &paths()),
        ("longest", &longest.to_string()),
        ("longest_mib", &(longest >> 20).to_string()),
    ]
    .iter()
    .fold(include_str!("../../templates/nginx.conf").to_owned(), |text, (name, value)| {
        // No value contains a brace twice.
        text.replace(&format!("{{{{{name}}}}}"), value.trim_end_matches('\n'))
    }))
}

const PLAIN: &str = "  # TLS is off by the host's settings.\n";

/// Returns the map that checks a token. It is a hash lookup, whose duration does not depend on how much of a guess is right.
fn token(variable: &str, token: Option<&str>, otherwise: &str) -> String {
    match token {
        None => format!("  map \"\" ${variable} {{\n    default {otherwise};\n  }}\n"),
        Some(token) => format!(
            "  map $http_authorization ${variable} {{\n    default wrong;\n    \"Bearer {token}\" right;\n  }}\n"
        ),
    }
}

/// Pattern of the paths that are passed on to the gateway: of the default server, and of named servers.
fn paths() -> String {
    let name = expand("<server_name>").unwrap_or_default();
    format!("({}/{name})?({}|{}|{})/?", MCP.servers_path, MCP.mcp_path, MCP.sse_path, MCP.messages_path)
}

fn checked<'a>(pattern: &str, what: &str, value: &'a str) -> Result<&'a str, Refused> {
    if matches(pattern, value) { Ok(value) } else { Err(Refused::new(format!("invalid {what}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn good() -> Endpoint {
        Endpoint {
            listen: "0.0.0.0:8000".into(),
            inner_port: "8001".into(),
            origins: vec!["https://claude.ai".into()],
            hosts: ["localhost", "127.0.0.1", "[::1]"].map(String::from).into(),
            certificate: Some(Pair {
                certificate: "/run/credentials/x.service/cert".into(),
                key: "/run/credentials/x.service/key".into(),
            }),
            token: Some(TOKEN.into()),
            renewal_token: Some(TOKEN.into()),
            renewal_path: "/agent-vm/certificate".into(),
            runtime: "/run/agent-mcp-gate".into(),
        }
    }

    fn rendered(change: impl FnOnce(&mut Endpoint)) -> Result<String, Refused> {
        let mut endpoint = good();
        change(&mut endpoint);
        render(&endpoint)
    }

    #[test]
    fn everything_is_enabled() {
        let text = rendered(|_| ()).unwrap();
        assert!(!text.contains("{{"), "{text}");
        for line in [
            "listen 0.0.0.0:8000 ssl;",
            "ssl_protocols TLSv1.2 TLSv1.3;",
            "server_name localhost 127.0.0.1 [::1];",
            &format!("\"Bearer {TOKEN}\" right;"),
            "\"https://claude.ai\" allowed;",
            "default foreign;",
            "proxy_set_header Authorization \"\";",
            "proxy_buffering off;",
            "access_log off;",
            "location = /agent-vm/certificate {",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn without_tls_and_token() {
        let text = rendered(|endpoint| {
            endpoint.certificate = None;
            endpoint.token = None;
            endpoint.renewal_token = None;
        })
        .unwrap();
        assert!(text.contains("listen 0.0.0.0:8000;"));
        assert!(!text.contains("ssl") && !text.contains("Bearer 0") && !text.contains("location = /agent-vm/"));
    }

    #[test]
    fn any_origin() {
        assert!(rendered(|endpoint| endpoint.origins = vec!["*".into()]).unwrap().contains("default allowed;"));
    }

    type Change<'a> = Box<dyn Fn(&mut Endpoint) + 'a>;

    #[test]
    fn values_with_special_characters_are_refused() {
        let long = "a".repeat(300);
        let hostile =
            ["", "a b", "a;b", "a}b", "a{b", "a\"b", "a$b", "a\nb", "~a", "*", "a\\b", "a#b", "a'b", &long, "é"];
        for value in hostile {
            let value = value.to_owned();
            let changes: [Change<'_>; 11] = [
                Box::new(|e| e.hosts = vec![value.clone()]),
                Box::new(|e| e.hosts.push(value.clone())),
                Box::new(|e| e.origins = vec![format!("https://{value}")]),
                Box::new(|e| e.token = Some(value.clone())),
                Box::new(|e| e.renewal_token = Some(value.clone())),
                Box::new(|e| e.listen = value.clone()),
                Box::new(|e| e.listen = format!("0.0.0.0:{value}")),
                Box::new(|e| e.inner_port = value.clone()),
                Box::new(|e| e.certificate = Some(Pair { certificate: format!("/run/{value} x"), key: "/k".into() })),
                Box::new(|e| e.certificate = Some(Pair { certificate: "/c".into(), key: format!("/run/{value}\n;") })),
                Box::new(|e| e.runtime = format!("/run/{value} x").into()),
            ];
            for (number, change) in changes.iter().enumerate() {
                assert!(rendered(change).is_err(), "change {number} with {value:?}");
            }
            assert!(rendered(|e| e.renewal_path = format!("/{value} x")).is_err(), "{value:?}");
        }
    }

    #[test]
    fn addresses_and_ports_out_of_range_are_refused() {
        for listen in ["0.0.0.256:8000", "0.0.0.0:0", "0.0.0.0:65536"] {
            assert!(rendered(|e| e.listen = listen.into()).is_err(), "{listen}");
        }
        assert!(rendered(|e| e.inner_port = "0".into()).is_err());
        rendered(|e| {
            e.listen = "[::1]:65535".into();
            e.inner_port = "65535".into();
        })
        .unwrap();
    }

    #[test]
    fn tokens_are_32_to_128_lower_case_hexadecimal_digits() {
        let wrong = [
            "a".repeat(31),
            "A".repeat(64),
            "g".repeat(64),
            format!("{TOKEN}\n"),
            format!(" {TOKEN}"),
            "a".repeat(129),
        ];
        for token in wrong {
            let error = rendered(|e| e.token = Some(token.clone())).unwrap_err().to_string();
            assert!(!error.contains(&token), "{error}");
        }
        rendered(|e| e.token = Some("a".repeat(32))).unwrap();
    }

    #[test]
    fn the_number_of_hosts_is_limited() {
        assert!(rendered(|e| e.hosts.clear()).is_err());
        assert!(rendered(|e| e.hosts = vec!["a".into(); MOST_HOSTS + 1]).is_err());
        rendered(|e| e.hosts = vec!["a".into(); MOST_HOSTS]).unwrap();
    }
}
