//! Ports for new machines.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::host::ports::next_free;
use crate::machine::Machine;
use crate::machine::defaults::Defaults;
use crate::machine::state_dir::StateDir;

/// Looks for the ports that the next machine would get.
pub fn check(_: &StateDir, machines: &[Machine]) -> Vec<Finding> {
    let taken: BTreeSet<u16> = machines
        .iter()
        .filter_map(|machine| machine.settings().ok())
        .flat_map(|settings| [settings.port, settings.ssh_port])
        .collect();
    let free = |first: u16| next_free(Ipv4Addr::LOCALHOST, first, &taken).map_err(|error| format!("{error:#}"));
    match Defaults::load() {
        Ok(defaults) => vec![judge(free(defaults.mcp_port), free(defaults.ssh_port))],
        Err(_) => Vec::new(),
    }
}

fn judge(mcp: Result<u16, String>, ssh: Result<u16, String>) -> Finding {
    const CHECK: &str = "ports";
    match (mcp, ssh) {
        (Ok(mcp), Ok(ssh)) => Finding::ok(CHECK, format!("a new machine gets {mcp} for MCP and {ssh} for ssh")),
        (Err(why), _) | (_, Err(why)) => Finding::fault(CHECK, Fault::PortsGone, why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_ports_are_a_fault() {
        assert_eq!(judge(Ok(8000), Ok(2222)).fault, None);
        assert_eq!(judge(Ok(8000), Err("none".to_owned())).fault, Some(Fault::PortsGone));
    }
}
