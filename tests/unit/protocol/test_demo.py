"""The demo draws what it says, with a plan that can be read."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from t2v_eval.evaluation.ratings.battle_table import read_battles
from t2v_eval.protocol import demo
from t2v_eval.protocol.generated import read_images
from t2v_eval.protocol.plan import read_plan
from t2v_eval.protocol.probes.prompt_texts import is_inflated
from t2v_eval.review.reading import read_review


def saturation(paths):
    return np.mean([np.asarray(Image.open(p).convert("HSV"))[..., 1].mean() for p in paths])


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(demo, "PROMPTS", 24)


def test_the_planted_difference_is_drawn(tmp_path):
    plan = read_plan(demo.write_demo(tmp_path))
    images = read_images(plan)
    new, old = ([p for row in side.images.values() for p in row] for side in images.generators)
    assert len(new) == len(old) == 24 * 3
    assert saturation(new) > 1.4 * saturation(old)
    assert sum(map(is_inflated, images.texts)) == 6
    battles = read_battles(tmp_path / "simulated-people.csv").battles
    winners = Counter(battle.winner for battle in battles)
    assert winners["model_a"] > winners["model_b"]
    rates = read_review(tmp_path / "review").rates
    flags = {r.generator: r.value for r in rates if (r.flag, r.rule) == ("any flag", "any rater")}
    assert flags["new"] < flags["old"]


def test_equal_generators_differ_in_random_numbers_alone(tmp_path):
    images = read_images(read_plan(demo.write_demo(tmp_path, null=True)))
    new, old = ([p for row in side.images.values() for p in row] for side in images.generators)
    assert saturation(new) == pytest.approx(saturation(old), rel=0.1)
    assert new[0].read_bytes() != old[0].read_bytes()
    assert not any(map(is_inflated, images.texts))


def test_a_seed_draws_the_same_again_and_another_seed_does_not(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PROMPTS", 6)
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        demo.write_demo(tmp_path / name, seed=seed)
    first, again, other = (
        (tmp_path / name / "new" / "seed_1" / "005.png").read_bytes() for name in "abc"
    )
    assert first == again != other
    assert (tmp_path / "a/prompts.csv").read_text() == (tmp_path / "b/prompts.csv").read_text()
