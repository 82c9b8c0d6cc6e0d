"""The addon with less patience, so that a test need not wait a minute."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bounds

bounds.TIMEOUT = 2

from addon import addons  # noqa: E402, F401
