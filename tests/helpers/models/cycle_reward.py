"""A small CycleReward: the towers of the small ImageReward, whose head has the same shape."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

GOLDENS = Path(__file__).parents[2] / "goldens" / "clip"
SOURCE = GOLDENS / "imagereward" / "checkpoint"


def make_checkpoint(folder: Path) -> Path:
    """Write the file of weights; its configuration and vocabulary lie beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SOURCE / "bert-base-uncased", folder / "bert-base-uncased")
    shutil.copy(SOURCE / "med_config.json", folder)
    tensors = torch.load(SOURCE / "ImageReward.pt", weights_only=True)
    renamed = {name.replace("layers.7", "layers.8"): value for name, value in tensors.items()}
    torch.save(renamed, folder / "CycleReward-Combo.pth")
    return folder / "CycleReward-Combo.pth"
