"""Telling the layouts apart in which the weights of one scorer are published."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from t2v_eval.local.weights import locate

HUB = ("cache_dir", "local_files_only", "revision")


def is_transformers(checkpoint: str | os.PathLike[str], options: Mapping[str, Any]) -> bool:
    """Whether a folder or repository holds the configuration of a model of transformers.

    Args:
        options: of the scorer to be built; some say where the hub's files are.
    """
    hub = {key: options[key] for key in HUB if key in options}
    return (locate(checkpoint, ("config.json",), **hub) / "config.json").exists()
