//! Translates between the versions of the protocol with sessions and the one without.

mod inputs;
mod meta;
mod older;
mod results;
mod tool_headers;
mod translator;

pub use inputs::{Wanted, capability};
pub use meta::{Meta, SERVER, SUBSCRIPTION, strip_keys};
pub use results::{REMOVED, discovery, modernized, required_elicitations};
pub use tool_headers::{ToolHeader, tool_headers};
pub use translator::{Step, Translator};
