//! agent-vm gives every git branch its own virtual machine.
//!
//! Data moves one way: [`settings`] are rendered into a flake ([`render`]), Nix turns that into a
//! [`manifest`] ([`guest`]), a pure [`plan`] turns the manifest into argument lists, and
//! [`process`] runs them. What is true only while a machine runs lives in [`run_state`].

pub mod cli;
pub mod confine;
pub mod egress;
pub mod git;
pub mod guest;
pub mod host;
pub mod machine;
pub mod mcp;
pub mod remote;
pub mod status;
pub mod term;
pub mod vm;
