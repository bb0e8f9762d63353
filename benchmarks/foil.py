"""FOIL (Shekhar et al. 2017): a caption, and the same caption with one wrong word.

    https://foilunitn.github.io                foilv1.0_test_2017.json
    https://cocodataset.org                    captions_val2014.json, val2014.zip
    ROOT/foilv1.0_test_2017.json               {"annotations": [{"id", "foil_id", "image_id",
                                               "caption", "foil": true or false}]}
    ROOT/captions_val2014.json                 {"annotations": [{"image_id", "caption"}]}, here or
                                               in ROOT/annotations
    ROOT/val2014/COCO_val2014_000000042200.jpg the photographs

An item is a photograph with a true caption and a foil of it, which have one `id`. `accuracy` is the
share of pairs whose true caption scores higher. References, for scorers that use them, are the
first one or four of the photograph's other captions: `foil-1-ref` and `foil-4-ref`. Scorers without
references have the same figure in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, field, read_json
from .forms.true_caption import TrueCaptionForm

TEST = "foilv1.0_test_2017.json"
COCO = "captions_val2014.json"


class Foil(Published, TrueCaptionForm):
    """The pairs of the published files in `root`.

    Args:
        references: how many references a pair has.
    """

    headline = "accuracy"
    chance: ClassVar[Mapping[str, float]] = {"accuracy": 0.5}

    def __init__(self, *, references: int = 4, **options: Any) -> None:
        super().__init__(**options)
        self.references = references

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file(TEST)
        captions = self._captions()
        true: dict[int, str] = {}
        foils: list[tuple[int, int, int, str, str]] = []
        for n, row in enumerate(field(read_json(path, dict), "annotations", list, str(path)), 1):
            where = f"{path}, row {n}"
            name = field(row, "id", int, where)
            caption = " ".join(field(row, "caption", str, where).split())
            if field(row, "foil", bool, where):
                photograph = field(row, "image_id", int, where)
                foils.append((name, field(row, "foil_id", int, where), photograph, caption, where))
            elif name in true:
                raise BenchmarkDataError(f"{where}: the id {name} has two true captions")
            else:
                true[name] = caption
        for name, foil, photograph, caption, where in foils:
            if name not in true:
                raise BenchmarkDataError(f"{where}: there is no true caption of the id {name}")
            others = [other for other in captions.get(photograph, []) if other != true[name]]
            if len(others) < self.references:
                raise BenchmarkDataError(
                    f"{where}: {COCO} has {len(others)} other captions of the photograph "
                    f"{photograph}, not {self.references}"
                )
            yield Item(
                images=[self.image_path(f"COCO_val2014_{photograph:012}.jpg", "val2014", "images")],
                texts=[true[name], caption],
                references=[others[: self.references]],
                id=f"{name}/{foil}",
            )

    def _captions(self) -> dict[int, list[str]]:
        path = self.file(COCO, f"annotations/{COCO}")
        captions: dict[int, list[str]] = {}
        for n, row in enumerate(field(read_json(path, dict), "annotations", list, str(path)), 1):
            where = f"{path}, row {n}"
            caption = " ".join(field(row, "caption", str, where).split())
            captions.setdefault(field(row, "image_id", int, where), []).append(caption)
        return captions
