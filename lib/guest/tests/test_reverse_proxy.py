"""Tests of the reverse proxy's launcher and its nginx configuration, without nginx."""

import contextlib
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "agent_mcp"))

import nginx_config  # noqa: E402
import reverse_proxy  # noqa: E402

TOKEN = "0123456789abcdef" * 4
ARGUMENTS = [
    "--nginx=/usr/sbin/nginx",
    "--listen=0.0.0.0:8000",
    "--inner-port=8001",
    "--endpoint-credential=endpoint",
    "--certificate-credential=cert",
    "--key-credential=key",
    "--token-credential=token",
    "--renewal-path=/agent-vm/certificate",
    "--allow-origin=https://claude.ai",
]
GOOD = {
    "listen": "0.0.0.0:8000",
    "inner_port": "8001",
    "origins": ["https://claude.ai"],
    "hosts": ["localhost", "127.0.0.1", "[::1]"],
    "certificate": "/run/credentials/x.service/cert",
    "key": "/run/credentials/x.service/key",
    "token": TOKEN,
    "renewal_token": TOKEN,
    "renewal_path": "/agent-vm/certificate",
    "runtime": "/run/agent-mcp-gate",
}


def rendered(**changes):
    return nginx_config.render(nginx_config.Endpoint(**{**GOOD, **changes}))


class Configuration(unittest.TestCase):
    def test_everything_is_enabled(self):
        text = rendered()
        for line in (
            "listen 0.0.0.0:8000 ssl;",
            "ssl_protocols TLSv1.2 TLSv1.3;",
            "server_name localhost 127.0.0.1 [::1];",
            f'"Bearer {TOKEN}" right;',
            '"https://claude.ai" allowed;',
            "default foreign;",
            'proxy_set_header Authorization "";',
            "proxy_buffering off;",
            "access_log off;",
        ):
            self.assertIn(line, text)

    def test_without_tls_and_token(self):
        text = rendered(certificate=None, key=None, token=None, renewal_token=None)
        self.assertIn("listen 0.0.0.0:8000;", text)
        self.assertNotIn("ssl", text)
        self.assertNotIn("Bearer 0", text)

    def test_any_origin(self):
        self.assertIn("default allowed;", rendered(origins=["*"]))

    def test_values_with_special_characters_are_refused(self):
        hostile = ["", "a b", "a;b", "a}b", "a{b", 'a"b', "a$b", "a\nb", "~a", "*", "a\\b", "a#b", "a'b", "a" * 300, "é"]
        for value in hostile:
            for change in (
                {"hosts": [value]},
                {"hosts": ["localhost", value]},
                {"origins": ["https://" + value]} if value != "*" else {"origins": ["https://*"]},
                {"token": value},
                {"renewal_token": value},
                {"listen": value},
                {"listen": f"0.0.0.0:{value}"},
                {"inner_port": value},
                {"certificate": f"/run/{value}\n;"},
                {"key": f"/run/{value} x"},
                {"runtime": f"/run/{value} x"},
                {"renewal_path": f"/{value} x"},
            ):
                with self.subTest(change):
                    self.assertRaises(nginx_config.Refused, rendered, **change)

    def test_addresses_and_ports_out_of_range_are_refused(self):
        for change in ({"listen": "0.0.0.256:8000"}, {"listen": "0.0.0.0:0"}, {"listen": "0.0.0.0:65536"}, {"inner_port": "0"}):
            with self.subTest(change):
                self.assertRaises(nginx_config.Refused, rendered, **change)
        rendered(listen="[::1]:65535", inner_port="65535")

    def test_tokens_are_32_to_128_lower_case_hexadecimal_digits(self):
        for token in ("a" * 31, "A" * 64, "g" * 64, TOKEN + "\n", " " + TOKEN, "a" * 129):
            self.assertRaises(nginx_config.Refused, rendered, token=token)
        rendered(token="a" * 32)

    def test_errors_do_not_contain_the_token(self):
        with self.assertRaises(nginx_config.Refused) as refused:
            rendered(token="my secret token")
        self.assertNotIn("secret", str(refused.exception))


