"""GenAI-Bench: six generators' images of a prompt, rated by three people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, json_with, rating_faults
from helpers.benchmarks.expected_metrics import agreement, models_of
from helpers.benchmarks.small_files import draw, write_json
from scipy import stats

from t2v_eval.errors import BenchmarkDataError, InputError
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

GENERATORS = "DALLE_3 SDXL_Turbo DeepFloyd_I_XL_v1 Midjourney_6 SDXL_2_1 SDXL_Base".split()

RATED = {
    "00000": {"prompt": "a baker pulling bread out of an oven", "models": [[5, 5, 4], [4, 4, 4]]},
    "00001": {"prompt": "three cats, not two", "models": [[2, 1, 1], [3, 3, 3]]},
    "00007": {"prompt": "a blue cup left of a red one", "models": [[5, 4, 5], [1, 1, 1]]},
}

SKILLS = {
    "attribute": [7], "counting": [1], "negation": [1], "spatial relation": [7],
    "basic": [0, 7], "advanced": [1],
}  # fmt: skip


def write(root: Path) -> None:
    content = {
        name: {
            "id": name,
            "prompt": row["prompt"],
            # The first and the last generator as above, those between all rated 3.
            "models": {
                g: row["models"][k // 5] if k in (0, 5) else [3, 3, 3]
                for k, g in enumerate(GENERATORS)
            },
        }
        for name, row in RATED.items()
    }
    write_json(root / "genai_image.json", content)
    write_json(root / "genai_skills.json", SKILLS)
    for k, generator in enumerate(GENERATORS):
        for name in RATED:
            draw(root / generator / f"{name}.jpeg", 10 * k + int(name))


GENAI_BENCH = Example(
    write=write,
    items=3,
    images=18,
    texts=3,
    tags={
        "attribute": 1,
        "counting": 1,
        "negation": 1,
        "spatial relation": 1,
        "basic": 2,
        "advanced": 1,
    },
    metric=agreement(models_of("genai_image.json", *GENERATORS)),
    **rating_faults("genai_image.json"),
)

EXAMPLES = {"genai-bench-527": GENAI_BENCH, "genai-bench-1600": GENAI_BENCH}


def scored(items, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(len(item.images), len(item.texts)) for item in items]
    return [rng.integers(0, 5, shape).astype(np.float32) for shape in shapes]


def test_genai_bench(tmp_path):
    write(tmp_path)
    items = benchmarks.create("genai-bench-1600", root=tmp_path).items()
    assert [item.id for item in items] == ["00000", "00001", "00007"]
    assert [item.tags for item in items] == [
        ("basic",),
        ("counting", "negation", "advanced"),
        ("attribute", "spatial relation", "basic"),
    ]
    assert items[1].labels["human"] == pytest.approx([4 / 3, 3, 3, 3, 3, 3])
    assert [image[len(str(tmp_path)) + 1 :] for image in items[2].images][::5] == [
        "DALLE_3/00007.jpeg", "SDXL_Base/00007.jpeg"
    ]  # fmt: skip


def test_all_images_are_one_sample(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("genai-bench-527", root=tmp_path)
    items = benchmark.items()
    scores = scored(items)
    actual = benchmark.metrics(items, scores)
    assert list(actual) == ["acc23", "pearson", "tau_b", "spearman", "tau_c"]
    s = np.concatenate([entry.ravel() for entry in scores]).astype(float)
    h = np.concatenate([item.labels["human"] for item in items])
    assert actual["tau_b"] == pytest.approx(stats.kendalltau(s, h).statistic)
    assert actual["tau_c"] == pytest.approx(stats.kendalltau(s, h, variant="c").statistic)
    assert actual["pearson"] == pytest.approx(stats.pearsonr(s, h).statistic)
    # On the scale of the other metrics, and scores that are the ratings agree fully.
    perfect = [np.array(item.labels["human"], np.float32)[:, None] for item in items]
    tau_c = stats.kendalltau(h, h, variant="c").statistic
    assert benchmark.metrics(items, perfect) == pytest.approx(
        {"acc23": 1, "pearson": 1, "tau_b": 1, "spearman": 1, "tau_c": tau_c}
    )
    # A resample of prompts draws all images of a prompt.
    twice = benchmark.statistic(items, scores)(np.array([1, 1, 2]))
    s = np.concatenate([scores[n].ravel() for n in (1, 1, 2)]).astype(float)
    h = np.concatenate([items[n].labels["human"] for n in (1, 1, 2)])
    assert twice["spearman"] == pytest.approx(stats.spearmanr(s, h).statistic)


def test_missing_scores_are_left_out(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("genai-bench-527", root=tmp_path)
    items = benchmark.items()
    scores = scored(items)
    scores[0][2, 0] = np.nan
    s = np.concatenate([entry.ravel() for entry in scores]).astype(float)
    h = np.concatenate([item.labels["human"] for item in items])
    valid = ~np.isnan(s)
    expected = stats.kendalltau(s[valid], h[valid]).statistic
    assert benchmark.metrics(items, scores)["tau_b"] == pytest.approx(expected)
    nothing = [np.full_like(entry, np.nan) for entry in scores]
    assert all(np.isnan(value) for value in benchmark.metrics(items, nothing).values())
    with pytest.raises(InputError, match="has 5 cells and 6 ratings"):
        benchmark.metrics(items[:1], [scores[0][:5]])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("genai_image", lambda c: c["00000"].pop("prompt"), "'00000': there is no 'prompt'"),
        ("genai_image", lambda c: c["00000"]["models"].update(X=[1]), "generator 'X'; known are"),
        ("genai_image", lambda c: c["00000"].update(models={}), "there is no generator"),
        ("genai_image", lambda c: c["00000"]["models"].update(DALLE_3=[]), "'DALLE_3' has no"),
        ("genai_image", lambda c: c["00000"]["models"].update(DALLE_3=[0]), "from 1 to 5"),
        ("genai_skills", lambda c: c["counting"].append(9), "'counting' names the prompt 9"),
        ("genai_skills", lambda c: c.update(counting=1), "'counting' holds no list"),
    ],
)
def test_genai_bench_malformed(tmp_path, file, change, message):
    write(tmp_path)
    json_with(f"{file}.json", change)(tmp_path)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("genai-bench-1600", root=tmp_path).items()
