"""Flickr8k's judged captions: three experts' ratings, and shares of a crowd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_line, line_with
from helpers.benchmarks.expected_metrics import Metric, agreement, row
from helpers.benchmarks.small_files import draw
from scipy import stats

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

TOKENS = {
    "1_a.jpg": ["A dog runs .", "A brown  dog .", "Dog", "The dog is fast .", "An animal ."],
    "2_b.jpg": ["Two girls sing .", "Girls .", "Two people .", "A choir .", "Singing ."],
    "3_c.jpg": ["A red car .", "A car .", "Car on a road .", "A vehicle .", "Driving ."],
}

EXPERT = [  # image, caption, three ratings; the second caption is the image's own
    ("1_a.jpg", "2_b.jpg#0", 1, 1, 2),
    ("1_a.jpg", "1_a.jpg#1", 4, 4, 4),
    ("1_a.jpg", "3_c.jpg#2", 1, 1, 1),
    ("2_b.jpg", "1_a.jpg#4", 2, 3, 2),
    ("3_c.jpg", "2_b.jpg#1", 1, 2, 1),
]

CROWD = [  # image, caption, share of yes, yes, no
    ("1_a.jpg", "2_b.jpg#0", 0, 0, 3),
    ("1_a.jpg", "1_a.jpg#1", 1, 3, 0),
    ("1_a.jpg", "3_c.jpg#2", 1 / 3, 1, 2),
    ("2_b.jpg", "1_a.jpg#4", 2 / 3, 2, 1),
]


def write(root: Path) -> None:
    names = ("Flickr8k.token.txt", "ExpertAnnotations.txt", "CrowdFlowerAnnotations.txt")
    tables = (
        [(f"{name}#{n}", caption) for name, own in TOKENS.items() for n, caption in enumerate(own)],
        EXPERT,
        CROWD,
    )
    for name, table in zip(names, tables, strict=True):
        lines = ["\t".join(map(str, row)) for row in table]
        (root / name).write_text("\n".join(lines) + "\n")
    for seed, name in enumerate(TOKENS):
        draw(root / "Flicker8k_Dataset" / name, seed)


def write_expert(root: Path) -> None:
    write(root)
    (root / "CrowdFlowerAnnotations.txt").unlink()


def write_crowd(root: Path) -> None:
    write(root)
    (root / "ExpertAnnotations.txt").unlink()


def example(write: Callable[[Path], None], file: str, metric: Metric) -> Example:
    return Example(
        write=write,
        items=3,
        images=3,
        texts=4,
        tags={},
        metric=metric,
        duplicate=duplicate_line(file),
        duplicate_message="1_a.jpg with 1_a.jpg#1 occurs twice",
        malformed=line_with(file, 0, "1_a.jpg\t2_b.jpg#0\t7\t7\t7"),
        malformed_message=f"{file}: 1_a.jpg with 2_b.jpg#0: .* is '7', not from",
    )


EXAMPLES = {
    "flickr8k-expert": example(
        write_expert,
        "ExpertAnnotations.txt",
        agreement(lambda root: [[1, 1, 2], [1, 1, 1], [2, 3, 2], [1, 2, 1]], "tau_c", "tau_b"),
    ),
    "flickr8k-cf": example(
        write_crowd,
        "CrowdFlowerAnnotations.txt",
        agreement(lambda root: [0, 1 / 3, 1, 2 / 3], "tau_b", "tau_c", "acc23"),
    ),
}


def test_flickr8k_expert_counts_each_rating(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("flickr8k-expert", root=tmp_path)
    items = benchmark.items()
    assert [item.id for item in items] == ["1_a.jpg", "2_b.jpg", "3_c.jpg"]
    # The image's own caption is left out; spaces are single, full stops stay.
    assert items[0].texts == ["Two girls sing .", "Car on a road ."]
    assert items[0].labels["human"] == [[1, 1, 2], [1, 1, 1]]
    assert items[0].references == [
        ["A dog runs .", "A brown dog .", "Dog", "The dog is fast .", "An animal ."]
    ]
    scores = [row(0.2, 0.1), row(0.4), row(0.3)]
    flat = np.repeat([0.2, 0.1, 0.4, 0.3], 3)
    human = [1, 1, 2, 1, 1, 1, 2, 3, 2, 1, 2, 1]
    actual = benchmark.metrics(items, scores)
    assert next(iter(actual)) == "tau_c"
    for name, variant in (("tau_c", "c"), ("tau_b", "b")):
        expected = stats.kendalltau(flat, human, variant=variant).statistic
        assert actual[name] == pytest.approx(expected)
    averaged = stats.kendalltau([0.2, 0.1, 0.4, 0.3], [4 / 3, 1, 7 / 3, 4 / 3], variant="c")
    assert actual["tau_c"] < averaged.statistic, "averaging the ratings gives more"


def test_flickr8k_cf_scores_own_captions_without_themselves(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("flickr8k-cf", root=tmp_path)
    items = benchmark.items()
    assert [item.id for item in items] == ["1_a.jpg", "1_a.jpg 1_a.jpg#1", "2_b.jpg"]
    assert items[0].texts == ["Two girls sing .", "Car on a road ."]
    assert len(items[0].references[0]) == 5
    assert items[1].texts == ["A brown dog ."] and len(items[1].references[0]) == 4
    assert items[1].texts[0] not in items[1].references[0]
    actual = benchmark.metrics(items, [row(0.2, 0.1), row(0.9), row(0.4)])
    expected = stats.kendalltau([0.2, 0.1, 0.9, 0.4], [0, 1 / 3, 1, 2 / 3]).statistic
    assert next(iter(actual)) == "tau_b" and actual["tau_b"] == pytest.approx(expected)
    again = benchmark.metrics(items, [row(0.2, 0.1), row(0.9), row(0.4)])
    assert again == actual, "nothing is sampled"


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("ExpertAnnotations", "1_a.jpg\t2_b.jpg#0\t1\t1\t2", "1_a.jpg with 2_b.jpg#0 occurs twice"),
        ("ExpertAnnotations", "1_a.jpg\t2_b.jpg#3\t1\t1\t5", "a rating is '5', not from 1 to 4"),
        ("ExpertAnnotations", "1_a.jpg\t9_z.jpg#0\t1\t1\t1", "has no caption 9_z.jpg#0"),
        ("ExpertAnnotations", "9_z.jpg\t1_a.jpg#0\t1\t1\t1", "no caption of 9_z.jpg, which was"),
        (
            "ExpertAnnotations",
            "1_a.jpg\t2_b.jpg#3\t1\t1",
            "line 6 has 4 values between tabs, not 5",
        ),
        ("Flickr8k.token", "1_a.jpg#0\tAgain .", "1_a.jpg#0 occurs twice"),
    ],
)
def test_flickr8k_malformed(tmp_path, file, line, message):
    write(tmp_path)
    with (tmp_path / f"{file}.txt").open("a") as stream:
        stream.write(f"{line}\n")
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("flickr8k-expert", root=tmp_path).items()
