"""The addon with a timeout of two seconds instead of a minute, for tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bounds

bounds.TIMEOUT = 2

from addon import addons  # noqa: E402, F401
