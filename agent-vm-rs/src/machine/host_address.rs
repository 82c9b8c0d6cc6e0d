//! The address of the host that a machine's ports are bound on.

use std::net::{Ipv4Addr, ToSocketAddrs as _};

use anyhow::{Context as _, Result};

use crate::machine::policy::Grammar;
use crate::term::error::Failure;
use crate::term::text::one_line;

/// Returns the IPv4 address of `--host`: `localhost`, an address, or a name that resolves to one. (QEMU's user network
/// forwards IPv4 only.)
///
/// # Errors
/// `host` has no IPv4 address.
pub fn forward_address(host: &str) -> Result<Ipv4Addr> {
    if host == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST);
    }
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let no_address = || {
        Failure::usage(format!("{:?} is not an IPv4 address of this host", one_line(host)))
            .with_hint("use localhost, an IPv4 address, or a name that resolves to one: --host ADDRESS")
    };
    if !Grammar::EndpointName.matches(host) {
        return Err(no_address().into());
    }
    let addresses = (host, 0).to_socket_addrs().with_context(no_address)?;
    let found = addresses.into_iter().find_map(|address| match address.ip() {
        std::net::IpAddr::V4(v4) => Some(v4),
        std::net::IpAddr::V6(_) => None,
    });
    Ok(found.ok_or_else(no_address)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forward_address_resolves_names_and_refuses_others() {
        assert_eq!(forward_address("localhost").unwrap(), Ipv4Addr::LOCALHOST);
        assert_eq!(forward_address("0.0.0.0").unwrap(), Ipv4Addr::UNSPECIFIED);
        for host in ["", "a b", "x,hostfwd=tcp::1-:1", "::1", "-rf;id"] {
            assert!(forward_address(host).is_err(), "{host:?} was accepted");
        }
    }
}
