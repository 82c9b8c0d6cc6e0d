//! Copies files between this host and a machine.
//!
//! Both directions are streams over the existing connection. Towards the guest, that is tar(1) there. From the guest, the stream is
//! unpacked here by [`super::unpack`] and not by scp, rsync or tar: those trust the other side's names, or need options for each of
//! the ways not to.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Ssh;
use super::pack::pack;
use super::unpack::{LeftOut, unpack};
use crate::host::files::is_absent;
use crate::host::process::Invocation;
use crate::machine::in_use::{self, InUse};
use crate::term::error::{Failure, Interrupted};
use crate::term::text::one_line;

/// Sets `p` to a path that is relative to the workspace or, after `~/`, to the home directory, and never looks like an option.
const PLACE: &str = r#"case $p in /*) ;; "~"|"~/"*) p=$HOME${p#"~"};; *) p=./$p;; esac"#;

/// Packs `$p` to standard output. tar's status 1 is a file that changed meanwhile.
const PACK: &str = r#"if [ -d "$p" ]; then tar --format=gnu --hard-dereference -C "$p" -cf - . || [ $? -eq 1 ]
else
  [ -f "$p" ] || { printf '%s: no such file or directory\n' "$p" >&2; exit 1; }
  tar --format=gnu --hard-dereference -C "$(dirname -- "$p")" -hcf - -- "$(basename -- "$p")" || [ $? -eq 1 ]
fi"#;

/// Most bytes that are read after the end of an archive. A record has 10 KiB (GNU tar's `--blocking-factor`).
const LONGEST_FILLING: u64 = 64 << 10;

/// What a copy runs in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum CopyAsk {
    /// Pack a file or directory to standard output.
    Out {
        /// Its path.
        path: String,
    },
    /// Unpack standard input into a directory.
    Directory {
        /// Its path, or that of the directory which it is put into.
        path: String,
        /// Its own name; without one, such as for `.`, the contents go into the directory itself.
        name: Option<String>,
    },
    /// Write standard input to a file.
    File {
        /// Its path, or that of the directory which it is put into.
        path: String,
        /// Its own name.
        name: Option<String>,
        /// Whether it can be executed.
        executable: bool,
    },
}

impl CopyAsk {
    /// Returns the call for a path of this host that is copied to `path`.
    ///
    /// # Errors
    /// It is neither a file nor a directory.
    fn of(source: &Path, name: Option<&str>, path: &str) -> Result<Self> {
        let found = source.metadata().with_context(|| format!("failed to read {}", source.display()))?;
        let (path, name) = (path.to_owned(), name.map(str::to_owned));
        match (found.is_dir(), found.is_file()) {
            (true, _) => Ok(Self::Directory { path, name }),
            (_, true) => Ok(Self::File { path, name, executable: found.permissions().mode() & 0o100 != 0 }),
            _ => Err(Failure::new(format!("{} is neither a file nor a directory", source.display()))
                .with_hint("links in a directory are copied; devices, pipes and sockets are not")
                .into()),
        }
    }

    /// Returns the path in the guest, and the script that reads or writes it as `$p`.
    fn script(&self) -> Result<(&str, String)> {
        let inside = |name: &Option<String>| -> Result<String> {
            let inside = match name {
                Some(name) => format!("/{}", shlex::try_quote(name).context("a path contains a NUL byte")?),
                None => String::new(),
            };
            Ok(format!("if [ -d \"$p\" ]; then p=$p{inside}; fi"))
        };
        Ok(match self {
            Self::Out { path } => (path, PACK.to_owned()),
            Self::Directory { path, name } => {
                let place = inside(name)?;
                (path, format!("{place}\n[ -d \"$p\" ] || mkdir -- \"$p\"\ntar --no-same-owner -C \"$p\" -xf -"))
            }
            Self::File { path, name, executable } => {
                let mode = if *executable { "\nchmod -- +x \"$p\"" } else { "" };
                (path, format!("{}\ncat >\"$p\"{mode}", inside(name)?))
            }
        })
    }
}

/// A machine that files are copied to and from: of this host, or of another one.
pub trait CopyEnd {
    /// Returns the call that runs a copy's script in the guest.
    ///
    /// # Errors
    /// A path cannot be quoted.
    fn call(&self, ask: &CopyAsk) -> Result<Invocation>;

    /// Returns the machine's name for messages.
    fn name(&self) -> &str;

