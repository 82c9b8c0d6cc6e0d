//! Translates between the versions of the protocol with sessions and the one without.

mod inputs;
mod meta;
mod translator;

pub use meta::{Meta, strip_keys};
pub use translator::{Step, Translator};
