"""Checkpoints in the layouts of their authors, each read as a network that is known here."""

from __future__ import annotations

from pathlib import Path

from t2v_eval.local.checkpoint_files import read_json

from .base import Fetch, Flat, Layout
from .internvl import InternVL
from .llava import Llava, LlavaQwen
from .remote_code import REMOTE_CODE_MODELS
from .tarsier import Tarsier

LAYOUTS: tuple[type[Layout], ...] = (LlavaQwen, Llava, InternVL, Tarsier, *REMOTE_CODE_MODELS)


def read_layout(folder: Path, fetch: Fetch, trusted: bool) -> Layout | None:
    """Read the layout of a folder; None where it is that of transformers, or not known."""
    if not (folder / "config.json").exists():
        return None
    flat: Flat = read_json(folder / "config.json")
    for layout in LAYOUTS:
        if layout.fits(flat):
            return layout(folder, flat, fetch, trusted)
    return None
