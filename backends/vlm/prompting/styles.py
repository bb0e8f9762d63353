"""The ways of asking vision-language models, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from t2v_eval.errors import InputError

from .chat import (
    Checkpoint,
    LlavaPromptBuilder,
    PaliGemmaPromptBuilder,
    PromptBuilder,
    RemoteCodePromptBuilder,
)
from .template_chat import TemplatePromptBuilder

STYLES: dict[str, Callable[..., PromptBuilder]] = {
    "template": TemplatePromptBuilder,
    "paligemma": PaliGemmaPromptBuilder,
    "llava": LlavaPromptBuilder,
    "own-code": RemoteCodePromptBuilder,
}


def make_prompt_builder(
    style: str, checkpoint: Checkpoint, asked: Mapping[str, Any]
) -> PromptBuilder:
    """A way of asking, with what a card or a user says of it.

    Raises:
        InputError: it takes no such thing, or needs one that was not said.
    """
    takes = dict(signature(STYLES[style]).parameters)
    del takes["checkpoint"]
    needed = [name for name, parameter in takes.items() if parameter.default is parameter.empty]
    for name in asked:
        if name not in takes:
            raise InputError(f"style={style!r} takes no {name}: leave it out")
    for name in needed:
        if name not in asked:
            raise InputError(f"style={style!r} needs {name} too: pass {name}=")
    return STYLES[style](checkpoint, **asked)
