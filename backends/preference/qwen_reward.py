"""Rewards by Qwen's vision-language models: a head rates hidden states at special tokens.

The layout of HPSv3 and of what was trained from its code. Image tokens are counted as text tokens,
one position after the other, as in training, where the network got embeddings without token ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear, relu
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoTokenizer, Qwen2VLModel
from typing_extensions import override

from t2v_eval.errors import CheckpointError, TemplateError
from t2v_eval.local.pair_scorer import PairScorer
from t2v_eval.local.weights import check_keys, fill

from ..common.images import check_aspect_ratio
from ..common.pretrained import PROCESSOR_PATTERNS, load_pretrained
from ..common.processors import read_image_processor
from ..common.transformers_internals import empty_weights

REWARD = "<|Reward|>"
SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
IMAGE = "<|image_pad|>"
MULTIPLE = 28  # both sides of a resized image are multiples of it
AREA = 256 * MULTIPLE**2  # pixels of a resized image
HEAD_LAYERS = (0, 3, 5)

Head: TypeAlias = list[tuple[Tensor, Tensor]]


def weights_of(prefix: str, layers: Sequence[int] = HEAD_LAYERS) -> tuple[str, ...]:
    """Return the names of the weights of a head of linear layers.

    >>> weights_of("rm_head.", [5])
    ('rm_head.5.weight', 'rm_head.5.bias')
    """
    return tuple(f"{prefix}{n}.{what}" for n in layers for what in ("weight", "bias"))


class QwenReward(PairScorer[Tensor]):
    """A model of Qwen that rates at special tokens; subclasses load it and write `score`.

    Attributes:
        network_class: the class of transformers, without the language model's head.
        family: its name, for messages.
        rewards: the special tokens that it rates at.
        head_weights: names of the weights beside the network, which stay in float32.
        resizes_twice: whether the image processor resizes again what `AREA` says.

    >>> from t2v_eval.backends.preference.hpsv3 import HpsV3
    >>> HpsV3.rewards, HpsV3.head_weights[:2]
    (('<|Reward|>',), ('rm_head.0.weight', 'rm_head.0.bias'))
    """

    network_class: ClassVar[Any] = Qwen2VLModel
    family: ClassVar[str] = "Qwen2-VL"
    rewards: ClassVar[tuple[str, ...]] = (REWARD,)
    head_weights: ClassVar[tuple[str, ...]] = weights_of("rm_head.")
    resizes_twice: ClassVar[bool] = False

    def open_base(self, base: str | None, folder: Path, default: str) -> tuple[Path, Any]:
        """Return the folder of configuration, tokenizer and image processor, and the configuration.

        Args:
            base: a folder or hub id; by default `folder` where it has them, or else `default`.
            folder: that of the weights.
            default: a hub id.

        Raises:
            CheckpointError: they are missing, or of another model.
        """
        if base is None and not (folder / "tokenizer_config.json").exists():
            base = default
        located = (
            self.locate(base, PROCESSOR_PATTERNS, argument="base", revision=None)
            if base
            else folder
        )
        config: Any = load_pretrained(AutoConfig, located, self.family)
        if config.model_type != (model_type := self.network_class.config_class.model_type):
            raise CheckpointError(
                f"{located} is no {self.family}: its config.json says {config.model_type!r}, not "
                f"{model_type!r}; pass `base=` as it was trained on"
            )
        self.tokenizer = load_pretrained(AutoTokenizer, located, self.family)
        if missing := [t for t in SPECIAL_TOKENS if t not in self.tokenizer.get_vocab()]:
            raise CheckpointError(
                f"the tokenizer of {located} ({len(self.tokenizer)} tokens) is not "
                f"{self.family}'s: it lacks {', '.join(missing)}; pass `base=` as it was trained on"
            )
        self.tokenizer.add_tokens(list(self.rewards), special_tokens=True)
        self._rewards = self.tokenizer.convert_tokens_to_ids(list(self.rewards))
        self.processor = read_image_processor(located, config)
        return located, config

    def config_files(self, folder: Path) -> list[Path]:
        """Return the files of a folder that decide how images and texts are read."""
        files = (file for end in ("jinja", "json", "txt") for file in folder.glob(f"*.{end}"))
        return sorted(file for file in files if ".index." not in file.name)

    def check_question(self, question: str, answer: str = "") -> None:
        """Check that a question asks for the rating.

        Raises:
            TemplateError: it lacks the reward token, or there is an answer.
        """
        if REWARD not in question or answer:
            raise TemplateError(
                f"{self.name!r} rates at {REWARD} in the question and reads no answer: its "
                f"question template must hold {REWARD}, and its answer template must be empty"
            )

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        """Return patches (P, C + 3): the last three columns are the grid (t, h, w) of the image."""
        resized = image.convert("RGB").resize(_resized_size(*image.size), Image.Resampling.BICUBIC)
        inputs = self.processor(resized, do_resize=self.resizes_twice, return_tensors="pt")
        patches: Tensor = inputs.pixel_values
        return torch.cat([patches, inputs.image_grid_thw.expand(len(patches), 3)], 1)

    @override
    def stack(self, prepared: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(prepared)).to(self.device)  # half precision cannot hold the grid

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the state of each image, see `image_states`."""
        grids, row = [], 0
        while row < len(batch):
            grids.append(batch[row, -3:].long().tolist())
            row += math.prod(grids[-1])
        features = self.network.get_image_features(
            pixel_values=batch[:, :-3].to(self.dtype),
            image_grid_thw=torch.tensor(grids, device=self.device, dtype=torch.long),
        )
        return self.image_states(features, grids)

    def image_states(self, features: Any, grids: Sequence[Sequence[int]]) -> Sequence[Tensor]:
        """Return what is kept of each image, by default its tokens (P, width).

        Args:
            features: what the network says of the images.
            grids: their numbers of patches (t, h, w).
        """
        tokens: Sequence[Tensor] = features.pooler_output
        return tokens

    def token_ids(self, text: str) -> Tensor:
        """Return the token ids (L,) of a part of a prompt, special tokens included."""
        ids = self.tokenizer(text).input_ids
        return torch.tensor(ids, device=self.device, dtype=torch.long)

    def read(self, prefix: Tensor, states: Sequence[Tensor], suffixes: Sequence[str]) -> Tensor:
        """Return the hidden states where each of B prompts is rated.

        Args:
            prefix: the token ids before the image.
            states: the state of each prompt's image.
            suffixes: what stands behind them; of each reward token, the last is read.

        Returns:
            (B, R, width) in float32, in the order of the R `rewards`.
        """
        embed = self.network.language_model.embed_tokens
        rows, places = [], []
        for image, suffix in zip(states, map(self.token_ids, suffixes), strict=True):
            before, behind = embed(torch.cat([prefix, suffix])).split([len(prefix), len(suffix)])
            rows.append(torch.cat([before, self.image_tokens(image), behind]))
            start = len(rows[-1]) - len(suffix)
            places.append([start + int((suffix == r).nonzero()[-1]) for r in self._rewards])
        # Padding comes last, where causal attention hides it.
        hidden = self.read_embeddings(pad_sequence(rows, True), states, len(prefix))
        rated: Tensor = hidden[torch.arange(len(rows))[:, None], places].float()
        return rated

    def image_tokens(self, state: Tensor) -> Tensor:
        """Return the tokens (P, width) of an image that stand in a prompt."""
        return state

    def read_embeddings(self, rows: Tensor, states: Sequence[Tensor], start: int) -> Tensor:
        """Return the hidden states of prompts; positions are counted as in training.

        Args:
            rows: embeddings (B, L, width).
            states: what `encode_images` returned of each prompt's image.
            start: where image tokens begin in a prompt.
        """
        reader = self.network.language_model
        hidden: Tensor = reader(inputs_embeds=rows, use_cache=False).last_hidden_state
        return hidden

    def load_network(
        self, config: Any, tensors: Mapping[str, Tensor], file: Path
    ) -> dict[str, Tensor]:
        """Build `network`, and return the weights of the heads by name, in float32.

        Args:
            config: its configuration.
            tensors: its weights and those of the heads, by names of transformers 4.45 or later.
            file: where they are from.

        Raises:
            CheckpointError: weights are missing, unexpected or of another shape.
        """
        embeddings = "language_model.embed_tokens.weight"
        weights = _rename_weights(tensors)
        check_keys(file, [name for name in (*self.head_weights, embeddings) if name not in weights])
        heads = {n: weights.pop(n).to(self.device, torch.float32) for n in self.head_weights}
        rows = len(weights[embeddings])
        if len(self.tokenizer) > rows:
            raise CheckpointError(
                f"{file} has {rows} tokens, fewer than the {len(self.tokenizer)} of the tokenizer; "
                "pass `base=` as it was trained on"
            )
        config.text_config.vocab_size = rows
        with empty_weights():
            self.network = self.network_class(config)
        fill(self.network, {n: t.to(self.device, self.dtype) for n, t in weights.items()}, file)
        self.network.to(self.device)
        return heads


