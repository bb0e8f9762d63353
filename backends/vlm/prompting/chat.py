"""How a picture or video and a question become what a vision-language model reads.

A chat says what stands before the question, with the picture (`see`) or the video (`watch`), and
turns a question and an answer into the tokens that follow (`ask`). Nothing in a question is taken
for a control token.
"""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, LlamaTokenizer

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.inputs.template import split_wrapper
from t2v_eval.inputs.video import Clip, Sampling, sampling_of
from t2v_eval.local.checkpoint_files import first_lines

from ...common.images import pad_to_square, smart_resize
from ...common.processors import check_vocabulary, match_tower_size, read_processor
from ..layouts.base import Layout, Translated
from ..layouts.remote_code import RemoteCodeModel
from ..reading.video import MediaInputs
from ..transformers_vision import settings_of

GREY_IMAGE = Image.new("RGB", (64, 64), (120, 130, 140))


class Checkpoint(NamedTuple):
    """Where a model is read from; `trusted` is whether the code in its folder may run."""

    folder: Path
    config: Any
    layout: Layout | None
    trusted: bool


class PromptTokens(NamedTuple):
    """The tokens after the picture: the rest of the prompt, and the answer with its end token."""

    prompt: list[int]
    answer: list[int]


def control_token_pattern(tokenizer: Any) -> re.Pattern[str]:
    """What finds a control token in a text."""
    known = (str(token) for token in tokenizer.added_tokens_decoder.values())
    return re.compile("|".join(re.escape(t) for t in known if t.strip()) or "(?!)")


