"""Tests of the policy's values in Python: python3 -m unittest discover lib/guest/tests"""

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
    def test_patterns_match_the_same_examples_as_in_nix(self):
        for name, examples in json.loads((LIB / "tests/grammar-examples.json").read_text()).items():
            pattern = re.compile(grammar(name))
            for text in examples["right"]:
                self.assertTrue(pattern.fullmatch(text), (name, text))
            for text in examples["wrong"]:
                self.assertFalse(pattern.fullmatch(text), (name, text))

    def test_a_message_may_contain_a_file(self):
        self.assertGreater(LONGEST_MESSAGE, 1 << 20)


if __name__ == "__main__":
    unittest.main()
