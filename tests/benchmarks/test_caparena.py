"""CapArena: battles of captions, and judges' verdicts on them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import Expected, Scores, row
from helpers.benchmarks.small_files import draw, write_json
from scipy import stats
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.options import open_benchmark

FILE = "caparena_annots_eval.json"
BATTLES = [  # image, sources, winner, cluster
    ("a.jpg", "gpt", "llava", "gpt", "level 1"),
    ("a.jpg", "qwen", "gpt", "gpt", "level 2"),
    ("b.jpg", "llava", "qwen", "equal", "level 2"),
    ("b.jpg", "llava", "human", "human", "level 1"),
]


def battle(img, first, second, winner, cluster, **more):
    captions = {"caption1": f"{img} by {first}", "caption2": f"{img} by {second}", "ref": "a photo"}
    sources = {"source1": first, "source2": second, "winner": winner}
    return {"img": img, **sources, **captions, "cluster": cluster, "in-400": False, **more}


def write(root: Path) -> None:
    write_json(root / FILE, [battle(*listed) for listed in BATTLES])
    for n, name in enumerate("ab"):
        draw(root / "images" / f"{name}.jpg", n)


def by_hand(_: list[Item], __: Path) -> tuple[Scores, Expected]:
    """Right, a tie for a win, a win for a tie; gpt 3/4, llava 1/2, qwen 1/4 against 1, 1/4, 1/4."""
    scores = [row(2, 1), row(1, 1), row(2, 1)]
    expected = {"agreement": 1 / 3, "accuracy": 1 / 2}
    rates = [0.75, 0.5, 0.25], [1, 0.25, 0.25]
    expected["spearman_system"] = stats.spearmanr(*rates).statistic
    expected["tau_b_system"] = stats.kendalltau(*rates).statistic
    return scores, expected


EXAMPLES = {
    "caparena": Example(
        write=write,
        items=3,
        images=3,
        texts=6,
        tags={"level 1": 1, "level 2": 2},
        metric=by_hand,
        duplicate=duplicate_json_row(FILE),
        duplicate_message="warns: 1 of . items occur twice and count twice",
        malformed=json_with(FILE, lambda content: content[1].pop("winner")),
        malformed_message=f"{FILE}, row 2: there is no 'winner'",
    )
}


def test_the_photograph_has_its_reference_and_groups_its_battles(tmp_path):
    write(tmp_path)
    items = open_benchmark("caparena", tmp_path).items()
    assert [item.labels["human"] for item in items] == [[1, 0], [0, 1], [0.5, 0.5]]
    assert items[0].references == [["a photo"]] and items[0].group == items[1].group == "a.jpg"
    assert items[2].texts == ["b.jpg by llava", "b.jpg by qwen"]


def test_verdicts_count_as_in_the_authors_script(tmp_path):
    """`cal_agreement` of these battles: 0.333 (24), by level 0.357 (14) and 0.300 (10)."""
    verdicts = [f"Caption {k} is better{end}" for k in (1, 2) for end in (".", "")]
    verdicts += ["Tie", "Tie.", "Caption 1", "none", "Tie.", "Tie."]
    rows = [
        battle(f"{n}.jpg", "gpt", "llava", winner, f"level {1 + n % 4 // 2}", judge=verdict)
        for n, (verdict, winner) in enumerate(itertools.product(verdicts, ("gpt", "gpt", "equal")))
    ]
    rows += [battle("c.jpg", "gpt", "human", "gpt", "level 1", judge="Tie.")]
    rows += [battle("c.jpg", "gpt", "llava", "gpt", "level 1")]
    write_json(tmp_path / "judged.json", rows)
    command = ["results", str(tmp_path / "judged.json"), "-b", "caparena", "--json"]
    run = CliRunner().invoke(app, [*command, "--resamples", "10"])
    assert run.exit_code == 0, run.output
    content = json.loads(run.stdout)
    values = {tag: round(of["agreement"]["value"], 3) for tag, of in content["metrics"].items()}
    assert values == {"all": 0.333, "level 1": 0.357, "level 2": 0.3}
    assert (content["results"], content["missing"]) == (31, 7)
    benchmark = open_benchmark("caparena")
    _, scores = benchmark.read_results(tmp_path / "judged.json")
    assert np.isnan(scores[-1]).all() and scores[0].tolist() == [[1, 0]]
