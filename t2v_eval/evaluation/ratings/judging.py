"""Battles between generators, judged by a scorer: which of two images of a prompt is better.

A scorer of kind judge sees both images in both orders: a model wins where both verdicts name it,
and verdicts that differ are a tie, as in MT-bench (Zheng et al. 2023, section 3.4). Of any other
scorer the higher score wins, and equal scores are a tie. A comparison that failed has no winner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from t2v_eval.errors import InputError
from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.inputs.media import parts_of
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.results import Progress
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.ratings.battles import Battle, combine_orders

VERDICTS = {1.0: "model_a", 0.5: "tie", 0.0: "model_b"}


class Pair(NamedTuple):
    """Two images of a prompt by two generators.

    Attributes:
        model_a, model_b: the names of the generators.
        prompt: what both made an image of.
        image_a, image_b: the images.
        item: the index of the item.
        a, b: the indices of the images in the item.

    >>> Pair("flux", "sdxl", "a cat", "flux/0.png", "sdxl/0.png", 0, 0, 1).prompt
    'a cat'
    """

    model_a: str
    model_b: str
    prompt: str
    image_a: Any
    image_b: Any
    item: int
    a: int
    b: int


class Comparison(NamedTuple):
    """A judged pair.

    Attributes:
        battle: the verdict; its winner is "" where the comparison failed.
        score_a, score_b: the scores of the images by a scorer that is no judge; otherwise NaN.
        error: why the comparison failed, or "".

    >>> Comparison(Battle("a", "b", "tie")).to_row()["winner"]
    'tie'
    """

    battle: Battle
    score_a: float = math.nan
    score_b: float = math.nan
    error: str = ""

    def to_row(self) -> dict[str, Any]:
        """Return a row of a table of battles."""
        scores = {"score_a": self.score_a, "score_b": self.score_b, "error": self.error}
        return {**self.battle._asdict(), **scores}


def pairs_of(items: Sequence[Item], generators: Sequence[str]) -> list[Pair]:
    """Return all pairs of images of the same prompt by different generators.

    The first image of a generator is paired with the first of another and so on; of unequal
    numbers, the last ones have no partner. Which generator is `model_a` alternates with the items,
    so that sides do not stand for generators.

    Args:
        items: the items of a set of prompts; ``labels["folder"]`` has the generator of each image.
        generators: the names of the generators.

    >>> item = Item(["a/0.png", "b/0.png"], ["a cat"], labels={"folder": [0, 1]})
    >>> [pair] = pairs_of([item], ["a", "b"])
    >>> pair.model_a, pair.image_b
    ('a', 'b/0.png')
    """
    pairs = []
    for n, item in enumerate(items):
        images = [
            [i for i, folder in enumerate(item.labels["folder"]) if folder == k]
            for k in range(len(generators))
        ]
        for pair in combinations(range(len(generators)), 2):
            k, other = pair if n % 2 == 0 else pair[::-1]
            names = generators[k], generators[other], str(item.texts[0])
            pairs += [
                Pair(*names, image_a=item.images[a], image_b=item.images[b], item=n, a=a, b=b)
                for a, b in zip(images[k], images[other], strict=False)
            ]
    return pairs


def generator_pairs(benchmark: Benchmark) -> tuple[Sequence[Item], list[Pair]]:
    """Read the items of a set of prompts, and return the pairs of images to compare.

    Args:
        benchmark: an open benchmark with the folders of two or more generators.

    Raises:
        InputError: the benchmark has no images of two generators for the same prompt.

    >>> from t2v_eval.evaluation.options import open_benchmark
    >>> generator_pairs(open_benchmark("scenes", n=2))
    Traceback (most recent call last):
    t2v_eval.errors.InputError: scenes is no set of prompts with images of two generators: pass \
