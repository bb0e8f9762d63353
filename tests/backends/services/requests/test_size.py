"""How much is read of what a service sends, and for how long."""

from __future__ import annotations

import gzip
import json
import zlib
from types import SimpleNamespace

import pytest
from helpers.services.ask_server import SERVICES, Spoken, draw_images, texts
from helpers.services.loopback import Reply, Server
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.backends.services import bounded_reading as _reading
from t2v_eval.backends.services.batches import lines as _lines
from t2v_eval.errors import ScoringError
from t2v_eval.scoring.plan import Block


@pytest.fixture(params=SERVICES)
def spoken(request):
    return Spoken(request.param)


@pytest.fixture(scope="module")
def bomb():
    """800 MB of spaces, packed: blocks that are all alike."""
    packer = zlib.compressobj(9, wbits=31)
    space = b" " * 2**20
    first, other = (packer.compress(space) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + 799 * other


def only(request, reply, spoken):
    return reply if '"1 cats"' in request.question else spoken.right(request)


def check(spoken, reply, reason, **options):
    """One of three texts has no score, and why."""
    with Server(lambda request: only(request, reply, spoken)) as server:
        scorer = spoken.load(server, on_error="skip", timeout=60.0, retries=0, **options)
        outcome = scorer.evaluate_blocks([Block(draw_images(1), texts(3))])
        assert outcome.counts.computed == 2
        (message,) = outcome.errors
        assert reason in message


@pytest.mark.parametrize("status", [200, 400, 500])
def test_a_packed_answer_that_grows_without_end(status, spoken, bomb):
    import tracemalloc

    assert len(bomb) < 2**20
    packed = Reply(bomb, status, {"content-encoding": "gzip"})
    tracemalloc.start()
    check(spoken, packed, "the answer is larger than 8 MiB, so it was not read")
    maximum = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert maximum < 100 * 2**20


def test_an_answer_that_is_large_as_it_is(spoken):
    check(spoken, Reply(" " * (9 * 2**20) + "{}"), "larger than 8 MiB")


@pytest.mark.parametrize("packing", ["br", "zstd", "gzip, gzip", "deflate", "compress"])
def test_a_packing_that_nobody_asked_for(packing, spoken):
    check(spoken, Reply(b"\x1f\x8b", 200, {"content-encoding": packing}), f"as {packing}, unasked")


def test_a_packed_answer_is_read(spoken):
    def behave(request):
        body = json.dumps(spoken.right(request).body).encode()
        return Reply(gzip.compress(body), 200, {"content-encoding": "GZIP"})

    with Server(behave) as server, Server(spoken.right) as plain:
        result = spoken.load(server, timeout=60.0)(draw_images(2), texts(2))
        assert (
            result.tolist() == spoken.load(plain, timeout=60.0)(draw_images(2), texts(2)).tolist()
        )
        assert {r.headers["accept-encoding"] for r in server.requests} == {"gzip"}


def test_a_packed_answer_that_is_damaged_is_asked_for_again(spoken):
    def behave(request):
        packed = gzip.compress(json.dumps(spoken.right(request).body).encode())
        broken = packed[:30] + b"\0\0\0\0" + packed[34:]
        return Reply(broken if request.tries == 1 else packed, 200, {"content-encoding": "gzip"})

    with Server(behave) as server:
        assert not spoken.load(server, timeout=60.0)(draw_image(1), "a cat").isnan().any()
        assert len(server.requests) == 2


@pytest.mark.parametrize("size", [2**16 - 1, 2**16, 2**16 + 1, 3 * 2**16])
def test_what_is_unpacked_is_whole(size):
    packing = SimpleNamespace(headers={"content-encoding": "gzip"})

    content = bytes(n * 31 % 251 for n in range(size))
    for step in (1, 100, 10**6):
        unpacked = _reading._Decompressor(packing, 10**6, 60.0)
        packed = gzip.compress(content)
        parts = [packed[n : n + step] for n in range(0, len(packed), step)]
        assert b"".join(part for raw in parts for part in unpacked(raw)) == content


def test_time_for_a_file_is_limited_however_often_a_byte_comes(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(_reading.time, "monotonic", lambda: float(next(now)))

    unpacked = _reading._Decompressor(SimpleNamespace(headers={}), 100, 5.0)
    with pytest.raises(_reading.RetryError, match="no answer within 5 s"):
        [[*unpacked(b"x")] for _ in range(50)]


def test_a_line_of_a_file_that_is_too_long_costs_no_other(spoken, tmp_path, monkeypatch):
    monkeypatch.setattr(_lines.iter_lines, "__defaults__", (20_000,))

    def behave(request):
        body = spoken.right(request).body
        return Reply({**body, "more": "x" * 30_000} if '"1 cats"' in request.question else body)

    options = {"store": tmp_path / "s.db", "batch": True, "poll": 0.01, "on_error": "skip"}
    name = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}[spoken.name]
    with Server(spoken.BatchService(behave)) as server:
        scorer = spoken.load(server, name, timeout=60.0, **options)
        outcome = scorer.evaluate_blocks([Block(draw_images(1), texts(4))])
    assert outcome.counts.computed == 3
    assert [*outcome.errors] == [
        "the batch ended without an answer "
        f"({'completed' if spoken.name == 'openai' else 'succeeded'}); 1 lines of its files "
        "cannot be read"
    ]


def test_the_reason_is_that_of_a_cell_and_raised_as_such(spoken, bomb):
    packed = Reply(bomb, 200, {"content-encoding": "gzip"})
    with Server(lambda request: packed) as server:
        with pytest.raises(ScoringError, match="with 'a cat': the answer is larger than 8 MiB"):
            spoken.load(server, timeout=60.0)(draw_image(1), "a cat")
        assert len(server.requests) == 1
    assert t2v_eval.T2VError in ScoringError.__mro__


def test_a_packing_that_repeats_the_key_does_not_tell_it(spoken):
    key = "sk-Proj-0123456789ABCDEF"
    served = Server(lambda request: Reply(b"x", 200, {"content-encoding": key}))
    with served as server, pytest.raises(ScoringError, match="unasked") as caught:
        spoken.load(server, api_key=key)(draw_image(1), "a cat")
    assert key.lower() not in str(caught.value).lower()
