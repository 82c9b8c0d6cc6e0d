//! Tests of the images of the Debian guest.

use super::*;

/// An image, and the directory of a machine.
fn world(dir: &Path) -> (PathBuf, PathBuf) {
    let image = path_of(&directory(dir), "0123456789abcdef0123");
    fs::create_dir_all(image.join("share/agent-vm")).unwrap();
    fs::write(image.join("base.img"), vec![1; 100_000]).unwrap();
    let machine = dir.join("elsewhere/app-main");
    fs::create_dir_all(machine.join("flake")).unwrap();
    (image, machine)
}

#[test]
fn images_of_registered_and_known_machines_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let (image, machine) = world(dir.path());
    let one = |known: &[PathBuf]| all(dir.path(), known).unwrap().remove(0);
    assert!(one(&[]).users.is_empty() && one(&[]).bytes >= 100_000);
    symlink(&image, MachinePath::Guest.of(&machine)).unwrap();
    assert!(one(&[]).users.is_empty(), "a machine of an unknown state directory");
    assert_eq!(one(std::slice::from_ref(&machine)).users, ["app-main"]);
    register(&image, &machine);
    register(&image, &machine);
    assert_eq!(one(&[]).users, ["app-main"]);
    assert!(!remove(&one(&[]), &[]).unwrap() && image.exists());
    // The cache is reached by another path.
    symlink(dir.path(), dir.path().join("link")).unwrap();
    let elsewhere = all(&dir.path().join("link"), &[]).unwrap().remove(0);
    assert_eq!(elsewhere.users, ["app-main"]);
    assert!(!remove(&elsewhere, &[]).unwrap() && image.exists());
    // Links of destroyed machines do not pile up.
    let links = || links_in(&users_of(&image).unwrap()).count();
    let others = ["elsewhere/app-gone", "not-mounted/app-main"].map(|machine| dir.path().join(machine));
    others.iter().for_each(|other| register(&image, other));
    register(&image, &machine);
    assert_eq!(links(), 2, "that of a disk that is away stays");
    // The machine is destroyed.
    fs::remove_dir_all(&machine).unwrap();
    assert!(one(&[]).users.is_empty());
    assert!(remove(&one(&[]), &[]).unwrap() && !image.exists());
    let left: Vec<_> = fs::read_dir(directory(dir.path())).unwrap().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "its records are removed, too: {left:?}");
    assert!(all(dir.path(), &[]).unwrap().is_empty());
}

#[test]
fn a_prepared_image_is_one_that_no_machine_uses_yet() {
    let dir = tempfile::tempdir().unwrap();
    let (image, machine) = world(dir.path());
    let prepared = prepared_of(&directory(dir.path()), "0123456789abcdef0123");
    fs::rename(&image, &prepared).unwrap();
    let [found] = &all(dir.path(), &[]).unwrap()[..] else { panic!() };
    assert_eq!((&found.path, &*found.name, &*found.users), (&prepared, "0123456789abcdef", &[][..]));
    // A machine's first start is about to take it.
    register(&image, &machine);
    let start = Lock::try_take(&StateDir::lock_of(&machine).unwrap()).unwrap().unwrap();
    assert_eq!(all(dir.path(), &[]).unwrap()[0].users, ["app-main"]);
    assert!(!remove(found, &[]).unwrap() && prepared.exists());
    drop(start);
    // An image is listed once.
    fs::create_dir(&image).unwrap();
    let [both] = &all(dir.path(), &[]).unwrap()[..] else { panic!() };
    assert_eq!(both.path, image);
    fs::remove_dir(&image).unwrap();
    fs::remove_dir_all(&machine).unwrap();
    assert!(remove(found, &[]).unwrap() && !prepared.exists());
    assert!(all(dir.path(), &[]).unwrap().is_empty());
}

#[test]
fn a_machine_whose_start_builds_the_image_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let (image, machine) = world(dir.path());
    register(&image, &machine);
    let one = || all(dir.path(), &[]).unwrap().remove(0);
    let start = Lock::try_take(&StateDir::lock_of(&machine).unwrap()).unwrap().unwrap();
    assert_eq!(one().users, ["app-main"]);
    assert!(!remove(&one(), &[]).unwrap());
    // The start ended without this image, such as after a change of the machine's settings.
    drop(start);
    assert!(one().users.is_empty());
    // A builder outlives its agent-vm.
    let builder = Lock::try_take(&lock_of(&directory(dir.path()), "0123456789abcdef")).unwrap().unwrap();
    assert!(!remove(&one(), &[]).unwrap());
    drop(builder);
    assert!(remove(&one(), &[]).unwrap());
}

#[test]
fn the_age_is_that_of_the_packages() {
    let dir = tempfile::tempdir().unwrap();
    let (image, _) = world(dir.path());
    assert_eq!(age(&image), None);
    assert!(!all(dir.path(), &[]).unwrap()[0].is_snapshot);
    let write = |text: &str| fs::write(image.join("share/agent-vm/built.json"), text).unwrap();
    write(r#"{"snapshot": "2001-02-03T00:00:00Z", "built": "2026-11-30T08:00:00Z", "more": 1}"#);
    let found = all(dir.path(), &[]).unwrap().remove(0);
    assert!(found.is_snapshot && found.packages_of.unwrap().to_string() == "2001-02-03T00:00:00Z");
    assert!(age(&image).unwrap() > OLD);
    write(&format!(r#"{{"snapshot": null, "built": "{}"}}"#, Timestamp::now()));
    assert!(age(&image).unwrap() < OLD);
}
