//! Everything that can be wrong, how bad it is, and the command that mends it on each family of distributions.

use serde::Serialize;

use super::commands::Commands;
use super::level::Level;

/// A line of a NixOS configuration, as a command.
macro_rules! nixos {
    ($line:literal) => {
        concat!("write into configuration.nix: ", $line, " and run: sudo nixos-rebuild switch")
    };
}

/// A kernel parameter, for GRUB as Debian and Arch have it.
macro_rules! grub {
    ($parameter:literal, $update:literal) => {
        concat!(
            "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&",
            $parameter,
            " /' /etc/default/grub && ",
            $update,
            " && sudo reboot"
        )
    };
}

/// Makes the enumeration of faults and the table of their levels and commands.
macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident: $level:ident, $nixos:expr, $debian:expr, $fedora:expr, $arch:expr;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All kinds.
            #[cfg(test)]
            pub const ALL: &[Self] = &[$(Self::$name),*];

            fn row(self) -> (Level, [&'static str; 4]) {
                match self {
                    $(Self::$name => (Level::$level, [$nixos, $debian, $fedora, $arch]),)*
                }
            }
        }
    };
}

impl Fault {
    /// Returns how bad it is.
    #[must_use]
    pub fn level(self) -> Level {
        self.row().0
    }

    /// Returns what mends it. `{name}` stands for a value.
    #[must_use]
    pub fn commands(self) -> Commands {
        let [nixos, debian, fedora, arch] = self.row().1.map(str::to_owned);
        Commands { nixos, debian, fedora, arch }
    }
}

const LOAD_KVM: &str = "sudo modprobe kvm_intel || sudo modprobe kvm_amd";
const OPEN_KVM: &str = "sudo groupadd -f -r kvm && sudo chgrp kvm /dev/kvm && sudo chmod 660 /dev/kvm";
const JOIN_KVM: &str = "sudo usermod -aG kvm {user}, and log in again";
const KVM_LOG: &str = "sudo dmesg | grep -i kvm";
const NESTED: &str = "on the outer host: echo 'options kvm_intel nested=1' | sudo tee /etc/modprobe.d/kvm-nested.conf, then start it again";
const NAMESPACES: &str = "sudo sysctl -e -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1 \
                          kernel.apparmor_restrict_unprivileged_userns=0";
const DELEGATE: &str = "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory \
                        pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload";
const MOUNT_CGROUPS: &str = "start this host with cgroups of version 2 at /sys/fs/cgroup; what starts it decides that, as systemd does not run here";
const LINGER: &str = "sudo loginctl enable-linger {user}";
const CACHE: &str = "curl --head https://cache.nixos.org/nix-cache-info";
const SET_CLOCK: &str = "sudo timedatectl set-ntp true";
const DEBUG: &str = "agent-vm doctor --debug";
const PRUNE: &str = "agent-vm prune";
const USES: &str = "ps -eo rss,pid,comm --sort=-rss | head";
const LESS_MEMORY: &str = "agent-vm set {machine} memory={mib}";
const DESTROY: &str = "agent-vm destroy {machine}";
const START: &str = "agent-vm start {machine}";
const RESTART: &str = "agent-vm restart {machine}";
const STOP: &str = "agent-vm stop {machine}";
const STATUS: &str = "agent-vm status {machine}";
const CLOSE_DIR: &str = "chmod 700 -- {path}";
const CLOSE_FILE: &str = "chmod 600 -- {path}";
const OWN: &str = "sudo chown {user} -- {path}";
const NEW_AUTHORITY: &str = "rm -r -- {path} && agent-vm restart {machine}";
const NEW_DISK: &str = "agent-vm start {machine} --new-disk";
const RELINK: &str = "cd into the repository's new place, then: agent-vm relink {machine}";
const CONSOLE: &str = "agent-vm logs --console {machine}";
const OTHER_PORT: &str = "agent-vm set {machine} {key}={port}";

