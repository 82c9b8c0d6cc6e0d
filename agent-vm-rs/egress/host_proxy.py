"""The settings of the host's own proxy, as its user's shell has them (HTTPS_PROXY and NO_PROXY)."""

import base64
import ipaddress
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HostProxy:
    # Whether the connection to the proxy itself is TLS.
    secure: bool
    host: str
    port: int
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    # Entries of NO_PROXY.
    direct: tuple[str, ...]

    @classmethod
    def parse(cls, data):
        return cls(**{**data, "direct": tuple(data["direct"])}) if data else None

    def authorization(self) -> str:
        """Returns the value of Proxy-Authorization; empty without a user."""
        if self.user is None:
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password or ''}".encode()).decode()

    def leaves_out(self, host: str, port: int) -> bool:
        """Returns whether NO_PROXY has this host, as curl and Go read it."""
        host = host.lower().strip("[]").rstrip(".")
        return any(matches(entry, host, port) for entry in self.direct)


def matches(entry: str, host: str, port: int) -> bool:
    entry = entry.strip().lower()
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except (ValueError, TypeError):
        pass
    name, colon, number = entry.rpartition(":")
    if colon and number.isascii() and number.isdigit():
        return int(number) == port and matches(name, host, port)
    name = entry.removeprefix("*").removeprefix(".").rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))
