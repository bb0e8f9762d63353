"""EditReward: how well an image was edited by an instruction, learnt from human preferences.

Wu et al. 2025, "EditReward: A Human-Aligned Reward Model for Instruction-Guided Image Editing",
section 4. Qwen2.5-VL reads the image before and after the edit twice: with a question about
following the instruction, and with one about the quality of the result. A head for each gives the
mean and the logarithm of the deviation of its rating at the token <|Reward|>. The score is the mean
of both ratings, as by the configurations of the authors' code. The questions are long and are read
from the authors' script.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack

import torch
from PIL import Image
from torch import Tensor
from transformers import Qwen2_5_VLModel
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError, TemplateError
from t2v_eval.inputs.media import EDIT, ImageGroup, Media
from t2v_eval.inputs.template import Template
from t2v_eval.local.base import Options
from t2v_eval.local.checkpoint_files import read_json
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import read_tensors
from t2v_eval.utils.text_file import read_text

from ..common.authors_text import AuthorsText
from ..preference.qwen_reward import IMAGE, QwenReward, head_of, rate, weights_of
from ..vlm.prompting.template_sandbox import render

FILES = ("model.safetensors", "model.pth")
BASE = "Qwen/Qwen2.5-VL-7B-Instruct"
QUESTIONS = [
    AuthorsText(
        "TIGER-AI-Lab/EditReward",
        "edb027edde6080b8a9521ef8e87049b3797f8374",
        "EditReward/dataset/prompts.py",
        "1a64bd01924d69fe1bb4b1664d33a32c06c5fbc7230ed7cb67f253183322c7aa",
        [f"INSTRUCTION_EDIT_{part}"],
        replace=[("{{text_prompt}}", "{}")],
    )
    for part in ("FOLLOWING", "QUALITY")
]
ENDING = "\nPlease provide the overall ratings of this image: <|Reward|>\n\nEND\n"
PARTS = ("mean", "following", "quality")
HEADS = ("rm_heads.head_0.", "rm_heads.head_1.")


class EditReward(QwenReward):
    """Score edits by the mean of two ratings, without bounds.

    An image is a `t2v_eval.Edit`, and a text the instruction of the edit.

    Args:
        checkpoint: a folder or hub id with model.safetensors or model.pth, or that file.
        base: a folder or hub id with the configuration, tokenizer, chat template and image
            processor that it was trained from; by default those beside the weights, or else
            Qwen2.5-VL-7B-Instruct.
        questions: the authors' EditReward/dataset/prompts.py, or its https URL.
        part: "following" or "quality" gives one rating instead of the mean of both.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        InputError: `part` is unknown.
        TemplateError: the template has an answer.

    >>> EditReward.image_roles
    ('source', 'result')
    """

    image_roles = EDIT
    default_template = "plain"
    network_class = Qwen2_5_VLModel
    family = "Qwen2.5-VL"
    head_weights = tuple(name for head in HEADS for name in weights_of(head))

    def __init__(
        self,
        checkpoint: str,
        base: str | None = None,
        questions: str = QUESTIONS[0].url,
        part: str = "mean",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        if part not in PARTS:
            raise InputError(f"`part={part!r}`; use {' or '.join(map(repr, PARTS))}")
        file = self.locate(checkpoint, FILES)
        if file.is_dir():
            file = next((file / name for name in FILES if (file / name).exists()), file / FILES[0])
        if not file.exists():
            raise CheckpointError(f"{file.parent} holds no {' or '.join(FILES)}")
        self.dtype = large_dtype(options.get("dtype"), self.device, file)
        base_folder, config = self.open_base(base, file.parent, BASE)
        self._chat = _chat_template(base_folder, self.tokenizer)
        script = self.locate(questions, argument="questions")
        source = read_text(script)
        self._questions = [question.extract(source) + ENDING for question in QUESTIONS]
        self._part = part
        weights = self.load_network(config, read_tensors(file), file)
        self._heads = [head_of(weights, head) for head in HEADS]
        self._prefix = self.token_ids(self._split(base_folder))
        self.identity_facts = {"part": part}
        self.files = [file, script, *self.config_files(base_folder)]

    @override
    def check_template(self) -> None:
        super().check_template()
        if self.template.answer:
            raise TemplateError(
                f"{self.name!r} reads an instruction and no answer: pass `question_template=` alone"
            )

    @override
    def load(self, media: Media) -> tuple[Image.Image, ...]:
        images = media.images if isinstance(media, ImageGroup) else (media,)
        return tuple(self.load_image(image) for image in images)

    @override
    def preprocess(self, image: Any) -> Tensor:
        """Return the patches of the image before the edit, then those of the image after it."""
        return torch.cat([super(EditReward, self).preprocess(part) for part in image])

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the tokens (P, width) of both images of each edit, with those between them."""
        tokens = super().encode_images(batch)
        between = self.network.language_model.embed_tokens(self.token_ids(self._between))
        pairs = zip(tokens[::2], tokens[1::2], strict=True)
        return [torch.cat([source, between, result]) for source, result in pairs]

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        ratings = []
        for part, question, head in zip(PARTS[1:], self._questions, self._heads, strict=True):
            if self._part in ("mean", part):
                filled = [self._ask(question, text) for text in texts]
                ratings.append(rate(self.read(self._prefix, states, filled)[:, 0], head)[:, 0])
        return torch.stack(ratings).mean(dim=0)

    def _split(self, base_folder: Path) -> str:
        """Return what stands before the images, and set what stands between them.

        Raises:
            CheckpointError: the chat template does not show two images.
        """
        try:
            before, self._between, _ = self._render("")
        except Exception as error:  # of a program that the checkpoint brings
            raise CheckpointError(
                f"the chat template of {base_folder} does not show two images: {error}; pass "
                "`base=` as it was trained on"
            ) from error
        return before

    def _ask(self, question: str, text: str) -> str:
        """Return what stands after the images in the prompt about an instruction."""
        instruction = self.template.fill(text)[0]
        return self._render(Template(question).fill(instruction)[0])[2]

    def _render(self, question: str) -> list[str]:
        """Return the prompt in three parts: before, between and after the images."""
        content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": question}]
        messages = [{"role": "user", "content": content}]
        return render(self._chat, messages=messages, add_generation_prompt=True).split(IMAGE, 2)


def _chat_template(folder: Path, tokenizer: Any) -> str:
    """Return the template of a processor's file, or else of its tokenizer.

    Raises:
        CheckpointError: there is none.
    """
    file = folder / "chat_template.json"
    described = read_json(file) if file.exists() else {}
    template = described.get("chat_template") or tokenizer.chat_template
    if not isinstance(template, str):
        raise CheckpointError(f"{folder} has no chat template; pass `base=` as it was trained on")
    return template
