"""SeeTRUE (Yarom et al. 2023): image-text alignment, labels 1 and 0, three sources.

    https://huggingface.co/datasets/yonatanbitton/SeeTRUE
    ROOT/SeeTRUE.csv      image, text, label (0 or 1), original_dataset_id, dataset_source
    ROOT/images/...       the images: images.zip, unpacked

An item is a text of a source with all its images, as those are not independent of each other.
Tags are the sources (drawbench, editbench, coco_t2i), for each of which AUROC is published, here
`auroc_drawbench` and so on; `mean_auroc` is their mean, and the headline. The published file has
6,930 pairs of 602 texts and no part of Winoground or SNLI-VE.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item, Scores
from t2v_eval.stats.bootstrap import Statistic

from .forms.macro import with_means
from .forms.published import Published, rows
from .forms.ratings import LabelsForm


class SeeTrue(Published, LabelsForm):
    """The pairs of the published files in `root`, by text."""

    headline = "mean_auroc"
    meanings: ClassVar[Mapping[str, str]] = {
        **LabelsForm.meanings,
        **{
            f"auroc_{source}": f"AUROC of {source}"
            for source in ("drawbench", "editbench", "coco_t2i")
        },
    }

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("SeeTRUE.csv")
        texts: dict[tuple[str, str], dict[str, float]] = {}
        for n, row in enumerate(rows(path, "image", "text", "label", "dataset_source"), 1):
            if row["label"] not in ("0", "1"):
                raise BenchmarkDataError(
                    f"{path}, row {n}: 'label' is {row['label']!r}, not 0 or 1"
                )
            labels = texts.setdefault((row["dataset_source"], row["text"]), {})
            if row["image"] in labels:
                raise BenchmarkDataError(
                    f"{path}, row {n}: {row['image']} occurs twice with {row['text']!r}"
                )
            labels[row["image"]] = float(row["label"])
        for number, ((source, text), labels) in enumerate(texts.items()):
            yield Item(
                images=[self.image_path(name, "images", ".") for name in labels],
                texts=[text],
                labels={"human": list(labels.values())},
                tags=(source,),
                id=f"{source}/{number}",
            )

    @override
    def statistic(self, items: Sequence[Item], scores: Scores) -> Statistic:
        return with_means(super().statistic, items, scores, names=["auroc"], each=True)

    @override
    def paired_statistic(self, items: Sequence[Item], first: Scores, second: Scores) -> Statistic:
        build = super().paired_statistic
        return with_means(build, items, first, second, names=["auroc"], each=True)
