"""VideoGen-RewardBench: pairs of videos with ties of people, and fitted ties of scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, cell_with, duplicate_line
from helpers.benchmarks.expected_metrics import Expected, Scores, column
from helpers.benchmarks.small_files import clip
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.options import open_benchmark

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

FILE = "videogen-rewardbench.csv"
ASPECTS = ("VQ", "MQ", "TA", "Overall")
ROWS = [  # prompt, videos, VQ MQ TA Overall
    ("a ball rolls", "kling", "gen3", "A", "same", "B", "A"),
    ("a ball rolls", "gen3", "luma", "B", "B", "same", "same"),
    ("a cat, asleep", "luma", "kling", "same", "A", "A", "B"),
]


def path_of(prompt, model):
    return f"videos/{model}/{model}_{len(prompt)}.mp4"


def write_csv(path, rows, **more):
    names = ["path_A", "path_B", "A_model", "B_model", "prompt", *ASPECTS, *more]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        for n, (prompt, a, b, *labels) in enumerate(rows):
            paths = [path_of(prompt, model) for model in (a, b)]
            writer.writerow([*paths, a, b, prompt, *labels, *(more[name][n] for name in more)])


def write(root: Path) -> None:
    write_csv(root / FILE, ROWS)
    for prompt, a, b, *_ in ROWS:
        for model in (a, b):
            clip(root / path_of(prompt, model), len(prompt) + len(model))


def by_hand(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    """Differences 3, -1 and 2 of the pairs; VQ, for example, is 1, -1 and 0.

    Overall is 1, 0 and -1: at a threshold of 1 the first and the tie are right, the third is not.
    """
    scores = [column(*np.repeat([3, 0, 1], 3)), column(*np.repeat([2, 0], 3))]
    assert [item.labels["pairs"] for item in items] == [[[0, 1], [1, 2]], [[0, 1]]]
    return scores, {
        "overall_without_ties": 1 / 2,
        "overall_with_ties": 2 / 3,
        "vq_without_ties": 1,
        "vq_with_ties": 2 / 3,
        "mq_without_ties": 1,
        "ta_without_ties": 1 / 2,
    }


EXAMPLES = {
    "videogen-rewardbench": Example(
        write=write,
        items=2,
        images=15,
        texts=2,
        tags={},
        metric=by_hand,
        duplicate=duplicate_line(FILE),
        duplicate_message="counts: 2, a pair twice counts twice, as in the script",
        malformed=cell_with(FILE, "MQ", "tie"),
        malformed_message=f"{FILE}, row 1: 'MQ' is 'tie', not A, B or same",
    )
}


def written(root):
    """Rewards of 9 videos of 4 prompts, of few values, and the pairs of each prompt."""
    rng = np.random.default_rng(3)
    rows, models = [], ("a", "b", "c", "d")
    rewards = {name: rng.normal(size=(4, 4)).round(2) for name in ASPECTS}
    more = {f"reward_{name}_{side}": [] for name in ASPECTS for side in "AB"}
    for prompt in range(4):
        for i in range(4):
            for j in range(i):
                labels = rng.choice(["A", "B", "same"], 4)
                rows.append(("p" * (prompt + 1), models[i], models[j], *labels))
                for name in ASPECTS:
                    for side, k in (("A", i), ("B", j)):
                        more[f"reward_{name}_{side}"].append(rewards[name][prompt, k])
    write_csv(root / "out_pair.csv", rows, **more)


def test_results_of_the_authors_script_have_its_figures(tmp_path):
    """As calc_accuracy.py computes them of this file."""
    written(tmp_path)
    command = ["results", str(tmp_path / "out_pair.csv"), "-b", "videogen-rewardbench", "--json"]
    run = CliRunner().invoke(app, [*command, "--resamples", "10"])
    assert run.exit_code == 0, run.output
    metrics = json.loads(run.stdout)["metrics"]["all"]
    assert {name: round(metric["value"], 10) for name, metric in metrics.items()} == SCRIPT


SCRIPT = {
    "overall_without_ties": 0.2666666667,
    "overall_with_ties": 0.375,
    "vq_without_ties": 0.7058823529,
    "vq_with_ties": 0.5416666667,
    "mq_without_ties": 0.5294117647,
    "mq_with_ties": 0.4583333333,
    "ta_without_ties": 0.4285714286,
    "ta_with_ties": 0.4583333333,
}


def test_a_video_is_not_compared_with_itself(tmp_path):
    write_csv(tmp_path / FILE, [("a", "kling", "kling", "A", "A", "A", "A")])
    with pytest.raises(BenchmarkDataError, match="row 1: 'videos/kling/kling_1.mp4' is compared"):
        open_benchmark("videogen-rewardbench", tmp_path).items()
