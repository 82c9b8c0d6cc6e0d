//! Every file and directory in a machine's directory. No other module spells their names.

use std::path::{Path, PathBuf};

/// A file or directory in a machine's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachinePath {
    /// The settings, as JSON.
    Settings,
    /// The declaration that `apply` applied last, as JSON.
    Declared,
    /// The guest's disk.
    Disk,
    /// The clone that the guest works in.
    Workspace,
    /// The console log of the last run.
    Console,
    /// Why the last run failed, as one line.
    Failure,
    /// Path of a directory for temporary files outside the state directory.
    ScratchElsewhere,
    /// What the machine used in the last minutes, one JSON object a line.
    Samples,
    /// What happened to the machine, one JSON object a line.
    Events,

    /// Directory of the rendered flake.
    Flake,
    /// The rendered flake.
    FlakeText,
    /// The flake's lock file.
    FlakeLock,
    /// Hash of everything that the guest was built from.
    FlakeFingerprint,
    /// The nixpkgs that `agent-vm update` moved the machine to, as JSON.
    FlakeNixpkgs,
    /// Link to the built guest.
    Guest,

    /// Directory of the ssh keys. The tunnel's account reads it.
    Ssh,
    /// The key that the host logs in with.
    LoginKey,
    /// The public half of the login key.
    LoginKeyPublic,
    /// The guest's own key.
    HostKey,
    /// The public half of the host key.
    HostKeyPublic,
    /// The guest's key, as ssh pins it.
    KnownHosts,

    /// Directory of the MCP endpoint's certificate authority and token.
    Tls,
    /// The authority's certificate.
    TlsAuthority,
    /// The authority's key.
    TlsAuthorityKey,
    /// The token that clients send.
    TlsToken,
    /// Host names that the authority was made for.
    TlsNames,

    /// Directory of the egress proxy.
    Egress,
    /// Directory of its certificate authority.
    EgressAuthority,
    /// The authority's certificate.
    EgressAuthorityCertificate,
    /// The authority's key and certificate, under the name that mitmproxy looks for.
    EgressAuthorityBoth,
    /// Directory that the proxy reads its rules from.
    EgressRulesDir,
    /// The rules.
    EgressRules,
    /// Directory that the proxy writes its log to.
    EgressLogDir,
    /// The log, one JSON object a line.
    EgressLog,
    /// Number of attempts that this run denied.
    EgressDenied,
    /// Number of attempts that this run allowed.
    EgressAllowed,
    /// Values of brokered secrets.
    EgressSecrets,

    /// Directory of the state of one run.
    Run,
    /// Facts of the run, as JSON.
    RunFacts,
    /// Settings at the run's start, as JSON.
    RunSettings,
    /// Manifest of the guest that runs.
    RunManifest,
    /// Link to the package of the guest that runs.
    RunGuest,
    /// Exists once the start has finished.
    RunStarted,
    /// The means by which the run's limits are enforced, as JSON.
    RunLimits,
    /// Limit of the network's rate in bytes a second, for the forwarders.
    NetworkRate,
    /// Time of the certificate's last renewal.
    RunRenewed,
    /// Process id of QEMU.
    QemuPid,
    /// The console log.
    RunConsole,
    /// Process id of the console log's writer.
    RunConsoleKeeperPid,
    /// Process id of virtiofsd.
    VirtiofsdPid,
    /// Log of virtiofsd.
    VirtiofsdLog,
    /// Process id of the ssh port's forwarder.
    ForwardSshPid,
    /// Process id of the MCP port's forwarder.
    ForwardMcpPid,
    /// What the machine may write to its workspace, if not everything, as JSON.
    WorkspaceGuard,
    /// Directory that QEMU and virtiofsd can write. The host does not trust its contents.
    Qemu,
    /// Socket of virtiofsd.
    VirtiofsdSocket,
    /// Socket of QMP.
    QmpSocket,
    /// File that QEMU creates, and removes when it exits by itself. Its content is not used.
    QemuRuns,
    /// Directory that QEMU reads credentials from.
    Credentials,
    /// The key that the host logs in with as root. Each run has another one.
    RootKey,
    /// The public half of root's key.
    RootKeyPublic,
    /// Process id of the ssh connection that commands share.
    SshPid,
    /// Lock for starting the ssh connection.
    SshLock,
    /// Log of the ssh connection.
    SshLog,
    /// Control socket of the ssh connection.
    SshSocket,
    /// Process id of the program that forwards the user's ports.
    ForwardsPid,
    /// Its log.
    ForwardsLog,
    /// Control socket of its ssh.
    ForwardsSocket,
    /// The forwarded ports, and why others are not, as JSON.
    Forwards,
    /// Process id of the watcher.
    WatchPid,
    /// Log of the watcher.
    WatchLog,
    /// Locked by commands that use the machine; changed when one begins or ends.
    InUse,
    /// Has one byte for each query of our own.
    Queries,
    /// Exists once the end of the run has been recorded as an event.
    EndRecorded,
    /// Names of MCP servers that the guest has reported in this run, as JSON.
    ServerNames,
    /// The host's own proxy in this run, with its password, as JSON.
    Upstream,
    /// Exists while the guest can reach the proxy.
    EgressUp,
    /// Process id of the egress supervisor.
    EgressPid,
    /// Log of the supervisor, the proxy and the tunnel.
    EgressRunLog,
    /// Process id of the egress proxy.
    ProxyPid,
    /// Directory of the proxy's addon.
    ProxyAddon,
    /// Directory of the proxy's copy of its authority, in which mitmproxy writes too.
    ProxyAuthority,
    /// Directory of the tunnel's ssh, which its account can write.
    Tunnel,
    /// Control socket of the tunnel's ssh.
    TunnelSocket,
    /// Process id of the tunnel's ssh.
    TunnelPid,
}

