"""What the packages of the field give for small feature matrices; see `tests/goldens`.

Each golden is the output of the original code on random features: clean-fid, pytorch-fid,
torch-fidelity, torchmetrics, dgm-eval, prdc, cmmd-pytorch and FID_IS_infinity.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GOLDENS = Path(__file__).parents[1] / "goldens"
FOLDERS = ("distribution", "distribution_extra")


class Golden(NamedTuple):
    """A case: what was computed of what, and the value of the original."""

    folder: str
    id: str
    params: dict[str, Any]
    scores: Any

    @property
    def kind(self) -> str:
        """The id without its set of features."""
        return self.id.rpartition("/")[2]

    def features(self, dtype: type = np.float64) -> tuple[np.ndarray, np.ndarray]:
        """The reference and the images."""
        if "set" in self.params:
            arrays, name = read_arrays(self.folder, "features.npz"), self.params["set"]
            real, fake = arrays[f"{name}_real"], arrays[f"{name}_fake"]
        else:
            arrays = read_arrays(self.folder, self.params["features"])
            real, fake = arrays[self.params["real_key"]], arrays[self.params["fake_key"]]
        return real.astype(dtype), fake.astype(dtype)

    def logits(self) -> np.ndarray:
        """The logits of an inception score."""
        return read_arrays(self.folder, self.params["features"])["logits"]


@cache
def read_arrays(folder: str, name: str) -> dict[str, np.ndarray]:
    """The arrays of a file."""
    with np.load(GOLDENS / folder / name) as file:
        return dict(file)


def goldens(folder: str) -> Iterator[Golden]:
    """The cases of a folder."""
    for case in json.loads((GOLDENS / folder / "cases.json").read_text()):
        yield Golden(folder, case["id"], case["params"], case["scores"])
