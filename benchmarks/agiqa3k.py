"""AGIQA-3K (Li et al. 2023): 2,982 generated images with mean opinion scores of alignment.

    https://github.com/lcysyzxdxc/AGIQA-3k-Database
    ROOT/data.csv       name, prompt, adj1, adj2, style, mos_quality, mos_align, ...
    ROOT/...jpg         the images, here or in ROOT/images

An item is a prompt with all its images. The generator of an image, with its setting, is its name
without the number, as `sd1.5_lowstep` of `sd1.5_lowstep_000.jpg`. The human value is `mos_align`,
or `mos_quality` with `target="mos_quality"`. Tags are the styles, where a prompt has one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, number, rows
from .forms.ratings import RatingsForm


class Agiqa3k(Published, RatingsForm):
    """The prompts of the published file in `root`.

    Args:
        target: the column of the mean opinion score.
    """

    metric_names = ("spearman", "pearson", "tau_b", "tau_c", "acc23")

    def __init__(self, *, target: str = "mos_align", **options: Any) -> None:
        super().__init__(**options)
        self.target = target

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("data.csv")
        prompts: dict[str, dict[str, float]] = {}
        styles: dict[str, str] = {}
        names = set()
        for n, row in enumerate(rows(path, "name", "prompt", self.target), 1):
            if row["name"] in names:
                raise BenchmarkDataError(f"{path}, row {n}: {row['name']} occurs twice")
            names.add(row["name"])
            value = number(row[self.target], f"{path}, row {n}: {self.target!r}", 0, 5)
            prompts.setdefault(row["prompt"], {})[row["name"]] = value
            styles.setdefault(row["prompt"], row.get("style") or "")
        for prompt, ratings in prompts.items():
            yield Item(
                images=[self.image_path(name, ".", "images") for name in ratings],
                texts=[prompt],
                labels={
                    "human": list(ratings.values()),
                    "generator": [name.rpartition("_")[0] for name in ratings],
                },
                tags=(styles[prompt],) if styles[prompt] else (),
                id=prompt,
            )
