"""Inputs of vision-language models: rows with more text, and several rows.

A row is all that a model takes for one picture and its text, `input_ids` (1, L) among it. Rows of
several lengths are filled at their end with a token that no other looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

CROSS_ATTENTION_MASK = "cross_attention_mask"  # which image tiles each token attends to
TOKEN_TYPE_IDS = ("token_type_ids", "mm_token_type_ids")  # which tokens are of an image
TEXT_INPUTS = ("input_ids", "attention_mask", CROSS_ATTENTION_MASK, *TOKEN_TYPE_IDS)  # (1, L, ...)
SECONDS_PER_GRID = ("second_per_grid_ts", "video_second_per_grid")  # float inputs, kept in float32
PIXEL_VALUES_VIDEOS = "pixel_values_videos"
TOKEN_POOLING = {"image_token_pooling", "video_token_pooling"}  # Molmo 2: indices from the first

Row = dict[str, Any]


def append_tokens(inputs: Mapping[str, Any], tokens: Sequence[int], kind: int = 0) -> Row:
    """A row with more tokens of text at its end; `kind` is their token type."""
    ids = inputs["input_ids"]
    more = torch.tensor([tokens], dtype=ids.dtype, device=ids.device)
    made = {**inputs, "input_ids": torch.cat([ids, more], 1)}
    for name, value in (("attention_mask", 1), *((name, kind) for name in TOKEN_TYPE_IDS)):
        if name in inputs:
            added = torch.full_like(more, value).to(inputs[name].dtype)
            made[name] = torch.cat([inputs[name], added], 1)
    if CROSS_ATTENTION_MASK in inputs:
        again = inputs[CROSS_ATTENTION_MASK][:, -1:].expand(
            -1, len(tokens), *inputs[CROSS_ATTENTION_MASK].shape[2:]
        )
        made[CROSS_ATTENTION_MASK] = torch.cat([inputs[CROSS_ATTENTION_MASK], again], 1)
    return made


def batch_rows(rows: Sequence[Row], filler: int, kind: int = 0) -> Row:
    """Rows as one batch, (B, L) of the longest; `filler` is a token of text, and of that kind."""
    if len(rows) == 1:
        return rows[0]
    longest = max(row["input_ids"].shape[1] for row in rows)
    filled = [
        append_tokens(row, [filler] * (longest - row["input_ids"].shape[1]), kind) for row in rows
    ]
    return {name: torch.cat([row[name] for row in filled]) for name in filled[0]}
