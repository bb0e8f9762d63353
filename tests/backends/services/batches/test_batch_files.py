"""Files of answers in whatever state: each line stands by itself, and what can be read is kept."""

from __future__ import annotations

import json
import random

import pytest
from helpers.services.ask_server import SERVICES, Spoken, draw_images, texts
from helpers.services.loopback import Reply, Server, wanted

import t2v_eval
from t2v_eval.backends.services.batches.lines import iter_lines
from t2v_eval.errors import ScoringError, ServiceError
from t2v_eval.scoring.plan import Block

NAMES = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}
IDS = {"openai": "custom_id", "gemini": "key"}


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "s.db"


def ask(spoken, server, store, **options):
    arguments = {"batch": True, "poll": 0.01, "timeout": 60.0, "retries": 0, "on_error": "skip"}
    return spoken.load(server, NAMES[spoken.name], store=store, **(arguments | options))


def service_with(spoken, change, behave=None):
    """A service whose files of answers are changed before they are handed out."""
    service = spoken.BatchService(behave or spoken.right)
    whole = service.kept

    def stored(content):
        questions = {"body", "request"} & json.loads(content.split("\n")[0]).keys()
        return whole(content if questions else change(content))

    service.kept = stored
    return service


def outcome_of(spoken, service, store, count=10, **options):
    with Server(service) as server:
        scorer = ask(spoken, server, store, **options)
        return scorer.evaluate_blocks([Block(draw_images(1), texts(count))])


def test_three_of_ten_without_log_probabilities_cost_no_other(spoken, store):
    def behave(request):
        plain = any(f'"{n} cats"' in request.question for n in (9, 8, 7))  # the first in the file
        return spoken.FAULTS["no logprobs"]() if plain else spoken.right(request)

    service = spoken.BatchService(behave)
    with Server(service) as server:
        blocks = [Block(draw_images(1), texts(10))]
        outcome = ask(spoken, server, store).evaluate_blocks(blocks)
        assert (outcome.counts.computed, outcome.counts.failed) == (7, 3)
        assert all("log-probabilities" in reason for reason in outcome.errors)
        assert {key[2] for key in outcome.failures} == {7, 8, 9}
        rows = [*t2v_eval.Store(store).rows()]
        assert sum(row.value is not None for row in rows) == 7
        assert sum("log-prob" in (row.error or "") for row in rows) == 3
        service.behave = spoken.right
        again = ask(spoken, server, store).evaluate_blocks(blocks)
        assert (again.counts.computed, again.counts.reused) == (3, 7)
    assert len(service.cells) == 10 + 3


@pytest.mark.parametrize(
    "error", [KeyError("x"), RecursionError(), ZeroDivisionError("y"), MemoryError(), Exception()]
)
def test_whatever_is_raised_while_a_line_is_read(error, spoken, store, monkeypatch):
    with Server(spoken.BatchService()) as server:
        scorer = ask(spoken, server, store)
        whole, count = type(scorer).parse_response, iter(range(100))

        def reply(self, content):
            if next(count) == 4:
                raise error
            return whole(self, content)

        monkeypatch.setattr(type(scorer), "parse_response", reply)
        outcome = scorer.evaluate_blocks([Block(draw_images(1), texts(10))])
    assert (outcome.counts.computed, outcome.counts.failed) == (9, 1)
    (reason,) = outcome.errors
    assert reason == f"the service's answer cannot be read ({type(error).__name__})"


def rows_of(content):
    return content.split("\n")


def without_id(line):
    return json.dumps({k: v for k, v in json.loads(line).items() if k not in IDS.values()})


