//! Processes for clients without a session: calls of several clients share them, unless a call needs one for itself.

mod answers;
mod call;
mod copies;
mod inputs;
mod listen;
mod member;
mod members;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

pub use call::{Call, OpenCall};

use inputs::Parked;
use listen::Listener;
use member::Member;

use crate::era::{ToolHeader, tool_headers};
use crate::supervise::Server;

/// Maximal number of tools of which the headers are remembered.
const MOST_TOOLS: usize = 1000;

/// The processes of a server for clients without a session.
pub struct Pool {
    /// The server.
    pub server: Rc<Server>,
    /// In the order of their last use.
    members: RefCell<Vec<Rc<Member>>>,
    listeners: RefCell<Vec<Rc<Listener>>>,
    /// Calls that wait for inputs, by the state that their clients send back.
    parked: RefCell<HashMap<String, Parked>>,
    /// Arguments that are headers, by tool.
    headers: RefCell<HashMap<String, Vec<ToolHeader>>>,
    last: Cell<u64>,
}

impl Pool {
    /// Returns a pool without processes.
    pub fn new(server: &Rc<Server>) -> Rc<Pool> {
        Rc::new(Pool {
            server: Rc::clone(server),
            members: RefCell::default(),
            listeners: RefCell::default(),
            parked: RefCell::default(),
            headers: RefCell::default(),
            last: Cell::new(0),
        })
    }

    /// Returns the arguments of a tool that are headers, if a client has listed it.
    pub fn tool_headers(&self, tool: &str) -> Vec<ToolHeader> {
        self.headers.borrow().get(tool).cloned().unwrap_or_default()
    }

    /// Remembers what a list of tools says of headers.
    fn learn_headers(&self, result: &str) {
        let mut headers = self.headers.borrow_mut();
        for (tool, found) in tool_headers(result) {
            if headers.len() < MOST_TOOLS || headers.contains_key(&tool) {
                headers.insert(tool, found);
            }
        }
    }

    fn number(&self) -> u64 {
        self.last.set(self.last.get() + 1);
        self.last.get()
    }
}
