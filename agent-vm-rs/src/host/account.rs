//! Accounts of this host.

/// Returns the name of this process's account; its number if it has none.
#[must_use]
pub fn name() -> String {
    let uid = rustix::process::geteuid().as_raw();
    field(uid, 0).unwrap_or_else(|| uid.to_string())
}

/// Returns a field of an account's line in `/etc/passwd`: passwd(5). None if it has no line there.
#[must_use]
pub fn field(uid: u32, index: usize) -> Option<String> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts.lines().find(|line| line.split(':').nth(2).is_some_and(|id| id.parse() == Ok(uid)))?;
    line.split(':').nth(index).map(str::to_owned)
}