class Settings(unittest.TestCase):
    def test_settings(self):
        value = {"tls": True, "auth": False, "hosts": ["a"]}
        self.assertEqual(nginx_config.settings(value), (True, False, ["a"]))

    def test_invalid_settings_are_refused(self):
        good = {"tls": True, "auth": True, "hosts": ["a"]}
        for value in (
            None,
            [],
            {},
            {**good, "tls": "yes"},
            {**good, "auth": 1},
            {**good, "hosts": []},
            {**good, "hosts": "a"},
            {**good, "hosts": [1]},
            {**good, "hosts": ["a"] * 65},
            {**good, "more": 1},
            {"tls": True, "hosts": ["a"]},
        ):
            self.assertRaises(nginx_config.Refused, nginx_config.settings, value)


class Program(unittest.TestCase):
    """The launcher up to its exec of nginx."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.credentials, self.runtime = Path(directory.name, "credentials"), Path(directory.name, "runtime")
        self.credentials.mkdir()
        self.runtime.mkdir()
        self.give(endpoint=json.dumps({"tls": True, "auth": True, "hosts": ["localhost"]}), cert="c", key="k", token=TOKEN + "\n")
        self.became = None

    def give(self, **credentials):
        for name, text in credentials.items():
            Path(self.credentials, name).write_text(text)

    def run_it(self, arguments=ARGUMENTS, **environment):
        def become(path, argv):
            self.became = argv

        with tempfile.TemporaryFile() as output, contextlib.ExitStack() as stack:
            stderr, execv, before = os.dup(2), os.execv, dict(os.environ)
            os.dup2(output.fileno(), 2)
            stack.callback(os.dup2, stderr, 2)
            stack.callback(setattr, os, "execv", execv)
            stack.callback(lambda: (os.environ.clear(), os.environ.update(before)))
            os.execv = become
            os.environ.update(
                {"CREDENTIALS_DIRECTORY": str(self.credentials), "RUNTIME_DIRECTORY": str(self.runtime), **environment}
            )
            status = reverse_proxy.main(arguments)
            output.seek(0)
            return status, output.read().decode()

    def test_it_executes_nginx_with_a_private_configuration(self):
        _, output = self.run_it()
        config = self.runtime / "nginx.conf"
        self.assertEqual(self.became, ["/usr/sbin/nginx", "-e", "stderr", "-c", str(config)])
        self.assertEqual(config.stat().st_mode & 0o777, 0o400)
        self.assertIn(TOKEN, config.read_text())
        self.assertEqual(output, "")
        self.assertFalse(any(TOKEN in word for word in self.became))
        # A second start replaces the file.
        self.run_it()

    def refuses(self, why):
        status, output = self.run_it()
        self.assertEqual((status, self.became), (1, None), output)
        self.assertIn(why, output)
        self.assertNotIn(TOKEN[:8], output)
        self.assertFalse((self.runtime / "nginx.conf").exists())

    def test_missing_settings_are_refused(self):
        (self.credentials / "endpoint").unlink()
        self.refuses("the credential endpoint is missing")

    def test_missing_credentials_are_refused(self):
        for name, why in (("cert", "TLS is on"), ("key", "TLS is on"), ("token", "a token is required")):
            self.setUp()
            (self.credentials / name).unlink()
            self.refuses(why)

    def test_invalid_credentials_are_refused(self):
        for changes, why in (
            ({"endpoint": "{"}, "not valid JSON"),
            ({"endpoint": "[" * 60000}, "not valid JSON"),
            ({"endpoint": "x" * (1 << 17)}, "too long"),
            ({"token": "é"}, "not ASCII text"),
            ({"token": ""}, "invalid token"),
            ({"token": TOKEN[:20]}, "invalid token"),
        ):
            self.setUp()
            self.give(**changes)
            self.refuses(why)

    def test_arguments(self):
        for arguments in (ARGUMENTS[1:], [*ARGUMENTS, "--more=1"], [*ARGUMENTS, ARGUMENTS[0]], [*ARGUMENTS, "x"], ["--nginx"]):
            self.assertEqual(self.run_it(arguments)[0], 1)
            self.assertIsNone(self.became)
        self.assertIn("is not set", self.run_it(CREDENTIALS_DIRECTORY="")[1])


if __name__ == "__main__":
    unittest.main()
