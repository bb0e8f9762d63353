"""Hidden states of prompts about images, in the fastest mode of sharing that the model allows.

Modes, the fastest first; all give the same scores.
packed: an image and the prefix of its prompts are read once, and then the suffixes of all prompts
    in one row, kept apart by a mask.
repeated: the same for attention that takes no such mask; every suffix is a row.
vision: only the image's features are shared; every prompt is read as a whole.
none: every prompt by itself, pixels and all.
In all modes but the last, several images are read together. Rows longer than `max_stable_length`
are read as a whole, in batches of equal length.
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
from ..transformers_vision import find_vision_encoder
from .inputs import PromptTokens, Row, append_tokens, batch_rows
from .prefix import Prefix, common_prefix
from .video import MediaInputs

SHARING_MODES = {
    "packed": "prefix shared, packed",
    "repeated": "prefix shared, repeated",
    "vision": "vision shared",
    "none": "one by one",
}
MASKABLE_ATTENTION = ("sdpa", "eager")  # attention implementations that take any mask
NO_LIMIT = 10**9  # tokens of a batch


@dataclass(frozen=True)
class EncodedMedia:
    """The inputs of an image or video, and its features where the vision tower has run.

    >>> row = {"input_ids": torch.tensor([[5, 6]])}
    >>> EncodedMedia(MediaInputs(row)).row["input_ids"].shape
    torch.Size([1, 2])
    """

    inputs: MediaInputs
    features: Any = None

    @property
    def row(self) -> Row:
        """The inputs of the model up to the question."""
        return self.inputs.row

    @property
    def batch_key(self) -> Hashable:
        """The properties that rows must share to be one batch."""
        modality = self.features["modality"] if isinstance(self.features, dict) else ""
        return self.inputs.frames, modality, *self.row


@dataclass
class MediaPrompts:
    """An image or video with the prompts about it, by their text, and the prefix they share.

    `reply` is the number of tokens that may be written behind a prompt.

    >>> media = EncodedMedia(MediaInputs({"input_ids": torch.tensor([[5, 6]])}))
    >>> MediaPrompts(media, {"a cat": PromptTokens([7, 8], [9])}).length
    5
    """

    media: EncodedMedia
    prompts: Mapping[str, PromptTokens]
    shared: list[int] = field(default_factory=list)
    reply: int = 0

    @property
    def length(self) -> int:
        """The tokens of the longest prompt with its answer, those of the image included."""
        longest = max(len(tokens.prompt) + len(tokens.answer) for tokens in self.prompts.values())
        return int(self.media.row["input_ids"].shape[1]) + longest + self.reply


class PromptTargets(NamedTuple):
    """A prompt about image `media_index` of a prefill, and the tokens to predict after it.

    >>> PromptTargets(media_index=0, prompt=[7, 8], targets=[9]).targets
    [9]
    """

    media_index: int
    prompt: list[int]
    targets: list[int]


class Prefill(NamedTuple):
    """Images that are read together, with their prefixes.

    `prefixes` hold one image after another; it is empty where prompts are read as a whole.

    >>> Prefill(prompts=[], prefixes=[]).prefixes
    []
    """

    prompts: Sequence[MediaPrompts]
    prefixes: Sequence[Prefix]

    def prefix_of(self, media_index: int) -> tuple[Prefix, int]:
        """Return the prefixes that hold that of an image, and its row in them."""
        first = 0
        for prefix in self.prefixes:
            if media_index < first + len(prefix.lengths):
                return prefix, media_index - first
            first += len(prefix.lengths)
        raise IndexError(media_index)


class HiddenStateReader:
    """Compute hidden states of prompts in the fastest mode that the model allows.

    Args:
        network: the model without its head.
        attention: the attention implementation, as transformers names it.
        pad_token: any token of text.
        bidirectional_image: whether image tokens attend to the question.
        share: a mode to use, True for the fastest, False for none.

    Raises:
        UnsupportedError: the model does not allow that mode.

    >>> from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaModel
    >>> small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    >>> small |= {"num_attention_heads": 2, "vocab_size": 9}
    >>> vision, text = CLIPVisionConfig(**small), LlamaConfig(**small)
    >>> network = LlavaModel(LlavaConfig(vision_config=vision, text_config=text)).eval()
    >>> reader = HiddenStateReader(network, "sdpa", 0, bidirectional_image=False, share=True)
    >>> reader.modes
    ['packed', 'repeated', 'vision', 'none']
    >>> row = {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.ones(1, 2).long()}
    >>> prompts = {"a": PromptTokens([3, 4], [5]), "b": PromptTokens([3, 6], [7])}
    >>> with torch.inference_mode():
    ...     prefill = reader.prefill([MediaPrompts(EncodedMedia(MediaInputs(row)), prompts)])
    ...     pairs = [PromptTargets(0, *tokens) for tokens in prompts.values()]
    ...     [states.shape for states in reader.hidden_states(prefill, pairs, NO_LIMIT)]
    [torch.Size([1, 8]), torch.Size([1, 8])]
    """

    def __init__(
        self,
        network: Any,
        attention: str,
        pad_token: int,
        bidirectional_image: bool,
        share: bool | str,
    ) -> None:
        self.network, self.pad_token = network, pad_token
        self.token_type = int(bidirectional_image)  # of text tokens
        self.vision = find_vision_encoder(network)
        self.recurrent = has_linear_attention(network)
        self.max_stable_length = max_stable_length(network)
        modes = ["packed"] if attention in MASKABLE_ATTENTION and not self.recurrent else []
        shares = can_share_prefix(network) and not bidirectional_image
        modes = [*modes, "repeated"] if shares else []
        modes += ["vision"] if self.vision is not None else []
        self.required_mode = share if isinstance(share, str) and share != "none" else None
        if isinstance(share, str):
            if share not in (*modes, "none"):
                allowed = " or ".join(map(repr, [*modes, "none"]))
                raise UnsupportedError(f"`share={share!r}` is not possible here; use {allowed}")
            modes = [mode for mode in modes if mode == share]
        self.modes = [*modes, "none"] if share else ["none"]
        self.mode = self.modes[0]
        self.batches_images = self.mode != "none"
        self.writes_behind_prefix: bool | None = None  # None until `WritingScorer` has tried it

    def encode_media(self, inputs: Sequence[MediaInputs]) -> list[EncodedMedia]:
        """Return images and videos with their features, which replace their pixels.

        In the mode "none", pixels are left as they are.
        """
        if self.mode == "none" or self.vision is None:
            return [EncodedMedia(media) for media in inputs]
        groups = [inputs] if self.batches_images else [[media] for media in inputs]
        features = [
            feature
            for group in groups
            for feature in self.vision.encode(
                [media.row for media in group],
                [media.frames > 0 or media.images > 1 for media in group],
            )
        ]
        pixels = self.vision.inputs
        rows = [{k: v for k, v in media.row.items() if k not in pixels} for media in inputs]
        return [
            EncodedMedia(replace(media, row=row), feature)
            for media, row, feature in zip(inputs, rows, features, strict=True)
        ]

    def prefill(self, prompts: Sequence[MediaPrompts]) -> Prefill:
        """Read the prefix of each image's prompts, where there are several prompts to share it."""
        if all(len(media.prompts) == 1 for media in prompts) or not self.can_prefill(prompts):
            return Prefill(prompts, [])
        for media in prompts:
            media.shared = common_prefix([tokens.prompt for tokens in media.prompts.values()])
        return Prefill(prompts, self.read_prefixes(prompts))

    @property
    def shares_prefixes(self) -> bool:
        """Whether a prefix may be read once for several prompts."""
        return self.mode in ("packed", "repeated")

    @property
    def batches_rows(self) -> bool:
        """Whether several prompts may be read together, of one image at least."""
        return self.batches_images or self.shares_prefixes

    def can_prefill(self, prompts: Sequence[MediaPrompts]) -> bool:
        """Return whether prefixes of these images may be read by themselves."""
        too_long = any(media.length > self.max_stable_length for media in prompts)
        return self.shares_prefixes and not too_long

    def read_prefixes(self, prompts: Sequence[MediaPrompts]) -> list[Prefix]:
        """Read images with the prefixes that their prompts are said to share."""
        self._reset_rope()
        rows = [append_tokens(media.media.row, media.shared) for media in prompts]
        lengths = [int(row["input_ids"].shape[1]) for row in rows]
        # Recurrent layers take no padding, so that rows of a batch have one length.
        keys = [
            (media.media.batch_key, length if self.recurrent else 0)
            for media, length in zip(prompts, lengths, strict=True)
        ]
        prefixes = []
        for _, numbers in groupby(range(len(rows)), key=keys.__getitem__):
            group = list(numbers)
            inputs = self.batch_inputs([rows[n] for n in group], [prompts[n].media for n in group])
            widths = [lengths[n] for n in group]
            prefixes.append(Prefix(self.network, inputs, widths, self.mode == "packed"))
        return prefixes

    def hidden_states(
        self, prefill: Prefill, pairs: Sequence[PromptTargets], max_batch_tokens: int
    ) -> list[Tensor]:
        """Return the hidden states (T, D) that predict the T targets of each pair.

        Args:
            prefill: the images, with their prefixes.
            pairs: prompts about these images, and the tokens to predict.
            max_batch_tokens: tokens, with padding, that are read at a time where prompts are read
                as a whole.
        """
        prompts, prefixes = prefill
        if not prefixes:
            media = [prompts[pair.media_index].media for pair in pairs]
            return self._read_whole(media, pairs, max_batch_tokens)
        states: dict[int, Tensor] = {}
        first = 0
        for prefix in prefixes:
            images = range(first, first + len(prefix.lengths))
            numbers = [n for n, pair in enumerate(pairs) if pair.media_index in images]
            suffixes = []
            for index, prompt, targets in (pairs[n] for n in numbers):
                suffix = prompt[len(prompts[index].shared) :] + targets[:-1]
                suffixes.append((index - first, suffix))
            for n, read in zip(numbers, prefix.read(suffixes) if suffixes else [], strict=True):
                states[n] = read[-len(pairs[n].targets) :]
            first = images.stop
        return [states[n] for n in range(len(pairs))]

    def self_test(
        self, media: Sequence[MediaInputs], prompts: Sequence[list[int]], tolerance: float
    ) -> str:
        """Pick the fastest mode whose hidden states match those of prompts read one by one.

        For classes of models and versions of transformers that the tests do not cover.

        Args:
            media: images of several sizes, and videos.
            prompts: tokens of two or more prompts about each.
            tolerance: the largest distance between hidden states, relative to their norm.

        Returns:
            Why the fastest mode was not picked; empty where it was.

        Raises:
            UnsupportedError: the mode that `share` requires gives other hidden states.
        """
        pairs = [PromptTargets(n, p, p[-1:]) for n in range(len(media)) for p in prompts]
        tokens = {str(n): PromptTokens(prompt, prompt[-1:]) for n, prompt in enumerate(prompts)}

        def read(media: Sequence[MediaInputs]) -> Tensor:
            prefill = self.prefill([MediaPrompts(m, tokens) for m in self.encode_media(media)])
            pairs_here = [pair for pair in pairs if pair.media_index < len(media)]
            return torch.cat(self.hidden_states(prefill, pairs_here, NO_LIMIT))

        def read_one_by_one() -> Tensor:
            return torch.cat([read([image]) for image in media])

        candidates = [(mode, batches) for mode in self.modes[:-1] for batches in (True, False)]
        self.mode, self.batches_images = "none", False
        expected = read_one_by_one()
        reason = ""
        for self.mode, self.batches_images in candidates:
            try:
                states = read(media) if self.batches_images else read_one_by_one()
            except Exception as error:  # of any code that the tests do not cover
                reason = reason or f"{type(error).__name__}: {error}"
                continue
            distance = (states - expected).norm(dim=1)
            if bool((distance < tolerance * expected.norm(dim=1)).all()):
                return reason
            reason = reason or "it gives other numbers"
        self.mode, self.batches_images = "none", False
        if self.required_mode is not None:
            raise UnsupportedError(
                f"`share={self.required_mode!r}` is not possible here: it changes what this model "
                "answers; leave share out"
            )
        return reason

    def _read_whole(
        self, media: Sequence[EncodedMedia], pairs: Sequence[PromptTargets], max_batch_tokens: int
    ) -> list[Tensor]:
        rows = []
        for image, (_, prompt, targets) in zip(media, pairs, strict=True):
            row = append_tokens(image.row, prompt)
            rows.append(append_tokens(row, targets[:-1], self.token_type))
        lengths = [int(row["input_ids"].shape[1]) for row in rows]
        limit = self.max_stable_length  # beyond it, only rows of one length are read together
        keys = [(m.batch_key, max(0, n - limit)) for m, n in zip(media, lengths, strict=True)]
        states: dict[int, Tensor] = {}
        for group in length_groups(lengths, keys, max_batch_tokens if self.batches_images else 0):
            inputs = self.batch_inputs([rows[n] for n in group], [media[n] for n in group])
            self._reset_rope()
            read = self.network(**inputs, use_cache=False).last_hidden_state
            for n, state in zip(group, read, strict=True):
                states[n] = state[lengths[n] - len(pairs[n].targets) : lengths[n]]
        return [states[n] for n in range(len(pairs))]

    def _reset_rope(self) -> None:
        if self.max_stable_length < math.inf:
            reset_dynamic_rope(self.network)

    def batch_inputs(self, rows: Sequence[Row], media: Sequence[EncodedMedia]) -> Row:
        """Return rows about images as one batch, with the features of the images."""
        inputs = batch_rows(rows, self.pad_token, self.token_type)
        if self.vision is None or media[0].features is None:
            return inputs
        return {**inputs, **self.vision.decoder_inputs([image.features for image in media])}


def length_groups(
    lengths: Sequence[int], keys: Sequence[Hashable], max_batch_tokens: int
) -> Iterator[list[int]]:
    """Yield the numbers of rows to read together: of one key, and of similar length.

    A group has at most `max_batch_tokens` tokens with padding, or one row.

    >>> list(length_groups([5, 2, 4], ["a", "a", "b"], 10))
    [[1, 0], [2]]
    """
    order = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    group: list[int] = []
    for n in sorted(range(len(lengths)), key=lambda n: (order[keys[n]], lengths[n])):
        too_many = (len(group) + 1) * lengths[n] > max_batch_tokens
        if group and (keys[n] != keys[group[0]] or too_many):
            yield group
            group = []
        group.append(n)
    yield group
