//! Fetches what a machine of another host has: from the repository there into which its agent-vm has fetched it. What passes
//! is the guest's, and is checked as if the guest had sent it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::change::Change;
use super::plan::{FORMER, Named, Plan, named};
use super::{Fetched, apply};
use crate::git::call::git;
use crate::git::install::install_kept;
use crate::git::mirror::Link;
use crate::git::namespace::{claim, namespace};
use crate::git::workspace::{Limit, MOST_OBJECTS, MOST_OFFERS, UNCOMMITTED};
use crate::git::{Source, SourceReader, alternates, links};
use crate::host::interrupt;
use crate::host::process::Invocation;
use crate::machine::name::VmName;
use crate::machine::state_dir::StateDir;
use crate::machine::sweep::Scratch;
use crate::term::error::Failure;
use crate::term::text::bytes;

/// Where the references of the other repository are put.
const BROUGHT: &str = "refs/brought/";
/// What a pack may have beside the contents of the files: trees, commits and headers.
const BESIDE: u64 = 1 << 30;

/// What to fetch, and from where.
pub struct Mirrored<'a> {
    /// The state directory of this host for machines of the other one.
    pub state: &'a StateDir,
    /// Name of the machine.
    pub name: &'a VmName,
    /// The repository of this host.
    pub source: &'a Source,
    /// The repository of the other host.
    pub link: &'a Link,
    /// Start of the names of the machine's references there.
    pub prefix: &'a str,
    /// Whether the uncommitted changes there are those of now.
    pub has_looked_at_files: bool,
    /// A directory for temporary files.
    pub scratch: &'a Path,
    /// Limit of what is brought.
    pub limit: Limit<'a>,
}

/// Fetches everything that the other repository has of the machine.
///
/// # Errors
/// Git refuses an object, there is too much, the host cannot be reached, or the repository cannot be written.
pub fn fetch(wanted: &Mirrored<'_>) -> Result<Fetched> {
    let Mirrored { source, scratch, .. } = *wanted;
    links::check(&source.place)?;
    let reader = SourceReader::open(source, scratch)?;
    let known: Named = reader.refs.iter().map(|one| (one.name.clone(), one.id.clone())).collect();
    let quarantine = Scratch::new_in(scratch)?;
    prepare(quarantine.path(), source, &reader)?;
    let inside = || git().arg("--git-dir").arg(quarantine.path()).of_machine(scratch);
    let mut offered = receive(wanted, inside)?;
    check(wanted, &offered, &reader, inside)?;
    let stores = &reader.stores;
    let mut kept = Vec::new();
    let packs = quarantine.path().join("objects/pack");
    for entry in fs::read_dir(&packs).context("failed to list the received packs")?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "idx") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            kept.push(install_kept(&packs, &name, &stores.objects)?);
        }
    }
    let prefix = namespace(source, wanted.state, wanted.name)?;
    let below = |name: &[u8]| name.strip_prefix(prefix.as_bytes()).map(<[u8]>::to_vec);
    let mut current: Named = known.iter().filter_map(|(name, id)| Some((below(name)?, id.clone()))).collect();
    if !wanted.has_looked_at_files {
        current.remove(UNCOMMITTED);
        offered.remove(UNCOMMITTED);
    }
    // What this repository loses now, it keeps under the same name itself.
    offered.retain(|name, id| {
        !name.starts_with(FORMER) || current.get(name) == Some(id) || !current.values().any(|has| has == id)
    });
    let plan = Plan::new(&current, &offered);
    let mut fetched = Fetched { has_looked_at_files: wanted.has_looked_at_files, ..Fetched::default() };
    if !plan.is_empty() {
        claim(source, wanted.state, wanted.name, &prefix)?;
        let (git_dir, standin) = (&source.place.common_dir, &reader.standin);
        reader.standin.link_new_objects()?;
        let change = Change { git_dir, standin, known: &known, plan: &plan, prefix: &prefix, scratch };
        fetched.commits = change.commits()?;
        fetched.updates = apply(source, change)?;
    }
    fetched.prefix = prefix;
    Ok(fetched)
}

