"""How batches are waited for, with a clock and a wait of the test's own: no time passes."""

import pytest

from t2v_eval.backends.services.batches.batch import BatchRunner
from t2v_eval.backends.services.batches.client import BatchClient, BatchOutcome
from t2v_eval.backends.services.batches.pending import PendingBatches
from t2v_eval.errors import ServiceError


class Service(BatchClient):
    """A service whose one batch ends at the poll with that number."""

    max_file_bytes, id_field = 2**20, "key"

    def __init__(self, polls):
        self.polls = polls

    def request_line(self, request_id, body):
        return {"key": request_id, "answer": body}

    def upload(self, file):
        self.content = file.read()
        return "file-1"

    def create_batch(self, file):
        return "batch-1"

    def poll(self, name):
        self.polls -= 1
        return None if self.polls else BatchOutcome("no answer", ["output-1"])

    def output_chunks(self, file):
        return iter([self.content])

    def parse_line(self, row):
        return row["answer"]


@pytest.fixture
def clock():
    """Seconds that pass only while somebody waits."""
    return [1000.0]


@pytest.fixture
def run(clock, tmp_path):
    waits = []

    def wait(seconds):
        waits.append(seconds)
        clock[0] += seconds

    def run(polls, deadline):
        runner = BatchRunner(
            Service(polls),
            PendingBatches(tmp_path / "s.db"),
            "https://api.example.com",
            30.0,
            str,
            clock=lambda: clock[0],
            wait=wait,
        )
        return [*runner.answers(["7"], [0], str, [], deadline)], waits

    return run


def test_a_batch_is_polled_until_it_ends(run):
    assert run(3, float("inf")) == ([[("7", "0")]], [30.0, 30.0])


def test_no_wait_begins_that_would_end_behind_the_deadline(run, clock):
    with pytest.raises(ServiceError, match=r"1 batches have not ended .*max_seconds="):
        run(4, clock[0] + 75)
    assert clock[0] == 1060.0


def test_an_interrupt_ends_the_wait_and_the_batch_stays_pending(tmp_path):
    def interrupted(seconds):
        raise KeyboardInterrupt

    pending = PendingBatches(tmp_path / "s.db")
    address = "https://api.example.com"
    runner = BatchRunner(Service(2), pending, address, 30.0, str, wait=interrupted)
    with pytest.raises(KeyboardInterrupt):
        [*runner.answers(["7"], [0], str, [], float("inf"))]
    assert [entry["batch"] for entry in pending.load()] == ["batch-1"]
