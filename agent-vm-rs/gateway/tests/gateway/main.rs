//! Tests of the program with stand-ins for servers, over loopback.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot continue has failed")]

mod broken;
mod clients;
mod early;
mod first_process;
mod gateway;
mod http;
#[path = "../../../tests/shared/json_values.rs"]
mod json_values;
mod old_transports;
mod passing;
mod remote;
mod sessions;
mod stateless;
mod translation;
