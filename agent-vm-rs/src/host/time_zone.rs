//! The host's time zone.

use std::fs;
use std::path::Path;

/// The zone of a host that names none.
const DEFAULT: &str = "UTC";
/// Directory of the time zone database, in paths of zones.
const DATABASE: &str = "zoneinfo/";
/// No zone has a longer name; it becomes part of a path in the guest.
const LONGEST: usize = 64;

/// Returns the name of the user's time zone: `TZ`, else the host's, else UTC.
#[must_use]
pub fn name() -> String {
    let own = std::env::var("TZ").ok();
    let link = || zone(fs::read_link("/etc/localtime").ok()?.to_str()?);
    let file = || zone(&fs::read_to_string("/etc/timezone").ok()?);
    own.as_deref().and_then(zone).or_else(link).or_else(file).unwrap_or_else(|| DEFAULT.to_owned())
}

/// Returns the name of the zone in a value of TZ (tzset(3)), the target of `/etc/localtime` or the text of `/etc/timezone`; None if it names no zone, as
/// `CET-1CEST` does.
fn zone(value: &str) -> Option<String> {
    let value = value.strip_prefix(':').unwrap_or(value).trim();
    let name = match value.rsplit_once(DATABASE) {
        Some((_, name)) => name,
        None if Path::new(value).is_absolute() => return None,
        None => value,
    };
    let name = ["posix/", "right/"].iter().find_map(|kind| name.strip_prefix(kind)).unwrap_or(name);
    is_name(name).then(|| name.to_owned())
}

/// Checks whether a text can be the name of a zone: it has no `.`, so that it stays within the database.
fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "_-+".contains(c))
    };
    // A rule of POSIX, such as EST5EDT4, looks like the zones EST5EDT and CST6CDT; the guest checks whether it exists.
    name.len() <= LONGEST && name.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zones_are_found_in_every_notation() {
        for (value, name) in [
            ("Europe/Berlin", "Europe/Berlin"),
            (":Europe/Berlin", "Europe/Berlin"),
            ("/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"),
            (":/etc/zoneinfo/posix/Asia/Tokyo", "Asia/Tokyo"),
            ("America/Argentina/Buenos_Aires\n", "America/Argentina/Buenos_Aires"),
            ("America/Port-au-Prince", "America/Port-au-Prince"),
            ("Etc/GMT+12", "Etc/GMT+12"),
            ("UTC", "UTC"),
        ] {
            assert_eq!(zone(value).as_deref(), Some(name), "{value}");
        }
    }

    #[test]
    fn what_names_no_zone_is_ignored() {
        let long = "A".repeat(LONGEST + 1);
        for value in [
            "",
            ":",
            "/",
            "<+03>-3",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "/etc/localtime",
            "../../etc/passwd",
            "/usr/share/zoneinfo/../../etc/passwd",
            "Europe/",
            "/Europe",
            "Europe//Berlin",
            "Europe/Ber lin",
            "Europe/Ber\nlin",
            "-x",
            "Europe/-x",
            "$(id)",
            "Zürich",
            &long,
        ] {
            assert_eq!(zone(value), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn a_zone_stays_within_the_database(value in "(/usr/share/zoneinfo/)?[A-Za-z./+:~ -]{0,20}") {
            if let Some(name) = zone(&value) {
                prop_assert!(!name.contains('.') && !name.starts_with('/') && !name.ends_with('/') && !name.is_empty());
            }
        }
    }
}
