"""Battles from judges and from scores: pairs of images, verdicts, ties and failures."""

import math
from itertools import combinations

import numpy as np
import pytest
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import InputError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.ratings.judging import (
    compare_scores,
    compares_pairs,
    generator_pairs,
    judge_pairs,
    pairs_of,
)
from t2v_eval.scoring.preferences import Preference

NAN = math.nan


def item(text, *counts):
    """An item with so many images of each generator."""
    folder = [k for k, count in enumerate(counts) for _ in range(count)]
    return Item([f"{k}-{n}.png" for n, k in enumerate(folder)], [text], labels={"folder": folder})


def test_images_are_paired_by_number_and_sides_alternate():
    items = [item("a cat", 2, 3, 1), item("a dog", 1, 0, 1)]
    pairs = pairs_of(items, ["x", "y", "z"])
    sides = [(p.prompt, p.model_a, p.model_b, p.image_a, p.image_b) for p in pairs]
    assert sides == [
        ("a cat", "x", "y", "0-0.png", "1-2.png"),
        ("a cat", "x", "y", "0-1.png", "1-3.png"),
        ("a cat", "x", "z", "0-0.png", "2-5.png"),
        ("a cat", "y", "z", "1-2.png", "2-5.png"),
        ("a dog", "z", "x", "2-1.png", "0-0.png"),
    ]
    for pair in pairs:
        images = items[pair.item].images
        assert (images[pair.a], images[pair.b]) == (pair.image_a, pair.image_b)


def test_every_pair_of_generators_meets_for_every_prompt():
    items = [item(f"{n}", 1, 1, 1, 1) for n in range(5)]
    met = [frozenset(pair[:2]) for pair in pairs_of(items, list("abcd"))]
    assert all(met.count(frozenset(pair)) == 5 for pair in combinations("abcd", 2))


def test_the_higher_score_wins_and_a_missing_one_is_a_failure():
    pairs = pairs_of([item(str(n), 1, 1) for n in range(6)], ["x", "y"])
    scores = [np.array([[a], [b]], np.float32) for a, b in
              [(1, 0), (1, 0), (0, 0), (NAN, 1), (1, NAN), (NAN, NAN)]]  # fmt: skip
    failures = {(3, 0, 0): "cat.png: broken", (5, 0, 0): "late", (5, 1, 0): "late"}
    compared = compare_scores(pairs, scores, failures, "mine")
    # The second item has y on the first side.
    assert [c.battle.winner for c in compared] == ["model_a", "model_b", "tie", "", "", ""]
    assert [c.battle.model_a for c in compared] == ["x", "y"] * 3
    assert [c.error for c in compared] == [
        "", "", "", "cat.png: broken", "a score is missing", "late",
    ]  # fmt: skip
    assert {c.battle.judge for c in compared} == {"mine"}


class Judge:
    """Answers from a list, as `prefer_all` returns them."""

    name = "judge"

    def __init__(self, answers):
        self.answers = answers

    def prefer_all(self, pairs, progress=None):
        assert len(pairs) == len(self.answers)
        return [Preference(NAN, None, *answer) for answer in self.answers]


@pytest.mark.parametrize(
    ("first", "second", "winner"),
    [
        (1.0, 1.0, "model_a"),
        (0.0, 0.0, "model_b"),
        (0.5, 0.5, "tie"),
        (1.0, 0.0, "tie"),
        (0.0, 1.0, "tie"),
        (1.0, 0.5, "tie"),
        (1.0, NAN, ""),
        (NAN, NAN, ""),
    ],
)
def test_a_winner_needs_both_orders(first, second, winner):
    items = [item("a cat", 1, 1)]
    judge = Judge([(first, second, "no answer" if winner == "" else "")])
    (compared,) = judge_pairs(judge, items, pairs_of(items, ["x", "y"]))
    names = {1.0: "model_a", 0.5: "tie", 0.0: "model_b"}
    assert compares_pairs(judge) and compared.battle.winner == winner
    assert compared.battle.a_first == names.get(first, "")
    assert compared.battle.b_first == names.get(second, "")
    assert compared.error == ("no answer" if winner == "" else "")


def test_a_scorer_compares_images(tmp_path):
    images = [draw_image(n).resize((48, 48)) for n in range(2)]
    items = [Item([images[0], images[1], images[0]], ["a cat"], labels={"folder": [0, 1, 2]})]
    scorer = t2v_eval.load("tiny-clip", device="cpu")
    scores = scorer(images, "a cat").ravel().tolist()
    compared = judge_pairs(scorer, items, pairs_of(items, ["x", "y", "z"]), progress=False)
    better = "model_a" if scores[0] > scores[1] else "model_b"
    worse = "model_b" if better == "model_a" else "model_a"
    assert [c.battle.winner for c in compared] == [better, "tie", worse]
    assert (compared[0].score_a, compared[0].score_b) == pytest.approx(scores)


def test_a_set_needs_two_generators(tmp_path):
    with pytest.raises(InputError, match="scenes is no set of prompts.*`images=`"):
        generator_pairs(open_benchmark("scenes", n=2))
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na dog")
    for name, number in (("x", 0), ("y", 1)):
        (tmp_path / name).mkdir()
        draw_image(0).save(tmp_path / name / f"{number}.png")
    folders = [tmp_path / "x", tmp_path / "y"]
    with pytest.raises(InputError, match="pass `images=` once for each"):
        benchmark = open_benchmark(str(prompts), images=folders[:1])
        generator_pairs(benchmark.selecting(None, "skip", None))
    with pytest.raises(InputError, match="no prompt has images of two"):
        generator_pairs(open_benchmark(str(prompts), images=folders).selecting(None, "skip", None))
