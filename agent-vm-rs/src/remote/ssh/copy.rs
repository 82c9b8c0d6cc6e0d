//! Copies files between this host and a machine.
//!
//! Both directions are streams over the existing connection. Towards the guest, that is tar(1) there. From the guest, the stream is
//! unpacked here by [`super::unpack`] and not by scp, rsync or tar: those trust the other side's names, or need options for each of
//! the ways not to.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Ssh;
use super::pack::pack;
use super::unpack::{LeftOut, unpack};
use crate::host::files::is_absent;
use crate::machine::in_use;
use crate::term::error::{Failure, Interrupted};
use crate::term::text::one_line;

/// Sets `p` to a path that is relative to the workspace or, after `~/`, to the home directory, and never looks like an option.
const PLACE: &str = r#"case $p in /*) ;; "~"|"~/"*) p=$HOME${p#"~"};; *) p=./$p;; esac"#;

impl Ssh<'_> {
    fn at(&self, path: &str, script: &str) -> Result<String> {
        let path = shlex::try_quote(path).context("a path contains a NUL byte")?;
        Ok(format!("set -e; cd {}; p={path}\n{PLACE}\n{script}", self.workspace))
    }

    /// Copies a file or directory of the guest, of at most `most` bytes, to `item`, which does not exist, in a directory that
    /// no other program writes.
    ///
    /// # Errors
    /// The guest cannot read it, or sends too much or something that is not a file below it.
    pub fn copy_out(&self, path: &str, item: &Path, most: u64) -> Result<LeftOut> {
        let _use = in_use::begin(&self.machine.dir);
        // tar's status 1 is a file that changed meanwhile.
        let script = r#"if [ -d "$p" ]; then tar --format=gnu --hard-dereference -C "$p" -cf - . || [ $? -eq 1 ]
else
  [ -f "$p" ] || { printf '%s: no such file or directory\n' "$p" >&2; exit 1; }
  tar --format=gnu --hard-dereference -C "$(dirname -- "$p")" -hcf - -- "$(basename -- "$p")" || [ $? -eq 1 ]
fi"#;
        let copied = self.remote(&self.at(path, script)?).with_output(|stream| unpack(stream, item, most));
        let left_out = copied.map_err(|error| {
            let failure = Failure::new(format!("cannot copy {} of {}", one_line(path), self.machine.name));
            self.not_copied(error, failure)
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
    pub fn copy_in(&self, source: &Path, name: Option<&str>, path: &str) -> Result<usize> {
        let _use = in_use::begin(&self.machine.dir);
        let failed = || format!("failed to read {}", source.display());
        let found = source.metadata().with_context(failed)?;
        if !found.is_dir() && !found.is_file() {
            return Err(Failure::new(format!("{} is neither a file nor a directory", source.display()))
                .with_hint("links in a directory are copied; devices, pipes and sockets are not")
                .into());
        }
        // Without a name, such as for `.`, the contents go into the directory itself.
        let inside = match name {
            Some(name) => format!("/{}", shlex::try_quote(name).context("a path contains a NUL byte")?),
            None => String::new(),
        };
        let place = format!("if [ -d \"$p\" ]; then p=$p{inside}; fi");
        if found.is_dir() {
            let script = format!("{place}\n[ -d \"$p\" ] || mkdir -- \"$p\"\ntar --no-same-owner -C \"$p\" -xf -");
            let mut left_out = 0;
            let copied = self.remote(&self.at(path, &script)?).with_input(|stream| {
                left_out = pack(source, stream)?;
                Ok(())
            });
            copied.map_err(|error| self.not_copied_in(error, path))?;
            return Ok(left_out);
        }
        let mode = if found.permissions().mode() & 0o100 == 0 { "" } else { "\nchmod -- +x \"$p\"" };
        let copied = self.remote(&self.at(path, &format!("{place}\ncat >\"$p\"{mode}"))?).with_input(|mut stream| {
            let mut file = File::open(source).with_context(failed)?;
            io::copy(&mut file, &mut stream).with_context(|| format!("failed to copy {}", source.display())).map(drop)
        });
        copied.map_err(|error| self.not_copied_in(error, path))?;
        Ok(0)
    }

    /// Says in an error what was not copied; the cause is often that the path or its directory does not exist.
    fn not_copied(&self, error: anyhow::Error, failure: Failure) -> anyhow::Error {
        if error.is::<Interrupted>() {
            return error;
        }
        error.context(
            failure
                .general_hint(format!("to see what is there: agent-vm exec {} -- ls -l DIRECTORY", self.machine.name)),
        )
    }

    fn not_copied_in(&self, error: anyhow::Error, path: &str) -> anyhow::Error {
        let failure = Failure::new(format!("cannot copy to {} of {}", one_line(path), self.machine.name));
        self.not_copied(error, failure)
    }
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
