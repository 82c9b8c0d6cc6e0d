//! Decides how the source's references to a machine's objects change.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::host::hex::hex;

/// References: names below the machine's, and object ids.
pub type Named = BTreeMap<Vec<u8>, String>;

/// Longest component of a name, in bytes. Git adds `.lock`, and file systems allow 255.
const MAX_COMPONENT: usize = 200;
/// Longest name, in bytes; paths may have 4096.
const MAX_NAME: usize = 1000;
/// Directory of commits that a machine had and no longer has.
pub const FORMER: &[u8] = b"former/";
/// Directory of what was restored of earlier machines of the same name.
pub const KEPT: &[u8] = b"kept/";

/// How references change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// New references.
    pub create: Named,
    /// Changed references with their old and new ids.
    pub change: BTreeMap<Vec<u8>, (String, String)>,
    /// References that the machine no longer has.
    pub delete: Named,
}

impl Plan {
    /// Returns what makes `offered` of `current`.
    #[must_use]
    pub fn new(current: &Named, offered: &Named) -> Self {
        let mut plan = Self::default();
        for (name, new) in offered {
            match current.get(name) {
                None => drop(plan.create.insert(name.clone(), new.clone())),
                Some(old) if old != new => drop(plan.change.insert(name.clone(), (old.clone(), new.clone()))),
                Some(_) => {}
            }
        }
        let stays = |name: &[u8]| name.starts_with(FORMER) || name.starts_with(KEPT);
        let gone = current.iter().filter(|(name, _)| !stays(name) && !offered.contains_key(*name));
        plan.delete = gone.map(|(name, old)| (name.clone(), old.clone())).collect();
        plan
    }

    /// Returns whether a new reference can be created only after others are removed: one name is a directory of the other.
    #[must_use]
    pub fn must_wait(&self, name: &[u8]) -> bool {
        self.create.contains_key(name) && self.delete.keys().any(|gone| is_below(name, gone) || is_below(gone, name))
    }

    /// Returns whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.create.is_empty() && self.change.is_empty() && self.delete.is_empty()
    }
}

fn is_below(name: &[u8], dir: &[u8]) -> bool {
    name.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Returns references with the offered names, or with a number added where two objects have the same name, or where one
/// name is a directory of another (packed references may have both).
#[must_use]
pub fn named<'a>(offers: impl Iterator<Item = (&'a [u8], &'a str)>) -> Named {
    let offers: Vec<_> = offers.map(|(name, object)| (storable(name.to_vec()), object)).collect();
    let taken = |name: &[u8], named: &Named| {
        let below = [name, b"/"].concat();
        let is_dir = named.range(below.clone()..).next().is_some_and(|(next, _)| next.starts_with(&below));
        let in_the_way = || name.iter().enumerate().any(|(at, byte)| *byte == b'/' && named.contains_key(&name[..at]));
        named.contains_key(name) || is_dir || in_the_way()
    };
    let mut named = Named::new();
    // The longest names first, so that the directory's own name is the one that changes.
    let mut sorted: Vec<_> = offers.iter().collect();
    sorted.sort_by_key(|(name, _)| std::cmp::Reverse(name.iter().filter(|byte| **byte == b'/').count()));
    for (name, object) in sorted {
        let others = (2_u32..).map(|number| [name.as_slice(), format!("-{number}").as_bytes()].concat());
        let free = std::iter::once(name.clone()).chain(others).find(|name| !taken(name, &named));
        named.insert(free.unwrap_or_else(|| name.clone()), (*object).to_owned());
    }
    named
}

/// Returns a name that every file system can store: a long one becomes `long/HASH`.
fn storable(name: Vec<u8>) -> Vec<u8> {
    if name.len() <= MAX_NAME && name.split(|byte| *byte == b'/').all(|part| part.len() <= MAX_COMPONENT) {
        return name;
    }
    format!("long/{}", hex(&Sha256::digest(&name)[..16])).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[(&str, &str)]) -> Named {
        super::named(names.iter().map(|(name, id)| (name.as_bytes(), *id)))
    }

    #[test]
    fn no_name_is_a_directory_of_another() {
        let names = |list: &[(&str, &str)]| -> Vec<String> {
            named(list).into_keys().map(|name| String::from_utf8(name).unwrap()).collect()
        };
        assert_eq!(
            names(&[("heads/a", "1"), ("heads/a/b", "2"), ("heads/a/b/c", "3")]),
            ["heads/a-2", "heads/a/b-2", "heads/a/b/c"]
        );
        assert_eq!(names(&[("heads/a", "1"), ("heads/b", "2")]), ["heads/a", "heads/b"]);
    }

    #[test]
    fn a_name_waits_for_the_removal_of_its_directory() {
        let current = named(&[("heads/a", "1"), ("heads/b/c", "2")]);
        let plan = Plan::new(&current, &named(&[("heads/a/x", "1"), ("heads/b", "2"), ("heads/c", "3")]));
        assert!(plan.must_wait(b"heads/a/x") && plan.must_wait(b"heads/b") && !plan.must_wait(b"heads/c"));
    }

    #[test]
    fn no_object_takes_the_name_of_another() {
        let named = named(&[("x", "1"), ("x", "2"), ("x-2", "3")]);
        assert_eq!(named.values().collect::<Vec<_>>().len(), 3, "{named:?}");
    }

    #[test]
    fn references_mirror_the_machine_and_former_commits_stay() {
        let kept = [("former/0", "0"), ("kept/x/heads/a", "9")];
        let current = named(&[&[("heads/a", "1"), ("heads/b", "2"), ("heads/c", "3")][..], &kept].concat());
        let plan = Plan::new(&current, &named(&[("heads/a", "1"), ("heads/b", "4"), ("heads/d", "5")]));
        assert_eq!(plan.create, named(&[("heads/d", "5")]));
        assert_eq!(plan.change.keys().collect::<Vec<_>>(), [b"heads/b"]);
        assert_eq!(plan.delete, named(&[("heads/c", "3")]));
        assert!(Plan::new(&current, &named(&[("heads/a", "1"), ("heads/b", "2"), ("heads/c", "3")])).is_empty());
    }

    #[test]
    fn long_names_are_replaced() {
        assert_eq!(storable(b"heads/a".to_vec()), b"heads/a");
        let long = storable([&b"heads/"[..], &[b'x'; 250]].concat());
        assert!(long.starts_with(b"long/") && long.len() < 50, "{long:?}");
    }
}
