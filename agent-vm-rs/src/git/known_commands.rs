//! Commands for the contents of files and for signatures: those that run nothing that their input or the current directory
//! says, and those that do.

use std::env;
use std::path::{Path, PathBuf};

use crate::host::files::resolved;
use crate::host::process::search_path;

/// Programs for contents of files and signatures that run nothing of their input, arguments or current directory.
const KNOWN: &str = "age cat clang-format col cut dos2unix expand false fold git-agecrypt git-annex git-crypt git-lfs \
    git-merge-changelog gofmt gpg gpg2 gpgsm gzip head iconv jq mergiraf nbstripout nl openssl shfmt sort ssh-keygen tac tr \
    true unexpand uniq unix2dos xz zcat zstd";
/// Commands of git that are the same.
const KNOWN_OF_GIT: [&str; 5] = ["annex", "crypt", "lfs", "merge-file", "stripspace"];
/// Programs that run what their input, their arguments or the files of the current directory say. Versions such as
/// `python3.13` are left out.
const INTERPRETERS: &str = ". R Rscript ansible-vault asdf ash awk bash bmake builtin bun bundle busybox bwrap cargo chroot \
    chrt command csh dash dc deno direnv doas docker dotnet ed elixir emacs env erl eslint eval ex exec expect find fish \
    flock gawk gdb git gmake gnuplot go gradle guile hatch ionice java julia just ksh lua luajit m4 make mawk mise mix mvn \
    mysql nice ninja nix nix-shell node nohup npm npx nsenter nvim octave parallel pdm perl php pipenv pipx pixi pnpm podman \
    poetry prettier psql pwsh pypy python rake rsync ruby runuser rustfmt rustup sbt script setpriv setsid sh source sqlite \
    ssh ssh-agent stdbuf strace su sudo systemd-run tar taskset tclsh time timeout trap ts-node tsx unshare uv uvx vi view \
    vim watch xargs yarn zsh";

/// Commands of git that are programs of other projects, and their subcommands.
const OF_GIT: [(&str, &[&str]); 3] = [
    ("agecrypt", &["clean", "smudge"]),
    ("crypt", &["clean", "smudge"]),
    ("lfs", &["clean", "smudge", "filter-process"]),
];
/// Programs that are used without a subcommand.
const ALONE: [&str; 4] = ["cat", "false", "nbstripout", "true"];
/// What may follow.
const REST: [&str; 4] = ["--", "%f", "--skip", "-f"];
/// Programs that sign and verify.
const SIGNERS: [&str; 4] = ["gpg", "gpg2", "gpgsm", "ssh-keygen"];
/// A merge driver: <https://mergiraf.org/usage.html>.
const MERGIRAF: &str = "mergiraf merge --git %O %A %B -s %S -x %X -y %Y -p %P -l %L";

/// Returns the words of a command that a shell only splits; None if the shell would do more.
pub fn words(command: &str) -> Option<Vec<String>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./=%+:@, '\"".contains(c);
    let (home, rest) = match command.strip_prefix("~/") {
        Some(rest) => (Some(env::var("HOME").ok()?), rest),
        None => (None, command),
    };
    let mut words = shlex::split(rest).filter(|_| rest.chars().all(is_plain))?;
    if let (Some(home), Some(first)) = (home, words.first_mut()) {
        *first = format!("{home}/{first}");
    }
    Some(words)
}

/// Returns whether the value of a setting is a command as the documentation of its project writes it. The configuration of a
/// repository that was downloaded may have any others.
pub fn is_documented(key: &str, words: &[String]) -> bool {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let is_rest = |words: &[&str]| words.iter().all(|word| REST.contains(word));
    match words.as_slice() {
        [] | [""] => true,
        [program] if key.ends_with(".program") => SIGNERS.contains(program),
        ["ssh-add", "-L"] => key == "gpg.ssh.defaultkeycommand",
        ["mergiraf", ..] if key.ends_with(".driver") => words.join(" ") == MERGIRAF,
        // An alias of the configuration would run in the place of a program that is not installed.
        ["git", name, subcommand, rest @ ..] => {
            is_of_git(name, subcommand) && is_rest(rest) && found(&format!("git-{name}")).is_some()
        }
        ["git-crypt", "clean" | "smudge", key, rest @ ..] if is_key_name(key) => is_rest(rest),
        [program, subcommand, rest @ ..] if program.starts_with("git-") => {
            is_of_git(&program["git-".len()..], subcommand) && is_rest(rest)
        }
        [program, rest @ ..] => ALONE.contains(program) && is_rest(rest),
    }
}

