//! Tests of real machines, for what only a real machine can show.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot continue has failed")]
#![expect(clippy::print_stdout, reason = "the test runner reads skipped tests from stdout")]

mod agents;
mod clients;
mod confinement;
mod daily_tools;
mod doors;
mod egress;
mod endpoint;
mod hardening;
mod host_proxy;
mod hostile_loads;
mod hostile_share;
mod idle;
mod isolation;
mod journey;
mod monitoring;
mod named_servers;
mod network;
mod one_machine;
#[path = "../shared/own_sshd.rs"]
mod own_sshd;
#[path = "../shared/own_terminal.rs"]
mod own_terminal;
mod owner;
mod package_managers;
mod parts;
mod reach;
mod remote_host;
mod root;
mod site;
mod terminal;
mod trouble;
mod world;
