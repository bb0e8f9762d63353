"""StanfordT23D (Lin et al. 2024, after Wu et al. 2024): renders of 3D objects, three ratings each.

    https://huggingface.co/datasets/zhiqiulin/vqascore_ablation    stanfordt23d.zip, unpacked
    https://github.com/linzhiqiu/t2v_metrics                       datasets/stanfordt23d.json
    ROOT/stanfordt23d.json             {"0": {"prompt", "models": {generator: [1 to 5, ...]}}}
    ROOT/dreamfusion/0/0/rgb_2.jpg     views 0 to 119 of each object

An item is a prompt with an object of each of six generators. An object is shown as its views 2, 15,
..., 106 in a 3 x 3 grid, which is made here, as a JPEG of Pillow's default quality like the
authors'. The authors' own figures are over 300 objects, without those of shap-e:
`stanfordt23d-300`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import override

from t2v_eval.errors import BenchmarkDataError, MediaError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.utils.regular_file import is_file

from .forms.published import Published, field, mean, read_json
from .forms.ratings import RatingsForm

GENERATORS = ("dreamfusion", "instant3d", "latent-nerf", "magic3d", "mvdream", "shap-e")
VIEWS = (2, 15, 28, 41, 54, 67, 80, 93, 106)


class StanfordT23D(Published, RatingsForm):
    """The prompts of the published files in `root`.

    Args:
        without: generators to leave out.
    """

    metric_names = ("acc23", "pearson", "tau_b", "spearman", "tau_c")

    def __init__(self, *, without: Sequence[str] = (), **options: Any) -> None:
        super().__init__(**options)
        self.without = tuple(without)

    @override
    def read(self, folder: Path) -> Iterator[Item]:
        path = self.file("stanfordt23d.json")
        for name, row in read_json(path, dict).items():
            where = f"{path}, {name!r}"
            models = field(row, "models", dict, where)
            if set(models) != set(GENERATORS):
                raise BenchmarkDataError(
                    f"{where} has the generators {', '.join(models)}, not {', '.join(GENERATORS)}"
                )
            rated = [model for model in GENERATORS if model not in self.without]
            yield Item(
                images=[self._grid(f"{model}/{name}/0") for model in rated],
                texts=[field(row, "prompt", str, where)],
                labels={
                    "human": [mean(models[m], f"{where}: {m!r}", 1, 5) for m in rated],
                    "generator": rated,
                },
                id=name,
            )

    def _grid(self, views: str) -> bytes | str:
        """Return the grid of an object's views as a JPEG, or the path of a missing view."""
        paths = [self.image_path(f"{views}/rgb_{view}.jpg") for view in VIEWS]
        if lost := next((path for path in paths if not is_file(path)), None):
            return lost
        try:
            opened = [decode(open_media(path, "view"), "original").convert("RGB") for path in paths]
        except MediaError as error:
            raise BenchmarkDataError(f"a view cannot be read: {error}: {self.remedy()}") from error
        width, height = opened[0].size
        grid = Image.new("RGB", (3 * width, 3 * height))
        for k, view in enumerate(opened):
            grid.paste(view, (width * (k % 3), height * (k // 3)))
        stream = io.BytesIO()
        grid.save(stream, "JPEG")
        return stream.getvalue()
