"""
The snapshot of Debian that an image is built from, so that another build on another day gets the same packages.

AGENT_VM_DEBIAN_SNAPSHOT is the address of another archive with the layout of snapshot.debian.org, or `none`.
"""

import http.client
import os
import threading
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timezone

from . import report

ARCHIVE = "https://snapshot.debian.org/archive"
# Seconds for the archive's first answer, including the search for its name. Without one, the mirror is used.
ANSWER = 3


@dataclass(frozen=True)
class Source:
    """Where the packages come from: mmdebstrap's mirrors, and the date of the snapshot, if they are from one."""

    mirrors: list[str]
    date: str | None

    def described(self) -> dict:
        """Returns what the image's built.json says about its packages."""
        built = datetime.now(timezone.utc)
        taken = None if self.date is None else datetime.strptime(self.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
        return {"built": shown(built), "snapshot": taken and shown(taken)}


def shown(time: datetime) -> str:
    return time.isoformat(timespec="seconds").replace("+00:00", "Z")


def choose(spec: dict) -> Source:
    """Return the snapshot that the spec names or, if its archive does not answer, the configured mirror."""
    mirror = os.environ.get("AGENT_VM_DEBIAN_MIRROR")
    without = Source([mirror] if mirror else [], None)
    archive = os.environ.get("AGENT_VM_DEBIAN_SNAPSHOT", ARCHIVE).rstrip("/")
    if archive == "none" or not spec.get("snapshot"):
        return without
    date, suite = spec["snapshot"], spec["suite"]
    if why := silence(f"{archive}/debian/{date}/dists/{suite}/InRelease"):
        name = mirror or "Debian's mirror"
        report.say(f"notice: no answer from {archive} ({why}): the packages are those that {name} has now")
        return without
    return Source(mirrors(archive, date, suite), date)


def mirrors(archive: str, date: str, suite: str) -> list[str]:
    # The signatures of an old snapshot have expired.
    start = f"deb [check-valid-until=no] {archive}"
    return [
        f"{start}/debian/{date}/ {suite} main",
        f"{start}/debian/{date}/ {suite}-updates main",
        f"{start}/debian-security/{date}/ {suite}-security main",
    ]


def silence(url: str) -> str | None:
    """Return why an address does not answer in time; None if it does."""
    reason = [f"no answer in {ANSWER} s"]

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWER):
                reason[:] = [None]
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason[:] = [str(getattr(error, "reason", error))]

    # The search for a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER)
    return reason[0]