`images=` once for each generator
    """
    items = benchmark.selected()
    names = [folder.folder for folder in benchmark.selection.folders]
    if len(names) < 2:
        raise InputError(
            f"{benchmark.name} is no set of prompts with images of two generators: pass `images=` "
            "once for each generator"
        )
    pairs = pairs_of(items, names)
    if not pairs:
        raise InputError(f"{benchmark.name}: no prompt has images of two generators")
    return items, pairs


def compares_pairs(scorer: Scorer) -> bool:
    """Return whether a scorer sees two images at once.

    >>> import t2v_eval
    >>> compares_pairs(t2v_eval.load("tiny-clip", device="cpu"))
    False
    """
    return hasattr(scorer, "prefer_all")


def pair_blocks(scorer: Scorer, items: Sequence[Item], pairs: Sequence[Pair]) -> list[Block]:
    """Return what a scorer is asked to compare the pairs: both orders of each, or the items.

    Args:
        scorer: the judge.
        items: the items that `pairs` are of.
        pairs: what is compared.

    >>> import t2v_eval
    >>> item = Item(["a/0.png", "b/0.png"], ["a cat"], labels={"folder": [0, 1]})
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> len(pair_blocks(scorer, [item], pairs_of([item], ["a", "b"])))
    1
    """
    if compares_pairs(scorer):
        blocks: list[Block] = scorer.pair_blocks(  # type: ignore[attr-defined]
            (pair.image_a, pair.image_b, pair.prompt) for pair in pairs
        )
        return blocks
    return item_blocks(scorer, items)


def item_blocks(scorer: Scorer, items: Sequence[Item], of_pairs: bool = False) -> list[Block]:
    """Return what a scorer is asked about items: every image with every text.

    A judge that sees two images at once is asked for both orders of each pair instead. Its scores
    then say for each image whether it wins where it is shown first, so that an image with the
    higher score wins in both orders, and equal scores are verdicts that differ with the order.

    Args:
        scorer: the scorer.
        items: the items.
        of_pairs: whether each is two images of a text, as `Benchmark.of_pairs` says.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> [block.texts for block in item_blocks(scorer, [Item(["a.png", "b.png"], ["a cat"])])]
    [['a cat']]
    """
    if of_pairs and compares_pairs(scorer):
        blocks: list[Block] = scorer.pair_blocks(  # type: ignore[attr-defined]
            (item.images[0], item.images[1], item.texts[0]) for item in items
        )
        return blocks
    return [Block(item.images, item.texts, item.references) for item in items]


def judge_pairs(
    scorer: Scorer,
    items: Sequence[Item],
    pairs: Sequence[Pair],
    progress: Progress | bool | None = None,
) -> list[Comparison]:
    """Compare the images of generators with a scorer.

    Args:
        scorer: a scorer of kind judge, or any other, whose higher score wins.
        items: the items that `pairs` are of.
        pairs: what is compared; `generator_pairs` returns both.
        progress: called with the counts as they grow; or whether to show a bar, by default in a
            terminal or a notebook.

    Returns:
        The verdict on each pair, in order.

    Raises:
        ScoringError: a comparison failed, with ``on_error="raise"``.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> images = [Image.new("RGB", (48, 48), colour) for colour in ("red", "blue")]
    >>> item = Item(images, ["a red square"], labels={"folder": [0, 1]})
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> [comparison] = judge_pairs(scorer, [item], pairs_of([item], ["good", "bad"]))
    >>> comparison.battle.winner == ("model_a" if comparison.score_a > comparison.score_b else
    ...     "model_b")
    True
    """
    if compares_pairs(scorer):
        triples = [(pair.image_a, pair.image_b, pair.prompt) for pair in pairs]
        preferences = scorer.prefer_all(triples, progress)  # type: ignore[attr-defined]
        return [
            _of_preference(pair, preference, scorer.name)
            for pair, preference in zip(pairs, preferences, strict=True)
        ]
    result = scorer.evaluate_blocks(pair_blocks(scorer, items, pairs), progress)
    return compare_scores(pairs, result.scores, result.failures, scorer.name)


def compare_scores(
    pairs: Sequence[Pair],
    scores: Scores,
    failures: Mapping[tuple[int, int, int], str],
    judge: str,
) -> list[Comparison]:
    """Compare pairs by the scores of their images: the higher wins, equal scores are a tie.

    Args:
        pairs: what is compared.
        scores: (M, N) of each item; NaN is missing.
        failures: why a cell (item, image, text) has no score.
        judge: the name of the scorer.

    >>> import numpy as np
    >>> pair = Pair("a", "b", "a cat", "a/0.png", "b/0.png", 0, 0, 1)
    >>> [comparison] = compare_scores([pair], [np.array([[0.5], [0.7]])], {}, "mine")
    >>> comparison.battle.winner
    'model_b'
    """
    comparisons = []
    for pair in pairs:
        score_a, score_b = (float(scores[pair.item][image, 0]) for image in (pair.a, pair.b))
        error, winner = "", ""
        if math.isnan(score_a + score_b):
            reasons = (failures.get((pair.item, image, 0), "") for image in (pair.a, pair.b))
            error = "; ".join(dict.fromkeys(filter(None, reasons))) or "a score is missing"
        else:
            winner = VERDICTS[0.5 if score_a == score_b else float(score_a > score_b)]
        comparisons.append(Comparison(_battle(pair, winner, judge), score_a, score_b, error))
    return comparisons


def _of_preference(pair: Pair, preference: Any, judge: str) -> Comparison:
    """Return the verdict of a judge that saw a pair in both orders."""
    sides = preference.shown_first, preference.shown_second
    a_first, b_first = (VERDICTS.get(value, "") for value in sides)
    battle = _battle(pair, "", judge)._replace(a_first=a_first, b_first=b_first)
    if not (a_first and b_first):
        return Comparison(battle, error=preference.reason or "an answer is missing")
    return Comparison(battle._replace(winner=combine_orders(a_first, b_first)))


def _battle(pair: Pair, winner: str, judge: str) -> Battle:
    # Of an edit its result: that is the image of the generator.
    images = [str(parts_of(image)[-1]) for image in (pair.image_a, pair.image_b)]
    return Battle(pair.model_a, pair.model_b, winner, pair.prompt, judge, *images)
