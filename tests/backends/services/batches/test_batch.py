"""Asking through the Batch API: submitted once, collected once, and gone on with when stopped."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers.services.ask_server import SERVICES, Spoken, draw_images, texts
from helpers.services.loopback import Reply, Server
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, ScoringError, ServiceError
from t2v_eval.remote.cost import Price
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import CellCounts

KEY = "sk-test-0123456789abcdef"
HERE = Path(__file__).parents[3]
NAMES = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}
PRICES = {"openai": Price(2.5, 10.0), "gemini": Price(0.3, 2.5)}


@pytest.fixture(params=SERVICES)
def spoken(request):
    """Every service that can be asked, by the protocol that it speaks."""
    return Spoken(request.param)


@pytest.fixture
def ask(spoken):
    """Make a scorer that asks in batches."""

    def created(server, store, name="", **options):
        arguments = {"api_key": KEY, "poll": 0.01, "retries": 1, "batch": True, "timeout": 60.0}
        return spoken.load(server, name or NAMES[spoken.name], store=store, **(arguments | options))

    return created


def first(service):
    """The batch that was submitted first."""
    return next(iter(service.batches.values()))


def ledger(store):
    paths = store.with_name(f"{store.name}.batches").glob("*.json")
    return {path: json.loads(path.read_text()) for path in paths}


@pytest.fixture
def store(tmp_path):
    return tmp_path / "s.db"


@pytest.fixture
def service(spoken):
    return spoken.BatchService()


def test_the_same_scores_as_one_by_one(ask, spoken, service, store, tmp_path):
    with Server(service) as server:
        scorer = ask(server, store)
        scores = scorer(draw_images(3), texts(4))
        assert len(service.batches) == 1
        assert Counter(service.cells).most_common(1)[0][1] == 1
        one_by_one = ask(server, tmp_path / "other.db", batch=False)
        assert torch.equal(scores, one_by_one(draw_images(3), texts(4)))
        assert scorer.id == one_by_one.id
        assert torch.equal(scores, ask(server, store)(draw_images(3), texts(4)))
        assert len(service.batches) == 1, "what is in the store is not submitted again"
    assert ledger(store) == {}
    assert scorer.usage.cost == pytest.approx(12 * PRICES[spoken.name].cost(300, 1) / 2)
    lines = [json.loads(line) for line in service.files["file-0"].splitlines()]
    called = {"openai": "custom_id", "gemini": "key"}[spoken.name]
    assert len({line[called] for line in lines}) == 12
    if spoken.name == "openai":
        assert {line["url"] for line in lines} == {"/v1/chat/completions"}
        assert lines[0]["body"]["top_logprobs"] == 20
    else:
        config = lines[0]["request"]["generationConfig"]
        assert config["responseLogprobs"] is True and config["logprobs"] == 20
        assert config["thinkingConfig"] == {"thinkingBudget": 0}


def test_judges_and_samples_too(ask, spoken, store):
    service = spoken.BatchService(lambda request: Reply(spoken.sampled("70", "70")))
    with Server(service) as server:
        judge = ask(server, store, f"{NAMES[spoken.name]}-judge")
        assert judge(draw_image(1), "a cat").item() == 70
        several = ask(server, store, estimator="sampling", n=2, answer_template="70")
        assert several(draw_image(1), "a cat").item() == 1.0


def test_what_failed_is_missing_with_its_reason_and_submitted_again(ask, spoken, store):
    def behave(request):
        if '"1 cats"' in request.question:
            return spoken.error(400, f"not allowed,\u2028 says {KEY}")
        if '"2 cats"' in request.question:
            return Reply(spoken.unlisted())
        return spoken.right(request)

    service = spoken.BatchService(behave)
    with Server(service) as server:
        outcome = ask(server, store, on_error="skip").evaluate_blocks(
            [Block(draw_images(2), texts(4))]
        )
        assert outcome.counts == CellCounts(cells=8, computed=4, failed=4)
        refused, unlisted = sorted(outcome.errors, reverse=True)
        assert unlisted == (
            "the answer 'Yes' is not among the 1 listed tokens: its score is at most 5e-01"
        )
        assert refused.endswith("not allowed,\u2028 says [key]")
        masses = [json.loads(reported).get("listed") for reported in outcome.details.values()]
        assert sorted(masses) == pytest.approx([0.5] * 2 + [0.995] * 4), "of missing scores too"
        with pytest.raises(ScoringError, match=r"images\[\d\] .* with '[12] cats': the "):
            ask(server, store)(draw_images(2), texts(4))
        service.behave = spoken.right
        assert not ask(server, store)(draw_images(2), texts(4)).isnan().any()
        assert len(service.cells) == 8 + 4 + 4, "what has an answer is not submitted again"


@pytest.mark.parametrize(("ends_as", "computed"), [("expired", 4), ("failed", 0), ("cancelled", 8)])
def test_a_batch_that_ends_early_gives_what_it_has(ask, service, store, ends_as, computed):
    service.ends_as = ends_as
    with Server(service) as server:
        outcome = ask(server, store, on_error="skip").evaluate_blocks(
            [Block(draw_images(2), texts(4))]
        )
        assert outcome.counts.computed == computed
        for reason in outcome.errors:
            assert reason == f"the batch ended without an answer ({ends_as})"
        service.ends_as = "completed"
        assert not ask(server, store)(draw_images(2), texts(4)).isnan().any()
    assert ledger(store) == {}


def test_files_are_split_where_they_grow_too_large(ask, spoken, service, store, monkeypatch):
    import t2v_eval.backends.services.batches.batch as batch

    monkeypatch.setattr(batch, "MAX_QUESTIONS_PER_FILE", 5)
    with Server(service) as server:
        assert not ask(server, store)(draw_images(3), texts(4)).isnan().any()
        assert len(service.batches) == 3
        with ask(server, store).batch_client() as client:
            monkeypatch.setattr(
                type(client), "max_file_bytes", 5 * len(service.files["file-0"]) // 10
            )
        assert not ask(server, store)(draw_images(4), texts(4)).isnan().any()
        assert len(service.batches) == 3 + 2
    assert len(service.cells) == len(set(service.cells)) == 16


def test_one_that_takes_too_long_goes_on_and_is_collected_later(ask, service, store):
    service.looks = 10**6
    with Server(service) as server:
        with pytest.raises(
            ServiceError, match="1 batches have not ended .*run it again to collect"
        ):
            ask(server, store, max_seconds=0.1)(draw_images(2), texts(2))
        assert len(ledger(store)) == 1
        service.looks = 1
        first(service)["looks"] = 1
        assert not ask(server, store)(draw_images(3), texts(2)).isnan().any()
        assert len(service.batches) == 2, "only what is new is submitted"
    assert len(service.cells) == len(set(service.cells)) == 6


@pytest.mark.parametrize("when", ["after the file", "after the batch"])
def test_killed_in_between_it_submits_nothing_twice(ask, service, store, when):
    """The ledger as a kill leaves it: with a file, and no batch or one that was not noted."""
    service.looks = 10**6
    with Server(service) as server:
        with pytest.raises(ServiceError):
            ask(server, store, max_seconds=0.1)(draw_images(2), texts(2))
        ((path, entry),) = ledger(store).items()
        path.write_text(json.dumps(entry | {"batch": ""}))
        service.looks = 1
        if when == "after the file":
            service.batches.clear()
        else:
            first(service)["looks"] = 1
        assert not ask(server, store)(draw_images(2), texts(2)).isnan().any()
        assert len(service.batches) == 1
    assert len(service.cells) == len(set(service.cells)) == 4


def test_what_another_process_collected_meanwhile_is_not_submitted_again(ask, service, store):
    class Late(t2v_eval.Store):
        """Empty when it is looked into first."""

        polls = 0

        def get_cells(self, scorer, keys):
            self.polls += 1
            return super().get_cells(scorer, keys) if self.polls > 1 else {}

    with Server(service) as server:
        scores = ask(server, store)(draw_images(2), texts(2))
        assert torch.equal(scores, ask(server, Late(store))(draw_images(2), texts(2)))
        assert len(service.batches) == 1


def test_a_damaged_ledger_is_named(ask, service, store):
    folder = store.with_name(f"{store.name}.batches")
    folder.mkdir()
    (folder / "file.json").write_text("{")
    with Server(service) as server, pytest.raises(InputError, match=r"file\.json is damaged"):
        ask(server, store)(draw_image(1), "a cat")


def test_a_batch_that_the_service_has_forgotten(ask, service, store):
    service.looks = 10**6
    with Server(service) as server:
        with pytest.raises(ServiceError):
            ask(server, store, max_seconds=0.1)(draw_images(1), texts(2))
        service.batches.clear()
        with pytest.raises(ScoringError, match=r"does not know batch\S+ any more"):
            ask(server, store)(draw_images(1), texts(2))
        service.looks = 1
        assert not ask(server, store)(draw_images(1), texts(2)).isnan().any()


def test_an_interrupt_leaves_it_running(ask, service, store):
    service.looks = 10**6

    def behave(request):
        if request.number == 6:  # a look at the batch
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return service(request)

    with Server(behave) as server:
        with pytest.raises(KeyboardInterrupt):
            ask(server, store)(draw_images(2), texts(2))
        first(service)["looks"] = 1
        assert not ask(server, store)(draw_images(2), texts(2)).isnan().any()
        assert len(service.batches) == 1


def test_what_cannot_be_is_refused(ask, spoken, service, store):
    with Server(service) as server:
        with pytest.raises(InputError, match="`batch=True` needs `store="):
            ask(server, None)(draw_image(1), "a cat")
        with pytest.raises(InputError, match="keeps no `max_cost=` or `max_requests="):
            ask(server, store, max_requests=5)
    with (
        Server(lambda request: spoken.error(401, f"bad key {KEY}")) as server,
        pytest.raises(ServiceError, match=r"refuses the key \(status 401\)"),
    ):
        ask(server, store)(draw_image(1), "a cat")
    with (
        Server(lambda request: spoken.error(500, "no")) as server,
        pytest.raises(ServiceError, match="the service answers 500"),
    ):
        ask(server, store, retries=0)(draw_image(1), "a cat")


def test_the_images_go_nowhere_else_than_to_the_address_that_was_named(ask, spoken, store):
    with Server(spoken.right) as elsewhere:
        away = Reply({}, 307, {"location": f"{elsewhere.address}/v1/files"})
        with Server(lambda request: away) as server, pytest.raises(ServiceError, match="not foll"):
            ask(server, store)(draw_image(1), "a cat")
        if spoken.name == "gemini":  # which says itself where a file is to be sent
            service = spoken.BatchService()
            service.address = elsewhere.address
            with Server(service) as server, pytest.raises(ServiceError, match="nothing was sent"):
                ask(server, store)(draw_image(1), "a cat")
        assert elsewhere.requests == []


def test_from_the_command_line(spoken, service, store, tmp_path, monkeypatch):
    variables = {"openai": "OPENAI_API_KEY", "gemini": "GEMINI_API_KEY"}
    monkeypatch.setenv(variables[spoken.name], KEY)
    draw_image(1).save(tmp_path / "a.png")
    with Server(service) as server:
        address = {"openai": "OPENAI_BASE_URL", "gemini": "GOOGLE_GEMINI_BASE_URL"}[spoken.name]
        monkeypatch.setenv(address, f"{server.address}{spoken.path}")
        command = ["score", tmp_path / "a.png", "-t", "a cat", "-m", NAMES[spoken.name], "--batch"]
        more = ["--store", store, "--option", "poll=0.01"]
        done = CliRunner().invoke(app, [str(item) for item in [*command, *more]])
    assert done.exit_code == 0, done.output
    assert len(service.batches) == 1
    dollars = PRICES[spoken.name].halved().cost(300, 1)
    assert f"1 answers, 300 tokens in, 1 tokens out, {dollars:.4f} US dollars" in done.output
