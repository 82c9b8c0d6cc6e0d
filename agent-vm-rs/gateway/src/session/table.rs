//! The sessions of all clients.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::Session;
use crate::supervise::Server;

/// Maximal number of unused sessions without a process, such as those that ask whether a server answers. Nothing else bounds them.
const MOST_WITHOUT_PROCESS: usize = 256;

/// The sessions, by their names.
#[derive(Default)]
pub struct Table(RefCell<HashMap<String, Rc<Session>>>);

impl Table {
    /// Opens a session. Those without a process that were not used for the longest time give way to it.
    pub fn open(&self, server: &Rc<Server>, single: bool) -> Rc<Session> {
        for id in self.surplus() {
            self.end(&id);
        }
        let session = Session::open(unguessable(), server, single);
        self.0.borrow_mut().insert(session.id.clone(), Rc::clone(&session));
        session
    }

    /// Returns the unused sessions without a process that are too many for another one.
    fn surplus(&self) -> Vec<String> {
        let sessions = self.0.borrow();
        let idle = sessions.values().filter(|session| !session.has_process());
        let mut idle: Vec<_> = idle.filter_map(|session| Some((session.idle_since()?, &session.id))).collect();
        let surplus = (idle.len() + 1).saturating_sub(MOST_WITHOUT_PROCESS);
        idle.sort_unstable();
        idle.into_iter().take(surplus).map(|(_, id)| id.clone()).collect()
    }

    /// Returns a session of a server.
    pub fn find(&self, id: &str, server: &Rc<Server>) -> Option<Rc<Session>> {
        self.0.borrow().get(id).filter(|session| Rc::ptr_eq(&session.server, server)).cloned()
    }

    /// Ends a session.
    pub fn end(&self, id: &str) {
        let session = self.0.borrow_mut().remove(id);
        if let Some(session) = session {
            session.end();
        }
    }

    /// Ends sessions that nobody uses, again and again.
    pub async fn sweep(&self, often: Duration) {
        loop {
            sleep(often).await;
            let over: Vec<String> = self
                .0
                .borrow()
                .values()
                .filter(|session| {
                    session.idle_since().is_some_and(|since| since.elapsed() > session.server.settings.idle)
                })
                .map(|session| session.id.clone())
                .collect();
            for id in over {
                self.end(&id);
            }
        }
    }

    /// Ends the session of a server that was not used for the longest time and has a process; returns whether there was one.
    pub fn end_oldest(&self, server: &Rc<Server>) -> bool {
        let oldest = {
            let sessions = self.0.borrow();
            let of_server = sessions.values().filter(|session| Rc::ptr_eq(&session.server, server));
            let unused = of_server.filter_map(|session| {
                let since = session.idle_since().filter(|_| session.has_process())?;
                (since.elapsed() >= server.settings.gives_way).then(|| (since, session.id.clone()))
            });
            unused.min()
        };
        if let Some((_, id)) = &oldest {
            self.end(id);
        }
        oldest.is_some()
    }
}

/// Returns a name that nobody can guess.
pub fn unguessable() -> String {
    let mut bytes = [0_u8; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
