"""Secrets: values are inserted into headers only, and are removed from responses for every division into pieces."""

import base64
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rules import Secret
from secrets_broker import Redactor, replace, text

SECRETS = (Secret("TOKEN", "api.test", 443, "placeholder-1", "s3cr3t"),)


class Broker(unittest.TestCase):
    def test_values_replace_placeholders_in_headers(self):
        self.assertEqual(replace("authorization", "Bearer placeholder-1", SECRETS), "Bearer s3cr3t")
        self.assertEqual(replace("x-api-key", "placeholder-1", SECRETS), "s3cr3t")
        self.assertEqual(replace("x-api-key", "another", SECRETS), "another")

    def test_values_replace_placeholders_in_basic_authorization(self):
        encode = lambda credentials: "Basic " + base64.b64encode(credentials.encode()).decode()
        self.assertEqual(replace("Authorization", encode("me:placeholder-1"), SECRETS), encode("me:s3cr3t"))
        self.assertEqual(replace("Authorization", encode("me:other"), SECRETS), encode("me:other"))
        for broken in ["Basic !", "Basic ====", "Basic é", "Basic \udcff", "Basic"]:
            self.assertEqual(replace("Authorization", broken, SECRETS), broken)

    def test_a_body_never_contains_a_value_for_every_division_into_pieces(self):
        body = b"begin s3cr3t s3cr s3cr3t"
        for first in range(len(body) + 1):
            for second in range(first, len(body) + 1):
                redactor = Redactor(SECRETS)
                pieces = [part for part in (body[:first], body[first:second], body[second:]) if part]
                out = b"".join([redactor(part) for part in [*pieces, b""]])
                self.assertEqual(out, b"begin placeholder-1 s3cr placeholder-1")

    def test_a_value_may_be_part_of_another(self):
        values = {"abc": "1", "abcdef": "2", "de": "3", "xab": "4"}
        secrets = tuple(Secret("T", "api.test", 443, f"<{placeholder}>", value) for value, placeholder in values.items())
        for body, expected in [
            (b"abcdef", b"<2>"),
            (b"abcde", b"<1><3>"),
            (b"abcabcdefab", b"<1><2>ab"),
            (b"xabcdef", b"<4>c<3>f"),
        ]:
            for cut in range(len(body) + 1):
                redactor = Redactor(secrets)
                pieces = [part for part in (body[:cut], body[cut:]) if part]
                self.assertEqual(b"".join([redactor(part) for part in [*pieces, b""]]), expected, (body, cut))
        self.assertEqual(text("abcdef abc", secrets), "<2> <1>")

    def test_bytes_that_cannot_begin_a_value_are_not_held_back(self):
        self.assertEqual(Redactor(SECRETS)(b"data: hello\n\n"), b"data: hello\n\n")

    def test_values_in_response_headers_are_replaced(self):
        self.assertEqual(text("echo s3cr3t", SECRETS), "echo placeholder-1")


if __name__ == "__main__":
    unittest.main()
