"""What tests of services share."""

import pytest


@pytest.fixture(autouse=True)
def patient_warning(monkeypatch: pytest.MonkeyPatch):
    """On a busy machine, no warning says that answers are late; tests of it set a shorter time."""
    monkeypatch.setattr("t2v_eval.remote.request_pool.STALL_WARNING_AFTER", 600.0)
