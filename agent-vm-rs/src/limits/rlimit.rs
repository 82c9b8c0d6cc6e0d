//! Resource limits of single processes (setrlimit(2)), for hosts without cgroups.

use crate::host::process::Invocation;
use crate::machine::limits::Limits;
use crate::machine::number::Number;

/// The first kernel that counts the processes of each user namespace on their own.
const OWN_COUNT: (u32, u32) = (5, 14);

/// Returns the words before a program that may have this many processes and threads in its user namespace.
#[must_use]
pub fn process_limit(most: Option<u32>) -> Vec<String> {
    let limit = |most| ["prlimit".to_owned(), format!("--nproc={most}"), "--".to_owned()];
    most.map(limit).into_iter().flatten().collect()
}

/// Returns a program with [`process_limit`].
#[must_use]
pub fn limit_processes(program: &Invocation, most: Option<u32>) -> Invocation {
    match process_limit(most).split_first() {
        Some((prlimit, words)) => program.within(Invocation::new(prlimit).args(words)),
        None => program.clone(),
    }
}

/// Returns the limit of the processes of a user namespace; None if this kernel would count all processes of the user.
#[must_use]
pub fn process_limit_of(limits: &Limits) -> Option<u32> {
    limits.of(Number::Pids).filter(|_| is_counted_by_namespace())
}

fn is_counted_by_namespace() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    version(&release).is_some_and(|version| version >= OWN_COUNT)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        assert_eq!(version("6.12.0-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("5.10-x"), Some((5, 10)));
        assert_eq!(version("x"), None);
        assert!((5, 10) < OWN_COUNT && (6, 1) > OWN_COUNT);
    }

    /// The limit holds in a user namespace, however many processes the user has elsewhere.
    #[test]
    fn a_fork_bomb_in_a_namespace_is_stopped() {
        // The shell is the first process of a namespace, so that all others end with it.
        let bomb = Invocation::new("sh").args(["-c", "for n in $(seq 40); do sleep 100 & done; echo all"]);
        let namespace = || {
            // The kernel exempts the user root of the host.
            let user =
                rustix::process::geteuid().is_root().then_some(["--reuid=65533", "--regid=65533", "--clear-groups"]);
            let account = user.map(|words| Invocation::new("setpriv").args(words).arg("--"));
            let unshare = Invocation::new("unshare").args(["--user", "--pid", "--fork", "--kill-child", "--"]);
            match account {
                Some(account) => unshare.within(account),
                None => unshare,
            }
        };
        let run = |program: Invocation| program.within(namespace()).cwd("/").output().unwrap();
        let limited = run(limit_processes(&bomb, Some(20)));
        let (said, told) = (String::from_utf8_lossy(&limited.stdout), String::from_utf8_lossy(&limited.stderr));
        assert!(!is_counted_by_namespace() || said.is_empty() && told.contains("fork"), "{said} {told}");
        // Control: without a limit, all of them start.
        assert_eq!(run(limit_processes(&bomb, None)).stdout, b"all\n");
    }
}
