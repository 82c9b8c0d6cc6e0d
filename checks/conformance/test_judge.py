"""Tests that a failure which is not expected is wrong, and so is an expected one that does not happen."""

import unittest

import suite
import third_party


def entry(**more) -> dict:
    where = {"targets": ["gateway"], "servers": ["old"], "versions": ["2026-07-28"], "clients": ["c"], "eras": ["new"]}
    return {"scenario": "s", "check": "k", "reason": "why", **where, **more}


class Suite(unittest.TestCase):
    def judge(self, status: str, *expected: dict, server: str = "old") -> list[str]:
        return suite.judge([suite.Result("s", "k", status, "text")], expected, "gateway", server, "2026-07-28")

    def test_success(self):
        self.assertEqual(self.judge("SUCCESS"), [])

    def test_failure_and_warning(self):
        self.assertEqual(self.judge("FAILURE"), ["failure: s: k: text"])
        self.assertEqual(self.judge("WARNING"), ["warning: s: k: text"])

    def test_expected(self):
        self.assertEqual(self.judge("FAILURE", entry()), [])
        # An entry for one server says nothing about another.
        self.assertEqual(self.judge("FAILURE", entry(), server="both"), ["failure: s: k: text"])
        self.assertEqual(self.judge("FAILURE", entry(check="other", sometimes=True)), ["failure: s: k: text"])

    def test_expected_did_not_happen(self):
        for status in ("SUCCESS", "SKIPPED"):
            self.assertEqual(self.judge(status, entry()), ["expected to fail, but did not: s: k"])
        self.assertEqual(self.judge("SUCCESS", entry(sometimes=True)), [])

    def test_scenario_that_is_gone(self):
        self.assertEqual(
            suite.judge([], [entry()], "gateway", "old", "2026-07-28"), ["expected to fail, but did not: s: k"]
        )


class Clients(unittest.TestCase):
    def judge(self, ok: bool, *expected: dict) -> list[str]:
        return third_party.judge([{"check": "k", "ok": ok, "why": "text"}], expected, "gateway", "old", "c", "new")

    def test_both_ways(self):
        self.assertEqual(self.judge(True), [])
        self.assertEqual(self.judge(False), ["k: text"])
        self.assertEqual(self.judge(False, entry()), [])
        self.assertEqual(self.judge(True, entry()), ["expected to fail, but did not: k"])


if __name__ == "__main__":
    unittest.main()
