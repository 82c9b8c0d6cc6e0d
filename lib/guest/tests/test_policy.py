"""Tests of the policy's values as these programs read them: python3 -m unittest discover lib/guest/tests"""

import json
import re
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
LIB = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(LIB / "guest/agent_mcp"))

from policy import LONGEST_MESSAGE, grammar  # noqa: E402


class Policy(unittest.TestCase):
    def test_patterns_mean_here_what_they_mean_in_nix(self):
        for name, examples in json.loads((LIB / "tests/grammar-examples.json").read_text()).items():
            pattern = re.compile(grammar(name))
            for text in examples["right"]:
                self.assertTrue(pattern.fullmatch(text), (name, text))
            for text in examples["wrong"]:
                self.assertFalse(pattern.fullmatch(text), (name, text))

    def test_a_message_may_hold_a_file(self):
        self.assertGreater(LONGEST_MESSAGE, 1 << 20)


if __name__ == "__main__":
    unittest.main()