faults! {
    /// There is no `/dev/kvm`.
    KvmMissing: Warning, nixos!("boot.kernelModules = [ \"kvm-intel\" \"kvm-amd\" ];"), LOAD_KVM, LOAD_KVM, LOAD_KVM;
    /// The account of the machines may not open it.
    KvmForbidden: Warning, nixos!("users.users.{user}.extraGroups = [ \"kvm\" ];"), JOIN_KVM, JOIN_KVM, JOIN_KVM;
    /// It belongs to no group of which the account can become a member.
    KvmClosed: Warning, nixos!("services.udev.extraRules = ''KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"'';"), OPEN_KVM, OPEN_KVM, OPEN_KVM;
    /// It opens, but machines do not run with it.
    KvmBroken: Warning, KVM_LOG, KVM_LOG, KVM_LOG, KVM_LOG;
    /// The probe failed.
    KvmUnknown: Warning, DEBUG, DEBUG, DEBUG, DEBUG;
    /// This host is itself a virtual machine, and has no virtualization for its own.
    NestedOff: Warning, "on the outer host, write into configuration.nix: boot.extraModprobeConfig = \"options kvm_intel nested=1\";", NESTED, NESTED, NESTED;
    /// QEMU is not installed.
    QemuMissing: Error, nixos!("environment.systemPackages = [ pkgs.qemu ];"), "sudo apt-get install {debian}", "sudo dnf install {fedora}", "sudo pacman -S {arch}";
    /// QEMU is older than the oldest one that works.
    QemuOld: Error, "sudo nixos-rebuild switch --upgrade", "sudo apt-get update && sudo apt-get install {debian}", "sudo dnf upgrade {fedora}", "sudo pacman -Syu {arch}";
    /// A program is missing that makes disks.
    DiskToolsMissing: Error, nixos!("environment.systemPackages = [ pkgs.qemu pkgs.e2fsprogs ];"), "sudo apt-get install qemu-utils e2fsprogs", "sudo dnf install qemu-img e2fsprogs", "sudo pacman -S qemu-img e2fsprogs";
    /// No virtiofsd can be used.
    VirtiofsdUnusable: Warning, nixos!("environment.systemPackages = [ pkgs.virtiofsd ];"), "sudo apt-get install virtiofsd", "sudo dnf install virtiofsd", "sudo pacman -S virtiofsd";
    /// bubblewrap is not installed.
    BubblewrapMissing: Warning, nixos!("environment.systemPackages = [ pkgs.bubblewrap ];"), "sudo apt-get install bubblewrap", "sudo dnf install bubblewrap", "sudo pacman -S bubblewrap";
    /// This host allows no user namespaces.
    NamespacesOff: Warning, nixos!("security.allowUserNamespaces = true; security.unprivilegedUsernsClone = true;"), NAMESPACES, NAMESPACES, NAMESPACES;
    /// Root's machines cannot run as an unprivileged account.
    NamespacesOffForRoot: Error, nixos!("security.allowUserNamespaces = true;"), NAMESPACES, NAMESPACES, NAMESPACES;
    /// The kernel has no Landlock.
    LandlockOff: Warning, nixos!("boot.kernelParams = [ \"lsm=landlock,yama,bpf\" ];"), grub!("lsm=landlock,lockdown,yama,integrity,apparmor,bpf", "sudo update-grub"), "sudo grubby --update-kernel=ALL --args=lsm=landlock,lockdown,yama,integrity,selinux,bpf && sudo reboot", grub!("lsm=landlock,lockdown,yama,integrity,bpf", "sudo grub-mkconfig -o /boot/grub/grub.cfg");
    /// systemd-socket-proxyd is missing.
    ProxydMissing: Warning, nixos!("systemd.package = pkgs.systemd;"), "sudo apt-get install systemd", "sudo dnf install systemd", "sudo pacman -S systemd";
    /// mitmproxy is missing.
    MitmproxyMissing: Warning, nixos!("environment.systemPackages = [ pkgs.mitmproxy ];"), "sudo apt-get install mitmproxy", "sudo dnf install mitmproxy", "sudo pacman -S mitmproxy";
    /// Nix is not installed.
    NixMissing: Error, nixos!("nix.enable = true;"), "sudo apt-get install nix-bin", "sudo dnf install nix", "sudo pacman -S nix";
    /// Nix is older than the oldest one that works.
    NixOld: Error, "sudo nixos-rebuild switch --upgrade", "sudo apt-get update && sudo apt-get install nix-bin", "sudo dnf upgrade nix", "sudo pacman -Syu nix";
    /// Nix does not answer.
    NixFails: Error, "sudo systemctl restart nix-daemon", "nix --version", "sudo systemctl restart nix-daemon", "sudo systemctl restart nix-daemon";
    /// The NixOS guest cannot be built, because nixpkgs is not reached.
    NixpkgsUnreachable: Warning, CACHE, CACHE, CACHE, CACHE;
    /// This host has cgroups of version 1, and no systemd that mounts others.
    CgroupsElsewhere: Warning, MOUNT_CGROUPS, MOUNT_CGROUPS, MOUNT_CGROUPS, MOUNT_CGROUPS;
    /// This host has cgroups of version 1.
    CgroupsOld: Warning, nixos!("boot.kernelParams = [ \"systemd.unified_cgroup_hierarchy=1\" ];"), grub!("systemd.unified_cgroup_hierarchy=1", "sudo update-grub"), "sudo grubby --update-kernel=ALL --args=systemd.unified_cgroup_hierarchy=1 && sudo reboot", grub!("systemd.unified_cgroup_hierarchy=1", "sudo grub-mkconfig -o /boot/grub/grub.cfg");
    /// The account may not limit all resources of its own processes.
    CgroupsUndelegated: Warning, nixos!("systemd.services.\"user@\".serviceConfig.Delegate = \"cpu cpuset io memory pids\";"), DELEGATE, DELEGATE, DELEGATE;
    /// The systemd manager of this account does not answer.
    SystemdSilent: Warning, nixos!("users.users.{user}.linger = true;"), LINGER, LINGER, LINGER;
    /// A file system is nearly full.
    SpaceLow: Warning, "agent-vm prune && sudo nix-collect-garbage --delete-older-than 14d", PRUNE, PRUNE, PRUNE;
    /// A file system is full.
    SpaceGone: Error, "agent-vm prune && sudo nix-collect-garbage --delete-old", "agent-vm prune && sudo apt-get clean", "agent-vm prune && sudo dnf clean all", "agent-vm prune && sudo pacman -Sc";
    /// A file system has few inodes left.
    InodesLow: Warning, PRUNE, PRUNE, PRUNE, PRUNE;
    /// A directory cannot be examined.
    PlaceUnusable: Error, "ls -ld -- {path}", "ls -ld -- {path}", "ls -ld -- {path}", "ls -ld -- {path}";
    /// No port is free for a new machine.
    PortsGone: Error, "ss --listening --tcp --processes", "ss --listening --tcp --processes", "ss --listening --tcp --processes", "ss --listening --tcp --processes";
    /// The clock is not kept right.
    ClockUnsynced: Warning, nixos!("services.timesyncd.enable = true;"), "sudo apt-get install systemd-timesyncd && sudo timedatectl set-ntp true", "sudo dnf install chrony && sudo systemctl enable --now chronyd", SET_CLOCK;
    /// The clock is wrong.
    ClockWrong: Error, SET_CLOCK, SET_CLOCK, SET_CLOCK, SET_CLOCK;
    /// This host has too little memory left for another machine.
    MemoryLow: Warning, USES, USES, USES, USES;
    /// The running machines may use more memory than this host has.
    MemoryOvercommitted: Warning, LESS_MEMORY, LESS_MEMORY, LESS_MEMORY, LESS_MEMORY;
    /// A check did not answer in time.
    CheckSilent: Warning, DEBUG, DEBUG, DEBUG, DEBUG;
    /// A machine's settings are not usable.
    SettingsUnusable: Error, DESTROY, DESTROY, DESTROY, DESTROY;
    /// A file or directory of a machine is missing or of the wrong kind.
    FileWrong: Error, DESTROY, DESTROY, DESTROY, DESTROY;
    /// Other users may enter a machine's directory.
    DirectoryOpen: Warning, CLOSE_DIR, CLOSE_DIR, CLOSE_DIR, CLOSE_DIR;
    /// Other users may read a key.
    KeyOpen: Error, CLOSE_FILE, CLOSE_FILE, CLOSE_FILE, CLOSE_FILE;
    /// A key belongs to another user.
    KeyOwner: Error, OWN, OWN, OWN, OWN;
    /// A certificate authority expires soon, has expired, or cannot be read.
    AuthorityExpires: Warning, NEW_AUTHORITY, NEW_AUTHORITY, NEW_AUTHORITY, NEW_AUTHORITY;
    /// The certificate of a running machine was not renewed in time.
    CertificateExpires: Warning, RESTART, RESTART, RESTART, RESTART;
    /// A machine's disk image is damaged.
    DiskDamaged: Error, NEW_DISK, NEW_DISK, NEW_DISK, NEW_DISK;
    /// A machine's workspace is no git repository.
    WorkspaceBroken: Error, STATUS, STATUS, STATUS, STATUS;
    /// A machine's source repository is missing.
    SourceMissing: Warning, RELINK, RELINK, RELINK, RELINK;
    /// A killed command left files of a run.
    RunStale: Warning, START, START, START, START;
    /// The last run failed.
    RunFailed: Warning, CONSOLE, CONSOLE, CONSOLE, CONSOLE;
    /// A process ended that a running machine needs.
    HelperLost: Error, RESTART, RESTART, RESTART, RESTART;
    /// A process ended that the next start starts again.
    HelperEnded: Warning, START, START, START, START;
    /// The writer of the console log ended.
    LogWriterLost: Warning, RESTART, RESTART, RESTART, RESTART;
    /// Processes of a stopped machine still run.
    ProcessesLeft: Error, STOP, STOP, STOP, STOP;
    /// Another program uses a port that the machine asks for.
    PortTaken: Error, OTHER_PORT, OTHER_PORT, OTHER_PORT, OTHER_PORT;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::system::System;

    #[test]
    fn each_fault_has_a_command_for_each_system() {
        for fault in Fault::ALL {
            let commands = fault.commands();
            for system in [System::Nixos, System::Debian, System::Fedora, System::Arch] {
                let command = commands.of(system);
                assert!(command.len() > 8 && !command.contains('\n'), "{fault:?} on {system:?}: {command}");
            }
            assert_ne!(fault.level(), Level::Ok, "{fault:?}");
        }
        assert!(Fault::ALL.len() > 40);
    }

    #[test]
    fn package_managers_are_those_of_the_system() {
        for fault in Fault::ALL {
            let Commands { nixos, debian, fedora, arch } = fault.commands();
            for (text, foreign) in [
                (&nixos, ["apt-get", "dnf", "pacman"]),
                (&debian, ["nixos-rebuild", "dnf", "pacman"]),
                (&fedora, ["nixos-rebuild", "apt-get", "pacman"]),
                (&arch, ["nixos-rebuild", "apt-get", "dnf"]),
            ] {
                assert!(foreign.iter().all(|word| !text.contains(word)), "{fault:?}: {text}");
            }
        }
    }
}