    /// Records that a copy uses a machine of this host, as long as the result lives. Another host records its own.
    fn begin(&self) -> Option<InUse> {
        None
    }
}

impl CopyEnd for Ssh<'_> {
    fn call(&self, ask: &CopyAsk) -> Result<Invocation> {
        let (path, script) = ask.script()?;
        in_use::note(&self.machine.dir);
        Ok(self.remote(&self.at(path, &script)?))
    }

    fn name(&self) -> &str {
        self.machine.name.as_str()
    }

    fn begin(&self) -> Option<InUse> {
        Some(in_use::begin(&self.machine.dir))
    }
}

impl Ssh<'_> {
    fn at(&self, path: &str, script: &str) -> Result<String> {
        let path = shlex::try_quote(path).context("a path contains a NUL byte")?;
        Ok(format!("set -e; cd {}; p={path}\n{PLACE}\n{script}", self.workspace))
    }
}

/// Copies a file or directory of the guest, of at most `most` bytes, to `item`, which does not exist, in a directory that
/// no other program writes.
///
/// # Errors
/// The guest cannot read it, or sends too much or something that is not a file below it.
pub fn copy_out(from: &dyn CopyEnd, path: &str, item: &Path, most: u64) -> Result<LeftOut> {
    let _use = from.begin();
    let copied = from.call(&CopyAsk::Out { path: path.to_owned() })?.with_output(|mut stream| {
        let left_out = unpack(&mut stream, item, most)?;
        // tar fills up its last record, and must not find its output closed.
        io::copy(&mut stream.take(LONGEST_FILLING), &mut io::sink())
            .context("failed to read the end of the archive")?;
        Ok(left_out)
    });
    let left_out = copied.map_err(|error| {
        let failure = Failure::new(format!("cannot copy {} of {}", one_line(path), from.name()));
        not_copied(from, error, failure)
    })?;
    if is_absent(item) {
        return Err(Failure::new("the machine sent no file")
            .with_hint("git repositories, links and special files are not copied; for commits: agent-vm fetch")
            .into());
    }
    Ok(left_out)
}

/// Copies a file or directory of this host to the guest; into the directory `path` if there is one, under its own name `name`.
/// Returns the number of devices, pipes and sockets in it, which are not copied.
///
/// # Errors
/// It cannot be read, or the guest cannot write it.
pub fn copy_in(to: &dyn CopyEnd, source: &Path, name: Option<&str>, path: &str) -> Result<usize> {
    let _use = to.begin();
    let ask = CopyAsk::of(source, name, path)?;
    let is_dir = matches!(ask, CopyAsk::Directory { .. });
    let mut left_out = 0;
    let copied = to.call(&ask)?.with_input(|mut stream| {
        if is_dir {
            left_out = pack(source, stream)?;
            return Ok(());
        }
        let mut file = File::open(source).with_context(|| format!("failed to read {}", source.display()))?;
        io::copy(&mut file, &mut stream).with_context(|| format!("failed to copy {}", source.display())).map(drop)
    });
    copied.map_err(|error| {
        not_copied(to, error, Failure::new(format!("cannot copy to {} of {}", one_line(path), to.name())))
    })?;
    Ok(left_out)
}

/// Says in an error what was not copied; the cause is often that the path or its directory does not exist.
fn not_copied(end: &dyn CopyEnd, error: anyhow::Error, failure: Failure) -> anyhow::Error {
    if error.is::<Interrupted>() {
        return error;
    }
    error
        .context(failure.general_hint(format!("to see what is there: agent-vm exec {} -- ls -l DIRECTORY", end.name())))
}

impl Ssh<'_> {
    /// Copies open files to their paths below a directory of the guest.
    ///
    /// # Errors
    /// One cannot be read, or the guest cannot write it.
    pub fn copy_files_in<'a>(
        &self,
        files: impl Iterator<Item = (&'a Path, File)> + Send,
        directory: &str,
    ) -> Result<()> {
        let script = self.at(directory, "tar --no-same-owner -C \"$p\" -xf -")?;
        self.remote(&script).with_input(|stream| {
            let mut archive = tar::Builder::new(io::BufWriter::with_capacity(64 << 10, stream));
            for (path, mut file) in files {
                let failed = || format!("failed to copy {}", path.display());
                archive.append_file(path, &mut file).with_context(failed)?;
            }
            let failed = "failed to send files to the machine";
            archive.into_inner().context(failed)?.flush().context(failed)
        })
    }
}
