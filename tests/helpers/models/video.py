"""The small video-text models of the goldens, written as their authors' files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDENS = Path(__file__).parents[2] / "goldens" / "video"
CLIPS = [
    GOLDENS / "clips" / f"{name}.mp4"
    for name in ("odd", "variable_rate", "three_frames", "forty_portrait", "rotated")
]
TEXTS: list[str] = json.loads((GOLDENS / "texts.json").read_text(encoding="utf-8"))
Tensors = dict[str, Tensor]


def cases(model: str) -> list[dict[str, Any]]:
    """What the original answered: options of ours, frames, and scores of `CLIPS` by `TEXTS`."""
    listed: list[dict[str, Any]] = json.loads((GOLDENS / model / "cases.json").read_text())
    return listed


def make_video_model(
    model: str, folder: Path, change: Callable[[str, Tensors], Tensors] | None = None
) -> Path:
    """Write a model's files as its authors publish them; `change` gets each file's tensors."""
    source = GOLDENS / model
    for file in source.rglob("*"):
        target = folder / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".npz":
            _write_weights(file, target.with_suffix(""), change or (lambda _, tensors: tensors))
        elif file.is_file() and file.name != "cases.json":
            shutil.copy(file, target)
    return folder


def _write_weights(source: Path, target: Path, change: Callable[[str, Tensors], Tensors]) -> None:
    """Write tensors, which are stored in half precision where that loses nothing, in float32.

    Their names begin with the name under which the file has its table, and a slash.
    """
    with np.load(source) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays}
    tables = {name.partition("/")[0] for name in tensors if "/" in name}
    tensors = {
        name.rpartition("/")[2]: value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    tensors = change(target.name, tensors)
    torch.save(dict.fromkeys(tables, tensors) if tables else tensors, target)
