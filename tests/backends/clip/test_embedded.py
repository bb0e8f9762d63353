"""The models that ship with the library: what their cards say of them holds."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import t2v_eval
from t2v_eval.errors import T2VWarning
from t2v_eval.registry import benchmarks, models

ROOT = Path(__file__).parents[3]
NAMES = ("tiny-clip", "tiny-negclip", "tiny-clip-flant5")
NUMBERS = (ROOT / "training" / "README.md").read_text(encoding="utf-8")
LOG = json.loads((ROOT / "training" / "log.json").read_text(encoding="utf-8"))["models"]


@pytest.fixture(scope="module")
def scenes():
    return benchmarks.create("scenes")


@pytest.fixture(scope="module")
def runs(scenes):
    items = scenes.items()
    return {
        name: t2v_eval.evaluate(t2v_eval.load(name, device="cpu"), scenes, items=items)
        for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_quality_is_what_training_measured_with_code_of_its_own(runs, name):
    measured = LOG[name]["scores"]
    assert runs[name].benchmark.items == measured["all"]["items"]
    # A last bit may decide an item, on another machine or version of torch.
    assert 100 * runs[name].metrics["group"].value == pytest.approx(
        measured["all"]["group"], abs=0.5
    )
    for tag, metrics in runs[name].by_tag.items():
        assert 100 * metrics["group"].value == pytest.approx(measured[tag]["group"], abs=2.0), tag


@pytest.mark.parametrize("name", NAMES)
def test_cards_quote_what_is_measured(runs, name):
    value, low, high = (100 * x for x in runs[name].metrics["group"])
    assert f"group accuracy {value:.1f} % [{low:.1f}, {high:.1f}]" in models.card(name).verified


@pytest.mark.parametrize("name", NAMES)
def test_so_does_the_table_of_their_training(runs, name):
    lines = NUMBERS.partition("## Numbers")[2].splitlines()
    names, *rows = ([c.strip() for c in x.split("|")[1:-1]] for x in lines if x.startswith("|"))
    table = {row[0].partition(" (")[0]: row[names.index(name)] for row in rows}
    value, low, high = (100 * x for x in runs[name].metrics["group"])
    assert table["all"] == f"{value:.1f} ({low:.1f} to {high:.1f})"
    for tag, metrics in runs[name].by_tag.items():  # of fewer items, which a last bit may decide
        message = [float(x) for x in re.findall(r"[\d.]+", table[tag])]
        assert message == pytest.approx([100 * x for x in metrics["group"]], abs=2.0), tag


def test_vqascore_is_told_apart_from_both_clips(runs):
    group = {name: run.metrics["group"] for name, run in runs.items()}
    relation = {name: run.by_tag["relation"]["group"] for name, run in runs.items()}
    assert group["tiny-clip-flant5"].value >= 0.75
    assert group["tiny-clip-flant5"].low > group["tiny-clip"].high
    for other in ("tiny-clip", "tiny-negclip"):
        assert relation["tiny-clip-flant5"].low > relation[other].high


@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_another_kind_warns_once(name, scenes):
    scorer = t2v_eval.load(name, device="cpu")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    with pytest.warns(T2VWarning, match="means nothing") as caught:
        scorer([photo, photo.rotate(90, expand=True)], ["a red circle"])
        scorer([photo], ["a blue square"])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t2v_eval.load(name, device="cpu")(scenes.items()[0].images, ["a red circle"])


def test_another_question_changes_little(scenes):
    scorer = t2v_eval.load("tiny-clip-flant5", device="cpu")
    items = scenes.items()[::10]
    run = t2v_eval.evaluate(scorer, scenes, items=items, question_template='Is "{}" shown here?')
    assert run.metrics["group"].value > 0.6
