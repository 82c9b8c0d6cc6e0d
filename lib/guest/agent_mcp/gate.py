"""agent-mcp gate: becomes the nginx that stands in front of mcp-proxy, with what the host handed over.

Certificate, key, token and settings are systemd credentials. nginx reads the key where systemd put it, and a copy of the
certificate, which the host may replace. The token is in a file of nginx's configuration that its account alone can read,
and nowhere else.
"""

import json
import os
from pathlib import Path

import gate_config

# The longest token or settings that make sense.
LARGEST = 1 << 16
# In the directory that is this account's own: the certificate in use, and the one that was handed over at first.
CERTIFICATE, FIRST_CERTIFICATE = "certificate.pem", "first-certificate.pem"
# argparse would take as long to import as everything else here together.
ONCE = (
    "nginx",
    "listen",
    "inner-port",
    "endpoint-credential",
    "certificate-credential",
    "key-credential",
    "token-credential",
    "renewal-path",
)
REPEATED = "allow-origin"


class Usage(Exception):
    """A wrong command line."""


def parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """The options that are there once, and the origins."""
    options: dict[str, str] = {}
    origins: list[str] = []
    for argument in arguments:
        name, separator, value = argument.removeprefix("--").partition("=")
        if not (argument.startswith("--") and separator):
            raise Usage(f"--OPTION=VALUE is due in place of {argument}")
        if name == REPEATED:
            origins.append(value)
        elif name in ONCE and name not in options:
            options[name] = value
        else:
            raise Usage(f"--{name} is unknown or there twice")
    missing = [name for name in ONCE if name not in options]
    if missing:
        raise Usage(f"--{missing[0]} is missing")
    return options, origins


def main(arguments: list[str]) -> int:
    try:
        options, origins = parse(arguments)
        runtime, credentials = directory("RUNTIME_DIRECTORY"), directory("CREDENTIALS_DIRECTORY")
        config = gate_config.render(read(options, origins, credentials, runtime))
    except (gate_config.Refused, Usage) as refused:
        # It brings the network's modules along, which a start that works has no use for.
        from journal import WARNING, log

        log(WARNING, f"no endpoint: {refused}")
        return 1
    path = runtime / "nginx.conf"
    write(path, config.encode())
    # stderr: not the log file that it was built to open before it reads its configuration.
    os.execv(options["nginx"], [options["nginx"], "-e", "stderr", "-c", str(path)])


def directory(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise gate_config.Refused(f"{variable} is not set: systemd starts this, with credentials")
    return Path(value)


def read(options: dict[str, str], origins: list[str], credentials: Path, runtime: Path) -> gate_config.Endpoint:
    """What the host handed over, checked."""
    text = contents(credentials / options["endpoint-credential"])
    if text is None:
        raise gate_config.Refused(f"there is no credential {options['endpoint-credential']}: nobody may come in")
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        raise gate_config.Refused("the endpoint's settings are no JSON") from None
    tls, auth, hosts = gate_config.settings(settings)
    certificate, key = credentials / options["certificate-credential"], credentials / options["key-credential"]
    if tls and not (certificate.is_file() and key.is_file()):
        raise gate_config.Refused("TLS is on, and there is no certificate or no key")
    token = contents(credentials / options["token-credential"])
    token = token.strip() if token is not None else None
    if auth and token is None:
        raise gate_config.Refused("a token is asked for, and there is none")
    if tls:
        certificate = renewable(certificate, runtime)
    return gate_config.Endpoint(
        listen=options["listen"],
        inner_port=options["inner-port"],
        origins=origins,
        hosts=hosts,
        certificate=str(certificate) if tls else None,
        key=str(key) if tls else None,
        token=token if auth else None,
        renewal_token=token,
        renewal_path=options["renewal-path"],
        runtime=str(runtime),
    )


def renewable(credential: Path, runtime: Path) -> Path:
    """A copy of the certificate that can be replaced. One that has been stays when the service is restarted."""
    data = credential.read_bytes()
    current, first = runtime / CERTIFICATE, runtime / FIRST_CERTIFICATE
    if not (current.is_file() and first.is_file() and first.read_bytes() == data):
        write(current, data, 0o600)
        write(first, data, 0o600)
    return current


def contents(path: Path) -> str | None:
    """A credential's text; None if there is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        text = None
    if text is None or len(data) > LARGEST:
        # Not a word of what is in it.
        raise gate_config.Refused(f"the credential {path.name} is not plain text, or too long")
    return text


def write(path: Path, data: bytes, mode: int = 0o400) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