CHANGES = {
    "out of order": (lambda c: "\n".join(random.Random(1).sample(rows_of(c), 10)), 10),
    "an id of nobody": (
        lambda c: "\n".join(
            [
                c,
                *(
                    without_id(x)[:-1] + f', "{IDS[k]}": "nobody"}}'
                    for k in IDS
                    for x in rows_of(c)[:1]
                ),
            ]
        ),
        10,
    ),
    "twice": (lambda c: "\n".join(rows_of(c) * 2), 10),
    "blank lines": (lambda c: "\n\n  \r\n".join(rows_of(c)) + "\n\n\n", 10),
    "Windows": (lambda c: "\r\n".join(rows_of(c)), 10),
    "BOM": (lambda c: b"\xef\xbb\xbf" + c.encode(), 10),
    "UTF-16": (lambda c: c.encode("utf-16"), 10),
    "UTF-16 big": (lambda c: b"\xfe\xff" + c.encode("utf-16-be"), 10),
    "UTF-32": (lambda c: c.encode("utf-32"), 10),
    "bytes that are no text": (lambda c: c.encode().replace(b"served-model", b"s\xff\xfe"), 10),
    "cut": (lambda c: c[: -len(rows_of(c)[-1]) // 2], 9),
    "a line that is no JSON": (
        lambda c: "\n".join([*rows_of(c)[:4], "<html>", *rows_of(c)[5:]]),
        9,
    ),
    "no mapping": (lambda c: "\n".join(["[]", "3", "null", '"x"', *rows_of(c)[1:]]), 9),
    "no id": (lambda c: "\n".join([without_id(rows_of(c)[0]), *rows_of(c)[1:]]), 9),
    "deep": (lambda c: "\n".join(["[" * 200_000, *rows_of(c)[1:]]), 9),
    "a huge number": (lambda c: "\n".join(["9" * 10_000, *rows_of(c)[1:]]), 9),
    "no answer": (
        lambda c: "\n".join(
            [
                *rows_of(c)[1:],
                json.dumps({**json.loads(rows_of(c)[0]), "response": None, "error": None}),
            ]
        ),
        9,
    ),
    "an answer that is a word": (
        lambda c: "\n".join(
            [
                *rows_of(c)[1:],
                json.dumps(
                    {
                        **json.loads(rows_of(c)[0]),
                        "response": {"body": {"choices": 3}, "status_code": 200, "candidates": 3},
                    }
                ),
            ]
        ),
        9,
    ),
    "nothing": (lambda c: "\n", 0),
}


@pytest.mark.parametrize("state", CHANGES)
def test_a_file_in_whatever_state(state, spoken, store):
    change, valid = CHANGES[state]
    service = service_with(spoken, change)
    outcome = outcome_of(spoken, service, store)
    assert (outcome.counts.computed, outcome.counts.failed) == (valid, 10 - valid)
    assert all(outcome.errors)
    stored = [row.value for row in t2v_eval.Store(store).rows() if row.value is not None]
    with Server(spoken.right) as server:
        ask(spoken, server, store.with_name("one.db"), batch=False)(draw_images(1), texts(10))
        right = sorted(wanted(request) for request in server.requests)
    assert len(stored) == valid
    assert all(min(abs(value - item) for item in right) < 1e-6 for value in stored)
    assert [*store.with_name("s.db.batches").glob("*")] == [], "it is not read again"


def test_an_answer_goes_before_an_error_of_the_same_question(spoken, store):
    def twice(content):
        bad = [json.loads(line) for line in rows_of(content)]
        for row in bad:
            row["response"], row["error"] = None, {"message": "lost"}
            if spoken.name == "gemini":
                del row["response"]
        reported = [json.dumps(row) for row in bad]
        return "\n".join([*reported[:5], content, *reported])

    outcome = outcome_of(spoken, service_with(spoken, twice), store)
    assert outcome.counts.computed == 10


def test_what_is_read_is_stored_before_an_error_is_raised(spoken, store):
    """One batch is done, and of the other the service will not say what became of it."""
    service = spoken.BatchService(looks=10**6)
    with Server(service) as server:
        for partial in (texts(4), [f"{n} dogs" for n in range(4)]):
            with pytest.raises(ServiceError, match="have not ended"):
                ask(spoken, server, store, max_seconds=0.001)(draw_images(1), partial)
        first, second = service.batches
        service.batches[second]["looks"] = 1

        def behave(request):
            lost = request.path.partition("?")[0].endswith(first)
            return spoken.error(500, "lost") if lost else service(request)

        server.behave = behave
        everything = [*texts(4), *(f"{n} dogs" for n in range(4))]
        with pytest.raises(ServiceError, match="the service answers 500: lost"):
            ask(spoken, server, store)(draw_images(1), everything)
        stored = [row.text for row in t2v_eval.Store(store).rows() if row.value is not None]
        assert sorted(stored) == [f"{n} dogs" for n in range(4)]
        server.behave = service
        service.batches[first]["looks"] = 1
        assert not ask(spoken, server, store)(draw_images(1), everything).isnan().any()
    assert len(service.batches) == 2


def test_a_file_that_the_service_has_no_more_is_not_waited_for_for_ever(spoken, store):
    service = spoken.BatchService()

    def behave(request):
        path = request.path.partition("?")[0]
        deleted = path.endswith(("/content", ":download"))
        return spoken.error(404, "gone") if deleted else service(request)

    with Server(behave) as server:
        outcome = ask(spoken, server, store).evaluate_blocks([Block(draw_images(1), texts(3))])
        assert outcome.counts.failed == 3
        server.behave = service
        assert not ask(spoken, server, store)(draw_images(1), texts(3)).isnan().any()


def test_a_file_that_breaks_off_gives_what_it_has_and_is_asked_for_again(spoken, store):
    service = spoken.BatchService()

    def behave(request):
        reply = service(request)
        path = request.path.partition("?")[0]
        if path.endswith(("/content", ":download")):
            return Reply(reply.body, fault="cut")
        return reply

    with Server(behave) as server:
        with pytest.raises(ServiceError, match="no connection"):
            ask(spoken, server, store)(draw_images(1), texts(10))
        stored = [row for row in t2v_eval.Store(store).rows() if row.value is not None]
        assert 3 <= len(stored) < 10
        server.behave = service
        assert not ask(spoken, server, store)(draw_images(1), texts(10)).isnan().any()
        assert len(service.batches) == 1


def test_the_first_failure_is_raised_when_all_else_is_stored(spoken, store):
    service = service_with(spoken, lambda content: content[: -len(rows_of(content)[-1]) // 2])
    with pytest.raises(ScoringError, match="cannot be read"):
        outcome_of(spoken, service, store, on_error="raise")
    assert len([row for row in t2v_eval.Store(store).rows() if row.value is not None]) == 9


def test_lines_of_bits_of_any_size():
    text = '{"a": "é\u2028ü"}\n\n' + "x" * 50 + '\n{"b": 1}'
    for coding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        content = text.encode(coding)
        for step in (1, 3, 1000):
            parts = [content[n : n + step] for n in range(0, len(content), step)]
            assert [*iter_lines(parts, 30)] == ['{"a": "é\u2028ü"}', "?", '{"b": 1}']
    assert [*iter_lines([])] == [] == [*iter_lines([b"", b"\n"])]
