//! Machines with a changed guest package, in which a test becomes root; the guest's agent never does.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use crate::site::{Done, Site};

/// The socket of root's shell in a guest that [`Package::give_root`] has changed.
const SOCKET: &str = "/run/test-root.sock";

/// Sends its argument to root's shell and exits with the shell's code.
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

/// A copy of a machine's guest package, which the machine uses from its next start on.
pub struct Package {
    runner: PathBuf,
    workspace: PathBuf,
}

impl Package {
    /// Copies the package of a stopped machine.
    pub fn copy(site: &Site, name: &str) -> Self {
        let link = site.machine(name).join("flake/guest");
        if !link.exists() {
            // A start makes the package first, even if the rest of the start fails.
            site.run(&["start", name, "--timeout", "1"]);
            site.run(&["stop", name]);
        }
        let copy = site.repo().join("../package");
        let package = fs::canonicalize(&link).unwrap();
        let copied = Command::new("cp").args(["-R", "--reflink=auto"]).arg(&package).arg(&copy).status().unwrap();
        assert!(copied.success());
        // A built package has a record of its files beside it. An empty record turns off the comparison for this copy,
        // which is changed next.
        fs::write(copy.with_file_name(".package.files.json"), r#"{"files":{}}"#).unwrap();
        fs::remove_file(&link).unwrap();
        symlink(fs::canonicalize(&copy).unwrap(), &link).unwrap();
        let runner = copy.join("bin/run-agent-vm");
        fs::set_permissions(&runner, fs::Permissions::from_mode(0o755)).unwrap();
        Self { runner, workspace: site.machine(name).join("workspace") }
    }

    /// Replaces a text in the script that starts QEMU.
    pub fn replace(&self, from: &str, to: &str) {
        let text = fs::read_to_string(&self.runner).unwrap();
        let changed = text.replacen(from, to, 1);
        assert_ne!(text, changed);
        fs::write(&self.runner, changed).unwrap();
    }

    /// Makes the guest boot into a bash script, as root and without the guest's own services. The script runs in the
    /// workspace.
    pub fn boot_into(&self, script: &str) {
        fs::write(self.workspace.join("boot.sh"), script).unwrap();
        let parameters = "init=/usr/bin/bash -- -c \"/usr/bin/mount -t virtiofs workspace /mnt && cd /mnt && exec /usr/bin/bash boot.sh\"";
        self.replace("set -f\n", &format!("set -f\nQEMU_KERNEL_PARAMS='{parameters}'\n"));
    }

    /// Makes the guest boot as usual, with a root shell for [`as_root`]. Before that, root runs `first` in a kernel
    /// that is not locked yet.
    pub fn give_root(&self, first: &str) {
        // The root file system is read-only, so units in a tmpfs replace its own.
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

/// Runs a bash script as root in a guest that [`Package::give_root`] has changed. Its standard error is part of the
/// output.
pub fn as_root(site: &Site, branch: &str, script: &str) -> Done {
    site.exec(branch, &["python3", "-c", CLIENT, SOCKET, script])
}