class PromptBuilder(ABC):
    """One way of talking to a model; `context` is how many tokens fit, as `used` counts them."""

    tokenizer: Any
    context: int
    rows: int | None = None  # how many rows of the vocabulary are real; None means all
    two_way: bool = False  # whether the picture looks at the question
    sampling: Sampling | None = None  # which frames of a video are shown; None where none are
    blind: str = "it is asked about one picture"  # and why none are

    @abstractmethod
    def see(self, image: Image.Image) -> dict[str, Tensor]:
        """All inputs of the model for everything up to the question; in decoding threads."""

    def fit(self, frame: Image.Image, count: int) -> Image.Image:
        """One of so many frames of a video, no larger than it is shown."""
        return frame

    def watch(self, clip: Clip) -> MediaInputs:
        """What `see` is for a picture, for frames that fit, where `sampling` is not None."""
        raise NotImplementedError

    @abstractmethod
    def ask(self, question: str, answer: str) -> PromptTokens:
        """The tokens of the rest."""

    def encode(self, text: str) -> list[int]:
        """Tokens of a text in which nothing is a control token."""
        return self._tokens(text, split_special_tokens=True)

    def _tokens(self, text: str, **options: Any) -> list[int]:
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False, **options).input_ids
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of what a model has written, without control tokens."""
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def used(self, inputs: dict[str, Tensor]) -> int:
        """How much of the context the inputs of `see` take."""
        return inputs["input_ids"].shape[1]


class ProcessorPromptBuilder(PromptBuilder):
    """A model with a processor of transformers; `_anchor` is a control token before questions.

    Args:
        layout: that of the authors, which makes its own processor.
        image_settings: of its image processor, for example ``{"do_resize": False}``. With `pixels`,
            the least and the most of a picture, it is resized by Pillow before (`smart_resize`).
    """

    _anchor: str

    def __init__(
        self,
        checkpoint: Checkpoint,
        context: int | None,
        image_settings: Mapping[str, Any] | None,
    ) -> None:
        folder, config, layout, trusted = checkpoint
        self.processor: Any = (
            layout.processor()
            if isinstance(layout, Translated)
            else read_processor(folder, config, trusted)
        )
        self._images = dict(image_settings or {})
        self._pixels = self._images.pop("pixels", None)
        self._check_settings("image", self._images)
        self._check_pixels(image_settings)
        # Of its own, since changing how control tokens are read would disturb decoding threads.
        self.tokenizer = copy.deepcopy(self.processor.tokenizer)
        self.tokenizer.model_max_length = self.processor.tokenizer.model_max_length = 10**9
        self.context = context or config.get_text_config().max_position_embeddings
        self._control = control_token_pattern(self.tokenizer)
        self._known = {*self.tokenizer.added_tokens_decoder}
        self._bos = self.tokenizer.bos_token or ""

    def _check_settings(self, kind: str, settings: Mapping[str, Any]) -> None:
        """Hold that the image or video processor has these settings."""
        seeing = getattr(self.processor, f"{kind}_processor", None)
        takes = settings_of(seeing)
        if unknown := settings.keys() - takes:
            raise InputError(
                f"{kind}_settings={dict(settings)!r}: {type(seeing).__name__} of this model has no "
                f"{', '.join(sorted(unknown))}; it has {', '.join(sorted(takes))}"
            )

    def _check_pixels(self, settings: Mapping[str, Any] | None) -> None:
        """Hold that `pixels` are two limits, of pictures that become patches of any number."""
        limits = self._pixels
        if limits is None:
            return
        if not isinstance(limits, Sequence) or [type(n) is int and n > 0 for n in limits] != [
            True,
            True,
        ]:
            raise InputError(
                f"image_settings={settings!r}: pixels are two whole numbers of 1 or more, the "
                "least and the most"
            )
        if not hasattr(self.processor.image_processor, "merge_size"):
            raise InputError(
                f"image_settings={settings!r}: this model takes pictures of sizes of its own, so "
                "leave pixels out"
            )
        self._images["do_resize"] = False

    def _sized(self, image: Image.Image) -> Image.Image:
        """A picture as it is handed to the processor, resized where `pixels` are set."""
        if self._pixels is None:
            return image
        seeing = self.processor.image_processor
        return smart_resize(image, seeing.patch_size * seeing.merge_size, *self._pixels)

    def _follow(self, text: str) -> list[int]:
        """Tokens of a text that comes after a control token."""
        if self._control.search(text):
            return self.encode(text)
        # Some tokenizers put a space before what begins a text, which this does not.
        return self._tokens(self._anchor + text)[1:]

    def _process(self, text: str, *images: Image.Image, **options: Any) -> dict[str, Tensor]:
        if images:
            options["images"] = [[self._sized(image) for image in images]]
            options |= {"images_kwargs": self._images} if self._images else {}
        if self._bos and text.startswith(self._bos):
            options["add_special_tokens"] = False  # it is there already
        return dict(self.processor(text=[text], return_tensors="pt", **options))

    def _check(self, whole: dict[str, Tensor], row: dict[str, Tensor], asked: PromptTokens) -> None:
        """Hold that the parts are what the processor makes of the whole.

        Raises:
            CheckpointError: they are not.
        """
        if [*row["input_ids"][0].tolist(), *asked.prompt] != whole["input_ids"][0].tolist():
            raise CheckpointError(
                "the processor of this model makes something else of a question after a picture "
                "than of the question alone, which cannot be scored"
            )


class PaliGemmaPromptBuilder(ProcessorPromptBuilder):
    """A question and a new line, which the picture looks at as well as they at the picture."""

    two_way = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        context: int | None = None,
        image_settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(checkpoint, context, image_settings)
        self._anchor = self._bos
        question = "Is this a question?"
        whole = self._process(f"{self.processor.image_token}{question}", GREY_IMAGE)
        self._check(whole, self.see(GREY_IMAGE), self.ask(question, ""))

    def see(self, image: Image.Image) -> dict[str, Tensor]:
        inputs = self._process(self.processor.image_token, image)
        start = inputs["input_ids"][0].tolist().index(self.tokenizer.bos_token_id) + 1
        text = {name: value[:, :start] for name, value in inputs.items() if value.ndim == 2}
        return {"pixel_values": inputs["pixel_values"], **text}

    def ask(self, question: str, answer: str) -> PromptTokens:
        prompt = self._follow(question + "\n")
        return PromptTokens(prompt, [*self.encode(answer), self.tokenizer.eos_token_id])


class RemoteCodePromptBuilder(PromptBuilder):
    """A model with code of its own, asked by a wrapper; its code puts the picture into it.

    A space at the end of the wrapper is where the answer begins.

    Args:
        image_settings: what its layout may set otherwise, for example ``{"grid": [2, 1]}``.
        frames: which frames of a video are shown, as `Sampling` takes them, or how many.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        chat: str,
        context: int | None = None,
        image_settings: Mapping[str, Any] | None = None,
        frames: int | Mapping[str, Any] | None = None,
    ) -> None:
        layout = checkpoint.layout
        if not isinstance(layout, RemoteCodeModel):
            raise CheckpointError(
                f"{checkpoint.folder} is none of the models whose own code is known here"
            )
        # Of its own, as that of `ProcessorPromptBuilder`.
        self._layout, self.tokenizer = layout, copy.deepcopy(layout.tokenizer)
        self._before, self._between, after = split_wrapper(chat)
        self._lead = " " if after.endswith(" ") else ""
        self._tail = after.removesuffix(" ")
        limit = checkpoint.config.get_text_config().max_position_embeddings
        self.context = context or limit
        layout.adjust(image_settings or {})
        self.blind = layout.blind
        if not self.blind:
            self.sampling = sampling_of(frames)
        elif frames is not None:
            raise InputError(f"frames={frames!r}: this model is shown no videos: {self.blind}")

    def see(self, image: Image.Image) -> dict[str, Tensor]:
        return self._layout.see(self._before, image)

    def watch(self, clip: Clip) -> MediaInputs:
        row = self._layout.watch(self._before, clip.frames)
        return MediaInputs(row, frames=len(clip.frames))

    def ask(self, question: str, answer: str) -> PromptTokens:
        known = control_token_pattern(self.tokenizer).search(self._tail)
        start = known.start() if known else len(self._tail)
        text = self.encode(self._between + question + self._tail[:start])
        tail = self._tokens(self._tail[start:])
        end = self.tokenizer.eos_token_id
        return PromptTokens(
            [*self._layout.marks, *text, *tail], [*self.encode(self._lead + answer), end]
        )


