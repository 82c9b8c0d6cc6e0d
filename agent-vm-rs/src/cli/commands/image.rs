//! `agent-vm image`

use std::time::Duration;

use anyhow::Result;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::{leftovers, prune};
use crate::guest::images::{self, Image};
use crate::guest::snapshot::{self, Snapshot};
use crate::host::user_dirs::cache_dir;
use crate::machine::Machine;
use crate::machine::context::Context;
use crate::machine::settings::GuestKind;
use crate::term::output::{print, print_json};
use crate::term::progress::note;
use crate::term::table::Columns;
use crate::term::terminal;
use crate::term::text::{age, bytes, count};

/// Flags of `image`.
#[derive(Args, Clone, Debug)]
pub struct ImageArgs {
    #[command(subcommand)]
    verb: ImageVerb,
}

#[derive(Clone, Debug, Subcommand)]
enum ImageVerb {
    /// List the built images of the Debian guest, their age and their machines
    List,
    /// Choose today's Debian packages for all Debian guests; the next start of each machine builds or takes the new image
    Update,
    /// Remove images that no machine uses, and what is left of removed and half-built ones
    Prune(ImagePruneArgs),
}

/// Flags of `image prune`.
#[derive(Args, Clone, Debug)]
struct ImagePruneArgs {
    /// Print what would be removed and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Lists, updates or removes images.
///
/// # Errors
/// The cache cannot be read, or a file cannot be written.
pub fn image(context: &Context, args: &ImageArgs) -> Result<()> {
    match &args.verb {
        ImageVerb::List => list(context),
        ImageVerb::Update => update(context),
        ImageVerb::Prune(args) => prune::leftovers_alone(context, args.dry_run, leftovers::Leftover::is_of_images),
    }
}

fn list(context: &Context) -> Result<()> {
    let all = images::all(&cache_dir()?, &leftovers::known(&context.state)?)?;
    if context.json {
        return print_json(&all);
    }
    if all.is_empty() {
        note("there are no images yet; the first start of a Debian guest builds one");
        return Ok(());
    }
    let now = Timestamp::now();
    print(&COLUMNS.format(all.iter().map(|one| cells(one, now)).collect(), terminal::width(std::io::stdout())))
}

/// What a choice does not promise.
const MIRROR: &str = "a build that gets no answer from the archive of snapshots uses Debian's mirror; agent-vm image list shows which it was";

const COLUMNS: Columns<'_, 5> =
    Columns { header: ["IMAGE", "PACKAGES", "AGE", "SIZE", "MACHINES"], gives_way: &[(4, 10)], shorten_start: &[] };

fn cells(image: &Image, now: Timestamp) -> [String; 5] {
    let unknown = || "-".to_owned();
    let since = |time: Timestamp| age(Duration::try_from(now.duration_since(time)).unwrap_or_default());
    let date = |time: Timestamp| {
        let how = if image.is_snapshot { "snapshot" } else { "mirror" };
        format!("{how} {}", time.strftime("%Y-%m-%d"))
    };
    [
        image.name.clone(),
        image.packages_of.map_or_else(unknown, date),
        image.packages_of.map_or_else(unknown, since),
        bytes(image.bytes),
        if image.users.is_empty() { "none".to_owned() } else { image.users.join(", ") },
    ]
}

fn update(context: &Context) -> Result<()> {
    let own = snapshot::built_in()?;
    let (from, file) = (snapshot::current().unwrap_or_else(|_| own.clone()), snapshot::file()?);
    // A choice of a day that has not come is replaced, too: it was made while the clock was wrong.
    let to = today().max(own);
    let is_other = to != from;
    if is_other || snapshot::chosen().is_err() {
        snapshot::choose(&to)?;
    }
    if context.json {
        return print_json(&json!({ "from": from.name(), "to": to.name(), "file": file }));
    }
    if !is_other {
        note(&format!("the chosen snapshot of Debian is {}, which is the newest", from.name()));
        note(MIRROR);
        return Ok(());
    }
    note(&format!("chosen snapshot of Debian: {} → {}", from.name(), to.name()));
    note(MIRROR);
    let names = context.state.names()?;
    let is_debian = |machine: &Machine| machine.settings().is_ok_and(|settings| settings.guest == GuestKind::Debian);
    let machines = names.into_iter().map(|name| Machine::new(&context.state, name)).filter(is_debian).count();
    if machines > 0 {
        note(&format!("the next start of {} builds or takes the new image", count(machines, "machine")));
    }
    Ok(())
}

/// Returns the snapshot of today's beginning, so that machines that are updated on the same day share an image.
fn today() -> Snapshot {
    let now = Timestamp::now().as_second();
    Snapshot::of(Timestamp::from_second(now - now.rem_euclid(86_400)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_with_their_age_and_machines() {
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let image = Image {
            name: "0123456789abcdef".to_owned(),
            path: "/cache".into(),
            bytes: 300 << 20,
            packages_of: Some(at(0)),
            is_snapshot: true,
            users: vec!["app-main".to_owned(), "app-two".to_owned()],
        };
        let now = at(40 * 86_400);
        let shown = cells(&image, now);
        assert_eq!(
            shown,
            ["0123456789abcdef", "snapshot 2027-01-15", "40d 0h", "300.00 MiB", "app-main, app-two"].map(str::to_owned)
        );
        let unused = Image { packages_of: None, users: Vec::new(), is_snapshot: false, ..image };
        assert_eq!(cells(&unused, now)[1..].join("|"), "-|-|300.00 MiB|none");
    }

    #[test]
    fn todays_snapshot_begins_with_the_day() {
        assert!(today().name().ends_with("T000000Z"));
        let age = Timestamp::now().duration_since(today().time().unwrap());
        assert!((0..86_400).contains(&age.as_secs()));
    }
}
