//! Parts of a test that share a machine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// The parts that failed. One that fails does not keep the others from running.
#[derive(Default)]
pub struct Parts(Vec<&'static str>);

impl Parts {
    /// Runs a part. Returns its result; None if it failed.
    pub fn run<T>(&mut self, name: &'static str, part: impl FnOnce() -> T) -> Option<T> {
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(part)).ok();
        let outcome = if result.is_some() { "passed" } else { "failed" };
        println!("part {name}: {outcome}, {:.0} s", began.elapsed().as_secs_f32());
        if result.is_none() {
            self.0.push(name);
        }
        result
    }

    /// Fails if a part failed.
    pub fn end(self) {
        assert!(self.0.is_empty(), "these parts failed: {}", self.0.join(", "));
    }
}
