"""GenAI-Rank: nine images of a prompt, of which the best is chosen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_key, json_with
from helpers.benchmarks.expected_metrics import Expected, Scores, per_item
from helpers.benchmarks.small_files import draw, write_json

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

RANKED = {  # three raters' sums for nine images
    "00001": [15, 12, 9, 9, 6, 3, 12, 12, 12],
    "00012": [12, 12, 12, 12, 12, 12, 12, 12, 12],
    "00800": [3, 6, 9, 12, 6, 3, 6, 6, 6],
}


def write(root: Path) -> None:
    content = {
        name: {
            "id": name,
            "prompt": f"prompt {name}",
            "models": {
                model: {str(n): [total // 3] * 3 for n, total in enumerate(totals, 1)}
                for model in ("DALLE_3", "SDXL_Base")
            },
        }
        for name, totals in RANKED.items()
    }
    write_json(root / "human_rating.json", content)
    for k, model in enumerate(("DALLE_3", "SDXL_Base")):
        for name in RANKED:
            for n in range(1, 10):
                draw(root / model / f"{name}_{n:02}.jpeg", 10 * k + n)


def last_of_nine(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    """Scores rise from image to image: the ninth is chosen of all, 3, 6 and 9 of each three.

    The first prompt's are rated 5 4 3 3 2 1 4 4 4, the second's 4, the third's 1 2 3 4 2 1 2 2 2;
    best and worst are 1 and 6, none, and 4 and 1 (or 6).
    """
    nine, three = (4 + 4 + 2) / 3, ((3 + 1 + 4) / 3 + 4 + (3 + 1 + 2) / 3) / 3
    scores = per_item(items, lambda n: range(9))
    return scores, {"best_of_9": nine, "best_of_3": three, "top": 0}


GENAI_RANK = Example(
    write=write,
    items=3,
    images=27,
    texts=3,
    tags={"a perfect image": 1, "no perfect image": 2},
    metric=last_of_nine,
    duplicate=duplicate_key("human_rating.json"),
    duplicate_message="the key '00001' occurs twice",
    malformed=json_with("human_rating.json", lambda c: c["00012"].pop("prompt")),
    malformed_message="human_rating.json, '00012': there is no 'prompt'",
)

EXAMPLES = {"genai-rank-dalle3": GENAI_RANK, "genai-rank-sdxl": GENAI_RANK}


def test_genai_rank(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("genai-rank-sdxl", root=tmp_path)
    items = benchmark.items()
    assert [item.tags[0] for item in items] == [
        "a perfect image", "no perfect image", "no perfect image"
    ]  # fmt: skip
    assert items[0].labels["human"] == [5, 4, 3, 3, 2, 1, 4, 4, 4]
    assert items[2].images[8].endswith("SDXL_Base/00800_09.jpeg")
    ratings = [np.array(item.labels["human"], np.float32)[:, None] for item in items]
    # The second prompt's images are all rated 4: it has no best image, and is not wrong.
    assert benchmark.metrics(items, ratings) == {
        "best_of_9": pytest.approx((5 + 4 + 4) / 3),
        "best_of_3": pytest.approx(((5 + 3 + 4) / 3 + 4 + (3 + 4 + 2) / 3) / 3),
        "ranking": 1.0,
        "top": 1.0,
    }
    actual = benchmark.metrics(items, [-entry for entry in ratings])
    assert actual["best_of_9"] == pytest.approx((1 + 4 + 1) / 3)
    assert actual["ranking"] == actual["top"] == 0
    # Prompts with and without a perfect image are those that the tags say.
    subset = [n for n, item in enumerate(items) if item.tags[0] == "no perfect image"]
    chosen = [items[n] for n in subset], [ratings[n] for n in subset]
    assert benchmark.metrics(*chosen)["best_of_9"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["00001"]["models"]["DALLE_3"].pop("4"), "has the images .*, not 1 to 9"),
        (lambda c: c["00001"]["models"].pop("DALLE_3"), "'00001': there is no 'DALLE_3'"),
        (lambda c: c["00001"]["models"]["DALLE_3"].update({"1": []}), "image 1 has no ratings"),
        (lambda c: c["00001"]["models"]["DALLE_3"].update({"1": [6]}), "not from 1 to 5"),
    ],
)
def test_genai_rank_malformed(tmp_path, change, message):
    write(tmp_path)
    content = json.loads((tmp_path / "human_rating.json").read_text())
    change(content)
    write_json(tmp_path / "human_rating.json", content)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("genai-rank-dalle3", root=tmp_path).items()
