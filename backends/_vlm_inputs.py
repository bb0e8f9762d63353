"""Inputs of vision-language models: rows with more text, several rows, and pictures seen before.

A row is all that a model takes for one picture and its text, `input_ids` (1, L) among it. Rows of
several lengths are filled at their end with a token that no other looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

LOOKS = "cross_attention_mask"  # the input that says which tiles of the picture a token looks at
KINDS = ("token_type_ids", "mm_token_type_ids")  # inputs that say which tokens are pictures
TEXT = ("input_ids", "attention_mask", LOOKS, *KINDS)  # inputs that are as long as the text
TIMES = ("second_per_grid_ts", "video_second_per_grid")  # inputs that are seconds, not pixels
SEEN = "mm_encoder_outputs"  # the input that takes what the vision tower made of pictures
MOVING = "pixel_values_videos"
COUNTED = {"image_token_pooling", "video_token_pooling"}  # of Molmo 2, which count from the first
PARTS = {"pooler_output": False, "deepstack_features": True}  # True where it is a list by layer
TILES = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")  # of Mllama

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


class Vision:
    """The part of a model that sees pictures, apart from the part that reads."""

    inputs: Sequence[str] = ("pixel_values", "pixel_attention_mask", MOVING)  # reading takes none

    def __init__(self, network: Any) -> None:
        self.network = network

    def see(self, rows: Sequence[Row], several: Sequence[bool]) -> list[Any]:
        """What each picture is to the reader; pictures of like shape are seen together.

        Args:
            several: whether a row has more than one picture, which are then seen by themselves.
        """
        groups: dict[Any, list[int]] = {}
        for n, row in enumerate(rows):
            shapes = (tuple(row[name].shape[1:]) for name in self._looked_at(row)[1].values())
            alone = n if several[n] or COUNTED & row.keys() else None
            groups.setdefault((alone, *shapes), []).append(n)
        seen: list[Any] = [None] * len(rows)
        for group in groups.values():
            for n, made in zip(group, self._look([rows[n] for n in group]), strict=True):
                seen[n] = made
        return seen

    def given(self, seen: Sequence[Any]) -> Row:
        """The inputs by which a batch of rows is told what was seen."""
        parts = {
            name: _cat_layers([one[name] for one in seen]) if by_layer else _cat_rows(seen, name)
            for name, by_layer in PARTS.items()
            if name in seen[0]
        }
        return {SEEN: {seen[0]["kind"]: SimpleNamespace(**parts)}}

    def _looked_at(self, row: Row) -> tuple[Any, dict[str, str]]:
        """What sees a row, and which of the row's inputs it takes under which names."""
        look = self.network.get_image_features
        if MOVING in row:
            look = getattr(self.network, "get_video_features", look)
        takes = {name: name for name in signature(look).parameters if name in row}
        return look, takes or {"pixel_values": MOVING}

    def _look(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        kind, pixels = ("video", MOVING) if MOVING in rows[0] else ("image", "pixel_values")
        look, takes = self._looked_at(rows[0])
        given = {name: torch.cat([row[of] for row in rows]) for name, of in takes.items()}
        made = look(**given, return_dict=True)
        found = {name: of for name in PARTS if (of := made.get(name)) is not None}
        if len(rows) == 1:
            return [{"kind": kind, **found}]
        counts = [len(row[pixels]) for row in rows]
        split = {
            name: _layers(of, counts) if PARTS[name] else _by_picture(of, counts)
            for name, of in found.items()
        }
        return [{"kind": kind, **{k: of[n] for k, of in split.items()}} for n in range(len(rows))]


class TileVision(Vision):
    """Mllama's, whose reader looks at tiles from within."""

    inputs = TILES

    def _looked_at(self, row: Row) -> tuple[Any, dict[str, str]]:
        return None, {name: name for name in TILES}

    def given(self, seen: Sequence[Any]) -> Row:
        return {"cross_attention_states": torch.cat(list(seen))}

    def _look(self, rows: Sequence[Row]) -> list[Any]:
        given = {name: torch.cat([row[name] for row in rows]) for name in TILES}
        made = self.network.vision_model(**given).last_hidden_state
        tiles: Tensor = self.network.multi_modal_projector(made)
        return [picture.flatten(0, 1) for picture in tiles]  # (tiles, patches, width) of each


def vision_of(network: Any) -> Vision | None:
    """The part of a model that sees, where reading can be told what it saw."""
    takes = signature(network.forward).parameters
    if hasattr(network, "get_image_features") and SEEN in takes:
        return Vision(network)
    if hasattr(network, "multi_modal_projector") and "cross_attention_states" in takes:
        return TileVision(network)
    return None


def _by_picture(made: Any, counts: Sequence[int]) -> list[Any]:
    """What was made of several pictures, apart: one each, or in proportion to their tiles."""
    tiles = [1] * len(counts) if len(made) == len(counts) else counts
    share, start, parts = len(made) // sum(tiles), 0, []
    for count in tiles:
        parts.append(made[start : start + share * count])
        start += share * count
    return parts


def _layers(made: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
    """The same, of every layer: a list by picture of lists by layer."""
    return [list(layers) for layers in zip(*(_by_picture(of, counts) for of in made), strict=True)]


def _cat_rows(seen: Sequence[Mapping[str, Any]], name: str) -> Any:
    return _cat([one[name] for one in seen])


def _cat_layers(pictures: Sequence[Sequence[Any]]) -> list[Any]:
    return [_cat(layer) for layer in zip(*pictures, strict=True)]


def _cat(parts: Sequence[Any]) -> Any:
    """Parts as they came: tensors as one, lists as one."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return [tensor for part in parts for tensor in part]
