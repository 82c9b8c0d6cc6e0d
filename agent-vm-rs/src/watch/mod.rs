//! The watcher: one process for each running machine that looks at it from this host. It takes samples of what the machine uses and
//! runs the checks of [`keep::checks`]. The guest is not asked for anything.

mod idle;
pub mod keep;
mod ports;
pub mod samples;
mod take;
