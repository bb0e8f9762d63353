"""Prompt builders of vision-language models, by the name of their style."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from t2v_eval.errors import InputError

from .builders import (
    CheckpointInfo,
    LlavaPromptBuilder,
    PaliGemmaPromptBuilder,
    PromptBuilder,
    RemoteCodePromptBuilder,
)
from .template_builder import TemplatePromptBuilder

STYLES: dict[str, Callable[..., PromptBuilder]] = {
    "template": TemplatePromptBuilder,
    "paligemma": PaliGemmaPromptBuilder,
    "llava": LlavaPromptBuilder,
    "own-code": RemoteCodePromptBuilder,
}


def make_prompt_builder(
    style: str, checkpoint: CheckpointInfo, options: Mapping[str, Any]
) -> PromptBuilder:
    """Build the prompt builder of a style, with the options of a card or a user.

    Args:
        style: a key of `STYLES`.
        checkpoint: the checkpoint of the model.
        options: arguments of the style's class, by name.

    Raises:
        InputError: an option that the style does not take, or one that it needs and that is absent.
        CheckpointError: a checkpoint that the style cannot ask.

    >>> make_prompt_builder("paligemma", None, {"chat": "USER: <image> {}"})
    Traceback (most recent call last):
    t2v_eval.errors.InputError: `style='paligemma'` takes no chat: leave it out
    """
    parameters = dict(signature(STYLES[style]).parameters)
    del parameters["checkpoint"]
    for name in options:
        if name not in parameters:
            raise InputError(f"`style={style!r}` takes no {name}: leave it out")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in options:
            raise InputError(f"`style={style!r}` needs {name} too: pass `{name}=`")
    return STYLES[style](checkpoint, **options)