impl MachinePath {
    /// Returns the path relative to the machine's directory, in which some programs run.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settings => "config.json",
            Self::Declared => "declared.json",
            Self::Disk => "disk.qcow2",
            Self::Workspace => "workspace",
            Self::Console => "console.log",
            Self::Failure => "failure",
            Self::ScratchElsewhere => "scratch-elsewhere",
            Self::Samples => "samples.jsonl",
            Self::Events => "events.jsonl",
            Self::Flake => "flake",
            Self::FlakeText => "flake/flake.nix",
            Self::FlakeLock => "flake/flake.lock",
            Self::FlakeFingerprint => "flake/fingerprint",
            Self::FlakeNixpkgs => "flake/nixpkgs.json",
            Self::Guest => "flake/guest",
            Self::Ssh => "ssh",
            Self::LoginKey => "ssh/id_ed25519",
            Self::LoginKeyPublic => "ssh/id_ed25519.pub",
            Self::HostKey => "ssh/host_ed25519_key",
            Self::HostKeyPublic => "ssh/host_ed25519_key.pub",
            Self::KnownHosts => "ssh/known_hosts",
            Self::Tls => "tls",
            Self::TlsAuthority => "tls/ca.pem",
            Self::TlsAuthorityKey => "tls/ca.key",
            Self::TlsToken => "tls/token",
            Self::TlsNames => "tls/names",
            Self::Egress => "egress",
            Self::EgressAuthority => "egress/ca",
            Self::EgressAuthorityCertificate => "egress/ca/ca.pem",
            Self::EgressAuthorityBoth => "egress/ca/mitmproxy-ca.pem",
            Self::EgressRulesDir => "egress/rules",
            Self::EgressRules => "egress/rules/rules.json",
            Self::EgressLogDir => "egress/log",
            Self::EgressLog => "egress/log/egress.jsonl",
            Self::EgressDenied => "egress/log/denied",
            Self::EgressAllowed => "egress/log/allowed",
            Self::EgressSecrets => "egress/secrets.json",
            Self::Run => "run",
            Self::RunFacts => "run/ports.json",
            Self::RunSettings => "run/settings.json",
            Self::RunManifest => "run/manifest.json",
            Self::RunGuest => "run/guest",
            Self::RunStarted => "run/started",
            Self::RunLimits => "run/limits.json",
            Self::NetworkRate => "run/network-rate",
            Self::RunRenewed => "run/certificate-renewed",
            Self::QemuPid => "run/qemu.pid",
            Self::RunConsole => "run/console.log",
            Self::RunConsoleKeeperPid => "run/console-log.pid",
            Self::VirtiofsdPid => "run/virtiofsd.pid",
            Self::VirtiofsdLog => "run/virtiofsd.log",
            Self::ForwardSshPid => "run/forward-ssh.pid",
            Self::ForwardMcpPid => "run/forward-mcp.pid",
            Self::WorkspaceGuard => "run/workspace-guard.json",
            Self::Qemu => "run/qemu",
            Self::VirtiofsdSocket => "run/qemu/virtiofsd.sock",
            Self::QmpSocket => "run/qemu/qmp.sock",
            Self::QemuRuns => "run/qemu/qemu.pid",
            Self::Credentials => "run/qemu/credentials",
            Self::RootKey => "run/root_ed25519",
            Self::RootKeyPublic => "run/root_ed25519.pub",
            Self::SshPid => "run/ssh.pid",
            Self::SshLock => "run/ssh.lock",
            Self::SshLog => "run/ssh.log",
            Self::SshSocket => "run/ssh.sock",
            Self::ForwardsPid => "run/forwards.pid",
            Self::ForwardsLog => "run/forwards.log",
            Self::ForwardsSocket => "run/forwards.sock",
            Self::Forwards => "run/forwards.json",
            Self::WatchPid => "run/watch.pid",
            Self::WatchLog => "run/watch.log",
            Self::InUse => "run/in-use",
            Self::Queries => "run/queries",
            Self::EndRecorded => "run/end-recorded",
            Self::ServerNames => "run/server-names.json",
            Self::Upstream => "run/upstream.json",
            Self::EgressUp => "run/egress.up",
            Self::EgressPid => "run/egress.pid",
            Self::EgressRunLog => "run/egress.log",
            Self::ProxyPid => "run/proxy.pid",
            Self::ProxyAddon => "run/egress",
            Self::ProxyAuthority => "run/egress-ca",
            Self::Tunnel => "run/tunnel",
            Self::TunnelSocket => "run/tunnel/ssh.sock",
            Self::TunnelPid => "run/tunnel.pid",
        }
    }

    /// Returns the path in a machine's directory.
    #[must_use]
    pub fn of(self, machine: &Path) -> PathBuf {
        machine.join(self.name())
    }

    /// Returns the path relative to a directory of the same machine, in which some programs run.
    #[must_use]
    pub fn seen_from(self, dir: Self) -> String {
        "../".repeat(dir.name().split('/').count()) + self.name()
    }

    /// Returns the last part of the path.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        let name = self.name();
        name.rsplit_once('/').map_or(name, |(_, last)| last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_seen_from_a_directory_leads_out_of_it() {
        assert_eq!(MachinePath::Workspace.seen_from(MachinePath::Qemu), "../../workspace");
        assert_eq!(MachinePath::Disk.seen_from(MachinePath::Run), "../disk.qcow2");
    }
}
