"""Model inputs of vision-language models: rows, rows with more tokens, and batches of rows.

A row holds all inputs of a model for one image or video and its text, `input_ids` (1, L) among
them. Rows of different lengths are padded on the right, where no other token attends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

CROSS_ATTENTION_MASK = "cross_attention_mask"  # which image tiles each token attends to
TOKEN_TYPE_IDS = ("token_type_ids", "mm_token_type_ids")  # which tokens are of an image
TEXT_INPUTS = ("input_ids", "attention_mask", CROSS_ATTENTION_MASK, *TOKEN_TYPE_IDS)  # (1, L, ...)
SECONDS_PER_GRID = ("second_per_grid_ts", "video_second_per_grid")  # float inputs, kept in float32
PIXEL_VALUES_VIDEOS = "pixel_values_videos"
TOKEN_POOLING = {"image_token_pooling", "video_token_pooling"}  # Molmo 2: indices from the first

Row = dict[str, Any]


class PromptTokens(NamedTuple):
    """The tokens after the image: the rest of the prompt, and the answer with its end token.

    >>> PromptTokens(prompt=[5, 6], answer=[7, 1]).answer
    [7, 1]
    """

    prompt: list[int]
    answer: list[int]


def append_tokens(inputs: Mapping[str, Any], tokens: Sequence[int], token_type: int = 0) -> Row:
    """Append text tokens to a row; every (1, L) input grows with `input_ids`.

    Args:
        inputs: a row.
        tokens: to append.
        token_type: the type of text tokens, where the model has types.

    Returns:
        A new row.

    >>> row = {"input_ids": torch.tensor([[5, 6]]), "attention_mask": torch.ones(1, 2)}
    >>> append_tokens(row, [7])["input_ids"].tolist()
    [[5, 6, 7]]
    """
    ids = inputs["input_ids"]
    appended = torch.tensor([tokens], dtype=ids.dtype, device=ids.device)
    row = {**inputs, "input_ids": torch.cat([ids, appended], 1)}
    for name, value in (("attention_mask", 1), *((name, token_type) for name in TOKEN_TYPE_IDS)):
        if name in inputs:
            values = torch.full_like(appended, value).to(inputs[name].dtype)
            row[name] = torch.cat([inputs[name], values], 1)
    if CROSS_ATTENTION_MASK in inputs:
        mask = inputs[CROSS_ATTENTION_MASK]
        last = mask[:, -1:].expand(-1, len(tokens), *mask.shape[2:])
        row[CROSS_ATTENTION_MASK] = torch.cat([mask, last], 1)
    return row


def batch_rows(rows: Sequence[Row], pad_token: int, token_type: int = 0) -> Row:
    """Join B rows to one batch, (B, L) of the longest, padded on the right.

    Args:
        rows: with the same inputs.
        pad_token: any token of text.
        token_type: the type of text tokens.

    >>> rows = [{"input_ids": torch.tensor([ids])} for ids in ([5, 6], [7])]
    >>> batch_rows(rows, pad_token=0)["input_ids"].tolist()
    [[5, 6], [7, 0]]
    """
    if len(rows) == 1:
        return rows[0]
    lengths = [row["input_ids"].shape[1] for row in rows]
    padded = [
        append_tokens(row, [pad_token] * (max(lengths) - length), token_type)
        for row, length in zip(rows, lengths, strict=True)
    ]
    return {name: torch.cat([row[name] for row in padded]) for name in padded[0]}
