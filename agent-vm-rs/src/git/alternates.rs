//! Object stores that a repository of the user's borrows from.

use std::path::{Path, PathBuf};

/// As deep as git follows them.
const DEPTH: usize = 5;

/// Every store that this one borrows from, and those they borrow from. One that cannot be read has none.
#[must_use]
pub fn of(objects: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut now = vec![objects.to_owned()];
    for _ in 0..DEPTH {
        now = now.iter().flat_map(|store| named_by(store)).filter(|store| !all.contains(store)).collect();
        all.extend(now.iter().cloned());
    }
    all
}

/// gitrepository-layout(5): a line each, a relative one from the store itself.
fn named_by(objects: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(objects.join("info/alternates")).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '"']));
    lines.map(|line| objects.join(line)).filter(|store| store.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_followed_and_a_ring_of_them_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = |name: &str, alternates: &str| {
            let store = dir.path().join(name);
            std::fs::create_dir_all(store.join("info")).unwrap();
            std::fs::write(store.join("info/alternates"), alternates).unwrap();
            store
        };
        let c = store("c", "../a\n");
        let b = store("b", &format!("# none\n{}\n/nowhere\n", c.display()));
        let a = store("a", "../b\n");
        let found: Vec<_> = of(&a).iter().map(|store| store.canonicalize().unwrap()).collect();
        assert!(found.contains(&b) && found.contains(&c), "{found:?}");
        assert!(of(&dir.path().join("none")).is_empty());
    }
}
