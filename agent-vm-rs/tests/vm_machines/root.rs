//! Machines whose guest package was changed, so that a test is root in them: the guest's agent never is.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use crate::site::{Done, Site};

/// Where root listens in a guest that [`Package::give_root`] was done to.
const SOCKET: &str = "/run/test-root.sock";

/// Sends its argument to root's shell and ends as that does.
const CLIENT: &str = r#"
import socket, sys
shell = socket.socket(socket.AF_UNIX)
shell.connect(sys.argv[1])
shell.sendall(f"(\n{sys.argv[2]}\n) </dev/null 2>&1; echo exit $?\n".encode())
shell.shutdown(socket.SHUT_WR)
said, _, code = b"".join(iter(lambda: shell.recv(65536), b"")).decode().rpartition("exit ")
print(said, end="")
sys.exit(int(code))
"#;

/// A copy of a machine's guest package, which the machine has from its next start on.
pub struct Package {
    runner: PathBuf,
    workspace: PathBuf,
}

impl Package {
    /// Of a machine that does not run.
    pub fn copy(site: &Site, name: &str) -> Self {
        let link = site.machine(name).join("flake/guest");
        if !link.exists() {
            // A start makes it first of all, whatever becomes of the rest.
            site.run(&["start", name, "--timeout", "1"]);
            site.run(&["stop", name]);
        }
        let copy = site.repo().join("../package");
        let package = fs::canonicalize(&link).unwrap();
        let copied = Command::new("cp").args(["-R", "--reflink=auto"]).arg(&package).arg(&copy).status().unwrap();
        assert!(copied.success());
        // A package that is built has its record beside it; of this one, which is changed next, nothing is compared.
        fs::write(copy.with_file_name(".package.files.json"), r#"{"files":{}}"#).unwrap();
        fs::remove_file(&link).unwrap();
        symlink(fs::canonicalize(&copy).unwrap(), &link).unwrap();
        let runner = copy.join("bin/run-agent-vm");
        fs::set_permissions(&runner, fs::Permissions::from_mode(0o755)).unwrap();
        Self { runner, workspace: site.machine(name).join("workspace") }
    }

    /// Puts a text into the place of another in the script that starts QEMU.
    pub fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.runner).unwrap();
        let changed = text.replacen(from, to, 1);
        assert_ne!(text, changed);
        fs::write(&self.runner, changed).unwrap();
    }

    /// Makes the guest boot into a script of bash, as root and with nothing of the guest's own around it. The workspace
    /// is its directory.
    pub fn boot_into(&self, script: &str) {
        fs::write(self.workspace.join("boot.sh"), script).unwrap();
        let parameters = "init=/usr/bin/bash -- -c \"/usr/bin/mount -t virtiofs workspace /mnt && cd /mnt && exec /usr/bin/bash boot.sh\"";
        self.replace("set -f\n", &format!("set -f\nQEMU_KERNEL_PARAMS='{parameters}'\n"));
    }

    /// Makes the guest boot as ever, but with a shell of root's for [`as_root`]. Before that root does `first`, in a
    /// kernel that nothing has locked yet.
    pub fn give_root(&self, first: &str) {
        // The root file system is read-only. Units from a directory in memory take the place of its own.
        self.boot_into(&format!(
            "{first}\n\
             set -e\n\
             mount -t tmpfs units /tmp\n\
             cp -a /etc/systemd/system/. /tmp\n\
             cd /tmp\n\
             printf '%s\\n' [Unit] DefaultDependencies=no [Socket] ListenStream={SOCKET} SocketMode=0666 Accept=yes \
               >test-root.socket\n\
             printf '%s\\n' [Unit] DefaultDependencies=no [Service] ExecStart=/usr/bin/bash StandardInput=socket \
               >test-root@.service\n\
             mkdir agent-vm.target.wants\n\
             ln -s ../test-root.socket agent-vm.target.wants/\n\
             mount --bind /tmp /etc/systemd/system\n\
             cd /\n\
             umount /tmp\n\
             exec /usr/lib/agent-vm/init\n"
        ));
    }
}

/// Runs a script of bash as root in a guest that was given root. What it says on standard error is among the rest.
pub fn as_root(site: &Site, branch: &str, script: &str) -> Done {
    site.exec(branch, &["python3", "-c", CLIENT, SOCKET, script])
}