/// Makes an empty repository that borrows the source's objects and names its references, so that only new objects are sent.
fn prepare(dir: &Path, source: &Source, reader: &SourceReader) -> Result<()> {
    let init = git().args(["init", "--quiet", "--bare", "--template="]);
    let init = if source.format.objects == "sha1" { init } else { init.arg("--object-format=sha256") };
    init.arg(dir).checked().context("failed to make a repository for what is received")?;
    let lines = reader.tips.iter().enumerate().map(|(at, id)| format!("{id} refs/known/{at}\n"));
    let alternates = alternates::line(&reader.objects())?;
    let fill = || -> std::io::Result<()> {
        fs::create_dir_all(dir.join("objects/info"))?;
        fs::write(dir.join("objects/info/alternates"), alternates)?;
        if reader.stores.shallow.is_file() {
            fs::copy(&reader.stores.shallow, dir.join("shallow"))?;
        }
        fs::write(dir.join("packed-refs"), lines.collect::<String>())
    };
    fill().context("failed to make a repository for what is received")
}

/// Receives the references and the objects that this repository lacks. Git checks each object.
fn receive(wanted: &Mirrored<'_>, inside: impl Fn() -> Invocation) -> Result<Named> {
    let Mirrored { link, limit, .. } = *wanted;
    let settings =
        ["fetch.fsckObjects=true", "transfer.fsckObjects=true", "fetch.unpackLimit=1", "fetch.showForcedUpdates=false"];
    let call = settings.iter().fold(inside(), |git, setting| git.args(["-c", setting]));
    let call = call.args(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]);
    let call = call.args(["--upload-pack", &link.program, "--", &link.url, &format!("+{}*:{BROUGHT}*", wanted.prefix)]);
    let output = link.of(call).writing_at_most(limit.bytes.saturating_add(BESIDE)).output()?;
    if !output.status.success() {
        return Err(link.failed("fetch from", &output.stderr).into());
    }
    interrupt::check()?;
    let list = inside().args(["for-each-ref", "--format=%(objectname) %(refname)", BROUGHT]).read()?;
    let lines: Vec<_> = list.lines().collect();
    if lines.len() > MOST_OFFERS {
        return Err(Failure::new(format!(
            "the machine offers {} references; at most {MOST_OFFERS} are fetched",
            lines.len()
        ))
        .with_hint("remove some in the machine: agent-vm shell")
        .into());
    }
    let offers = lines.iter().filter_map(|line| {
        let (id, name) = line.split_once(' ')?;
        Some((name.strip_prefix(BROUGHT)?.as_bytes(), id))
    });
    Ok(named(offers))
}

/// Checks that the objects are complete, and that they are not too many or too large.
fn check(wanted: &Mirrored<'_>, offered: &Named, reader: &SourceReader, inside: impl Fn() -> Invocation) -> Result<()> {
    let tips = offered.values().map(|id| format!("{id}\n"));
    let range: String = tips.chain(reader.tips.iter().map(|id| format!("^{id}\n"))).collect();
    let list = inside().args(["rev-list", "--objects", "--no-object-names", "--stdin"]).stdin(range);
    let new = list.checked_within(256 << 20).context("what was received is not complete")?.stdout;
    let count = new.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    if count > MOST_OBJECTS {
        return Err(Failure::new(format!("the machine has {count} new objects; at most {MOST_OBJECTS} are fetched"))
            .with_hint("find out what it committed: agent-vm exec -- git log --stat")
            .into());
    }
    let sizes = inside().args(["cat-file", "--batch-check=%(objectsize)"]).stdin(new).checked_within(256 << 20)?.stdout;
    let sizes = String::from_utf8_lossy(&sizes);
    let all = sizes.lines().filter_map(|size| size.parse::<u64>().ok()).fold(0, u64::saturating_add);
    tracing::info!("received {count} objects of {}", bytes(all));
    wanted.limit.require(all)?;
    // No new object is damaged or missing, whatever was borrowed.
    Ok(())
}
