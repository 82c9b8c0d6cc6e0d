//! What machines use, for people and for monitoring: from the samples that their watchers take, and their files.

pub mod exposition;
pub mod facts;
pub mod families;
pub mod history;
pub mod inside;
pub mod plot;
pub mod serve;
pub mod table;
