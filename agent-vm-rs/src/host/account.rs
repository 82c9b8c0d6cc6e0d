//! The account of this process.

/// Returns the name of this process's account; its number if it has none.
#[must_use]
pub fn name() -> String {
    let uid = rustix::process::geteuid().as_raw();
    let name = |text: String| {
        text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
            (id.parse() == Ok(uid)).then(|| name.to_owned())
        })
    };
    std::fs::read_to_string("/etc/passwd").ok().and_then(name).unwrap_or_else(|| uid.to_string())
}
