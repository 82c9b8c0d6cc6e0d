//! This computer: its processes, files, locks, ports, signals and logs.

pub mod account;
pub mod connections;
pub mod files;
pub mod hang_up;
pub mod hex;
pub mod interrupt;
pub mod line_log;
pub mod lock;
pub mod log_file;
pub mod ports;
pub mod process;
pub mod programs;
pub mod system;
pub mod time_zone;
pub mod timeline;
pub mod user_dirs;
