//! Arguments of setpriv, which runs a program as another account.

use super::{Account, Sandbox};

/// Returns the setpriv command that precedes a program which runs as another account.
#[must_use]
pub fn drop_to(account: Option<&Account>) -> Vec<String> {
    let Some(Account { uid, gid, groups, .. }) = account else { return Vec::new() };
    let groups = match groups.as_slice() {
        [] => "--clear-groups".to_owned(),
        ids => format!("--groups={}", ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")),
    };
    [
        "setpriv".to_owned(),
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        groups,
        "--no-new-privs".to_owned(),
        "--inh-caps=-all".to_owned(),
        "--bounding-set=-all".to_owned(),
        "--".to_owned(),
    ]
    .into()
}

/// Returns [`drop_to`] for a program in namespaces that root created; empty if its account created them.
pub(super) fn drop_inside(sandbox: &Sandbox) -> Vec<String> {
    drop_to(sandbox.account.as_ref().filter(|account| account.stage.is_none()))
}
