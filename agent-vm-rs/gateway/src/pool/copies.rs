//! Subscriptions at all processes of a server that knows the version without sessions: a change may come from any of them.

use std::rc::Rc;

use super::Pool;
use super::call::Call;
use super::member::Member;

impl Pool {
    /// Sends a subscription to the other processes.
    pub(super) fn listen_everywhere(&self, member: &Rc<Member>, call: &Rc<Call>) {
        let others = self.members.borrow().clone();
        for other in others.iter().filter(|other| other.stateless && !Rc::ptr_eq(other, member)) {
            if other.hello().is_some() {
                self.send_copy(other, call);
            }
        }
    }

    /// Sends a new process all subscriptions.
    pub(super) fn listen_with(&self, member: &Rc<Member>) {
        let others = self.members.borrow().clone();
        for other in others.iter().filter(|other| !Rc::ptr_eq(other, member)) {
            let calls: Vec<Rc<Call>> = other.calls.borrow().values().cloned().collect();
            for call in calls.iter().filter(|call| call.is_subscription() && !call.is_copy) {
                self.send_copy(member, call);
            }
        }
    }

    fn send_copy(&self, member: &Rc<Member>, call: &Rc<Call>) {
        let copy = call.copy(self);
        if member.send_call(&copy) {
            call.copies.borrow_mut().push((Rc::clone(member), copy));
        }
    }
}

impl Member {
    /// Returns whether a client's subscription ends with the process.
    pub(super) fn is_subscribed_to(&self) -> bool {
        self.calls.borrow().values().any(|call| call.is_subscription() && !call.is_copy)
    }
}
