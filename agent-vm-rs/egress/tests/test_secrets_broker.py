"""Secrets: values go out in headers only, and do not come back however an answer is cut into pieces."""

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

    def test_git_sends_them_as_basic_authorization(self):
        encode = lambda said: "Basic " + base64.b64encode(said.encode()).decode()
        self.assertEqual(replace("Authorization", encode("me:placeholder-1"), SECRETS), encode("me:s3cr3t"))
        self.assertEqual(replace("Authorization", encode("me:other"), SECRETS), encode("me:other"))
        for broken in ["Basic !", "Basic ====", "Basic é", "Basic \udcff", "Basic"]:
            self.assertEqual(replace("Authorization", broken, SECRETS), broken)

    def test_an_answer_never_holds_a_value_however_it_is_cut(self):
        body = b"begin s3cr3t s3cr s3cr3t"
        for first in range(len(body) + 1):
            for second in range(first, len(body) + 1):
                redactor = Redactor(SECRETS)
                pieces = [part for part in (body[:first], body[first:second], body[second:]) if part]
                out = b"".join([redactor(part) for part in [*pieces, b""]])
                self.assertEqual(out, b"begin placeholder-1 s3cr placeholder-1")

    def test_one_value_may_begin_another_or_be_in_it(self):
        values = {"abc": "1", "abcdef": "2", "de": "3", "xab": "4"}
        secrets = tuple(Secret("T", "api.test", 443, f"<{placeholder}>", value) for value, placeholder in values.items())
        for body, said in [
            (b"abcdef", b"<2>"),
            (b"abcde", b"<1><3>"),
            (b"abcabcdefab", b"<1><2>ab"),
            (b"xabcdef", b"<4>c<3>f"),
        ]:
            for cut in range(len(body) + 1):
                redactor = Redactor(secrets)
                pieces = [part for part in (body[:cut], body[cut:]) if part]
                self.assertEqual(b"".join([redactor(part) for part in [*pieces, b""]]), said, (body, cut))
        self.assertEqual(text("abcdef abc", secrets), "<2> <1>")

    def test_what_cannot_begin_a_value_is_not_kept_back(self):
        self.assertEqual(Redactor(SECRETS)(b"data: hello\n\n"), b"data: hello\n\n")

    def test_headers_of_an_answer_are_searched_too(self):
        self.assertEqual(text("echo s3cr3t", SECRETS), "echo placeholder-1")


if __name__ == "__main__":
    unittest.main()