def head_of(
    weights: Mapping[str, Tensor], prefix: str, layers: Sequence[int] = HEAD_LAYERS
) -> Head:
    """Return the layers of a head, whose weights begin with a prefix and a number each.

    >>> len(head_of(dict.fromkeys(weights_of("rm_head."), torch.ones(1)), "rm_head."))
    3
    """
    return [(weights[f"{prefix}{n}.weight"], weights[f"{prefix}{n}.bias"]) for n in layers]


def rate(hidden: Tensor, head: Head) -> Tensor:
    """Return what a head of linear layers with ReLU between them makes of states.

    >>> layer = torch.ones(1, 2), torch.zeros(1)
    >>> rate(torch.tensor([[1.0, 2.0]]), [layer])
    tensor([[3.]])
    """
    for n, (weight, bias) in enumerate(head):
        hidden = linear(relu(hidden) if n else hidden, weight, bias)
    return hidden


def _resized_size(width: int, height: int) -> tuple[int, int]:
    """Return width and height at the area that the model was trained on, in multiples of 28.

    Raises:
        InputError: the aspect ratio is so extreme that one side would vanish.
    """
    check_aspect_ratio(width, height)
    near = [max(1, round(side / MULTIPLE)) * MULTIPLE for side in (width, height)]
    scale = math.sqrt(AREA / (width * height))
    if math.prod(near) > AREA:
        near = [math.floor(side * scale / MULTIPLE) * MULTIPLE for side in (width, height)]
    elif math.prod(near) < AREA:
        near = [math.ceil(side * scale / MULTIPLE) * MULTIPLE for side in (width, height)]
    return near[0], near[1]


def _rename_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights from transformers 4.45 or 4.52 to transformers 5; lm_head is dropped."""
    renamed = {}
    for name, value in tensors.items():
        inner = name.removeprefix("model.")
        if name != inner and not inner.startswith(("visual.", "language_model.")):
            inner = "language_model." + inner
        if not name.startswith("lm_head."):
            renamed[inner] = value
    return renamed
