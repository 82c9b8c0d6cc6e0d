//! The ranges, defaults and descriptions of limits, from the file that the NixOS modules read too.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// The policy of one limit.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitPolicy {
    /// Unit of its values.
    pub unit: String,
    /// Smallest value.
    pub least: u32,
    /// Largest value.
    pub most: u32,
    /// Value of a machine for which none was set; None for no limit.
    pub default: Option<u32>,
    /// Description, for help texts.
    pub help: String,
}

static POLICY: LazyLock<BTreeMap<String, LimitPolicy>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../lib/policy/limits.json")).unwrap_or_default());

/// Returns the policy of the limit with this name; None if there is none.
#[must_use]
pub fn limit_policy(name: &str) -> Option<&'static LimitPolicy> {
    POLICY.get(name)
}
