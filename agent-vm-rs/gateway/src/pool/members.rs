//! Which process a call gets. A client that calls one after the other always gets the same: servers keep state.

use std::rc::Rc;

use tokio::time::{Duration, Instant, sleep, timeout, timeout_at};

use super::Pool;
use super::call::{Call, INTERNAL_ERROR, OpenCall};
use super::inputs::Retry;
use super::member::Member;
use crate::era::{Meta, discovery};
use crate::json::{Message, Object, error, result};
use crate::session::greeting;
use crate::supervise::Era;

/// Time after which a process is looked for again.
const AGAIN: Duration = Duration::from_secs(1);

/// Capabilities of clients that matter to a server: what it may ask them.
const MATTER: [&str; 3] = ["elicitation", "sampling", "roots"];

impl Pool {
    /// Sends a call; returns an answer if it cannot be sent.
    pub async fn call(self: &Rc<Self>, request: &Message, meta: &Meta) -> Result<OpenCall, Message> {
        let refusal = |text: &str| error(request.raw_id(), INTERNAL_ERROR, text);
        let again;
        let request = match self.retry(request) {
            Retry::Not => request,
            Retry::Rest(rest) => return rest,
            Retry::Again(request) => {
                again = request;
                &again
            }
        };
        let deadline = Instant::now() + self.server.settings.patience;
        let discovers = request.method() == Some("server/discover");
        if let Some(hello) = self.server.hello().filter(|_| discovers && self.server.era() == Era::Sessions) {
            return Err(result(request.raw_id(), &discovery(&hello)));
        }
        let limit = if discovers { Instant::now() + self.server.settings.grace } else { deadline };
        let reserved = match timeout_at(limit, self.ready(meta)).await {
            Ok(Ok(reserved)) => reserved,
            Ok(Err(_)) | Err(_) if discovers => {
                if let Some(found) = self.server.discovered() {
                    return Err(result(request.raw_id(), &found));
                }
                let known = self.server.hello().map(|hello| hello.to_string());
                let known = known.unwrap_or_else(|| greeting(&self.server.name, None));
                return Err(result(request.raw_id(), &discovery(&known)));
            }
            Ok(Err(text)) => return Err(refusal(&text)),
            Err(_) => return Err(refusal(&self.server.explain())),
        };
        let member = Rc::clone(&reserved.0);
        let hello = member.hello().unwrap_or_else(|| "{}".into());
        if !member.stateless {
            match request.method() {
                Some("server/discover") => {
                    return Err(result(request.raw_id(), &discovery(&hello)));
                }
                Some("subscriptions/listen") => {
                    return Ok(self.listen(&member, request, meta));
                }
                _ => {}
            }
        }
        let call = Call::new(self, request, meta);
        let stream = call.stream();
        let sent = member.send_call(&call);
        if sent && call.is_subscription() {
            self.listen_everywhere(&member, &call);
        }
        drop(reserved);
        if !sent {
            return Err(refusal(&self.server.explain()));
        }
        Ok(OpenCall { pool: Rc::clone(self), member, call, stream })
    }

    /// Returns a process that is ready for a call, and reserved for it. Returns why there is none.
    async fn ready(self: &Rc<Self>, meta: &Meta) -> Result<Reserved, String> {
        loop {
            let changed = self.server.changes();
            self.server.wake();
            if self.server.failed() {
                return Err(self.server.explain());
            }
            let found = self.server.find_era();
            if self.server.era() != Era::Unknown {
                break;
            }
            tokio::select! {
                () = found => {}
                () = changed => {}
            }
        }
        let reserved = loop {
            let changed = self.server.changes();
            if let Some(reserved) = self.find(meta) {
                break reserved;
            }
            // Another client's process may become unused meanwhile.
            let _ = timeout(AGAIN, changed).await;
        };
        let member = Rc::clone(&reserved.0);
        loop {
            let (changed, server) = (member.changed.notified(), self.server.changes());
            if member.hello().is_some() && !member.dead.get() {
                return Ok(reserved);
            }
            if member.dead.get() || self.server.failed() {
                return Err(self.server.explain());
            }
            tokio::select! {
                () = changed => {}
                () = server => {}
            }
        }
    }

    /// Returns a process for a call, and reserves it. Returns None if all are in use and no other may be started.
    fn find(self: &Rc<Self>, meta: &Meta) -> Option<Reserved> {
        let stateless = self.server.era() == Era::Stateless;
        let class = if stateless { String::new() } else { class(meta) };
        let logs = meta.level.is_some();
        let alone = !stateless && (!class.is_empty() || logs);
        let found = {
            let members = self.members.borrow();
            let mut fitting = members.iter().rev().filter(|member| {
                let free = match (alone, logs && stateless) {
                    (true, _) => member.is_idle(),
                    (_, true) => member.may_log(),
                    _ => !member.exclusive.get(),
                };
                member.class == class && member.stateless == stateless && !member.dead.get() && free
            });
            fitting.next().cloned()
        };
        let member = match found {
            Some(member) => member,
            None if self.server.has_room() || self.server.make_room() => {
                Member::start(self, &class, meta.name.as_deref().filter(|_| !class.is_empty()), stateless)
            }
            None => return None,
        };
        member.reserved.set(member.reserved.get() + 1);
        member.exclusive.set(alone);
        // The last one is the next to be used.
        self.forget(&member);
        self.members.borrow_mut().push(Rc::clone(&member));
        Some(Reserved(member, Rc::clone(self)))
    }

    /// Removes a process from the pool.
    pub(super) fn forget(&self, member: &Rc<Member>) {
        self.members.borrow_mut().retain(|known| !Rc::ptr_eq(known, member));
    }

    /// Ends processes that nobody uses, again and again; one for clients of any kind stays.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            sleep(self.server.settings.sweep).await;
            let members = self.members.borrow().clone();
            for (place, member) in members.iter().enumerate() {
                let last = member.class.is_empty() && !members[place + 1..].iter().any(|other| other.class.is_empty());
                let used = !member.is_idle() || self.is_heard(member) || member.is_subscribed_to();
                if !last && !used && member.used.get().elapsed() > self.server.settings.idle {
                    member.end();
                    self.forget(member);
                }
            }
        }
    }

    /// Ends the process that was not used for the longest time; returns whether there was one.
    pub fn end_unused(&self) -> bool {
        let unused = {
            let members = self.members.borrow();
            members
                .iter()
                .find(|member| member.is_idle() && !self.is_heard(member) && !member.is_subscribed_to())
                .cloned()
        };
        let Some(unused) = unused else { return false };
        unused.end();
        self.forget(&unused);
        true
    }
}

/// A process that a call is about to use.
struct Reserved(Rc<Member>, Rc<Pool>);

impl Drop for Reserved {
    fn drop(&mut self) {
        let Reserved(member, pool) = self;
        member.reserved.set(member.reserved.get().saturating_sub(1));
        if member.is_idle() {
            member.exclusive.set(false);
            pool.server.touch();
        }
    }
}

/// Returns the capabilities that matter, as JSON; nothing without one.
fn class(meta: &Meta) -> String {
    let capabilities = Object::or_empty(meta.capabilities.as_deref());
    if MATTER.iter().any(|name| capabilities.has(name)) { capabilities.to_string() } else { String::new() }
}
