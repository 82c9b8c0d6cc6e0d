"""What the guest may reach: decisions alone, without a network and without mitmproxy.

The rules come from a file that agent-vm writes (see src/egress/rules.rs) and may replace at any time.
"""

import ipaddress
import json
import os
from dataclasses import dataclass

# Without a port an entry means the web's two.
WEB_PORTS = (80, 443)
# RFC 6052: an address of this network leads to the IPv4 address in its last 32 bits.
NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Entry:
    host: str
    port: int | None

    def covers(self, host: str, port: int) -> bool:
        if port not in (WEB_PORTS if self.port is None else (self.port,)):
            return False
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return host == self.host


@dataclass(frozen=True)
class Secret:
    name: str
    host: str
    placeholder: str
    value: str


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    reason: str


@dataclass(frozen=True)
class Rules:
    mode: str
    machine: str
    peer_uid: int
    allow: tuple[Entry, ...]
    deny: tuple[Entry, ...]
    secrets: tuple[Secret, ...]

    @classmethod
    def parse(cls, text: str) -> "Rules":
        said = json.loads(text)
        if said["version"] != 1:
            raise ValueError(f"rules of version {said['version']}")
        entries = lambda name: tuple(Entry(entry["host"], entry["port"]) for entry in said[name])
        return cls(
            said["mode"],
            said["machine"],
            said["peer_uid"],
            entries("allow"),
            entries("deny"),
            tuple(Secret(**secret) for secret in said["secrets"]),
        )

    def decide(self, host: str, port: int) -> Verdict:
        """Whether a connection to this host may be made, by its name alone."""
        host = normal(host)
        if self.mode == "none":
            return Verdict(False, "this machine has no way out")
        if any(entry.covers(host, port) for entry in self.deny):
            return Verdict(False, "on the deny list")
        if not self.is_named(host, port) and not is_public_name(host):
            return Verdict(False, "an address of the host or its network")
        if self.mode == "open" or any(entry.covers(host, port) for entry in self.allow):
            return Verdict(True, "")
        return Verdict(False, "not on the allow list")

    def is_named(self, host: str, port: int | None) -> bool:
        """Whether the list has this very host, as no pattern: only so may it be the host's own or a private one."""
        host = normal(host)
        return any(
            entry.host == host and (port is None or entry.covers(host, port)) and not is_public_name(host)
            for entry in self.allow
        )

    def intercepts(self, host: str) -> bool:
        """Whether the proxy looks into TLS connections to this host."""
        return self.mode == "monitor" or bool(self.secrets_for(host))

    def secrets_for(self, host: str) -> tuple[Secret, ...]:
        return tuple(secret for secret in self.secrets if secret.host == normal(host))


def normal(host: str) -> str:
    """One spelling of a host."""
    host = host.lower().strip("[]")
    host = host[:-1] if host.endswith(".") else host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def is_public_name(host: str) -> bool:
    """False for the host's own name and for literal addresses that are not public. Other names are resolved first."""
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return is_public(host)


def is_public(address: str) -> bool:
    """Whether an address is one of the Internet's: not loopback, private, link-local (metadata services) or multicast."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if ip in NAT64:
            inner.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if any(one is not None and not one.is_global for one in inner):
            return False
        if ip.ipv4_mapped is not None:
            return True
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class RulesFile:
    """The rules as they are now: read again whenever the file is another one."""

    def __init__(self, path: str):
        self._path = path
        self._seen = None
        self._rules = None

    def now(self) -> Rules:
        with open(self._path, encoding="utf-8") as file:
            state = os.fstat(file.fileno())
            seen = (state.st_ino, state.st_mtime_ns, state.st_size)
            if seen != self._seen:
                self._rules = Rules.parse(file.read())
                self._seen = seen
        return self._rules
