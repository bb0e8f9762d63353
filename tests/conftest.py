"""Where the goldens are: what the original implementations answer on tiny checkpoints."""

import signal
from pathlib import Path

import pytest

# Where tests run in the background of a shell, SIGINT is ignored, which the processes that tests
# start and interrupt would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def goldens() -> Path:
    return Path(__file__).parent / "goldens"
