//! The servers: which of their processes run, whether they answer, and when they are started again.

mod check;
mod failure;
mod messages;
mod ping;
mod running;
mod server;
mod settings;
mod spare;

pub use check::{Checked, Era};
pub use messages::{discover, discovered, initialize_params};
pub use running::Running;
pub use server::Server;
pub use settings::Settings;
