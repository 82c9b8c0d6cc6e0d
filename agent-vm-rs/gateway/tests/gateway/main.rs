//! Tests of the program with stand-ins for servers, over loopback.

mod broken;
mod clients;
mod gateway;
mod http;
mod old_transports;
mod passing;
mod remote;
mod sessions;
mod stateless;
mod translation;
