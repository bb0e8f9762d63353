"""Inputs of vision-language models: rows with more text, and several rows.

A row is all that a model takes for one picture and its text, `input_ids` (1, L) among it. Rows of
several lengths are filled at their end with a token that no other looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

LOOKS = "cross_attention_mask"  # the input that says which tiles of the picture a token looks at
KINDS = ("token_type_ids", "mm_token_type_ids")  # inputs that say which tokens are pictures
TEXT = ("input_ids", "attention_mask", LOOKS, *KINDS)  # inputs that are as long as the text
TIMES = ("second_per_grid_ts", "video_second_per_grid")  # inputs that are seconds, not pixels
MOVING = "pixel_values_videos"
COUNTED = {"image_token_pooling", "video_token_pooling"}  # of Molmo 2, which count from the first

Row = dict[str, Any]


def extended(inputs: Mapping[str, Any], tokens: Sequence[int], kind: int = 0) -> Row:
    """A row with more tokens of text at its end; `kind` is their token type."""
    ids = inputs["input_ids"]
    more = torch.tensor([tokens], dtype=ids.dtype, device=ids.device)
    made = {**inputs, "input_ids": torch.cat([ids, more], 1)}
    for name, value in (("attention_mask", 1), *((name, kind) for name in KINDS)):
        if name in inputs:
            added = torch.full_like(more, value).to(inputs[name].dtype)
            made[name] = torch.cat([inputs[name], added], 1)
    if LOOKS in inputs:
        again = inputs[LOOKS][:, -1:].expand(-1, len(tokens), *inputs[LOOKS].shape[2:])
        made[LOOKS] = torch.cat([inputs[LOOKS], again], 1)
    return made


def joined(rows: Sequence[Row], filler: int, kind: int = 0) -> Row:
    """Rows as one batch, (B, L) of the longest; `filler` is a token of text, and of that kind."""
    if len(rows) == 1:
        return rows[0]
    longest = max(row["input_ids"].shape[1] for row in rows)
    filled = [extended(row, [filler] * (longest - row["input_ids"].shape[1]), kind) for row in rows]
    return {name: torch.cat([row[name] for row in filled]) for name in filled[0]}
