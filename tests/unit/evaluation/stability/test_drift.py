"""Drift: stored scores of a service that answers otherwise today."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.services.loopback import Reply, Server
from helpers.services.openai_server import sampled
from helpers.toy import draw_image
from scipy import stats
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, StoreError
from t2v_eval.evaluation.stability.drift import Drift, RepeatedScore, measure_drift, sample_stored
from t2v_eval.inputs.media import open_media
from t2v_eval.scoring.plan import Block
from t2v_eval.store import Store

JUDGE = "openai-compatible-judge:m"
TEXTS = ["a cat", "two dogs"]


class Judge:
    """A server whose grades are those of before plus `shift`, given by the model `name`."""

    def __init__(self) -> None:
        self.grades: dict[str, int] = {}
        self.shift, self.name, self.silent = 0, "m-2026-01-01", False

    def __call__(self, request):
        if self.silent:
            return Reply(sampled("I cannot say."))
        grade = self.grades.setdefault(request.cell, 10 + 3 * len(self.grades)) + self.shift
        return Reply(sampled(str(grade)) | {"model": self.name})


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A judge, its server, and a store with its grades of four images and two texts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    paths = [f"photos/{n}.png" for n in range(4)]
    for n, path in enumerate(paths):
        draw_image(n, (20, 20)).save(path)
    judge = Judge()
    with Server(judge) as server:
        load(server)(paths, TEXTS)
        yield judge, server


def load(server, **options):
    return t2v_eval.load(
        JUDGE, base_url=server.url, api_key="k", store="scores.sqlite", backoff=0.01, **options
    )


def drift_of(server, **options):
    scorer = load(server)
    sample = sample_stored(scorer, scorer.store, **options)
    return measure_drift(scorer, sample)


def test_equal_answers_are_no_drift(service):
    _, server = service
    drift = drift_of(server)
    assert (len(drift.answered), drift.changed, drift.without_image) == (8, 0, 0)
    assert drift.shift == (0.0, 0.0, 0.0) and not drift.shifted
    assert drift.models == (("m-2026-01-01",), ("m-2026-01-01",))


def test_a_shift_has_an_interval_and_the_store_stays(service):
    judge, server = service
    before = [cell.value for cell in Store("scores.sqlite").scored_cells(load(server).id)]
    judge.shift, judge.name = -4, "m-2026-06-01"
    drift = drift_of(server)
    assert drift.shift.value == pytest.approx(-4) and drift.shifted
    assert drift.changed == 8 and drift.mean_absolute == pytest.approx(4)
    assert drift.models == (("m-2026-01-01",), ("m-2026-06-01",))
    stored = Store("scores.sqlite").scored_cells(load(server).id)
    assert [cell.value for cell in stored] == before


def test_failures_are_no_scores(service):
    judge, server = service
    judge.silent = True
    drift = drift_of(server)
    assert not drift.answered and math.isnan(drift.shift.value) and not drift.shifted
    assert all("cannot say" in score.error for score in drift.scores)


def test_images_are_recognised_by_their_content(service, tmp_path):
    _, server = service
    (tmp_path / "photos").rename(tmp_path / "moved")
    scorer = load(server)
    with pytest.raises(StoreError, match="none of their images"):
        sample_stored(scorer, scorer.store)
    draw_image(9, (20, 20)).save("moved/0.png")  # another image under an old name
    moved = [tmp_path / "moved" / f"{n}.png" for n in range(4)]
    sample = sample_stored(scorer, scorer.store, moved)
    assert len(sample.cells) == 6 and sample.without_image == 2
    (tmp_path / "moved").rename(tmp_path / "photos")
    assert sample_stored(scorer, scorer.store).without_image == 2


def test_images_of_one_name_are_units_of_their_own():
    scores = [RepeatedScore("image (PIL)", "a", 0.0, n, key=str(n)) for n in (-1.0, 1.0)]
    assert Drift.of(scores).shift == (0.0, -1.0, 1.0)


def test_names_of_items_and_edits_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ["before (1).png", "after.png", "other.png"]
    for n, file in enumerate(files):
        draw_image(n, (48, 48)).save(file)
    store, text = Store(tmp_path / "scores.sqlite"), "a cat -> a dog"
    edit = t2v_eval.Edit(files[0], files[1])
    for name, image in (("tiny-clip", files[0]), ("clip-directional", edit)):
        options = {"clip": "tiny-clip"} if name == "clip-directional" else {}
        scorer = t2v_eval.load(name, store=store, **options)
        scorer.evaluate_blocks([Block([open_media(image, "item 2, images[1]")], [text])], False)
        sample = sample_stored(scorer, store)
        assert sample.without_image == 0
        assert measure_drift(scorer, sample).shift.value == pytest.approx(0, abs=1e-5)
    Path(files[1]).write_bytes(Path(files[2]).read_bytes())
    with pytest.raises(StoreError, match="none of their images"):
        sample_stored(scorer, store)


def test_a_sample_is_of_its_size_and_seed(service):
    _, server = service
    scorer = load(server)
    first, same, other = (
        sample_stored(scorer, scorer.store, cells=3, seed=seed).cells for seed in (0, 0, 1)
    )
    assert len(first) == 3 and first == same != other
    for options in ({"cells": 0}, {"seed": -1}):
        with pytest.raises(InputError, match="pass a whole number"):
            sample_stored(scorer, scorer.store, **options)


def test_other_options_are_another_scorer(service):
    _, server = service
    scorer = load(server, max_tokens=99)
    with pytest.raises(StoreError, match="it has some with other options"):
        sample_stored(scorer, scorer.store)


def test_the_interval_resamples_images():
    """Scores of one image move together, so that their number makes the interval no narrower."""
    random = np.random.default_rng(0)
    shifts = random.normal(size=60)
    scores = [
        RepeatedScore(f"{n}.png", str(text), 0.0, shift)
        for n, shift in enumerate(shifts)
        for text in range(5)
    ]
    low, high = stats.t.interval(0.95, 59, shifts.mean(), stats.sem(shifts))
    shift = Drift.of(scores).shift
    assert shift.value == pytest.approx(shifts.mean())
    assert (shift.low, shift.high) == pytest.approx((low, high), abs=0.08 * (high - low))


def run(server, *arguments, code=0):
    flags = ["--option", f"base_url={server.url}", "--option", "api_key=k"]
    command = ["drift", "--store", "scores.sqlite", *flags, *map(str, arguments)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == code, result.output
    return result


def test_the_command_exits_3_where_scores_have_shifted(service):
    judge, server = service
    requests = len(server.requests)
    result = run(server, "--model", JUDGE, "--sample", 5, "--dry-run")
    assert len(server.requests) == requests and "5" in result.stdout
    assert "+0.000" in run(server).stdout  # the only scorer of the store
    judge.shift, judge.name = 2, "m-2026-06-01"
    result = run(server, "--json", "--out", "drift.csv", "--new-store", "new.sqlite", code=3)
    content = json.loads(result.stdout)
    assert content["shift"]["value"] == pytest.approx(2) and content["models_now"] == [
        "m-2026-06-01"
    ]
    requests = len(server.requests)
    assert "m-2026-06-01" in run(server, "--new-store", "new.sqlite", code=3).stdout
    assert len(server.requests) == requests  # what was paid for is kept
    rows = Path("drift.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 9 and rows[0].startswith("image,text,stored,score")
    judge.silent = True
    assert "cannot say" in run(server, code=1).stderr


def test_the_scores_that_are_asked_for_again_are_not_their_own_answer(service):
    """A store that is named twice would hide any shift."""
    judge, server = service
    judge.shift = 9
    requests = len(server.requests)
    scorer = load(server)
    with pytest.raises(InputError, match="`again='scores.sqlite'` holds the scores"):
        measure_drift(scorer, sample_stored(scorer, scorer.store), again=scorer.store)
    again = run(server, "--new-store", "./scores.sqlite", code=2)
    assert "--new-store scores.sqlite holds the scores" in again.stderr
    assert len(server.requests) == requests


def test_the_command_names_what_is_missing(service):
    _, server = service
    assert "leave out --no-store" in run(server, "--no-store", code=2).stderr
    assert "no store at" in run(server, "--store", "none.sqlite", code=2).stderr
    assert "no such file" in run(server, "none.png", code=2).stderr