/// Returns whether a word names a key, as `git-crypt init --key-name` writes it.
fn is_key_name(word: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    word.strip_prefix("--key-name=").is_some_and(|name| !name.is_empty() && name.chars().all(is_plain))
}

fn is_of_git(name: &str, subcommand: &str) -> bool {
    OF_GIT.iter().any(|(known, subcommands)| *known == name && subcommands.contains(&subcommand))
}

/// Returns the file of a program; None if PATH has none.
pub fn found(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(program.into());
    }
    which::which_in_global(program, search_path()).ok()?.next()
}

/// Returns whether a command runs what its input, its arguments or the files of the current directory say.
pub fn is_interpreter(words: &[String]) -> bool {
    let [program, arguments @ ..] = words else { return false };
    let name = name_of(program);
    INTERPRETERS.split_whitespace().any(|one| one == name) && !(name == "git" && is_known_of_git(arguments))
}

fn is_known_of_git(arguments: &[String]) -> bool {
    arguments.first().is_some_and(|word| KNOWN_OF_GIT.contains(&word.as_str()))
}

fn name_of(program: &str) -> String {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').to_owned()
}

/// Returns whether a command of the user's own configuration may run: it is well-known, or the user names it by its path.
pub fn is_trusted(words: &[String]) -> bool {
    is_known(words) || words.first().is_some_and(|program| program.starts_with('/'))
}

/// Returns whether a command runs a well-known program as PATH finds it, or one that is not installed.
fn is_known(words: &[String]) -> bool {
    let [program, arguments @ ..] = words else { return true };
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_first = || found(&name).is_some_and(|path| resolved(&path) == resolved(Path::new(program)));
    let is_plain = !program.contains('/');
    match name.as_str() {
        "" => true,
        _ if is_plain && found(program).is_none() => true,
        _ if !is_plain && !is_first() => false,
        "git" => is_known_of_git(arguments),
        name => KNOWN.split_whitespace().any(|known| known == name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(key: &str, command: &str) -> bool {
        is_documented(key, &shlex::split(command).unwrap())
    }

    #[test]
    fn only_the_documented_forms_are_known() {
        for command in [
            "git-lfs clean -- %f",
            "git-lfs filter-process --skip",
            "\"git-crypt\" smudge",
            "\"git-crypt\" clean --key-name=team-1",
            "cat",
            "cat %f",
            "true",
            "",
        ] {
            assert!(is("filter.x.smudge", command), "{command}");
        }
        for command in [
            "git-lfs fetch",
            "git-lfs smudge x",
            "git-lfs",
            "git-annex smudge -- %f",
            "git-fetch-pack --exec=x .",
            "git stripspace",
            "git no-such-program smudge",
            "exec sh x",
            "sort -o x",
            "openssl req -config x",
            "ssh-keygen",
            "/usr/bin/git-lfs smudge",
            "no-such-program",
            "cat x",
        ] {
            assert!(!is("filter.x.smudge", command), "{command}");
        }
        assert!(
            is("gpg.program", "gpg") && is("gpg.ssh.defaultkeycommand", "ssh-add -L") && is("merge.x.driver", MERGIRAF)
        );
        assert!(!is("gpg.program", "sh") && !is("merge.x.driver", "mergiraf solve x"));
    }

    #[test]
    fn the_home_directory_is_expanded() {
        let home = env::var("HOME").unwrap();
        assert_eq!(words("~/bin/f --x").unwrap(), [format!("{home}/bin/f"), "--x".to_owned()]);
        assert_eq!(words("cat ~/x"), None);
    }
}
