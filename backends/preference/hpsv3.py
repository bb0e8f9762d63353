"""HPSv3: human preference, rated by a vision-language model.

Ma et al. 2025, "HPSv3: Towards Wide-Spectrum Human Preference Score", section 4. Qwen2-VL-7B reads
the image and a long instruction with the prompt; at the token <|Reward|> in it, three layers give
the mean and the standard deviation of the rating. The score is the mean, as in the authors' code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear, relu
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoTokenizer, Qwen2VLModel
from typing_extensions import override

from t2v_eval.errors import CheckpointError, TemplateError
from t2v_eval.inputs.media import MediaLike
from t2v_eval.local.base import Options
from t2v_eval.local.pair_scorer import PairScorer
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import check_keys, fill, read_tensors

from ..common.images import check_aspect_ratio
from ..common.pretrained import PROCESSOR_PATTERNS, load_pretrained
from ..common.processors import read_image_processor
from ..common.transformers_internals import empty_weights

FILE, BASE = "HPSv3.safetensors", "Qwen/Qwen2-VL-7B-Instruct"
REWARD = "<|Reward|>"
SPECIAL_TOKENS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
PREFIX = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
)
SUFFIX = "<|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"  # around the filled question
MULTIPLE = 28  # both sides of a resized image are multiples of it
AREA = 256 * MULTIPLE**2  # pixels of a resized image
HEAD_LAYERS = (0, 3, 5)


class HpsV3(PairScorer[Tensor]):
    """Score the mean of the predicted rating, without bounds; `sigma` gives its deviation.

    Args:
        checkpoint: a folder or hub id with HPSv3.safetensors, or that file.
        base: a folder or hub id with the configuration, tokenizer and image processor of
            Qwen2-VL-7B-Instruct; by default those beside the weights, or else the published.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        TemplateError: the question lacks the reward token, or there is an answer.

    >>> HpsV3.default_template
    'hpsv3'
    """

    default_template = "hpsv3"

    def __init__(
        self, checkpoint: str, base: str | None = None, **options: Unpack[Options]
    ) -> None:
        super().__init__(**options)
        file = self.locate(checkpoint, (FILE,))
        file = file / FILE if file.is_dir() else file
        if not file.exists():
            raise CheckpointError(f"{file.parent} holds no {FILE}")
        self.dtype = large_dtype(options.get("dtype"), self.device, file)
        if base is None and not (file.parent / "config.json").exists():
            base = BASE
        base_folder = (
            self.locate(base, PROCESSOR_PATTERNS, argument="base", revision=None)
            if base
            else file.parent
        )
        config: Any = load_pretrained(AutoConfig, base_folder, "Qwen2-VL")
        self.tokenizer = load_pretrained(AutoTokenizer, base_folder, "Qwen2-VL")
        if missing := [t for t in SPECIAL_TOKENS if t not in self.tokenizer.get_vocab()]:
            raise CheckpointError(
                f"the tokenizer of {base_folder} ({len(self.tokenizer)} tokens) is not Qwen2-VL's: "
                f"it lacks {', '.join(missing)}; pass `base=` as it was trained on"
            )
        self.tokenizer.add_tokens([REWARD], special_tokens=True)
        self.processor = read_image_processor(base_folder, config)
        self._load(config, file)
        self._reward = self.tokenizer.convert_tokens_to_ids(REWARD)
        self._prefix = torch.tensor(
            self.tokenizer(PREFIX).input_ids, device=self.device, dtype=torch.long
        )
        self._returns_sigma = False
        config_files = (f for end in ("json", "txt") for f in base_folder.glob(f"*.{end}"))
        self.files = [file, *sorted(f for f in config_files if ".index." not in f.name)]

    def sigma(
        self,
        images: MediaLike | Iterable[MediaLike],
        texts: str | Iterable[str],
        **template: str | None,
    ) -> Tensor:
        """Return the standard deviation of the rating whose mean is the score.

        Args:
            images: as in a call.
            texts: as in a call.
            **template: as in a call.

        Returns:
            (M, N) float32 tensor on the CPU.
        """
        bound = copy.copy(self)
        bound.identity_facts, bound._returns_sigma = {"answer": "sigma"}, True
        return bound.with_call_options(template).forward(images, texts)

    @override
    def check_template(self) -> None:
        super().check_template()
        if REWARD not in self.template.question or self.template.answer:
            raise TemplateError(
                f"{self.name!r} rates at {REWARD} in the question and reads no answer: its "
                f"question template must hold {REWARD}, and its answer template must be empty"
            )

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        """Return patches (P, C + 3): the last three columns are the grid (t, h, w) of the image."""
        resized = image.convert("RGB").resize(_resized_size(*image.size), Image.Resampling.BICUBIC)
        inputs = self.processor(resized, do_resize=False, return_tensors="pt")
        patches: Tensor = inputs.pixel_values
        return torch.cat([patches, inputs.image_grid_thw.expand(len(patches), 3)], 1)

    @override
    def stack(self, prepared: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(prepared)).to(self.device)  # half precision cannot hold the grid

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the image tokens (P, width) of each image."""
        grids, row = [], 0
        while row < len(batch):
            grids.append(batch[row, -3:].long().tolist())
            row += math.prod(grids[-1])
        features = self.network.get_image_features(
            pixel_values=batch[:, :-3].to(self.dtype),
            image_grid_thw=torch.tensor(grids, device=self.device, dtype=torch.long),
        )
        tokens: Sequence[Tensor] = features.pooler_output
        return tokens

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        suffixes = [SUFFIX.format(self.template.fill(text)[0]) for text in texts]
        reader = self.network.language_model
        rows, reward_positions = [], []
        for image, ids in zip(states, self.tokenizer(suffixes).input_ids, strict=True):
            suffix = torch.tensor(ids, device=self.device, dtype=torch.long)
            embeddings = reader.embed_tokens(torch.cat([self._prefix, suffix]))
            rows.append(
                torch.cat([embeddings[: len(self._prefix)], image, embeddings[-len(ids) :]])
            )
            reward_positions.append(
                len(rows[-1]) - len(ids) + int((suffix == self._reward).nonzero()[-1])
            )
        # Padding comes last, where causal attention hides it; positions are counted as in training.
        hidden = reader(inputs_embeds=pad_sequence(rows, True), use_cache=False).last_hidden_state
        rating: Tensor = hidden[torch.arange(len(rows)), reward_positions].float()
        for n, (weight, bias) in enumerate(self._head):
            rating = linear(relu(rating) if n else rating, weight, bias)
        return rating[:, 1].exp() if self._returns_sigma else rating[:, 0]

    def _load(self, config: Any, file: Path) -> None:
        tensors = _rename_weights(read_tensors(file))
        names = [f"rm_head.{n}.{what}" for n in HEAD_LAYERS for what in ("weight", "bias")]
        embeddings = "language_model.embed_tokens.weight"
        check_keys(file, [name for name in (*names, embeddings) if name not in tensors])
        head = [tensors.pop(name).to(self.device, torch.float32) for name in names]
        self._head = list(zip(head[::2], head[1::2], strict=True))
        rows = len(tensors[embeddings])
        if len(self.tokenizer) > rows:
            raise CheckpointError(
                f"{file} has {rows} tokens, fewer than the {len(self.tokenizer)} of the tokenizer; "
                "pass `base=` as it was trained on"
            )
        config.text_config.vocab_size = rows
        model_class: Any = Qwen2VLModel
        with empty_weights():
            self.network = model_class(config)
        fill(self.network, {n: t.to(self.device, self.dtype) for n, t in tensors.items()}, file)
        self.network.to(self.device)


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
        if name.startswith("lm_head."):
            continue
        name_in_model = name.removeprefix("model.")
        if name_in_model.partition(".")[0] not in ("visual", "language_model", "rm_head"):
            name_in_model = "language_model." + name_in_model
        renamed[name_in_model] = value
    return renamed
