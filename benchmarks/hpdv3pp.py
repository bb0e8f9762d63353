"""The test sets of HPDv3++ (Liu et al. 2026): pairs of images by a generator of today.

    https://huggingface.co/datasets/Junjun2333/HPDv3-PlusPlus
    ROOT/test/test_aes.json      [{"path1": the preferred image, "path2", "prompt"}]
    ROOT/test/test_tf.json       the same by how well images follow the prompt
    ROOT/images/qwen_image/...   the images by these paths: the parts of images.tar, joined

As in the authors' evaluate.py, `accuracy` is the share of pairs where the preferred image scores
higher; equal scores are wrong. An item is a pair, whose first image is the preferred one, always: a
judge that names what it is shown first would be right without looking, so judges are shown both
orders.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.evaluation.benchmark import Item

from .forms.preference import PreferenceForm
from .forms.published import Published, field, read_json


class HPDv3PlusPlus(Published, PreferenceForm):
    """The pairs of one test set in `root`.

    Args:
        aspect: "aes" (aesthetic quality) or "tf" (text following), as in the file's name.
    """

    headline = "accuracy"

    def __init__(self, *, aspect: str = "tf", **options: Any) -> None:
        super().__init__(**options)
        self.aspect = aspect

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        name = f"test_{self.aspect}.json"
        path = self.file(f"test/{name}", name)
        for n, row in enumerate(read_json(path, list), 1):
            where = f"{path}, row {n}"
            prompt = field(row, "prompt", str, where)
            yield Item(
                images=[self.image_path(field(row, f"path{k}", str, where)) for k in (1, 2)],
                texts=[prompt],
                labels={"human": [1, 0]},
                id=str(n),
                group=prompt,
            )
