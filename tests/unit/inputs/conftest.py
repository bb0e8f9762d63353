"""What tests of several kinds of input share."""

from __future__ import annotations

import gc
import time
from collections import Counter

import pytest

from t2v_eval.inputs import media as media_module
from t2v_eval.utils import regular_file


@pytest.fixture
def opened(monkeypatch):
    """How often each file was opened for reading, by name."""
    gc.collect()  # or what other tests left would be opened meanwhile
    counts = Counter()
    original = regular_file.open_regular

    def counting(path):
        counts[path.name] += 1
        return original(path)

    monkeypatch.setattr(regular_file, "open_regular", counting)
    return counts


@pytest.fixture
def later(monkeypatch):
    """The clock is an hour ahead, so that the files of a test were written long ago."""
    now = time.time_ns
    monkeypatch.setattr(media_module.time, "time_ns", lambda: now() + 3600 * 10**9)


@pytest.fixture
def soon(monkeypatch):
    """The clock is an hour behind, so that the files of a test were just written, however slow."""
    now = time.time_ns
    monkeypatch.setattr(media_module.time, "time_ns", lambda: now() - 3600 * 10**9)
