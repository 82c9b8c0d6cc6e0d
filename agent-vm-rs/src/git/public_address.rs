//! The public addresses of a host. A hostile repository could name a host of the user's own network, or one whose name leads
//! there.

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _};

use anyhow::{Result, bail, ensure};

/// Ends of names that lead to this host or to others of its network.
const LOCAL_NAMES: [&str; 8] = ["localhost", "local", "internal", "lan", "home", "corp", "localdomain", "home.arpa"];
/// Variables that name the proxy of https URLs.
const PROXIES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// Returns the public addresses of a host; none if only the user's proxy finds it. `has_proxy` says whether git has one.
///
/// # Errors
/// It has no public address.
pub fn of(host: &str, has_proxy: bool) -> Result<Vec<IpAddr>> {
    let name = host.trim_end_matches('.');
    let literal = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let is_local = LOCAL_NAMES.iter().any(|end| name == *end || name.ends_with(&format!(".{end}")));
    // Programs read numbers such as 127.1 and 0x7f000001 as addresses.
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_name = name.contains('.') && last.starts_with(|c: char| c.is_ascii_alphabetic());
    if literal.is_none() {
        ensure!(is_name && !is_local, "its host is not a public one");
    }
    let found = match literal {
        Some(address) => vec![address],
        None => (name, 443).to_socket_addrs().map(|all| all.map(|one| one.ip()).collect()).unwrap_or_default(),
    };
    let has_proxy = has_proxy || PROXIES.iter().any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
    if found.is_empty() {
        if has_proxy {
            return Ok(found);
        }
        bail!("its host has no address");
    }
    let public: Vec<_> = found.into_iter().filter(is_public).collect();
    ensure!(!public.is_empty(), "its host has no public address");
    Ok(public)
}

fn is_public(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(*address),
        IpAddr::V6(address) => is_public_v6(*address),
    }
}

/// Returns whether an address is none of the special ones: the registry of RFC 6890.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || a == 0
        || a >= 224
        || matches!((a, b, c), (100, 64..128, _) | (192, 0, 0) | (192, 88, 99) | (198, 18 | 19, _));
    !is_special
}

/// Returns whether an address is a global one (2000::/3) that leads to no IPv4 address and is no documentation.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    (0x2000..0x4000).contains(&a) && a != 0x2002 && !(a == 0x2001 && (b < 0x200 || b == 0xdb8)) && a != 0x3fff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_own_networks_are_not_public() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(&text.parse().unwrap()), "{text}");
            let host = if text.contains(':') { format!("[{text}]") } else { text.to_owned() };
            for has_proxy in [false, true] {
                assert!(of(&host, has_proxy).is_err(), "{text}");
            }
        }
        for text in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"] {
            assert!(is_public(&text.parse().unwrap()), "{text}");
        }
        assert_eq!(of("1.1.1.1", false).unwrap(), [IpAddr::from([1, 1, 1, 1])]);
    }

    #[test]
    fn names_of_own_networks_are_not_public() {
        for name in [
            "localhost",
            "x.localhost",
            "git",
            "nas.local",
            "x.internal.",
            "127.1",
            "0x7f.1",
            "2130706433",
            "1.2.3",
            "a.0x7f",
        ] {
            for has_proxy in [false, true] {
                assert!(of(name, has_proxy).is_err(), "{name}");
            }
        }
        // Only a proxy may find it.
        assert!(of("host.invalid", false).is_err());
        assert!(of("host.invalid", true).unwrap().is_empty());
    }
}
