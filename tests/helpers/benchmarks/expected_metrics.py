"""Metrics of small copies of benchmarks, counted by hand or by another program.

A function takes the items and their folder and gives scores, and what the metrics of those must be.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy import stats

from t2v_eval.evaluation.benchmark import Item

Scores = list[np.ndarray[Any, Any]]
Expected = dict[str, float]
Metric: TypeAlias = Callable[[list[Item], Path], tuple[Scores, Expected]]


def per_item(items: list[Item], of: Callable[[int], Any]) -> Scores:
    return [np.array(of(n), np.float32).reshape(len(i.images), -1) for n, i in enumerate(items)]


def pairs_right_but_the_last(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    """In Winoground's form; the last item's texts are told apart and its images are not."""
    right, text_only = [[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.95, 0.96]]
    share = (len(items) - 1) / len(items)
    scores = per_item(items, lambda n: text_only if n == len(items) - 1 else right)
    return scores, {"text": 1, "image": share, "group": share}


def true_but_the_first(*parts: int) -> Metric:
    """The first item's false text wins; `parts` are the sizes of what `macro` is the mean over."""

    def case(items: list[Item], _: Path) -> tuple[Scores, Expected]:
        def of(n: int) -> list[float]:
            down = [float(-k) for k in range(len(items[n].texts))]
            return down[::-1] if n == 0 else down

        found = {"accuracy": (len(items) - 1) / len(items)}
        if parts:
            found["macro"] = (len(parts) - 1 + (parts[0] - 1) / parts[0]) / len(parts)
        return per_item(items, of), found

    return case


def agreement(human: Callable[[Path], list[Any]], *names: str) -> Metric:
    """Scores of few values against ratings that are read here once more, cell by cell.

    Several raters' values of a cell are observations of their own.
    """

    def case(items: list[Item], root: Path) -> tuple[Scores, Expected]:
        rng = np.random.default_rng(1)
        rated = human(root)
        videos = [len(item.labels.get("frames", item.images)) for item in items]
        cells = [v * len(i.texts) for v, i in zip(videos, items, strict=True)]
        flat = rng.integers(0, 4, sum(cells)).astype(np.float32)
        scores = []
        for item, own in zip(items, np.split(flat, np.cumsum(cells)[:-1]), strict=True):
            one = np.empty((len(item.images), len(item.texts)), np.float32)
            if "frames" in item.labels:
                for frames, value in zip(item.labels["frames"], own, strict=True):
                    one[frames] = value
            else:
                one[:] = own.reshape(one.shape)
            scores.append(one)
        assert len(rated) == len(flat)
        s = np.concatenate(
            [[x] * len(np.atleast_1d(h)) for x, h in zip(flat, rated, strict=True)]
        ).astype(float)
        h = np.concatenate([np.atleast_1d(one) for one in rated]).astype(float)
        found = {
            "pearson": stats.pearsonr(s, h).statistic,
            "spearman": stats.spearmanr(s, h).statistic,
            "tau_b": stats.kendalltau(s, h).statistic,
            "tau_c": stats.kendalltau(s, h, variant="c").statistic,
            "acc23": acc23(s, h),
        }
        return scores, {name: found[name] for name in names or found}

    return case


def acc23(s: Any, h: Any) -> float:
    """Every threshold tried on every pair."""
    pairs = [(s[i] - s[j], h[i] - h[j]) for i, j in itertools.combinations(range(len(s)), 2)]
    return max(
        sum(b == 0 if abs(a) <= eps else a * b > 0 for a, b in pairs) / len(pairs)
        for eps in {0.0, *(abs(a) for a, _ in pairs)}
    )


def tifa_likert(root: Path) -> list[float]:
    end = {"mini-dalle": "mini_dalle", "vq-diffusion": "vq_diffusion"}
    end |= {f"sd{v}dot{w}": f"stable_diffusion_v{v}_{w}" for v, w in ((1, 1), (1, 5), (2, 1))}
    given: dict[str, list[int]] = {}
    with (root / "dsg_tifa160_anns.csv").open() as stream:
        for row in csv.DictReader(stream):
            name = f"{row['source_id']}_{end[row['model_type']]}"
            given.setdefault(name, []).append(int(row["answer"]))
    return [float(np.mean(given[name])) for name in by_prompt(root / "tifa160.json")]


def tifa_raters(root: Path) -> list[float]:
    rows = json.loads((root / "human_annotations.json").read_text())
    names = by_prompt(root / "human_annotations.json")
    return [float(np.mean(rows[name]["human_scores"])) for name in names]


def by_prompt(path: Path) -> list[str]:
    rows = json.loads(path.read_text())
    order = list(dict.fromkeys(row["text_id"] for row in rows.values()))
    return sorted(rows, key=lambda name: order.index(rows[name]["text_id"]))


