//! The proxy of the environment.

use hyper::Uri;

/// Returns the proxy for a URL, from variables of the environment.
pub fn proxy_for(url: &Uri, variable: impl Fn(&str) -> Option<String>) -> Option<Uri> {
    let get = |name: &str| {
        let value = variable(&name.to_ascii_lowercase()).or_else(|| variable(name));
        value.filter(|value| !value.is_empty())
    };
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    if is_excepted(host, &get("NO_PROXY").unwrap_or_default()) {
        return None;
    }
    let name = if url.scheme_str() == Some("https") { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let proxy = get(name).or_else(|| get("ALL_PROXY"))?;
    let proxy = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
    proxy.parse().ok()
}

/// Returns whether a host is reached without a proxy.
fn is_excepted(host: &str, exceptions: &str) -> bool {
    exceptions.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty()).any(|name| {
        let name = name.split_once(':').filter(|(_, port)| !port.contains(':')).map_or(name, |(name, _)| name);
        let name = name.trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase();
        let host = host.to_ascii_lowercase();
        name == "*" || host == name || host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_the_proxy() {
        let proxy = |url: &str, no: &str| {
            let url: Uri = url.parse().unwrap();
            let found = proxy_for(&url, |name| match name {
                "https_proxy" => Some("http://127.0.0.1:3128".to_owned()),
                "HTTP_PROXY" => Some("127.0.0.1:3129".to_owned()),
                "NO_PROXY" => Some(no.to_owned()),
                _ => None,
            });
            found.map(|found| found.port_u16().unwrap())
        };
        assert_eq!(proxy("https://x.example/mcp", ""), Some(3128));
        assert_eq!(proxy("http://x.example/mcp", "localhost,127.0.0.1"), Some(3129));
        for no in ["x.example", ".example", "example", "*", "a, X.EXAMPLE:443"] {
            assert_eq!(proxy("https://x.example/mcp", no), None, "{no}");
        }
        assert_eq!(proxy("https://ax.example/mcp", "x.example"), Some(3128));
        assert_eq!(proxy("http://[::1]:5/", "::1"), None);
    }
}
