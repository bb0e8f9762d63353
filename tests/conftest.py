"""Where the goldens are: what the original implementations answer on tiny checkpoints."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def goldens() -> Path:
    return Path(__file__).parent / "goldens"
