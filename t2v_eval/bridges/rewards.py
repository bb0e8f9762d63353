"""Scorers as reward functions of libraries that train generators and vision-language models.

A reward that is missing is None or NaN, as the library has it, and never a number. The scores of a
call are computed by one plan: the images of one prompt are one M x 1 block, so that a group of
images of a prompt encodes the prompt once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from t2v_eval.errors import InputError, ScoringError
from t2v_eval.inputs.media import MediaLike, as_list
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.scorer import Scorer


def rewards(scorer: Scorer, images: Any, texts: Sequence[str]) -> list[float | None]:
    """Score image b with text b.

    Args:
        scorer: with ``on_error="skip"`` an image that fails has no reward; else it raises.
        images: B images, or a (B, C, H, W) tensor or (B, H, W, C) array; floats are clamped to
            0 and 1, as the VAE of a generator leaves that range.
        texts: B texts; images of one text are a group.

    Returns:
        B rewards, higher is better; None where there is no score.

    Raises:
        InputError: the numbers of images and texts differ.

    >>> import t2v_eval
    >>> half = t2v_eval.from_function(lambda images, texts: [[0.5] for _ in images])
    >>> rewards(half, torch.rand(2, 3, 8, 8), ["a cat", "a cat"])
    [0.5, 0.5]
    """
    listed = list_images(images)
    if len(listed) != len(texts):
        raise InputError(f"there are {len(listed)} images and {len(texts)} texts; pass as many")
    groups: dict[str, list[int]] = {}
    for n, text in enumerate(texts):
        groups.setdefault(text, []).append(n)
    blocks = [Block.of([listed[n] for n in group], [text]) for text, group in groups.items()]
    values: list[float | None] = [None] * len(texts)
    scores = scorer.evaluate_blocks(blocks, progress=False).scores
    for group, block in zip(groups.values(), scores, strict=True):
        for n, value in zip(group, block[:, 0].tolist(), strict=True):
            values[n] = None if math.isnan(value) else value
    return values


def list_images(images: Any) -> list[MediaLike]:
    """List images, or those of a batch; floats of a tensor are clamped to 0 and 1.

    >>> len(list_images(torch.rand(2, 3, 8, 8)))
    2
    """
    if isinstance(images, torch.Tensor) and images.is_floating_point():
        images = images.detach().float().clamp(0, 1)
    return as_list(images)


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
        values = rewards(scorer, images, list(prompts))
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
    """Return the text of a prompt or completion, which may be a conversation."""
    if isinstance(message, str):
        return message
    content = message[-1]["content"] if isinstance(message, list) else message["content"]
    if isinstance(content, str):
        return content
    parts = (part.get("text", "") for part in content if isinstance(part, Mapping))
    return " ".join(filter(None, parts))
