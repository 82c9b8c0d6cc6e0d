//! How long a machine's certificates are still valid.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use x509_parser::pem::parse_x509_pem;

use crate::doctor::fault::Fault;
use crate::doctor::finding::Finding;
use crate::host::files::read_if_there;
use crate::machine::Machine;
use crate::machine::paths::MachinePath;
use crate::mcp::endpoint::{authority, renewal};

const CHECK: &str = "certificates";
/// Time before the end of an authority at which there is a warning.
const SOON: SignedDuration = SignedDuration::from_hours(60 * 24);
/// Time after which a run's certificate should have been renewed; the renewal begins earlier.
const RENEWED: SignedDuration = SignedDuration::from_hours(75 * 24);

/// Checks the authorities and, while the machine runs, the certificate of the run.
pub fn check(machine: &Machine) -> Vec<Finding> {
    let now = Timestamp::now();
    let authorities = [MachinePath::TlsAuthority, MachinePath::EgressAuthorityCertificate];
    let mut all: Vec<_> = authorities.into_iter().filter_map(|path| authority_of(machine, path, now)).collect();
    let facts = machine.run().qemu().and_then(|_| machine.run().facts()).filter(|facts| facts.tls);
    if let Some(Ok(issued)) = facts.map(|facts| renewal::issued(machine, &facts)) {
        all.push(judge_run(issued, now));
    }
    all
}

fn authority_of(machine: &Machine, path: MachinePath, now: Timestamp) -> Option<Finding> {
    let place = path.of(&machine.dir);
    let text = match read_if_there(&place) {
        Ok(text) => text?,
        Err(error) => return Some(unreadable(path, &format!("{error:#}"), &place)),
    };
    Some(judge_authority(path, &place, end_of(&text), now))
}

/// Returns when a certificate ends.
fn end_of(pem: &str) -> Result<Timestamp, String> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).map_err(|error| error.to_string())?;
    let certificate = pem.parse_x509().map_err(|error| error.to_string())?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|error| error.to_string())
}

fn unreadable(path: MachinePath, why: &str, place: &Path) -> Finding {
    let place = place.parent().unwrap_or(place);
    Finding::fault(CHECK, Fault::AuthorityExpires, format!("{} cannot be read: {why}", path.name())).with_path(place)
}

fn judge_authority(path: MachinePath, place: &Path, end: Result<Timestamp, String>, now: Timestamp) -> Finding {
    let end = match end {
        Ok(end) => end,
        Err(why) => return unreadable(path, &why, place),
    };
    let (name, day) = (path.name(), end.strftime("%Y-%m-%d"));
    if end.duration_since(now) > SOON {
        return Finding::ok(CHECK, format!("{name} is valid until {day}"));
    }
    let when = if end < now { "expired on" } else { "expires on" };
    let dir = place.parent().unwrap_or(place);
    Finding::fault(CHECK, Fault::AuthorityExpires, format!("{name} {when} {day}")).with_path(dir)
}

fn judge_run(issued: Timestamp, now: Timestamp) -> Finding {
    let age = now.duration_since(issued);
    let days = age.as_hours() / 24;
    if age <= RENEWED {
        return Finding::ok(CHECK, format!("the run's certificate is {days} days old"));
    }
    let lasts = authority::RUN.whole_days();
    let message = format!("the run's certificate is {days} of {lasts} days old and was not renewed");
    Finding::fault(CHECK, Fault::CertificateExpires, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::endpoint::names::Names;

    #[test]
    fn the_end_of_an_authority_is_read() {
        let names = Names::new("localhost", std::net::Ipv4Addr::LOCALHOST, None);
        let pair = authority::make("app-main", &names).unwrap();
        let left = end_of(&pair.certificate).unwrap().duration_since(Timestamp::now());
        assert!((3_649..=3_650).contains(&(left.as_hours() / 24)), "{left:?}");
        assert!(end_of("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err());
    }

    #[test]
    fn certificates_are_judged_by_their_end() {
        let day = |day: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day);
        let of = |end| judge_authority(MachinePath::TlsAuthority, Path::new("/m/tls/ca.pem"), end, day(1_000)).fault;
        assert_eq!(of(Ok(day(2_000))), None);
        for end in [Ok(day(1_059)), Ok(day(900)), Err("bad".to_owned())] {
            assert_eq!(of(end), Some(Fault::AuthorityExpires));
        }
        assert_eq!(judge_run(day(930), day(1_000)).fault, None);
        assert_eq!(judge_run(day(920), day(1_000)).fault, Some(Fault::CertificateExpires));
    }
}
