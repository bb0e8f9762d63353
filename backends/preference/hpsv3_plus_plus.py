"""HPSv3++: human preference, rated for the capability of the generator that made an image.

Liu et al. 2026, "HPSv3++: Scaling Reward Models Across the Full Spectrum of Diffusion Model
Capabilities". Qwen3-VL-8B reads the image and an instruction with the prompt. From its state at the
token <|Reward|>, an encoder infers a capability from 0 to 1; this and the progress of reinforcement
learning scale and shift the state (FiLM), which three layers then rate
(`Qwen3VLRewardModelFiLMHybrid` of hpsv3/model/qwen3vl_rm.py in PlantPotatoOnMoon/HPSv3-PlusPlus).

The authors' code infers one capability for all pairs of a batch, so that a score depends on the
other pairs; here it is inferred for each pair alone, as by that code with batches of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear
from transformers import Qwen3VLModel
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.inputs.template import Template
from t2v_eval.local.base import Options
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import read_tensors
from t2v_eval.utils.text_file import read_text

from ..common.authors_text import AuthorsText
from ..common.question_only import QuestionOnlyScorer
from .hpsv3 import SUFFIX
from .qwen_reward import QwenReward, head_of, rate, weights_of

FILE, BASE = "hpsv3++.pth", "Qwen/Qwen3-VL-8B-Instruct"
QUESTION = AuthorsText(
    "PlantPotatoOnMoon/HPSv3-PlusPlus",
    "7bdbebc921c1a2d746f1c3d27ccdb6e6fd6c5498",
    "hpsv3/dataset/data_collator_qwen.py",
    "d7babc902fcbbfecdbf47687866bf6d737bad56b7ba283685c03220836c0c9f1",
    ["INSTRUCTION", "prompt_with_special_token"],
    replace=[("{{text_prompt}}", "{}")],
)
PREFIX = "<|im_start|>user\n<|vision_start|>"
# Attention over the images of a group, which changes nothing where a group is one image.
GROUPS = ("cap_encoder.pool_attn.weight", "cap_encoder.pool_attn.bias")
CAPABILITY = ("cap_encoder.proj", "cap_encoder.out_proj")


class HpsV3PlusPlus(QuestionOnlyScorer, QwenReward):
    """Score the mean of the predicted rating, without bounds.

    Args:
        checkpoint: a folder or hub id with hpsv3++.pth, or that file.
        base: a folder or hub id with the configuration, tokenizer and image processor of
            Qwen3-VL-8B-Instruct; by default those beside the weights, or else the published ones.
        questions: the authors' hpsv3/dataset/data_collator_qwen.py, or its https URL.
        progress: how far the generator has been trained by reinforcement learning, from 0 (not at
            all, as for comparing generators) to 1 (1,000 steps).
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        InputError: `progress` is not a number from 0 to 1.
        TemplateError: the template has an answer.

    >>> HpsV3PlusPlus.rewards
    ('<|Reward|>',)
    """

    default_template = "plain"
    network_class = Qwen3VLModel
    family = "Qwen3-VL"
    resizes_twice = True
    head_weights = (
        *weights_of("rm_head."),
        *weights_of("cond_encoder.", (0, 2)),
        *weights_of("film_gen.", (0, 2)),
        *(f"{layer}.{what}" for layer in CAPABILITY for what in ("weight", "bias")),
        *GROUPS,
    )

    def __init__(
        self,
        checkpoint: str,
        base: str | None = None,
        questions: str = QUESTION.url,
        progress: float = 0.0,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        if type(progress) not in (int, float) or not 0 <= progress <= 1:
            raise InputError(f"`progress={progress!r}`: use a number from 0 to 1")
        file = self.locate(checkpoint, (FILE,))
        file = file / FILE if file.is_dir() else file
        if not file.exists():
            raise CheckpointError(f"{file.parent} holds no {FILE}")
        self.dtype = large_dtype(options.get("dtype"), self.device, file)
        base_folder, config = self.open_base(base, file.parent, BASE)
        script = self.locate(questions, argument="questions")
        self._question = Template(QUESTION.extract(read_text(script)))
        self._heads = self.load_network(config, read_tensors(file), file)
        self._prefix = self.token_ids(PREFIX)
        self._progress = float(progress)
        self.identity_facts = {"progress": str(self._progress)}
        self.files = [file, script, *self.config_files(base_folder)]

    @override
    def image_states(self, features: Any, grids: Sequence[Sequence[int]]) -> Sequence[Tensor]:
        """Return tokens (1 + D, h, w, width): those of a prompt, and what D layers add to them."""
        merge = self.network.visual.spatial_merge_size
        layers = (features.pooler_output, *features.deepstack_features)
        images = (torch.stack(image) for image in zip(*layers, strict=True))
        return [
            image.view(len(layers), h // merge, w // merge, -1)
            for image, (_, h, w) in zip(images, grids, strict=True)
        ]

    @override
    def image_tokens(self, state: Tensor) -> Tensor:
        return state[0].flatten(0, 1)

    @override
    def read_embeddings(self, rows: Tensor, states: Sequence[Tensor], start: int) -> Tensor:
        images = torch.zeros(rows.shape[:2], device=self.device, dtype=torch.bool)
        for row, state in zip(images, states, strict=True):
            row[start : start + state[0, ..., 0].numel()] = True
        added = torch.cat([state[1:].flatten(1, 2) for state in states], dim=1)
        length = rows.shape[1]
        positions = [_positions(s.shape[1], s.shape[2], start, length) for s in states]
        hidden: Tensor = self.network.language_model(
            inputs_embeds=rows,
            position_ids=torch.stack(positions, dim=1).to(self.device),
            visual_pos_masks=images,
            deepstack_visual_embeds=list(added),
            use_cache=False,
        ).last_hidden_state
        return hidden

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        questions = [self._question.fill(self.template.fill(text)[0])[0] for text in texts]
        suffixes = [SUFFIX.format(question) for question in questions]
        state, heads = self.read(self._prefix, states, suffixes)[:, 0], self._heads
        inner = state
        for layer in CAPABILITY:
            inner = linear(inner, heads[f"{layer}.weight"], heads[f"{layer}.bias"])
        capability = inner.sigmoid()
        condition = torch.cat([capability, torch.full_like(capability, self._progress)], dim=1)
        (weight, bias), last = head_of(heads, "cond_encoder.", (0, 2))
        embedded = rate(gelu(linear(condition, weight, bias)), [last])
        scale, shift = rate(embedded, head_of(heads, "film_gen.", (0, 2))).chunk(2, dim=1)
        return rate(state * (1 + scale) + shift, head_of(heads, "rm_head."))[:, 0]


def _positions(height: int, width: int, start: int, length: int) -> Tensor:
    """Return the positions (3, length) of a prompt in time, height and width (M-RoPE).

    Wang et al. 2024, "Qwen2-VL", section 2.1: image tokens have one position in time, and text
    after them continues from the largest position.

    Args:
        height: rows of image tokens.
        width: columns of image tokens.
        start: index of the first image token.
        length: length of the prompt, in tokens.
    """
    behind = torch.arange(length - start - height * width, dtype=torch.long)
    image = torch.stack(
        [
            torch.zeros(height * width, dtype=torch.long),
            torch.arange(height, dtype=torch.long).repeat_interleave(width),
            torch.arange(width, dtype=torch.long).repeat(height),
        ]
    )
    parts = [
        torch.arange(start, dtype=torch.long).expand(3, -1),
        start + image,
        start + max(height, width) + behind.expand(3, -1),
    ]
    return torch.cat(parts, dim=1)
