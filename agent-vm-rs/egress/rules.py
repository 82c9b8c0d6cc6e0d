"""The egress rules: decisions only, without network access and mitmproxy.

The rules come from a file that agent-vm writes (see src/egress/rules.rs) and can replace at any time.
"""

import ipaddress
import json
import os
import re
from dataclasses import dataclass

import network
import special_addresses
from host_proxy import HostProxy

# Ports of an entry without a port.
WEB_PORTS = (80, 443)
# A cloud's metadata service at a public address: Azure's WireServer (learn.microsoft.com, "What is IP address 168.63.129.16?").
METADATA = {ipaddress.ip_address("168.63.129.16")}
# Why a connection is refused whatever the allow list says.
OFF = "egress is off for this machine"
DENIED = "on the deny list"
# Why an address is closed unless the allow list names it.
OF_THE_HOST = "an address of the host or its network"
OF_METADATA = "an address of a metadata service"
SPECIAL = "a private or reserved address"
# What the guest reads in their place: the kinds would show it the host's networks.
CLOSED = "a closed address"


@dataclass(frozen=True)
class Entry:
    host: str
    port: int | None

    def covers(self, host: str, port: int) -> bool:
        return port in (WEB_PORTS if self.port is None else (self.port,)) and self.is_of(host)

    def forbids(self, host: str, port: int) -> bool:
        """Returns whether this entry of the deny list matches. Without a port it matches every port."""
        return self.port in (None, port) and self.is_of(host)

    def is_of(self, host: str) -> bool:
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return host == self.host


@dataclass(frozen=True)
class Secret:
    name: str
    host: str
    port: int
    placeholder: str
    value: str


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    reason: str


@dataclass(frozen=True)
class Rules:
    # Whether the guest may reach nothing, or everything except the deny list, the host and its network.
    nothing: bool
    everything: bool
    # Whether all TLS connections are intercepted.
    intercept_all: bool
    # The reason logged for destinations that are not on the allow list.
    not_listed: str
    machine: str
    peer_uid: int
    allow: tuple[Entry, ...]
    deny: tuple[Entry, ...]
    secrets: tuple[Secret, ...]
    # The host's own proxy, through which connections go; None if there is none.
    upstream: HostProxy | None = None

    @classmethod
    def parse(cls, text: str) -> "Rules":
        data = json.loads(text)
        if data["version"] != 2:
            raise ValueError(f"unsupported rules version {data['version']}")
        entries = lambda name: tuple(Entry(entry["host"], entry["port"]) for entry in data[name])
        return cls(
            data["nothing"],
            data["everything"],
            data["intercept_all"],
            data["not_listed"],
            data["machine"],
            data["peer_uid"],
            entries("allow"),
            entries("deny"),
            tuple(Secret(**secret) for secret in data["secrets"]),
            HostProxy.parse(data.get("upstream")),
        )

    def decide(self, host: str, port: int) -> Verdict:
        """Decides whether a connection to this host is allowed, by its name only."""
        host = normal(host)
        if self.nothing:
            return Verdict(False, OFF)
        if any(entry.forbids(host, port) for entry in self.deny):
            return Verdict(False, DENIED)
        # It would do for the guest what it does for the host.
        if self.upstream and (host, port) == (normal(self.upstream.host), self.upstream.port):
            return Verdict(False, OF_THE_HOST)
        if not self.is_named(host, port) and (why := why_closed_name(host)):
            return Verdict(False, why)
        if self.everything or self.is_listed(host, port):
            return Verdict(True, "")
        return Verdict(False, self.not_listed)

    def is_listed(self, host: str, port: int) -> bool:
        """Returns whether the allow list has this host and port."""
        host = normal(host)
        return any(entry.covers(host, port) for entry in self.allow)

    def shown(self, host: str, port: int, reason: str) -> str:
        """Returns what the guest reads for the reason of a refusal: the same for all addresses that are closed or not public."""
        if reason not in (OF_THE_HOST, OF_METADATA, SPECIAL):
            return reason
        host = normal(host)
        is_global = is_address(host) and special_addresses.is_global(ipaddress.ip_address(host))
        listed = self.everything or self.is_listed(host, port)
        # A public address of the host's network reads like any other one that is not listed.
        return self.not_listed if is_global and not listed else CLOSED

    def is_named(self, host: str, port: int | None) -> bool:
        """Returns whether the allow list names this host exactly. Only then may it have the host's own or a private address."""
        host = normal(host)
        return any(
            entry.host == host and (port is None or entry.covers(host, port)) and why_closed_name(host)
            for entry in self.allow
        )

    def why_closed(self, address: str, port: int) -> str:
        """Returns why no name may lead to this address; empty if it is public, or if the allow list names it for this port.

        Such an entry lets the guest use the address itself; `allows_raw_at` checks that a name gives it nothing more.
        """
        host = normal(address)
        listed = self.is_named(host, port) and not any(entry.forbids(host, port) for entry in self.deny)
        return "" if listed else why_closed(address)

    def allows_raw(self, host: str, port: int) -> bool:
        """Returns whether an allowed host may get traffic other than TLS and HTTP, which cannot be inspected."""
        host = normal(host)
        if self.intercepts(host, port):
            return False
        return self.everything or any(entry.port == port and entry.covers(host, port) for entry in self.allow)

    def allows_raw_at(self, host: str, address: str | None, port: int) -> bool:
        """As `allows_raw`, for a host that led to this address; None is an unknown address.

        If the name may lead there only because the list has the address, that entry must allow such traffic too.
        """
        if not self.allows_raw(host, port):
            return False
        if self.is_named(host, None):
            return True
        return address is not None and (not why_closed(address) or self.allows_raw(address, port))

    def intercepts(self, host: str, port: int) -> bool:
        """Returns whether the proxy intercepts TLS connections to this host and port."""
        return self.intercept_all or bool(self.secrets_for(host, port))

    def secrets_for(self, host: str, port: int) -> tuple[Secret, ...]:
        """Returns the secrets for this host and port: another port may belong to someone else."""
        return tuple(secret for secret in self.secrets if (secret.host, secret.port) == (normal(host), port))


def normal(host: str) -> str:
    """Returns the normal form of a host name."""
    host = host.lower().strip("[]")
    host = host[:-1] if host.endswith(".") else host
    # mitmproxy decodes names that start with xn--.
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            pass
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


# RFC 9110, 7.2: a name or an address, with an optional port.
HOST_HEADER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


def host_of(header: str) -> str:
    """Returns the host of a Host header without its port; empty if the header is invalid."""
    found = HOST_HEADER.fullmatch(header)
    return normal(found[1]) if found else ""


def why_closed_name(host: str) -> str:
    """Returns why localhost, or a literal address, is closed; empty for other names, which must be resolved first."""
    if host == "localhost" or host.endswith(".localhost"):
        return OF_THE_HOST
    return why_closed(host) if is_address(host) else ""


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def why_closed(address: str) -> str:
    """Returns why an address is not public: loopback, private, link-local (metadata services), multicast…; empty if it is."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    inner = special_addresses.ipv4_within(ip)
    if inner is not None and (why := why_closed(str(inner))):
        return why
    if network.is_ours(ip):
        return OF_THE_HOST
    if ip in METADATA:
        return OF_METADATA
    return "" if special_addresses.is_global(ip) else SPECIAL


class RulesFile:
    """The current rules. The file is read again whenever it changes."""

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
