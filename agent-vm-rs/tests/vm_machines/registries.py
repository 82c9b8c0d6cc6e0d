"""Stand-ins for the registries of package managers, each with one tiny package named stand-in.

    registries.py make DIR    writes the registries' files, and projects that use the package
    registries.py serve DIR   serves them by HTTPS on port 443, and by HTTP on port 80

DIR/site/HOST has what a host serves. DIR/ca.pem is the authority of all of them.
"""

import base64
import gzip
import hashlib
import io
import json
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME, VERSION = "stand-in", "1.0.0"
SAYS = "installed from the stand-in"


def archive(files, mode="w:gz"):
    """Returns a tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            data = text.encode()
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def packed(files):
    """Returns a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, text in files.items():
            packed.writestr(name, text)
    return out.getvalue()


class Site:
    def __init__(self, directory):
        self.directory = directory

    def put(self, path, content):
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())


def pypi(site, projects):
    info = f"stand_in-{VERSION}.dist-info"
    wheel = {
        "stand_in.py": f"says = {SAYS!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    wheel[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*wheel, f"{info}/RECORD"])
    file = f"packages/stand_in-{VERSION}-py3-none-any.whl"
    site.put(f"files.pythonhosted.org/{file}", packed(wheel))
    link = f"https://files.pythonhosted.org/{file}"
    site.put(f"pypi.org/simple/{NAME}/index.html", f'<!DOCTYPE html><a href="{link}">{file.split("/")[1]}</a>\n')


def npm(site, projects):
    tarball = archive({
        "package/package.json": json.dumps({"name": NAME, "version": VERSION, "main": "index.js"}),
        "package/index.js": f"module.exports = {json.dumps(SAYS)};\n",
    })
    place = f"{NAME}/-/{NAME}-{VERSION}.tgz"
    site.put(f"registry.npmjs.org/{place}", tarball)
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
    project = {"name": "project", "version": "1.0.0", "dependencies": {NAME: VERSION}}
    lock = {
        "name": "project",
        "version": "1.0.0",
        "lockfileVersion": 3,
        "packages": {
            "": project,
            f"node_modules/{NAME}": {
                "version": VERSION,
                "resolved": f"https://registry.npmjs.org/{place}",
                "integrity": integrity,
            },
        },
    }
    projects.put("npm/package.json", json.dumps(project))
    projects.put("npm/package-lock.json", json.dumps(lock))


def crates(site, projects):
    toml = f'[package]\nname = "{NAME}"\nversion = "{VERSION}"\nedition = "2021"\n'
    crate = archive({
        f"{NAME}-{VERSION}/Cargo.toml": toml,
        f"{NAME}-{VERSION}/src/lib.rs": f"pub const SAYS: &str = {json.dumps(SAYS)};\n",
    })
    site.put(f"static.crates.io/crates/{NAME}/{VERSION}/download", crate)
    config = {"dl": "https://static.crates.io/crates", "api": "https://crates.io"}
    site.put("index.crates.io/config.json", json.dumps(config))
    line = {"name": NAME, "vers": VERSION, "deps": [], "features": {}, "yanked": False}
    line["cksum"] = hashlib.sha256(crate).hexdigest()
    site.put(f"index.crates.io/{NAME[:2]}/{NAME[2:4]}/{NAME}", json.dumps(line) + "\n")
    projects.put("cargo/Cargo.toml", f'[package]\nname = "project"\nedition = "2021"\n\n[dependencies]\n{NAME} = "1"\n')
    projects.put("cargo/src/lib.rs", "pub const SAYS: &str = stand_in::SAYS;\n")


def go(site, projects):
    module, version = f"example.org/{NAME}", f"v{VERSION}"
    place = f"proxy.golang.org/{module}/@v"
    mod = f"module {module}\n\ngo 1.20\n"
    site.put(f"{place}/list", f"{version}\n")
    site.put(f"{place}/{version}.info", json.dumps({"Version": version, "Time": "2026-01-01T00:00:00Z"}))
    site.put(f"{place}/{version}.mod", mod)
    source = f"package stand\n\nconst Says = {json.dumps(SAYS)}\n"
    site.put(f"{place}/{version}.zip", packed({f"{module}@{version}/go.mod": mod, f"{module}@{version}/stand.go": source}))
    projects.put("go/go.mod", f"module example.org/project\n\ngo 1.20\n\nrequire {module} {version}\n")
    # Not a program, whose build would compile Go's runtime.
    projects.put("go/project.go", f'package project\n\nimport stand "{module}"\n\nconst Says = stand.Says\n')


def maven(site, projects):
    """A parent and an extension of the build, which Maven gets without any plugin."""
    place = "repo.maven.apache.org/maven2/org/example"
    head = '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    for artifact, packaging in [("parent", "pom"), (NAME, "jar")]:
        text = f"{head}<groupId>org.example</groupId><artifactId>{artifact}</artifactId><version>{VERSION}</version>"
        files = {"pom": f"{text}<packaging>{packaging}</packaging></project>".encode()}
        if packaging == "jar":
            files["jar"] = packed({"META-INF/MANIFEST.MF": "Manifest-Version: 1.0\n", "stand-in.txt": SAYS})
        for kind, content in files.items():
            path = f"{place}/{artifact}/{VERSION}/{artifact}-{VERSION}.{kind}"
            site.put(path, content)
            site.put(f"{path}.sha1", hashlib.sha1(content).hexdigest())
    name = f"<groupId>org.example</groupId><artifactId>{NAME}</artifactId><version>{VERSION}</version>"
    projects.put(
        "maven/pom.xml",
        f"{head}<parent><groupId>org.example</groupId><artifactId>parent</artifactId><version>{VERSION}</version>"
        "<relativePath/></parent><artifactId>project</artifactId><packaging>pom</packaging>"
        f"<build><extensions><extension>{name}</extension></extensions></build></project>",
    )


def gems(site, projects):
    """The index; Ruby itself makes the package in the test."""
    projects.put(
        f"gem/{NAME}.gemspec",
        f'Gem::Specification.new do |s|\n  s.name = "{NAME}"\n  s.version = "{VERSION}"\n  s.summary = "{SAYS}"\n'
        '  s.authors = ["Test"]\n  s.files = ["lib/stand_in.rb"]\nend\n',
    )
    projects.put("gem/lib/stand_in.rb", f"SAYS = {json.dumps(SAYS)}\n")
    projects.put(
        "gem/pack.sh",
        f"set -e\ngem build --output {NAME}-{VERSION}.gem {NAME}.gemspec\n"
        f"ruby -rzlib -e 'spec = Gem::Specification.load(\"{NAME}.gemspec\")\n"
        f"  File.binwrite(\"{NAME}-{VERSION}.gemspec.rz\", Zlib::Deflate.deflate(Marshal.dump(spec)))\n"
        f"  puts Digest::SHA256.file(\"{NAME}-{VERSION}.gem\").hexdigest' -rdigest\n",
    )


def gem_index(site, sha256):
    info = f"---\n{VERSION} |checksum:{sha256}\n"
    site.put(f"index.rubygems.org/info/{NAME}", info)
    digest = hashlib.md5(info.encode(), usedforsecurity=False).hexdigest()
    site.put("index.rubygems.org/versions", f"created_at: 2026-01-01T00:00:00Z\n---\n{NAME} {VERSION} {digest}\n")


def debian(site, projects):
    control = f"Package: {NAME}\nVersion: {VERSION}\nArchitecture: all\nMaintainer: Test <test@example.invalid>\n"
    control += f"Description: {SAYS}\n"
    program = f"#!/bin/sh\necho {SAYS}\n"
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": archive({"./control": control}),
        "data.tar.gz": archive({"./usr/bin/stand-in": program}),
    }
    deb = b"!<arch>\n"
    for name, data in members.items():
        deb += f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    place = f"pool/main/s/{NAME}_{VERSION}_all.deb"
    site.put(f"deb.debian.org/debian/{place}", deb)
    packages = f"{control}Filename: {place}\nSize: {len(deb)}\nSHA256: {hashlib.sha256(deb).hexdigest()}\n"
    for archive_of, suite, text in [
        ("deb.debian.org/debian", "trixie", packages),
        ("deb.debian.org/debian", "trixie-updates", ""),
        ("security.debian.org/debian-security", "trixie-security", ""),
    ]:
        dist = f"{archive_of}/dists/{suite}"
        data = gzip.compress(text.encode())
        site.put(f"{dist}/main/binary-amd64/Packages.gz", data)
        listed = "".join(
            f" {hashlib.sha256(one).hexdigest()} {len(one)} main/binary-amd64/Packages{end}\n"
            for one, end in [(text.encode(), ""), (data, ".gz")]
        )
        site.put(
            f"{dist}/Release",
            f"Suite: {suite}\nCodename: {suite}\nArchitectures: amd64\nComponents: main\n"
            f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n{listed}",
        )


