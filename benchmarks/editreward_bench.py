"""EditReward-Bench (Wu et al. 2025): which of two edits did people prefer, two to four edits each?

    https://huggingface.co/datasets/TIGER-Lab/EditReward-Bench
    ROOT/*.parquet, or ROOT/data/*.parquet    columns id, dataset ("2pair", "3pair" or "4pair"),
                                              instruction, source_image, candidate_1, candidate_2,
                                              comparison_type ("AvsC"), ranking ("C>A" or "A=B...")

The columns are those that the authors' scripts read (EditReward/evaluate/inference_*pair_hf.py);
how the files are called was not seen, and all of a folder are read. An item is a pair of edits of
one source. Pairs of the same edits are a group: those whose id begins alike, up to its first "_",
and of a 2pair the pair itself. The tag is `dataset`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.inputs.media import Edit
from t2v_eval.stats.bootstrap import IntArray, Statistic
from t2v_eval.stats.intervals import Estimate, share_of
from t2v_eval.stats.ranking import preference_rows

from .forms.parquet import image_rows
from .forms.preference import PreferenceForm
from .forms.published import Published, field

TEXTS = ("id", "dataset", "instruction", "comparison_type", "ranking")


class EditRewardBench(Published, PreferenceForm):
    """The pairs of the published files in `root`.

    individual_accuracy and group_accuracy are those of the authors' README, where a pair that
    people tie is right with equal scores alone.
    """

    headline = "individual_accuracy"
    meanings: ClassVar[Mapping[str, str]] = {
        **PreferenceForm.meanings,
        "individual_accuracy": "the share of pairs where scores say what people say, where people "
        "tie: equal scores, 0 to 1",
        "group_accuracy": "the share of groups of edits all of whose pairs are so, 0 to 1",
    }

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        for path in self.parquet_files():
            columns = (
                image_rows(path, column, TEXTS)
                for column in ("source_image", "candidate_1", "candidate_2")
            )
            for n, images in enumerate(zip(*columns, strict=True), 1):
                (source, row), (first, _), (second, _) = images
                where = f"{path}, row {n}"
                name, dataset, instruction, compared, _ = (field(row, t, str, where) for t in TEXTS)
                group = name if dataset == "2pair" else name.partition("_")[0]
                yield Item(
                    images=[Edit(source, first), Edit(source, second)],
                    texts=[instruction],
                    labels={"human": _human(row, where)},
                    tags=(dataset,),
                    id=f"{name}, {compared}",
                    group=f"{dataset} {group}",
                )

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        preference = super().statistic(items, scores)
        cells = np.array([np.ravel(s) for s in scores], np.float64).reshape(-1, 2)
        agree = preference_rows(cells, [item.labels["human"][0] for item in items])
        right = np.where(np.isnan(agree), np.nan, agree == 1)
        group = np.unique([item.group for item in items], return_inverse=True)[1]
        lowest = np.ones(len(items))
        with np.errstate(invalid="ignore"):  # NaN where a score is missing
            np.minimum.at(lowest, group, right)
        whole = lowest[group]
        weight = 1 / np.bincount(group)[group]  # so that a group counts once

        def compute(index: IntArray) -> Mapping[str, float]:
            scored = index[~np.isnan(whole[index])]
            groups = weight[scored].sum()
            share = float((whole * weight)[scored].sum() / groups) if len(scored) else math.nan
            return {
                **preference(index),
                "individual_accuracy": share_of(right[index]),
                "group_accuracy": Estimate(share, "share"),
            }

        return compute


def _human(row: Mapping[str, Any], where: str) -> list[float]:
    """Return 1 for the preferred candidate and 0 for the other, or 1/2 for each where they tie."""
    ranking, compared = row["ranking"], row["comparison_type"]
    if "=" in ranking:
        return [0.5, 0.5]
    first, _, second = compared.partition("vs")
    orders = {(first, second): [1.0, 0.0], (second, first): [0.0, 1.0]}
    order = tuple(name.strip() for name in ranking.split(">"))
    if order not in orders:
        raise BenchmarkDataError(f"{where}: 'ranking' is {ranking!r} for {compared!r}")
    return orders[order]
