"""Composite (Aditya et al. 2018): human and machine captions, rated for relevance.

    https://github.com/Yebin46/FLEUR    composite.json
    ROOT/composite.json    {part: [{"image", "caption", "human", "references"}]}
    ROOT/...               the photographs of Flickr8K, Flickr30K and COCO by these names, here or
                           in ROOT/images

An item is a photograph with all captions that were rated for it; each rating is an observation, and
tau-c over all of them is the published metric. Tags are the parts of the file. References are read
where a row has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, field, number, read_json
from .forms.ratings import RatingsForm


class Composite(Published, RatingsForm):
    """The photographs of the published file in `root`."""

    metric_names = ("tau_c", "tau_b", "spearman", "pearson", "acc23")

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("composite.json")
        for part, rows in read_json(path, dict).items():
            if not isinstance(rows, list):
                raise BenchmarkDataError(f"{path}: {part!r} holds no list of captions")
            photographs: dict[str, list[tuple[str, float, list[str]]]] = {}
            for n, row in enumerate(rows, 1):
                where = f"{path}, {part}, row {n}"
                caption = " ".join(field(row, "caption", str, where).split())
                rating = number(row.get("human"), f"{where}: 'human'", 0, 5)
                photographs.setdefault(field(row, "image", str, where), []).append(
                    (caption, rating, _references(row, where))
                )
            for name, rated in photographs.items():
                references = rated[0][2]
                if any(row_references != references for _, _, row_references in rated):
                    raise BenchmarkDataError(
                        f"{path}, {part}: the captions of {name} have different references"
                    )
                yield Item(
                    images=[self.image_path(name, ".", "images")],
                    texts=[caption for caption, _, _ in rated],
                    labels={"human": [rating for _, rating, _ in rated]},
                    references=[references] if references else None,
                    tags=(part,),
                    id=f"{part}/{name}",
                )


def _references(row: Any, where: str) -> list[str]:
    if "references" not in row:
        return []
    return [" ".join(str(reference).split()) for reference in field(row, "references", list, where)]
