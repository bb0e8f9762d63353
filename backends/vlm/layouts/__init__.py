"""Checkpoints in the layouts of their authors, each read as a network that is known here."""

from __future__ import annotations

from pathlib import Path

from t2v_eval.local.checkpoint_files import read_json

from .base import ConfigJson, Fetch, Layout
from .internvl import InternVL
from .llava import Llava, LlavaQwen
from .remote_code import REMOTE_CODE_MODELS
from .tarsier import Tarsier

LAYOUTS: tuple[type[Layout], ...] = (LlavaQwen, Llava, InternVL, Tarsier, *REMOTE_CODE_MODELS)


def read_layout(folder: Path, fetch: Fetch, trusted: bool) -> Layout | None:
    """Return the layout of a folder, or None where it is that of transformers, or unknown.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text('{"model_type": "qwen2_vl"}')
    ...     print(read_layout(Path(folder), Path, trusted=False))
    None
    """
    if not (folder / "config.json").exists():
        return None
    config: ConfigJson = read_json(folder / "config.json")
    for layout in LAYOUTS:
        if layout.matches(config):
            return layout(folder, config, fetch, trusted)
    return None
