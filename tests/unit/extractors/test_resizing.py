"""The resizers equal clean-fid's and torch-fidelity's, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.distribution_goldens import GOLDENS, goldens
from PIL import Image

from t2v_eval.extractors.resizing import RESIZERS

CASES = [golden for golden in goldens("distribution") if golden.id.startswith("resize_")]
NAMES = {"clean": "clean", "legacy_pytorch": "legacy", "tf1x": "tf1"}


@pytest.mark.parametrize("golden", CASES, ids=[golden.id for golden in CASES])
def test_golden(golden):
    kind, file = golden.id.removeprefix("resize_").rsplit("_", 1)
    with Image.open(GOLDENS / "distribution" / "images" / file) as image:
        pixels = RESIZERS[NAMES[kind]](image.convert("RGB")).numpy()
    y, x = np.array(golden.params["yx"]).T
    assert pixels.dtype == np.float32
    assert pixels.shape == (3, *golden.params["out"])
    assert pytest.approx(np.array(golden.scores), abs=1e-3) == pixels[:, y, x].T
    assert pixels.mean(dtype=np.float64) == pytest.approx(golden.params["mean"], abs=1e-4)


def test_every_resizer_has_goldens():
    assert len(CASES) == 15
