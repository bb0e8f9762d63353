"""Pascal-50S (Vedantam et al. 2015): human preferences between two captions of a photograph.

    https://github.com/Yebin46/FLEUR    pascal_50s.json
    ROOT/pascal_50s.json    {"HC": [{"image", "captions": [2], "label", "references"}], "HI": ...}
    ROOT/...                the photographs of UIUC Pascal by these names, here or in ROOT/images

`label` is the number of the preferred caption, 0 or 1. Tags are the four kinds of pairs, 1,000
each: HC two human captions that are right, HI two human captions of which one is of another
photograph, HM a human and a machine, MM two machines. `accuracy` counts a tie of scores as wrong;
`macro` is the mean over the kinds, what published tables have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.benchmark import Item

from .forms.published import Published, field, read_json
from .forms.true_caption import TrueCaptionForm

PAIR_KINDS = ("HC", "HI", "HM", "MM")


class Pascal50S(Published, TrueCaptionForm):
    """The pairs of the published file in `root`; an item's first text is the preferred one."""

    labels_by = "people"

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("pascal_50s.json")
        content = read_json(path, dict)
        for kind in PAIR_KINDS:
            for n, row in enumerate(field(content, kind, list, str(path)), 1):
                where = f"{path}, {kind}, row {n}"
                captions = field(row, "captions", list, where)
                label = field(row, "label", int, where)
                if len(captions) != 2 or label not in (0, 1):
                    raise BenchmarkDataError(
                        f"{where}: there are {len(captions)} captions and the label {label}; there "
                        "must be two, and 0 or 1"
                    )
                yield Item(
                    images=[self.image_path(field(row, "image", str, where), ".", "images")],
                    texts=[str(captions[label]), str(captions[1 - label])],
                    references=[
                        [str(reference) for reference in field(row, "references", list, where)]
                    ],
                    tags=(kind,),
                    id=f"{kind}/{n}",
                )
