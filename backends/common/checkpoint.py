"""Tell apart the layouts in which the weights of one scorer are published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from t2v_eval.local.weights import locate

HUB_OPTIONS = ("cache_dir", "local_files_only", "revision")


def is_transformers_checkpoint(
    checkpoint: str | os.PathLike[str], options: Mapping[str, Any]
) -> bool:
    """Return whether a folder or hub repository is in the layout of transformers (config.json).

    Args:
        checkpoint: a folder or hub id.
        options: the options of the scorer; those of the hub's cache are used.
    """
    hub = {key: options[key] for key in HUB_OPTIONS if key in options}
    return (locate(checkpoint, ("config.json",), **hub) / "config.json").exists()
