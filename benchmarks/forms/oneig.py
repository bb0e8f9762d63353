"""Prompts of OneIG-Bench, in English or Chinese, with images as its authors' scripts expect them.

    CLASS/ID.webp, or CLASS/MODEL/ID.webp    four images of a prompt in a grid; one that is black
                                             everywhere stands for none

Source: github.com/OneIG-Bench/OneIG-Benchmark, README.md and scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from typing_extensions import override

from t2v_eval.errors import InputError

from .prompt_names import Names
from .prompts import PromptsForm

_ID_DIGITS = 3  # of a prompt of OneIG-Bench


class OneIgForm(PromptsForm):
    """Prompts of OneIG-Bench, with images in its authors' layout.

    Subclasses implement `prompts`, whose names are CLASS_ID or CLASS_zh_ID.

    Args:
        language: "en" or "zh".
        model: the folder of a generator within those of the classes, where images are in the
            authors' layout, CLASS/MODEL/ID.webp; default: CLASS/ID.webp.
        grid: columns and rows of a file; the authors' default is 2x2.

    Raises:
        InputError: `language` has no prompts.

    >>> class Mine(OneIgForm):
    ...     classes = {"en": ("text",)}
    ...     def prompts(self, folder):
    ...         return []
    >>> Mine(language="zh")
    Traceback (most recent call last):
    ...
    t2v_eval.errors.InputError: `language='zh'`: use en
    """

    classes: ClassVar[Mapping[str, tuple[str, ...]]]
    black_is_empty = True

    def __init__(
        self, *, language: str = "en", model: str = "", grid: str = "2x2", **options: Any
    ) -> None:
        super().__init__(grid=grid, **options)
        if language not in self.classes:
            raise InputError(f"`language={language!r}`: use {' or '.join(self.classes)}")
        self.language, self.model = language, model
        self.end = "_zh" if language == "zh" else ""

    @override
    def layout(self, parts: Sequence[str], names: Names) -> tuple[str, list[int]] | None:
        """anime/000.webp, or anime/MODEL/000.webp; what follows the id in a name is ignored."""
        *folders, name = parts
        between = [self.model] * bool(self.model)
        if not folders or folders[1:] != between or folders[0] not in self.classes[self.language]:
            return None
        if numbers := names.by_id(f"{folders[0]}{self.end}_{name[:_ID_DIGITS]}"):
            return "in OneIG-Bench's layout", numbers
        return f"of no prompt of {folders[0]}", []