def agiqa(column: str) -> Callable[[Path], list[float]]:
    def read(root: Path) -> list[float]:
        with (root / "data.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        order = list(dict.fromkeys(row["prompt"] for row in rows))
        rows.sort(key=lambda row: order.index(row["prompt"]))
        return [float(row[column]) for row in rows]

    return read


def models_of(file: str, *order: str) -> Callable[[Path], list[float]]:
    def read(root: Path) -> list[float]:
        content = json.loads((root / file).read_text())
        return [
            float(np.mean(row["models"][name]))
            for row in content.values()
            for name in order
            if name in row["models"]
        ]

    return read


SIX = ("DALLE_3", "SDXL_Turbo", "DeepFloyd_I_XL_v1", "Midjourney_6", "SDXL_2_1", "SDXL_Base")
FIVE = ("floor33", "gen2", "pika", "modelscope", "zeroscope")
FOUR = ("Floor33", "Gen2", "Pika_v1", "Modelscope")
OBJECTS = ("dreamfusion", "instant3d", "latent-nerf", "magic3d", "mvdream", "shap-e")


def seetrue(items: list[Item], root: Path) -> tuple[Scores, Expected]:
    """Scores are one more than the labels in coco_t2i, and all alike elsewhere."""
    with (root / "SeeTRUE.csv").open(newline="") as stream:
        labels = [(row["dataset_source"], int(row["label"])) for row in csv.DictReader(stream)]
    scores = per_item(
        items,
        lambda n: [
            label + 1 if items[n].tags == ("coco_t2i",) else 1 for label in items[n].labels["human"]
        ],
    )
    right = [value for source, value in labels if source == "coco_t2i"]
    other = [value for source, value in labels if source != "coco_t2i"]
    # A pair of another score is right, one of equal scores half so; only coco's matches have 2.
    wins = sum(right) * (len(right) - sum(right) + len(other) - sum(other))
    ties = sum(other) * (len(right) - sum(right) + len(other) - sum(other))
    every = (sum(right) + sum(other)) * (len(labels) - sum(right) - sum(other))
    # DrawBench's excerpt has labels of one sort only, so that its part is undefined.
    return scores, {"auroc": (wins + ties / 2) / every, "mean_auroc": (1 + 0.5) / 2}


def ranked(*pairs: tuple[int, int, int]) -> Metric:
    """Scores fall from image to image; `pairs` of each prompt: right, wrong, tied ranks."""

    def case(items: list[Item], _: Path) -> tuple[Scores, Expected]:
        right, wrong, _ = map(sum, zip(*pairs, strict=True))
        each = [1 - w / (r + w + t) for r, w, t in pairs]
        scores = per_item(items, lambda n: [-k for k in range(len(items[n].images))])
        return scores, {"accuracy": right / (right + wrong), "ranking": float(np.mean(each))}

    return case


def first_image_wins(preference: float, accuracy: float) -> Metric:
    def case(items: list[Item], _: Path) -> tuple[Scores, Expected]:
        expected = {"preference": preference, "accuracy": accuracy}
        return per_item(items, lambda n: [1, 0]), expected

    return case


def last_of_nine(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    """Scores rise from image to image: the ninth is chosen of all, 3, 6 and 9 of each three.

    The first prompt's are rated 5 4 3 3 2 1 4 4 4, the second's 4, the third's 1 2 3 4 2 1 2 2 2;
    best and worst are 1 and 6, none, and 4 and 1 (or 6).
    """
    nine, three = (4 + 4 + 2) / 3, ((3 + 1 + 4) / 3 + 4 + (3 + 1 + 2) / 3) / 3
    scores = per_item(items, lambda n: range(9))
    return scores, {"best_of_9": nine, "best_of_3": three, "top": 0}


def mean_over_prompts(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    scores = per_item(items, lambda n: [float(n)] * len(items[n].images))
    return scores, {"score": sum(range(len(items))) / len(items)}


def all_cameras_right(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    """Scores are the answers; the figures of wrong ones are in test_video_benchmarks.py."""
    scores = per_item(items, lambda n: items[n].labels["human"] * len(items[n].images))
    return scores, {"mean_average_precision": 1, "mean_auroc": 1, "average_precision": 1}


def pairs_of_videos(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    """Each video's frames have the score of the video with each text; the last pair is swapped."""

    def of(n: int) -> Any:
        cells = np.array([[0.9, 0.1], [0.2, 0.8]])[:: -1 if n == len(items) - 1 else 1]
        first, second = items[n].labels["frames"]
        return np.repeat(cells, [len(first), len(second)], axis=0)

    # Nine skills, the last of them of one pair; ten pairs.
    return per_item(items, of), {"mean_group": 8 / 9, "group": 9 / 10, "mean_text": 8 / 9}
