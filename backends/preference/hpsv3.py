"""HPSv3: what people prefer, rated by a language model that looks at the image.

Ma et al. 2025, "HPSv3: Towards Wide-Spectrum Human Preference Score", section 4. Qwen2-VL-7B reads
the image and a long instruction with the prompt; at the token <|Reward|> in it, three layers give
the mean and the deviation of the rating. The score is the mean, as in the authors' code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear, relu
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoTokenizer, Qwen2VLModel

from t2v_eval.errors import CheckpointError, InputError, TemplateError
from t2v_eval.inputs.media import MediaLike
from t2v_eval.local.base import Options
from t2v_eval.local.pair_scorer import PairScorer
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import check_keys, fill, read_tensors

from ..clip.hf_clip import PROCESSOR_PATTERNS, load_pretrained
from ..common.processors import read_image_processor

FILE, BASE = "HPSv3.safetensors", "Qwen/Qwen2-VL-7B-Instruct"
REWARD = "<|Reward|>"
MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>")
BEFORE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>"
)
AFTER = "<|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"  # around the image and the question
AREA, GRID = 256 * 28 * 28, 28  # pixels, and what both sides are multiples of
LONGEST = 200  # times the short side
HEAD = (0, 3, 5)


class HpsV3(PairScorer[Tensor]):
    """The mean of the rating; `sigma` gives its deviation.

    Args:
        checkpoint: a folder or hub id with HPSv3.safetensors, or that file.
        base: a folder or hub id with the configuration, tokenizer and image processor of
            Qwen2-VL-7B-Instruct; by default what lies beside the weights, or else the published.
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
        reader = (
            self.locate(base, PROCESSOR_PATTERNS, argument="base", revision=None)
            if base
            else file.parent
        )
        config: Any = load_pretrained(AutoConfig, reader, "Qwen2-VL")
        self.tokenizer = load_pretrained(AutoTokenizer, reader, "Qwen2-VL")
        if lacking := [t for t in MARKS if t not in self.tokenizer.get_vocab()]:
            raise CheckpointError(
                f"the tokenizer of {reader} ({len(self.tokenizer)} tokens) is not Qwen2-VL's: it "
                f"lacks {', '.join(lacking)}; pass base= as it was trained on"
            )
        self.tokenizer.add_tokens([REWARD], special_tokens=True)
        self.processor = read_image_processor(reader, config)
        self._load(config, file)
        self._reward = self.tokenizer.convert_tokens_to_ids(REWARD)
        self._before = torch.tensor(
            self.tokenizer(BEFORE).input_ids, device=self.device, dtype=torch.long
        )
        self._of_sigma = False
        described = (f for end in ("json", "txt") for f in reader.glob(f"*.{end}"))
        self.files = [file, *sorted(f for f in described if ".index." not in f.name)]

    def sigma(
        self,
        images: MediaLike | Iterable[MediaLike],
        texts: str | Iterable[str],
        **template: str | None,
    ) -> Tensor:
        """The deviation of the rating whose mean is the score; (M, N) as from a call."""
        bound = copy.copy(self)
        bound.identity_facts, bound._of_sigma = {"answer": "sigma"}, True
        return bound.forward(images, texts, **template)

    def check_template(self) -> None:
        super().check_template()
        if REWARD not in self.template.question or self.template.answer:
            raise TemplateError(
                f"{self.name!r} rates at {REWARD} in the question and reads no answer: its "
                f"question template must hold {REWARD}, and its answer template must be empty"
            )

    def preprocess(self, image: Image.Image) -> Tensor:
        """Patches (P, C), and the grid they form in three more columns of each row."""
        resized = image.convert("RGB").resize(_size(*image.size), Image.Resampling.BICUBIC)
        made = self.processor(resized, do_resize=False, return_tensors="pt")
        patches: Tensor = made.pixel_values
        return torch.cat([patches, made.image_grid_thw.expand(len(patches), 3)], 1)

    def stack(self, prepared: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(prepared)).to(self.device)  # the grid has no room in half precision

    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """The tokens that stand for each image."""
        grids, row = [], 0
        while row < len(batch):
            grids.append(batch[row, -3:].long().tolist())
            row += math.prod(grids[-1])
        made = self.network.get_image_features(
            pixel_values=batch[:, :-3].to(self.dtype),
            image_grid_thw=torch.tensor(grids, device=self.device, dtype=torch.long),
        )
        tokens: Sequence[Tensor] = made.pooler_output
        return tokens

    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        asked = [AFTER.format(self.template.fill(text)[0]) for text in texts]
        reader = self.network.language_model
        rows, at = [], []
        for image, ids in zip(states, self.tokenizer(asked).input_ids, strict=True):
            after = torch.tensor(ids, device=self.device, dtype=torch.long)
            around = reader.embed_tokens(torch.cat([self._before, after]))
            rows.append(torch.cat([around[: len(self._before)], image, around[-len(ids) :]]))
            at.append(len(rows[-1]) - len(ids) + int((after == self._reward).nonzero()[-1]))
        # Padding comes last, where nothing that is read can see it; positions count on, as trained.
        load_pretrained = reader(
            inputs_embeds=pad_sequence(rows, True), use_cache=False
        ).last_hidden_state
        rating: Tensor = load_pretrained[torch.arange(len(rows)), at].float()
        for n, (weight, bias) in enumerate(self._head):
            rating = linear(relu(rating) if n else rating, weight, bias)
        return rating[:, 1].exp() if self._of_sigma else rating[:, 0]

    def _load(self, config: Any, file: Path) -> None:
        tensors = _renamed(read_tensors(file))
        names = [f"rm_head.{n}.{what}" for n in HEAD for what in ("weight", "bias")]
        embeddings = "language_model.embed_tokens.weight"
        check_keys(file, [name for name in (*names, embeddings) if name not in tensors])
        head = [tensors.pop(name).to(self.device, torch.float32) for name in names]
        self._head = list(zip(head[::2], head[1::2], strict=True))
        rows = len(tensors[embeddings])
        if len(self.tokenizer) > rows:
            raise CheckpointError(
                f"{file} has {rows} tokens, fewer than the {len(self.tokenizer)} of the tokenizer; "
                "pass base= as it was trained on"
            )
        config.text_config.vocab_size = rows
        kind: Any = Qwen2VLModel
        with init_empty_weights(include_buffers=False):
            self.network = kind(config)
        fill(self.network, {n: t.to(self.device, self.dtype) for n, t in tensors.items()}, file)
        self.network.to(self.device)


def _size(width: int, height: int) -> tuple[int, int]:
    """The sides nearest to those of the image at the area that the model was trained on.

    Raises:
        InputError: the image is so long that one side would vanish.
    """
    if max(width, height) > LONGEST * min(width, height):
        raise InputError(f"one side is more than {LONGEST} times the other; crop the image")
    near = [max(1, round(side / GRID)) * GRID for side in (width, height)]
    scale = math.sqrt(AREA / (width * height))
    if math.prod(near) > AREA:
        near = [math.floor(side * scale / GRID) * GRID for side in (width, height)]
    elif math.prod(near) < AREA:
        near = [math.ceil(side * scale / GRID) * GRID for side in (width, height)]
    return near[0], near[1]


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names of transformers 5; the file has those of 4.45 or of 4.52."""
    renamed = {}
    for name, value in tensors.items():
        if name.startswith("lm_head."):
            continue
        own = name.removeprefix("model.")
        if own.partition(".")[0] not in ("visual", "language_model", "rm_head"):
            own = "language_model." + own
        renamed[own] = value
    return renamed
