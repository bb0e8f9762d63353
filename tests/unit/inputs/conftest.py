"""What tests of several kinds of input share."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

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
