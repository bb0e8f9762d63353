"""The modules that make pages of the documentation, which lie beside the documentation."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

HOOKS = Path(__file__).parents[2] / "docs" / "hooks"


def load(name: str) -> ModuleType:
    """Import a module of ``docs/hooks``, as MkDocs does: beside its siblings."""
    sys.path.insert(0, str(HOOKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(HOOKS))
