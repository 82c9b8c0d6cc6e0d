//! Collects the states of all machines.

use std::sync::Mutex;

use anyhow::Result;

use super::Report;
use crate::host::interrupt;
use crate::machine::Machine;
use crate::machine::context::Context;

/// Number of machines that are examined at the same time. A running one may take up to [`super::ANSWER`].
const AT_ONCE: usize = 16;

impl Report {
    /// Collects the states of all machines, by name, without their workspaces.
    ///
    /// # Errors
    /// The state directory cannot be read, or the user interrupts.
    pub fn gather_all(context: &Context) -> Result<Vec<Self>> {
        let names = context.state.names()?;
        let workers = AT_ONCE.min(names.len());
        let rest = Mutex::new(names.into_iter());
        let found = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(name) = rest.lock().ok().and_then(|mut rest| rest.next()) {
                        // A machine that was destroyed meanwhile is not in the list.
                        let report = Self::without_workspace(context, &Machine::new(&context.state, name));
                        if let (Ok(report), Ok(mut found)) = (report, found.lock()) {
                            found.push(report);
                        }
                    }
                });
            }
        });
        interrupt::check()?;
        let mut found = found.into_inner().unwrap_or_default();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }
}
