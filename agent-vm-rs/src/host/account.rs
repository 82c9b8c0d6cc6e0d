//! Accounts of this host.

use std::time::Duration;

use crate::host::process::Invocation;

/// Time for a directory of the network to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// Returns the name of this process's account; its number if it has none.
#[must_use]
pub fn name() -> String {
    let uid = rustix::process::geteuid().as_raw();
    field(uid, 0).unwrap_or_else(|| uid.to_string())
}

/// Returns a field of an account's line: passwd(5). It is in `/etc/passwd`, or in another place that getent(1) knows, such as a
/// directory of the network. None if the account has no line.
#[must_use]
pub fn field(uid: u32, index: usize) -> Option<String> {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    field_in(&accounts, uid, index, || {
        let ask = Invocation::new("getent").args(["passwd", "--"]).arg(uid.to_string()).cwd("/");
        ask.time_limit(ANSWER).read().ok()
    })
}

/// Returns a field of an account's line among `accounts`, or else in what `ask` returns.
fn field_in(accounts: &str, uid: u32, index: usize, ask: impl FnOnce() -> Option<String>) -> Option<String> {
    field_of(accounts, uid, index).or_else(|| field_of(&ask()?, uid, index))
}

fn field_of(accounts: &str, uid: u32, index: usize) -> Option<String> {
    let line = accounts.lines().find(|line| line.split(':').nth(2).is_some_and(|id| id.parse() == Ok(uid)))?;
    line.split(':').nth(index).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_number() {
        let accounts = "root:x:0:0::/root:/bin/sh\n10:x:7:10::/home/ten:/bin/sh\n+::::::\n";
        assert_eq!(field_of(accounts, 7, 0).as_deref(), Some("10"));
        assert_eq!(field_of(accounts, 7, 5).as_deref(), Some("/home/ten"));
        assert_eq!((field_of(accounts, 10, 0), field_of(accounts, 0, 9)), (None, None));
        let other = || Some("eight:x:8:8::/net/eight:/bin/sh\n".to_owned());
        assert_eq!(field_in(accounts, 8, 5, other).as_deref(), Some("/net/eight"));
        assert_eq!((field_in(accounts, 7, 0, other).as_deref(), field_in(accounts, 9, 0, other)), (Some("10"), None));
    }
}
