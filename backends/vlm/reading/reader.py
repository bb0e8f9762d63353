"""How pairs of pictures and texts are read by a vision-language model, and what they share.

Modes, the fastest first; every one gives the same scores.
packed: a picture and what its texts begin with are read once, and then the ends of all texts in one
    row, kept apart by a mask.
repeated: the same for attention that takes no such mask; every end is a row.
vision: only the vision tower's work is shared; every pair is read as a whole.
none: every pair by itself, pixels and all.
In all but the last, several pictures are read together.
Rows so long that a model turns their positions otherwise are read as wholes, beside others as long.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from t2v_eval.errors import UnsupportedError

from ...common.transformers_internals import (
    can_share_prefix,
    has_linear_attention,
    max_stable_length,
    reset_dynamic_rope,
)
from ..prompting.chat import PromptTokens
from ..transformers_vision import find_vision_encoder
from .inputs import Row, append_tokens, batch_rows
from .prefix import Prefix, common_prefix
from .video import MediaInputs

SHARING_MODES = {
    "packed": "prefix shared, packed",
    "repeated": "prefix shared, repeated",
    "vision": "vision shared",
    "none": "one by one",
}
MASKABLE_ATTENTION = ("sdpa", "eager")  # kinds of attention that take any mask


@dataclass(frozen=True)
class EncodedMedia:
    """A picture or video: what stands before the question, and what the vision tower made of it."""

    shown: MediaInputs
    made: Any = None

    @property
    def row(self) -> Row:
        return self.shown.row

    @property
    def kind(self) -> Hashable:
        """What rows have in common that can be one batch."""
        moving = self.made["kind"] if isinstance(self.made, dict) else ""
        return self.shown.frames, moving, *self.row


@dataclass
class MediaPrompts:
    """A picture with the texts that will be scored with it."""

    seen: EncodedMedia
    asked: Mapping[str, PromptTokens]
    common: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        longest = max(len(one.prompt) + len(one.answer) for one in self.asked.values())
        return int(self.seen.row["input_ids"].shape[1]) + longest


class PromptTargets(NamedTuple):
    """A text after a picture, by its place among those read; `targets` are to be predicted."""

    place: int
    prompt: list[int]
    targets: list[int]


class Prefill(NamedTuple):
    """Pictures that are read together, and what was read of them."""

    starts: Sequence[MediaPrompts]
    prefixes: Sequence[Prefix]  # of one start after another; none where pairs are read whole


class Reader:
    """Reads pictures and texts in the fastest mode that the model allows.

    Args:
        network: the model without its head.
        attention: as transformers names it.
        filler: any token of text.
        two_way: whether pictures look at the question.
        share: a mode that must be used, True for the fastest, False for none.

    Raises:
        UnsupportedError: the model does not allow that mode.
    """

    def __init__(
        self, network: Any, attention: str, filler: int, two_way: bool, share: bool | str
    ) -> None:
        self.network, self.filler, self.kind = network, filler, int(two_way)
        self.vision = find_vision_encoder(network)
        self.memory = has_linear_attention(network)
        self.max_stable_length = max_stable_length(network)
        modes = ["packed"] if attention in MASKABLE_ATTENTION and not self.memory else []
        modes = [*modes, "repeated"] if can_share_prefix(network) and not two_way else []
        modes += ["vision"] if self.vision is not None else []
        self.wanted = share if isinstance(share, str) and share != "none" else None
        if isinstance(share, str):
            if share not in (*modes, "none"):
                allowed = " or ".join(map(repr, [*modes, "none"]))
                raise UnsupportedError(f"share={share!r} is not possible here; use {allowed}")
            modes = [mode for mode in modes if mode == share]
        self.modes = [*modes, "none"] if share else ["none"]
        self.mode = self.modes[0]
        self.together = self.mode != "none"  # whether several pictures are

    def see(self, pictures: Sequence[MediaInputs]) -> list[EncodedMedia]:
        if self.mode == "none" or self.vision is None:
            return [EncodedMedia(one) for one in pictures]
        groups = [pictures] if self.together else [[one] for one in pictures]
        made = [
            one
            for group in groups
            for one in self.vision.see([p.row for p in group], [p.frames > 0 for p in group])
        ]
        left = [
            {k: v for k, v in one.row.items() if k not in self.vision.inputs} for one in pictures
        ]
        return [
            EncodedMedia(replace(one, row=row), of)
            for one, row, of in zip(pictures, left, made, strict=True)
        ]

    def read(self, starts: Sequence[MediaPrompts]) -> Prefill:
        """What texts of a picture begin with, where there are several."""
        alone = all(len(start.asked) == 1 for start in starts)
        too_long = any(start.length > self.max_stable_length for start in starts)
        if alone or too_long or self.mode not in ("packed", "repeated"):
            return Prefill(starts, [])
        self._begin_anew()
        for start in starts:
            start.common = common_prefix([one.prompt for one in start.asked.values()])
        rows = [append_tokens(start.seen.row, start.common) for start in starts]
        kinds = [n if self.memory else start.seen.kind for n, start in enumerate(starts)]
        prefixes = []
        for _, same in groupby(range(len(rows)), key=kinds.__getitem__):
            group = list(same)
            inputs = self._joined([rows[n] for n in group], [starts[n].seen for n in group])
            lengths = [rows[n]["input_ids"].shape[1] for n in group]
            prefixes.append(Prefix(self.network, inputs, lengths, self.mode == "packed"))
        return Prefill(starts, prefixes)

    def states(self, reading: Prefill, pairs: Sequence[PromptTargets], room: int) -> list[Tensor]:
        """States (T, D) that predict each pair's targets.

        Args:
            room: how many tokens, with filling, are read at a time where pairs are read whole.
        """
        starts, prefixes = reading
        if not prefixes:
            return self._whole([starts[pair.place].seen for pair in pairs], pairs, room)
        found: dict[int, Tensor] = {}
        first = 0
        for prefix in prefixes:
            mine = range(first, first + len(prefix.lengths))
            own = {n: pair for n, pair in enumerate(pairs) if pair.place in mine}
            ends = []
            for place, prompt, targets in own.values():
                end = prompt[len(starts[place].common) :] + targets[:-1]
                ends.append((place - first, end))
            for n, states in zip(own, prefix.read(ends) if ends else [], strict=True):
                found[n] = states[-len(pairs[n].targets) :]
            first = mine.stop
        return [found[n] for n in range(len(pairs))]

    def settle(
        self, shown: Sequence[MediaInputs], prompts: Sequence[list[int]], close: float
    ) -> str:
        """With a class of models, or a version of transformers, that was not tested, take what
        changes nothing.

        Args:
            shown: pictures of several sizes, and videos.
            close: how far states may be apart, relative to their length.

        Returns:
            Why the fastest mode is not taken, and "" where it is.

        Raises:
            UnsupportedError: the mode that must be used changes something.
        """
        pairs = [PromptTargets(n, p, p[-1:]) for n in range(len(shown)) for p in prompts]
        asked = {str(n): PromptTokens(prompt, prompt[-1:]) for n, prompt in enumerate(prompts)}

        def read(shown: Sequence[MediaInputs]) -> Tensor:
            reading = self.read([MediaPrompts(seen, asked) for seen in self.see(shown)])
            mine = [pair for pair in pairs if pair.place < len(shown)]
            return torch.cat(self.states(reading, mine, room=10**9))

        candidates = [(mode, together) for mode in self.modes[:-1] for together in (True, False)]
        self.mode, self.together = "none", False
        expected = torch.cat([read([one]) for one in shown])
        why = ""
        for self.mode, self.together in candidates:
            try:
                made = read(shown) if self.together else torch.cat([read([one]) for one in shown])
            except Exception as error:  # whatever code that we do not know makes of it
                why = why or f"{type(error).__name__}: {error}"
                continue
            if bool(((made - expected).norm(dim=1) < close * expected.norm(dim=1)).all()):
                return why
            why = why or "it gives other numbers"
        self.mode, self.together = "none", False
        if self.wanted is not None:
            raise UnsupportedError(
                f"share={self.wanted!r} is not possible here: it changes what this model answers; "
                "leave share out"
            )
        return why

    def _whole(
        self, seen: Sequence[EncodedMedia], pairs: Sequence[PromptTargets], room: int
    ) -> list[Tensor]:
        rows = []
        for one, (_, prompt, targets) in zip(seen, pairs, strict=True):
            rows.append(append_tokens(append_tokens(one.row, prompt), targets[:-1], self.kind))
        lengths = [int(row["input_ids"].shape[1]) for row in rows]
        found: dict[int, Tensor] = {}
        kinds = [
            (s.kind, max(0, n - self.max_stable_length)) for s, n in zip(seen, lengths, strict=True)
        ]
        for group in neighbours(lengths, kinds, room if self.together else 0):
            inputs = self._joined([rows[n] for n in group], [seen[n] for n in group])
            self._begin_anew()
            read = self.network(**inputs, use_cache=False).last_hidden_state
            for n, states in zip(group, read, strict=True):
                found[n] = states[lengths[n] - len(pairs[n].targets) : lengths[n]]
        return [found[n] for n in range(len(pairs))]

    def _begin_anew(self) -> None:
        if self.max_stable_length < math.inf:
            reset_dynamic_rope(self.network)

    def _joined(self, rows: Sequence[Row], seen: Sequence[EncodedMedia]) -> Row:
        inputs = batch_rows(rows, self.filler, self.kind)
        if self.vision is None or seen[0].made is None:
            return inputs
        return {**inputs, **self.vision.given([one.made for one in seen])}


def neighbours(lengths: Sequence[int], kinds: Sequence[Hashable], room: int) -> Iterator[list[int]]:
    """Numbers of rows that are read together, of a kind and of like length: at most `room` tokens,
    or one row.
    """
    places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    group: list[int] = []
    for n in sorted(range(len(lengths)), key=lambda n: (places[kinds[n]], lengths[n])):
        if group and (kinds[n] != kinds[group[0]] or (len(group) + 1) * lengths[n] > room):
            yield group
            group = []
        group.append(n)
    yield group
