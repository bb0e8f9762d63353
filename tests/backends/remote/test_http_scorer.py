"""A scorer behind a server: the numbers, the id and the failures of the one that runs here."""

from itertools import count

import numpy as np
import pytest
import torch
from helpers.services.loopback import Reply, Server
from helpers.services.scoring_server import TOKEN, serving
from helpers.toy import ToyEmbedding, draw_image
from PIL import Image

import t2v_eval
from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, ScoringError, ServiceError, UnknownNameError
from t2v_eval.inputs.media import Video
from t2v_eval.remote.scorer import estimate
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.store import Store

IMAGES = [draw_image(seed) for seed in range(5)]
TEXTS = ["a cat", "two dogs", "three birds"]


class Counted(Scorer):
    """What it sees of images, frames, texts and references, as a number."""

    version = "1"

    def score_cells(self, images, texts, cells):
        for n, (i, j) in enumerate(cells.tolist()):
            text = texts[j]
            if isinstance(images[i], Video):
                value = 1000.0 * len(images[i].source) + images[i].fps
            else:
                value = float(self.load_image(images[i]).width)
            value += sum(map(len, getattr(text, "references", ()))) * 10
            yield ScoreChunk(np.array([n]), torch.tensor([value]))


class References(Counted):
    uses_references = True


class NoText(Counted):
    uses_text = False


@pytest.fixture(scope="module")
def address():
    scorers = [ToyEmbedding(), Counted(), References(), NoText()]
    scorers.append(ToyEmbedding(card=ModelCard("org/toy", "", ""), image_mode="original"))
    with serving(scorers) as address:
        yield address


def remote(address, name="ToyEmbedding", **options):
    return t2v_eval.load(f"remote:{address}/{name}", token=TOKEN, backoff=0.01, **options)


def test_numbers_and_id_are_those_of_the_scorer_itself(address):
    here, there = ToyEmbedding(), remote(address)
    torch.testing.assert_close(there(IMAGES, TEXTS), here(IMAGES, TEXTS))
    torch.testing.assert_close(
        there.score_pairs(IMAGES[:3], TEXTS), here.score_pairs(IMAGES[:3], TEXTS)
    )
    assert there.id == f"remote {here.id}"
    question = {"question_template": "Is it {}?"}
    torch.testing.assert_close(there(IMAGES, TEXTS, **question), here(IMAGES, TEXTS, **question))
    loaded = remote(address, **question)
    assert loaded.id == f"remote {ToyEmbedding(**question).id}"
    torch.testing.assert_close(loaded(IMAGES, TEXTS), here(IMAGES, TEXTS, **question))


def test_an_image_is_sent_once_for_its_texts(address):
    scorer = remote(address)
    assert estimate(scorer, [Block(IMAGES, TEXTS)]).requests == len(IMAGES)
    assert estimate(scorer, [Block(IMAGES, ["x" * n for n in range(70)])]).requests == 10
    scorer = remote(address, max_requests=len(IMAGES))
    assert scorer(IMAGES, TEXTS).isfinite().all()


def test_references_frames_and_no_text(address):
    references = [["ab"], ["abcd", "e"]]
    scores = remote(address, "References")(IMAGES[:2], TEXTS[:1], references)
    assert scores.tolist() == [[12.0 + 20], [12.0 + 50]]
    video = Video.of(IMAGES[:3], fps=4)
    assert remote(address, "Counted")([video, IMAGES[0]], "a").tolist() == [[3004.0], [12.0]]
    assert remote(address, "NoText")(IMAGES[:2]).tolist() == [[12.0], [12.0]]


def test_a_store_reuses_scores_wherever_the_scorer_is_served(address, tmp_path):
    store = Store(tmp_path / "s.db")
    first = remote(address, store=store)(IMAGES, TEXTS)
    with serving([ToyEmbedding()]) as other:
        moved = remote(other, store=store, max_requests=1)
        assert torch.equal(moved(IMAGES, TEXTS), first)
    local = ToyEmbedding(store=store)
    outcome = local.evaluate_blocks([Block(IMAGES, TEXTS)])
    assert outcome.counts.reused == 0  # what a server says stands for nothing computed here


def test_files_are_read_as_the_server_reads_them(address, tmp_path):
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    draw_image(3, (40, 20)).save(turned, exif=exif)
    clear = tmp_path / "clear.png"
    draw_image(4).convert("RGBA").save(clear)
    for name, mode in (("ToyEmbedding", "seen"), ("org/toy", "original")):
        here = ToyEmbedding(image_mode=mode)
        torch.testing.assert_close(
            remote(address, name)([turned, clear], TEXTS), here([turned, clear], TEXTS)
        )
    with pytest.raises(InputError, match="reads images in mode 'seen'"):
        remote(address, image_mode="original")


