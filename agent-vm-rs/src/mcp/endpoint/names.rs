//! The host names and addresses of a machine's endpoint: those in its certificate, and those that its reverse proxy
//! accepts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::machine::policy::Grammar;

/// Names and addresses, without duplicates and in a fixed order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// DNS names.
    pub dns: Vec<String>,
    /// IP addresses.
    pub addresses: Vec<IpAddr>,
}

impl Names {
    /// Returns the names of an endpoint that listens on `address`, which the settings call `host`. `own` is this
    /// host's name, which clients use if the port listens on every address.
    #[must_use]
    pub fn new(host: &str, address: Ipv4Addr, own: Option<&str>) -> Self {
        let mut dns = vec!["localhost".to_owned(), "agent-vm".to_owned()];
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        if host.parse::<Ipv4Addr>().is_err() {
            dns.push(host.to_ascii_lowercase());
        }
        if address.is_unspecified() {
            dns.extend(own.map(str::to_ascii_lowercase));
        } else {
            addresses.push(address.into());
        }
        dns.retain(|name| is_name(name));
        dedup(&mut dns);
        dedup(&mut addresses);
        Self { dns, addresses }
    }

    /// Returns the names as in a `Host` header, without the port.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(|address| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
        self.dns.iter().cloned().chain(addresses).collect()
    }
}

fn is_name(name: &str) -> bool {
    Grammar::EndpointName.matches(name)
}

fn dedup<T: PartialEq + Clone>(list: &mut Vec<T>) {
    let mut seen: Vec<T> = Vec::new();
    list.retain(|item| {
        let new = !seen.contains(item);
        seen.push(item.clone());
        new
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_another_host_address_are_names() {
        let hosts = |host: &str, address: [u8; 4]| Names::new(host, address.into(), Some("Box_1")).hosts().join(" ");
        assert_eq!(hosts("localhost", [127, 0, 0, 1]), "localhost agent-vm 127.0.0.1 [::1]");
        assert_eq!(hosts("192.0.2.7", [192, 0, 2, 7]), "localhost agent-vm 127.0.0.1 [::1] 192.0.2.7");
        assert_eq!(hosts("Dev.example", [192, 0, 2, 7]), "localhost agent-vm dev.example 127.0.0.1 [::1] 192.0.2.7");
        // The reverse proxy would refuse this name, so it is left out.
        assert_eq!(hosts("0.0.0.0", [0, 0, 0, 0]), "localhost agent-vm 127.0.0.1 [::1]");
        let named = Names::new("0.0.0.0", Ipv4Addr::UNSPECIFIED, Some("Box"));
        assert_eq!(named.dns, ["localhost", "agent-vm", "box"]);
    }
}
