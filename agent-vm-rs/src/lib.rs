//! Runs a virtual machine for each git branch.
//!
//! Data moves one way: [settings](machine::settings) are rendered into a flake ([`guest::render`]), Nix turns that into a
//! [manifest](guest::manifest), pure functions turn the manifest into argument lists ([`vm::qemu_args`],
//! [`egress::proxy_args`], [`confine::bwrap`]), and [`host::process`] runs them. What is true only while a machine runs is in
//! [`machine::run_state`].
//!
//! The folders below are layers, listed from the top down: each uses those below it and none above it.

pub mod cli;
pub mod confine;
pub mod doctor;
pub mod egress;
pub mod git;
pub mod guest;
pub mod host;
pub mod limits;
pub mod machine;
pub mod mcp;
pub mod metrics;
pub mod profile;
pub mod remote;
pub mod status;
pub mod term;
pub mod vm;
pub mod watch;

#[cfg(test)]
mod layers;
