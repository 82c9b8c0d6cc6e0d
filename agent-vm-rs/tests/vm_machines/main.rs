//! Tests of real machines, for what only a real machine can show.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot continue has failed")]
#![expect(clippy::print_stdout, reason = "the test runner reads skipped tests from stdout")]

mod clients;
mod confinement;
mod egress;
mod endpoint;
mod hardening;
mod hostile_share;
mod isolation;
mod journey;
mod network;
mod reach;
mod root;
mod site;
mod trouble;
mod world;
