"""Asking through the Batch API: submitted once, collected once, and gone on with when stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from asking import pictures, texts
from openai_server import BatchService, Reply, Server, completion, error, right, sampled
from toy import picture
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli import app
from t2v_eval.cost import Price
from t2v_eval.errors import InputError, ScoringError, ServiceError
from t2v_eval.outcome import Counts
from t2v_eval.plan import Block

KEY = "sk-test-0123456789abcdef"
HERE = Path(__file__).parent


def ask(server, store, name="gpt-4o", **options):
    given = {"base_url": server.url, "api_key": KEY, "poll": 0.01, "retries": 1, "batch": True}
    return t2v_eval.load(name, store=store, **{**given, **options})


def ledger(store):
    path = store.with_name(f"{store.name}.batches.json")
    return json.loads(path.read_text()) if path.exists() else []


@pytest.fixture
def store(tmp_path):
    return tmp_path / "s.db"


@pytest.fixture
def service():
    return BatchService()


def test_the_same_scores_as_one_by_one(service, store, tmp_path):
    with Server(service) as server:
        scorer = ask(server, store)
        scores = scorer(pictures(3), texts(4))
        assert [len(batch) for batch in service.batches] == [7]
        assert Counter(service.cells).most_common(1)[0][1] == 1
        one_by_one = ask(server, tmp_path / "other.db", batch=False)
        assert torch.equal(scores, one_by_one(pictures(3), texts(4)))
        assert scorer.id == one_by_one.id
        assert torch.equal(scores, ask(server, store)(pictures(3), texts(4)))
        assert len(service.batches) == 1, "what is in the store is not submitted again"
    assert ledger(store) == []
    assert scorer.usage.cost == pytest.approx(12 * Price(2.5, 10.0).of(300, 1) / 2)
    lines = [json.loads(line) for line in service.files["file_0"].splitlines()]
    assert {line["url"] for line in lines} == {"/v1/chat/completions"}
    assert len({line["custom_id"] for line in lines}) == 12
    assert lines[0]["body"]["top_logprobs"] == 20


def test_judges_and_samples_too(store):
    service = BatchService(lambda request: Reply(sampled("70", "70")))
    with Server(service) as server:
        assert ask(server, store, "gpt-4o-judge")(picture(1), "a cat").item() == 70
        several = ask(server, store, estimator="sampling", n=2, answer_template="70")
        assert several(picture(1), "a cat").item() == 1.0


def test_what_failed_is_missing_with_its_reason_and_submitted_again(store):
    def behave(request):
        if '"1 cats"' in request.question:
            return error(400, f"not allowed, says {KEY}")
        if '"2 cats"' in request.question:
            return Reply(completion({"The": 0.5}))
        return right(request)

    service = BatchService(behave)
    with Server(service) as server:
        outcome = ask(server, store, on_error="skip").evaluate_blocks(
            [Block(pictures(2), texts(4))]
        )
        assert outcome.counts == Counts(cells=8, computed=4, failed=4)
        assert sorted(outcome.errors) == [
            "the answer 'Yes' is not among the 1 listed tokens: its score is at most 5e-01",
            "the service answers 400: not allowed, says [key]",
        ]
        with pytest.raises(ScoringError, match=r"images\[\d\] .* with '[12] cats': the "):
            ask(server, store)(pictures(2), texts(4))
        service.behave = right
        assert not ask(server, store)(pictures(2), texts(4)).isnan().any()
        last = service.files[service.batches["batch_2"]["input_file_id"]]
        assert len(last.splitlines()) == 4


@pytest.mark.parametrize(("ends_as", "computed"), [("expired", 4), ("failed", 0), ("cancelled", 8)])
def test_a_batch_that_ends_early_gives_what_it_has(service, store, ends_as, computed):
    service.ends_as = ends_as
    with Server(service) as server:
        outcome = ask(server, store, on_error="skip").evaluate_blocks(
            [Block(pictures(2), texts(4))]
        )
        assert outcome.counts.computed == computed
        for reason in outcome.errors:
            assert reason == f"the batch ended without an answer ({ends_as})"
        service.ends_as = "completed"
        assert not ask(server, store)(pictures(2), texts(4)).isnan().any()
    assert ledger(store) == []


def test_files_are_split_where_they_grow_too_large(service, store, monkeypatch):
    import t2v_eval.backends._batch as batch

    monkeypatch.setattr(batch, "MOST_QUESTIONS", 5)
    with Server(service) as server:
        assert not ask(server, store)(pictures(3), texts(4)).isnan().any()
        assert len(service.batches) == 3
        monkeypatch.setattr(batch, "MOST_BYTES", 1500)
        assert not ask(server, store)(pictures(4), texts(4)).isnan().any()
        assert len(service.batches) == 3 + 4
    assert len(service.cells) == len(set(service.cells)) == 16


def test_one_that_takes_too_long_goes_on_and_is_collected_later(service, store):
    service.looks = 10**6
    with Server(service) as server:
        with pytest.raises(
            ServiceError, match="1 batches have not ended .*run it again to collect"
        ):
            ask(server, store, max_seconds=0.1)(pictures(2), texts(2))
        assert len(ledger(store)) == 1
        service.looks = 1
        service.batches["batch_0"]["looks"] = 1
        assert not ask(server, store)(pictures(3), texts(2)).isnan().any()
        assert len(service.batches) == 2, "only what is new is submitted"
    assert len(service.cells) == len(set(service.cells)) == 6


@pytest.mark.parametrize("when", ["after the file", "after the batch"])
def test_killed_in_between_it_submits_nothing_twice(service, store, when):
    """The ledger as a kill leaves it: with a file, and no batch or one that was not noted."""
    service.looks = 10**6
    with Server(service) as server:
        with pytest.raises(ServiceError):
            ask(server, store, max_seconds=0.1)(pictures(2), texts(2))
        (entry,) = ledger(store)
        path = store.with_name(f"{store.name}.batches.json")
        path.write_text(json.dumps([entry | {"batch": ""}]))
        service.looks = 1
        if when == "after the file":
            service.batches.clear()
        else:
            service.batches["batch_0"]["looks"] = 1
        assert not ask(server, store)(pictures(2), texts(2)).isnan().any()
        assert len(service.batches) == 1
    assert len(service.cells) == len(set(service.cells)) == 4


def test_a_batch_that_the_service_has_forgotten(service, store):
    service.looks = 10**6
    with Server(service) as server:
        with pytest.raises(ServiceError):
            ask(server, store, max_seconds=0.1)(pictures(1), texts(2))
        service.batches.clear()
        with pytest.raises(ScoringError, match="does not know batch_0 any more"):
            ask(server, store)(pictures(1), texts(2))
        service.looks = 1
        assert not ask(server, store)(pictures(1), texts(2)).isnan().any()


def test_an_interrupt_leaves_it_running(service, store):
    service.looks = 10**6
    code = (
        "import sys, torch; sys.path[:0] = sys.argv[3:]\n"
        "import t2v_eval; from asking import pictures, texts\n"
        "scorer = t2v_eval.load('gpt-4o', base_url=sys.argv[1], api_key='k', store=sys.argv[2],"
        " batch=True, poll=0.05)\n"
        "scorer(pictures(2), texts(2))\n"
    )
    with Server(service) as server:
        command = [sys.executable, "-c", code, server.url, str(store), str(HERE), str(HERE.parent)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as client:
            while len(server.requests) < 6:
                assert client.poll() is None
                time.sleep(0.02)
            client.send_signal(signal.SIGINT)
            _, err = client.communicate(timeout=30)
        assert "KeyboardInterrupt" in err
        service.batches["batch_0"]["looks"] = 1
        assert not ask(server, store)(pictures(2), texts(2)).isnan().any()
        assert len(service.batches) == 1


def test_what_cannot_be_is_refused(service, store):
    with Server(service) as server:
        with pytest.raises(InputError, match="batch=True needs a store"):
            ask(server, None)(picture(1), "a cat")
        with pytest.raises(InputError, match="keeps no max_cost= or max_requests="):
            ask(server, store, max_requests=5)
    with (
        Server(lambda request: error(401, f"bad key {KEY}")) as server,
        pytest.raises(ServiceError, match=r"refuses the key \(status 401\)"),
    ):
        ask(server, store)(picture(1), "a cat")
    with (
        Server(lambda request: error(500, "no")) as server,
        pytest.raises(ServiceError, match="the service answers 500"),
    ):
        ask(server, store, retries=0)(picture(1), "a cat")


def test_from_the_command_line(service, store, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    picture(1).save(tmp_path / "a.png")
    with Server(service) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        command = ["score", tmp_path / "a.png", "-t", "a cat", "-m", "gpt-4o", "--batch"]
        more = ["--store", store, "--option", "poll=0.01"]
        done = CliRunner().invoke(app, [str(one) for one in [*command, *more]])
    assert done.exit_code == 0, done.output
    assert len(service.batches) == 1
    assert "1 answers, 300 tokens in, 1 tokens out, 0.0004 US dollars" in done.output
