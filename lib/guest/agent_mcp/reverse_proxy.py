"""agent-mcp reverse-proxy: runs nginx as the reverse proxy in front of mcp-proxy, with credentials from the host.

Certificate, key, token and settings are systemd credentials. nginx reads the key from the credential, and the certificate from
a copy that the host can replace. The token is copied only to nginx's configuration, which no other account can read.
"""

import json
import os
from pathlib import Path

import nginx_config

# Maximal length of a credential, in bytes.
LARGEST = 1 << 16
# Files in the runtime directory: the certificate in use, and the first one from the host.
CERTIFICATE, FIRST_CERTIFICATE = "certificate.pem", "first-certificate.pem"
# Not argparse: its import would take as long as everything else here.
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
    """An error in the command line."""


def parse(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Returns the options that occur once, and the origins."""
    options: dict[str, str] = {}
    origins: list[str] = []
    for argument in arguments:
        name, separator, value = argument.removeprefix("--").partition("=")
        if not (argument.startswith("--") and separator):
            raise Usage(f"expected --OPTION=VALUE instead of {argument}")
        if name == REPEATED:
            origins.append(value)
        elif name in ONCE and name not in options:
            options[name] = value
        else:
            raise Usage(f"--{name} is unknown or repeated")
    missing = [name for name in ONCE if name not in options]
    if missing:
        raise Usage(f"--{missing[0]} is missing")
    return options, origins


def main(arguments: list[str]) -> int:
    try:
        options, origins = parse(arguments)
        runtime, credentials = directory("RUNTIME_DIRECTORY"), directory("CREDENTIALS_DIRECTORY")
        config = nginx_config.render(read(options, origins, credentials, runtime))
    except (nginx_config.Refused, Usage) as refused:
        # Imported only here: a successful start does not need the network modules that it imports.
        from journal import WARNING, log

        log(WARNING, f"no endpoint: {refused}")
        return 1
    path = runtime / "nginx.conf"
    write(path, config.encode())
    # Write errors to stderr until the configuration is read, and not to nginx's compiled-in log file.
    os.execv(options["nginx"], [options["nginx"], "-e", "stderr", "-c", str(path)])


def directory(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise nginx_config.Refused(f"{variable} is not set: systemd must start this with credentials")
    return Path(value)


def read(options: dict[str, str], origins: list[str], credentials: Path, runtime: Path) -> nginx_config.Endpoint:
    """Returns the validated endpoint from the host's credentials."""
    text = contents(credentials / options["endpoint-credential"])
    if text is None:
        raise nginx_config.Refused(f"the credential {options['endpoint-credential']} is missing: access is denied")
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError):
        raise nginx_config.Refused("the endpoint's settings are not valid JSON") from None
    tls, auth, hosts = nginx_config.settings(settings)
    certificate, key = credentials / options["certificate-credential"], credentials / options["key-credential"]
    if tls and not (certificate.is_file() and key.is_file()):
        raise nginx_config.Refused("TLS is on, but the certificate or its key is missing")
    token = contents(credentials / options["token-credential"])
    token = token.strip() if token is not None else None
    if auth and token is None:
        raise nginx_config.Refused("a token is required, but its credential is missing")
    if tls:
        certificate = renewable(certificate, runtime)
    return nginx_config.Endpoint(
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
    """Copies the certificate to a file that can be replaced. A replaced one is kept when the service restarts."""
    data = credential.read_bytes()
    current, first = runtime / CERTIFICATE, runtime / FIRST_CERTIFICATE
    if not (current.is_file() and first.is_file() and first.read_bytes() == data):
        write(current, data, 0o600)
        write(first, data, 0o600)
    return current


def contents(path: Path) -> str | None:
    """Returns a credential's text; None if it does not exist."""
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
        # The message must not contain any of the secret.
        raise nginx_config.Refused(f"the credential {path.name} is not ASCII text or is too long")
    return text


def write(path: Path, data: bytes, mode: int = 0o400) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(descriptor, "wb") as file:
        file.write(data)
