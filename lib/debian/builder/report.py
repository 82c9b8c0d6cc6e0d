"""Messages of build-image and set-up, and the errors that end them."""

import signal
import sys
import time

QUIET, VERBOSE, DEBUG = range(3)
level = QUIET
# The program that prints the messages.
program = "build-image"

_started = time.monotonic()


class BuildError(Exception):
    """An error to print without a traceback. `hint` is a command to run."""

    def __init__(self, message: str, hint: str = ""):
        super().__init__(message)
        self.hint = hint


class Interrupted(BaseException):
    """A signal that ends the build. Not an Exception, so that only the clean-up catches it."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.signal = number


def say(message: str) -> None:
    elapsed = time.monotonic() - _started
    print(f"{program}: {elapsed:5.1f} s  {message}", file=sys.stderr, flush=True)


def error(problem: BuildError) -> None:
    print(f"error: {problem}", file=sys.stderr)
    if problem.__cause__ is not None:
        print(f"  caused by: {problem.__cause__}", file=sys.stderr)
    if problem.hint:
        print(f"  hint: {problem.hint}", file=sys.stderr)
