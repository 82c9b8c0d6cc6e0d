//! HEAD of a repository.

use crate::machine::branch::BranchName;

/// What HEAD names.
#[derive(Default)]
pub struct Head {
    /// Checked-out branch, if its name is valid.
    pub branch: Option<BranchName>,
    /// Checked-out commit, if there is one.
    pub commit: Option<String>,
}