def make(directory):
    site, projects = Site(directory / "site"), Site(directory / "projects")
    for registry in (pypi, npm, crates, go, maven, gems, debian):
        registry(site, projects)
    gem_index(site, "0" * 64)
    certificates(directory, [*sorted(host.name for host in (directory / "site").iterdir()), "rubygems.org"])


def certificates(directory, hosts):
    openssl = lambda *args: subprocess.run(["openssl", *args], cwd=directory, check=True, capture_output=True)
    openssl(*"req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=test -addext keyUsage=keyCertSign".split())
    openssl(*"req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=registries".split())
    names = ",".join(f"DNS:{host}" for host in hosts)
    (directory / "ext").write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
    openssl(*"x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -extfile ext".split())


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def translate_path(self, path):
        host = self.headers["Host"].split(":")[0]
        # The path has no `..`, which the base class drops.
        return str(Path(self.directory, host) / Path(super().translate_path(path)).relative_to(self.directory))

    def log_message(self, *_):
        pass


def serve(directory):
    handler = lambda *arguments: Handler(*arguments, directory=str(directory / "site"))
    plain, secured = (ThreadingHTTPServer(("", port), handler) for port in (80, 443))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "leaf.pem", directory / "leaf.key")
    secured.socket = context.wrap_socket(secured.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=plain.serve_forever, daemon=True).start()
    secured.serve_forever()


if __name__ == "__main__":
    verb, directory = sys.argv[1], Path(sys.argv[2]).absolute()
    if verb == "gem":
        gem_index(Site(directory / "site"), sys.argv[3])
    else:
        {"make": make, "serve": serve}[verb](directory)