class LlavaPromptBuilder(PromptBuilder):
    """LLaVA-1.5 as its authors read it: a fixed conversation, each side of the picture by itself.

    Both sides are tokenized as if a text began there, the picture is padded to a square and counts
    as one token of the context, and the answer is tokenized together with the prompt.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        chat: str,
        context: int,
    ) -> None:
        folder, config, layout, _ = checkpoint
        if config.model_type != "llava":
            raise CheckpointError(
                f"{folder} is of type {config.model_type!r}, not 'llava', whose pictures are read "
                f"whole; load it as 'hf-vlm:{folder}', asked by its own chat template"
            )
        before, self._ask, self._end = split_wrapper(chat)
        self.context = context
        try:
            self.tokenizer = LlamaTokenizer.from_pretrained(folder, model_max_length=10**9)
            seeing = layout.seeing if layout else folder
            self.processor: Any = CLIPImageProcessorPil.from_pretrained(seeing)
        except Exception as error:  # whatever a library makes of files of another kind
            raise CheckpointError(
                f"{folder} has no tokenizer and processor of LLaVA: {first_lines(error)}"
            ) from error
        vision = config.vision_config
        match_tower_size(self.processor, seeing, vision)
        self._check_words(folder, config)
        self.rows = self.tokenizer.vocab_size  # those of Llama; converted weights have some more
        patches = (vision.image_size // vision.patch_size) ** 2
        patches += config.vision_feature_select_strategy == "full"
        start = [self.tokenizer.bos_token_id, *self.encode(before)]
        self._used = len(start) + 1
        self._head = torch.tensor([start + patches * [config.image_token_id]], dtype=torch.long)

    def _check_words(self, folder: Path, config: Any) -> None:
        """Hold that the tokenizer is that of the model, to whose rows the picture's is added.

        Raises:
            CheckpointError: it is not.
        """
        words, text = self.tokenizer, config.get_text_config()
        check_vocabulary(words, text.vocab_size, folder)
        ends = (words.bos_token_id, words.eos_token_id)
        expected = (text.bos_token_id, text.eos_token_id)
        named = words.get_vocab().get("<image>", config.image_token_id)
        image = config.image_token_id
        if None in ends or ends != expected or named != image or image < words.vocab_size:
            raise CheckpointError(
                f"the tokenizer of {folder} ({words.vocab_size} tokens) is not that of this model: "
                f"texts begin and end with {ends} and a picture is token {named}, but config.json "
                f"says {expected} and {config.image_token_id}; put the tokenizer of this "
                "checkpoint there"
            )

    def see(self, image: Image.Image) -> dict[str, Tensor]:
        square = pad_to_square(image.convert("RGB"), self.processor.image_mean)
        pixels = self.processor(square, return_tensors="pt").pixel_values
        return {"input_ids": self._head, "pixel_values": pixels}

    def ask(self, question: str, answer: str) -> PromptTokens:
        prompt = self._ask + question + self._end
        tokens = self.encode(prompt + answer)
        # A space at the end of the prompt becomes part of the answer's first token.
        split = len(self.encode(prompt)) - prompt.endswith(" ")
        return PromptTokens(tokens[:split], [*tokens[split:], self.tokenizer.eos_token_id])

    def used(self, inputs: dict[str, Tensor]) -> int:
        return self._used
