"""Reads the servers of a workspace's .mcp.json, in Claude Code's format.

The file belongs to the branch, so its content is not trusted: each error in it causes one warning, and the valid servers
are served.
"""

import json
import os
import re
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from policy import grammar

LARGEST_FILE = 1 << 20
MOST_SERVERS = 32

# A name is a segment of a URL. Braces have a meaning in mcp-proxy's router.
NAME = re.compile(grammar("server_name"))
VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class Problem(Exception):
    """Why a server, or a whole file, is not served."""


@dataclass
class Server:
    name: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)


def read_all(paths: Iterable[Path]) -> tuple[list[Server], list[str]]:
    """Returns the servers of several files; the first file that uses a name wins."""
    servers: dict[str, Server] = {}
    warnings: list[str] = []
    for path in paths:
        found, wrong = read(path)
        warnings += wrong
        for server in found:
            if servers.setdefault(server.name, server) is not server:
                warnings.append(f"{path.name}: server {json.dumps(server.name)}: not served: the name is already used")
    return list(servers.values()), warnings


def read(path: Path) -> tuple[list[Server], list[str]]:
    """Returns a file's usable servers, and warnings about the rest."""
    try:
        entries = entries_of(path)
    except Problem as problem:
        return [], [f"{path.name}: {problem}"]
    servers: list[Server] = []
    warnings: list[str] = []
    for name, entry in entries.items():
        try:
            if len(servers) == MOST_SERVERS:
                raise Problem(f"not served: the limit is {MOST_SERVERS} servers")
            servers.append(parse(name, entry))
        except Problem as problem:
            warnings.append(f"{path.name}: server {json.dumps(name)[:80]}: {problem}")
    return servers, warnings


def entries_of(path: Path) -> dict:
    text = contents(path)
    if text is None:
        return {}
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Problem(f"not valid JSON, so none of its servers is served: {error}") from error
    if not isinstance(data, dict):
        raise Problem("not a JSON object, so none of its servers is served")
    entries = data.get("mcpServers", {})
    if not isinstance(entries, dict):
        raise Problem('"mcpServers" is not an object, so none of its servers is served')
    return entries


def contents(path: Path) -> str | None:
    """Returns the file's text; None if it does not exist."""
    try:
        # O_NONBLOCK: opening a pipe that has no writer would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Problem(f"cannot be read: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Problem("not a regular file, so it is not read")
        try:
            data = file.read(LARGEST_FILE + 1)
        except OSError as error:
            raise Problem(f"cannot be read: {error.strerror}") from error
    if len(data) > LARGEST_FILE:
        raise Problem(f"larger than {LARGEST_FILE >> 20} MiB, so it is not read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem(f"not UTF-8, so none of its servers is served: {error}") from error


def parse(name: str, entry: object) -> Server:
    if not NAME.fullmatch(name):
        raise Problem("invalid name: it must be at most 64 letters, digits, '.', '_' and '-'")
    if not isinstance(entry, dict):
        raise Problem("not an object")
    kind = entry.get("type", "stdio")
    if kind != "stdio" or ("url" in entry and "command" not in entry):
        raise Problem("only servers of type stdio are served: connect the client to this one directly")
    env = entry.get("env", {})
    if not isinstance(env, dict):
        raise Problem('"env" is not an object')
    for key in env:
        if not key or "=" in key or "\0" in key:
            raise Problem(f'"env" has an invalid name {json.dumps(key)[:80]}')
    arguments = entry.get("args", [])
    if not isinstance(arguments, list):
        raise Problem('"args" is not a list')
    if "command" not in entry:
        raise Problem('it has no "command"')
    server = Server(
        name,
        [word(value, "args") if i else word(value, "command") for i, value in enumerate([entry["command"], *arguments])],
        {key: word(value, "env") for key, value in env.items()},
    )
    command = server.argv[0]
    if not command or shutil.which(command, path=server.env.get("PATH", os.environ.get("PATH"))) is None:
        raise Problem(f"its command {json.dumps(command)[:80]} is not installed in this machine")
    return server


def word(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise Problem(f'"{where}" contains a value that is not a string')
    expanded = expand(value)
    try:
        usable = b"\0" not in expanded.encode()
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise Problem(f'"{where}" contains a character that cannot be passed to a program')
    return expanded


def expand(value: str) -> str:
    """Replaces Claude Code's ${NAME} and ${NAME:-default}."""

    def one(match: re.Match) -> str:
        found = os.environ.get(match[1], match[2])
        if found is None:
            raise Problem(f"the environment variable {match[1]} is not set")
        return found

    return VARIABLE.sub(one, value)
