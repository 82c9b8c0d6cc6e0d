//! All places through which a path is resolved. Who can change one of them can make the path lead elsewhere.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::host::files::resolved;

/// Largest number of links in a path; Linux follows as many.
const MOST_LINKS: usize = 40;

/// Returns the places of all parts of an absolute path and of the links in it. Each place itself may be a link; the directory
/// that has it is none.
#[must_use]
pub fn passed(path: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut links = 0;
    follow(path, &mut places, &mut links);
    places
}

fn follow(path: &Path, places: &mut Vec<PathBuf>, links: &mut usize) {
    let mut at = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(at.pop()),
            Component::CurDir => {}
            part => at.push(part),
        }
        places.push(at.clone());
        let Ok(target) = fs::read_link(&at) else { continue };
        *links += 1;
        if *links > MOST_LINKS {
            return;
        }
        let next = at.parent().unwrap_or(Path::new("/")).join(target);
        follow(&next, places, links);
        at = resolved(&next);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_and_what_they_lead_to_are_passed() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("tree/dir")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        symlink("../../file", root.join("tree/dir/link")).unwrap();
        symlink("tree/dir", root.join("short")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let passes = |path: &str, place: &str| passed(&root.join(path)).contains(&root.join(place));
        assert!(passes("short/link", "tree/dir/link") && passes("short/link", "short") && passes("short/link", "file"));
        assert!(passes("short/none", "tree/dir/none"));
        assert!(!passes("file", "tree") && !passes("short/../x", "x") && passes("short/../x", "tree/x"));
        assert!(passes("loop", "loop"));
    }
}