def test_a_failure_is_no_score_and_keeps_its_reason(address, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    outcome = remote(address, on_error="skip").evaluate_blocks([Block([IMAGES[0], broken], TEXTS)])
    assert np.isnan(outcome.scores[0]).tolist() == [[False] * 3, [True] * 3]
    assert outcome.counts.failed == 3
    # What only the server refuses.
    video = Video.of(IMAGES[:2])
    with pytest.raises(ScoringError, match="is a video, and this scorer looks at one image"):
        remote(address)([video], TEXTS)
    outcome = remote(address, on_error="skip").evaluate_blocks([Block([video, IMAGES[0]], TEXTS)])
    assert {key[1] for key in outcome.failures} == {0}
    assert all("is a video" in reason for reason in outcome.failures.values())


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("ToyEmbeding", {}, UnknownNameError, "Did you mean 'ToyEmbedding'"),
        ("ToyEmbedding", {"token": "x" * 20}, ServiceError, "status 401.*`token=`"),
        ("", {}, InputError, "names no scorer"),
        ("ToyEmbedding", {"template": "no-such"}, UnknownNameError, "no template"),
    ],
)
def test_mistakes_are_told_when_it_is_loaded(address, name, options, error, message):
    with pytest.raises(error, match=message) as raised:
        t2v_eval.load(f"remote:{address}/{name}", **{"token": TOKEN, **options})
    assert options.get("token", TOKEN) not in str(raised.value)


@pytest.mark.parametrize("start", ["http://user:%s@", "http://user:%s/x@", "https://%s@"])
def test_a_password_in_the_address_is_not_repeated(start):
    with pytest.raises(InputError, match=r"holds a user or password: pass .*`token=`") as raised:
        t2v_eval.load(f"remote:{start % 's3cr3t'}127.0.0.1:9/m")
    assert "s3cr3t" not in str(raised.value)


def test_a_file_of_a_token_is_named_by_its_option(address, tmp_path):
    for file, problem in (("gone", "cannot be read"), ("empty", "must hold one key")):
        (tmp_path / "empty").touch()
        with pytest.raises(InputError, match=f"^`token_file=.*{file}'` {problem}"):
            t2v_eval.load(f"remote:{address}/ToyEmbedding", token_file=tmp_path / file)


FACTS = {
    "models": [{"name": "m", "encoder_id": "m v1", "question": "{}", "image_mode": "seen"}],
    "limits": {"texts": 2, "cells": 8, "body_bytes": 10**6},
}


def scored(request, scorer_id="m v1 question='{}' answer=''", value=0.5):
    result = {"model": "m", "id": scorer_id, "failures": [], "error": None}
    return Reply({"results": [{**result, "scores": [[value] * len(request.body["texts"])]}]})


def behaving(behave):
    """A server that says it has a scorer, and answers requests for scores in any way."""
    return Server(lambda r: Reply(FACTS) if r.method == "GET" else behave(r))


def test_busy_servers_are_asked_again_and_texts_are_cut_to_the_limits():
    numbers = count()

    def behave(request):
        n = next(numbers)
        if n < 3:
            return [
                Reply({"error": {"message": "full"}}, 429, {"Retry-After": "0"}),
                Reply({"error": {"message": "late"}}, 504),
                Reply("not JSON"),
            ][n]
        assert len(request.body["texts"]) <= 2
        return scored(request)

    with behaving(behave) as server:
        scores = t2v_eval.load(f"remote:{server.address}/m", backoff=0.01)(IMAGES, TEXTS)
    assert scores.tolist() == [[0.5] * 3] * 5
    assert len([r for r in server.requests if r.method == "POST"]) == 3 + 5 * 2


@pytest.mark.parametrize(
    ("behave", "error", "message"),
    [
        (lambda r: scored(r, "m v2"), ServiceError, "now has another 'm'"),
        (lambda r: scored(r, value=None), ScoringError, "no score of it"),
        (lambda r: scored(r, value="0.5"), ScoringError, "no score of it"),
        (lambda r: scored(r, value=1e999), ScoringError, "no score of it"),
        (lambda r: Reply({"results": []}), ScoringError, "cannot be read"),
        (lambda r: Reply({"results": [{}]}), ServiceError, "now has another"),
        (lambda r: Reply({"error": {"message": "no"}}, 413), ScoringError, "413.*no"),
        (lambda r: Reply({"error": {"message": "no"}}, 401), ServiceError, "401.*no"),
        (lambda r: Reply({}, 307, {"Location": "http://example.org"}), ServiceError, "307"),
    ],
)
def test_an_answer_that_is_no_score_is_an_error(behave, error, message):
    with behaving(behave) as server:
        scorer = t2v_eval.load(f"remote:{server.address}/m", backoff=0.001, retries=1)
        with pytest.raises(error, match=message):
            scorer(IMAGES[0], "a cat")


@pytest.mark.parametrize("content", ["no JSON", [], {}, {"models": {}}, {"models": [{"name": 1}]}])
def test_what_is_no_server_of_this_library_is_told(content):
    with (
        Server(lambda r: Reply(content)) as server,
        pytest.raises((ServiceError, UnknownNameError)),
    ):
        t2v_eval.load(f"remote:{server.address}/m")
