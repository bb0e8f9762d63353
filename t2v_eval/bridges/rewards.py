"""Scorers as reward functions of libraries that train generators and vision-language models.

A reward that is missing is None or NaN, as the library has it, and never a number. The scores of a
call are computed by one plan, and the images of one prompt are one M x 1 call, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from t2v_eval.errors import InputError, ScoringError
from t2v_eval.inputs.media import MediaLike, as_list, check_texts
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.scorer import Scorer

MARGIN = 0.25  # by which values leave 0 to 1 where they are of another range
MAX_BEYOND = 0.01  # of the values of an image


def rewards(scorer: Scorer, images: Any, texts: Sequence[str]) -> list[float | None]:
    """Score image b with text b.

    Args:
        scorer: with ``on_error="skip"`` an image that fails has no reward; else it raises.
        images: B images, or a (B, C, H, W) tensor or (B, H, W, C) array; see `list_images`.
        texts: B texts.

    Returns:
        B rewards, higher is better; None where there is no score.

    Raises:
        InputError: the numbers of images and texts differ, or a text is none.
        MediaError: an image cannot be read, or its floats are not in 0 to 1, such as -1 to 1.

    >>> import t2v_eval
    >>> half = t2v_eval.from_function(lambda images, texts: [[0.5] for _ in images])
    >>> rewards(half, torch.rand(2, 3, 8, 8), ["a cat", "a cat"])
    [0.5, 0.5]
    """
    listed, texts = list_images(images), check_texts(texts)
    if len(listed) != len(texts):
        raise InputError(f"there are {len(listed)} images and {len(texts)} texts; pass as many")
    groups: dict[str, list[int]] = {}
    for n, text in enumerate(texts):
        groups.setdefault(text, []).append(n)
    order = [n for group in groups.values() for n in group]
    blocks = [Block([listed[n]], [texts[n]], name=f"images[{n}]") for n in order]
    values: list[float | None] = [None] * len(texts)
    for n, block in zip(order, scorer.evaluate_blocks(blocks, progress=False).scores, strict=True):
        values[n] = None if math.isnan(block[0, 0]) else float(block[0, 0])
    return values


def list_images(images: Any) -> list[MediaLike]:
    """List images, or those of a batch.

    The VAE of a generator leaves the range of 0 to 1, to which the floats of tensors and arrays are
    clamped. Where more than a few do so by far, they are not in that range but in another, such as
    -1 to 1, or the generator has diverged: such an image is left as it is, and refused when opened.

    >>> len(list_images(torch.rand(2, 3, 8, 8)))
    2
    """
    return [_clamped(image) for image in as_list(images)]


def _clamped(image: Any) -> Any:
    library: Any = np
    if isinstance(image, torch.Tensor):
        if not image.is_floating_point() or image.layout != torch.strided or image.is_meta:
            return image
        image, library = image.detach().float(), torch
    elif not (isinstance(image, np.ndarray) and image.dtype in (np.float16, np.float32, float)):
        return image
    beyond = ((image < -MARGIN) | (image > 1 + MARGIN)).sum()
    in_range = beyond <= MAX_BEYOND * math.prod(image.shape)
    return image.clip(0, 1) if in_range and library.isfinite(image).all() else image


def trl_reward(
    scorer: Scorer, images: str = "image", texts: Literal["completions", "prompts"] = "completions"
) -> Callable[..., list[float | None]]:
    """Return a reward function for GRPOTrainer of TRL (tested with 1.16).

    Args:
        scorer: see `rewards`.
        images: the column of the data set that holds images.
        texts: what the images are scored with: the completions, such as captions that the model
            writes of them, or the prompts.

    >>> import t2v_eval
    >>> half = t2v_eval.from_function(lambda images, texts: [[0.5] for _ in images])
    >>> reward = trl_reward(half)
    >>> reward(prompts=["what is it?"], completions=["a cat"], image=torch.rand(1, 3, 8, 8))
    [0.5]
    """

    def reward(
        *, prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        if images not in columns:
            raise InputError(f"the data set has no column {images!r}; pass `images=`")
        messages = completions if texts == "completions" else prompts
        return rewards(scorer, columns[images], [_message_text(message) for message in messages])

    reward.__name__ = scorer.name  # by which the trainer logs it
    return reward


def flow_grpo_reward(
    scorer: Scorer,
) -> Callable[..., tuple[NDArray[np.float64], dict[str, Any]]]:
    """Return a reward function of Flow-GRPO: ``fn(images, prompts, metadata) -> (scores, {})``.

    Source of the form: ``flow_grpo/rewards.py`` of github.com/yifan123/flow_grpo.

    Args:
        scorer: see `rewards`; a score that is missing is NaN.

    >>> import t2v_eval
    >>> half = t2v_eval.from_function(lambda images, texts: [[0.5] for _ in images])
    >>> flow_grpo_reward(half)(torch.rand(2, 3, 8, 8), ["a cat", "a dog"], [{}, {}])
    (array([0.5, 0.5]), {})
    """

    def reward(
        images: Any, prompts: Sequence[str], metadata: object = None
    ) -> tuple[NDArray[np.float64], dict[str, Any]]:
        values = rewards(scorer, images, prompts)
        return np.array([math.nan if v is None else v for v in values], np.float64), {}

    return reward


def verl_omni_reward(scorer: Scorer) -> Callable[..., dict[str, float]]:
    """Return a reward function of verl-omni, which scores one image and gets the prompt as truth.

    Source of the form: ``verl_omni/utils/reward_score/hpsv2_reward.py`` of
    github.com/verl-project/verl-omni.

    Args:
        scorer: see `rewards`; a score that is missing is a ScoringError.

    >>> import t2v_eval
    >>> half = t2v_eval.from_function(lambda images, texts: [[0.5] for _ in images])
    >>> verl_omni_reward(half)(solution_image=torch.rand(3, 8, 8), ground_truth="a cat")
    {'score': 0.5}
    """

    def reward(solution_image: Any, ground_truth: str, **others: Any) -> dict[str, float]:
        (value,) = rewards(scorer, solution_image, [ground_truth])
        if value is None:
            raise ScoringError(f"{scorer.name!r} has no score of the image of {ground_truth!r}")
        return {"score": value}

    return reward


def _message_text(message: Any) -> str:
    """Return the text of a prompt or completion, which may be a conversation; "" without text."""
    if isinstance(message, str):
        return message
    last = message[-1] if isinstance(message, list) and message else message or {}
    content = last.get("content") or ""
    if isinstance(content, str):
        return content
    parts = (part.get("text", "") for part in content if isinstance(part, Mapping))
    return " ".join(filter(None, parts))
