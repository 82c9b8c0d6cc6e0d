//! Where time goes: in a start, and in a running machine.

pub mod boot;
pub mod running;
pub mod start;
pub mod svg;
