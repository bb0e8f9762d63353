"""Prompt builders: the inputs of a vision-language model for an image or video and a question.

A prompt builder returns the inputs up to the question, with the image (`image_inputs`) or the video
(`video_inputs`), and the tokens of a question and an answer that follow (`tokenize`). Text of a
question is never read as a control token.
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
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError, UnsupportedError
from t2v_eval.inputs.template import split_wrapper
from t2v_eval.inputs.video import Clip, Sampling, sampling_of
from t2v_eval.local.checkpoint_files import first_lines

from ...common.images import pad_to_square, smart_resize
from ...common.processors import check_vocabulary, match_tower_size, read_processor
from ..layouts.base import Layout, Translated
from ..layouts.remote_code import RemoteCodeModel
from ..reading.inputs import PromptTokens
from ..reading.video import MediaInputs
from ..transformers_vision import settings_of

GREY_IMAGE = Image.new("RGB", (64, 64), (120, 130, 140))
TEST_QUESTION = "Is this a question?"


class CheckpointInfo(NamedTuple):
    """The folder, configuration and layout of a checkpoint, and whether its code may run.

    >>> CheckpointInfo(Path("model"), config=None, layout=None, trusted=False).trusted
    False
    """

    folder: Path
    config: Any
    layout: Layout | None
    trusted: bool


def control_token_pattern(tokenizer: Any) -> re.Pattern[str]:
    """Return a pattern that matches the control tokens of a tokenizer in a text.

    >>> from types import SimpleNamespace
    >>> tokenizer = SimpleNamespace(added_tokens_decoder={7: "<|im_end|>"})
    >>> control_token_pattern(tokenizer).split("a cat<|im_end|>")
    ['a cat', '']
    """
    tokens = (str(token) for token in tokenizer.added_tokens_decoder.values())
    return re.compile("|".join(re.escape(t) for t in tokens if t.strip()) or "(?!)")


class PromptBuilder(ABC):
    """Build the prompts of one model.

    Attributes:
        tokenizer: the model's tokenizer.
        context: the number of tokens that fit, as `context_used` counts them.
        vocab_size: how many rows of the vocabulary are tokens; None for all.
        bidirectional_image: whether image tokens attend to the question.
        sampling: how frames of a video are sampled; None for a model that takes no videos.
        no_video_reason: why it takes none.

    >>> class ByteBuilder(PromptBuilder):
    ...     context = 512
    ...
    ...     def image_inputs(self, image):
    ...         pixels = torch.tensor([image.resize((1, 1)).getpixel((0, 0))])
    ...         return {"input_ids": torch.tensor([[256]]), "pixel_values": pixels}
    ...
    ...     def tokenize(self, question, answer):
    ...         return PromptTokens([*question.encode()], [*answer.encode(), 257])
    >>> builder = ByteBuilder()
    >>> builder.context_used(builder.image_inputs(GREY_IMAGE)), builder.tokenize("?", "A").answer
    (1, [65, 257])
    """

    tokenizer: Any
    context: int
    vocab_size: int | None = None
    bidirectional_image: bool = False
    sampling: Sampling | None = None
    no_video_reason: str = "it takes questions about one image"

    @abstractmethod
    def image_inputs(self, image: Image.Image) -> dict[str, Tensor]:
        """Return all inputs of the model up to the question; called in decoding threads.

        Args:
            image: an image of any mode and size.

        Returns:
            Tensors by the names of the model's inputs, `input_ids` (1, L) among them.
        """

    def text_inputs(self, prompt: str) -> dict[str, Tensor]:
        """Return all inputs of the model for a prompt without an image.

        Raises:
            UnsupportedError: the model is always asked about an image.
        """
        raise UnsupportedError("this model is asked by a fixed text around an image")

    def group_inputs(self, images: Sequence[Image.Image], leads: Sequence[str] = ()) -> MediaInputs:
        """Return the inputs up to the question for several images, in order.

        Args:
            images: the images.
            leads: the text before each image; none by default.

        Raises:
            UnsupportedError: the model is asked about one image at a time, or reads images before
                any text.
            InputError: a text holds a control token.
        """
        raise UnsupportedError("this model is asked about one image at a time")

    def resize_frame(self, frame: Image.Image, count: int) -> Image.Image:
        """Resize one of `count` frames of a video to at most the size that the model takes."""
        return frame

    def video_inputs(self, clip: Clip) -> MediaInputs:
        """Return the inputs up to the question of a video whose frames are resized.

        Only called where `sampling` is not None.
        """
        raise NotImplementedError

    @abstractmethod
    def tokenize(self, question: str, answer: str) -> PromptTokens:
        """Return the tokens after the image: the rest of the prompt, and the answer.

        Args:
            question: filled from the template; nothing in it is read as a control token.
            answer: filled from the template.
        """

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text in which nothing is a control token."""
        return self._tokens(text, split_special_tokens=True)

    def _tokens(self, text: str, **options: Any) -> list[int]:
        tokens: list[int] = self.tokenizer(text, add_special_tokens=False, **options).input_ids
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of generated tokens, without control tokens."""
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def context_used(self, inputs: dict[str, Tensor]) -> int:
        """Return how many tokens of the context the inputs up to the question take."""
        return inputs["input_ids"].shape[1]


class ProcessorPromptBuilder(PromptBuilder):
    """Build prompts with a processor of transformers.

    Subclasses set `_anchor`, a control token that comes before questions.

    Args:
        checkpoint: where a layout of authors has a processor of its own, that is used.
        context: the maximal number of tokens, or None for that of the config.
        image_settings: options of the image processor, such as ``{"do_resize": False}``. With
            `pixels`, the minimum and maximum of an image, Pillow resizes it first (`smart_resize`).

    Raises:
        InputError: a setting that the image processor does not have.
        CheckpointError: the processor cannot be loaded.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("hf-vlm:/models/Qwen3-VL-8B-Instruct")  # doctest: +SKIP
    >>> scorer.prompt_builder.image_inputs(GREY_IMAGE)["input_ids"].ndim  # doctest: +SKIP
    2
    """

    _anchor: str

    def __init__(
        self,
        checkpoint: CheckpointInfo,
        context: int | None,
        image_settings: Mapping[str, Any] | None,
    ) -> None:
        folder, config, layout, trusted = checkpoint
        self.processor: Any = (
            layout.processor()
            if isinstance(layout, Translated)
            else read_processor(folder, config, trusted)
        )
        self._image_settings = dict(image_settings or {})
        self._pixels = self._image_settings.pop("pixels", None)
        self._check_settings("image", self._image_settings)
        self._check_pixels(image_settings)
        # A copy: changing how control tokens are read would disturb decoding threads.
        self.tokenizer = copy.deepcopy(self.processor.tokenizer)
        self.tokenizer.model_max_length = self.processor.tokenizer.model_max_length = 10**9
        self.context = context or config.get_text_config().max_position_embeddings
        self._control = control_token_pattern(self.tokenizer)
        self._control_ids = {*self.tokenizer.added_tokens_decoder}
        self._bos = self.tokenizer.bos_token or ""

    def _check_settings(self, kind: str, settings: Mapping[str, Any]) -> None:
        """Check that the image or video processor has these settings."""
        processor = getattr(self.processor, f"{kind}_processor", None)
        allowed = settings_of(processor)
        if unknown := settings.keys() - allowed:
            raise InputError(
                f"{kind}_settings={dict(settings)!r}: {type(processor).__name__} of this model has "
                f"no {', '.join(sorted(unknown))}; it has {', '.join(sorted(allowed))}"
            )

    def _check_pixels(self, settings: Mapping[str, Any] | None) -> None:
        """Check that `pixels` are two limits, and that the model takes images of any size."""
        limits = self._pixels
        if limits is None:
            return
        if not isinstance(limits, Sequence) or [type(n) is int and n > 0 for n in limits] != [
            True,
            True,
        ]:
            raise InputError(
                f"`image_settings={settings!r}`: pixels are two whole numbers of 1 or more, the "
                "least and the most"
            )
        if not hasattr(self.processor.image_processor, "merge_size"):
            raise InputError(
                f"`image_settings={settings!r}`: this model resizes images to fixed sizes, so "
                "leave pixels out"
            )
        self._image_settings["do_resize"] = False

    def _resize(self, image: Image.Image) -> Image.Image:
        """Return an image resized within `pixels`, where they are set."""
        if self._pixels is None:
            return image
        processor = self.processor.image_processor
        return smart_resize(image, processor.patch_size * processor.merge_size, *self._pixels)

    def _tokens_after_control(self, text: str) -> list[int]:
        """Return the tokens of a text that comes after a control token."""
        if self._control.search(text):
            return self.encode(text)
        # Some tokenizers put a space before the beginning of a text, but not after the anchor.
        return self._tokens(self._anchor + text)[1:]

    def _process(self, text: str, *images: Image.Image, **options: Any) -> dict[str, Tensor]:
        if images:
            options["images"] = [[self._resize(image) for image in images]]
            options |= {"images_kwargs": self._image_settings} if self._image_settings else {}
        if self._bos and text.startswith(self._bos):
            options["add_special_tokens"] = False  # the text has it already
        return dict(self.processor(text=[text], return_tensors="pt", **options))

    def _check_parts(
        self, whole: dict[str, Tensor], row: dict[str, Tensor], tokens: PromptTokens
    ) -> None:
        """Check that image and question, tokenized apart, have the tokens of the whole prompt.

        Raises:
            CheckpointError: they have others.
        """
        if [*row["input_ids"][0].tolist(), *tokens.prompt] != whole["input_ids"][0].tolist():
            raise CheckpointError(
                "the processor of this model tokenizes a question after an image differently from "
                "the question alone, so that it cannot be scored"
            )


class PaliGemmaPromptBuilder(ProcessorPromptBuilder):
    """Ask a question and a newline; image tokens attend to them as well.

    Beyer et al. 2024, "PaliGemma: A versatile 3B VLM for transfer", section 3: prefix-LM attention.

    Args:
        checkpoint: a checkpoint of PaliGemma.
        context: see `ProcessorPromptBuilder`.
        image_settings: see `ProcessorPromptBuilder`.

    >>> PaliGemmaPromptBuilder.bidirectional_image
    True
    """

    bidirectional_image = True

    def __init__(
        self,
        checkpoint: CheckpointInfo,
        context: int | None = None,
        image_settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(checkpoint, context, image_settings)
        self._anchor = self._bos
        whole = self._process(f"{self.processor.image_token}{TEST_QUESTION}", GREY_IMAGE)
        self._check_parts(whole, self.image_inputs(GREY_IMAGE), self.tokenize(TEST_QUESTION, ""))

    @override
    def image_inputs(self, image: Image.Image) -> dict[str, Tensor]:
        inputs = self._process(self.processor.image_token, image)
        start = inputs["input_ids"][0].tolist().index(self.tokenizer.bos_token_id) + 1
        text = {name: value[:, :start] for name, value in inputs.items() if value.ndim == 2}
        return {"pixel_values": inputs["pixel_values"], **text}

    @override
    def tokenize(self, question: str, answer: str) -> PromptTokens:
        prompt = self._tokens_after_control(question + "\n")
        return PromptTokens(prompt, [*self.encode(answer), self.tokenizer.eos_token_id])


class RemoteCodePromptBuilder(PromptBuilder):
    """Build prompts of a model with remote code, which puts the image into a wrapper.

    A space at the end of the wrapper begins the answer.

    Args:
        checkpoint: a checkpoint of a model in `vlm.layouts.remote_code`.
        chat: the wrapper.
        context: the maximal number of tokens, or None for that of the config.
        image_settings: those of its layout, for example ``{"grid": [2, 1]}``.
        frames: the number of frames of a video, or arguments of `Sampling`.

    Raises:
        CheckpointError: the checkpoint is of another model.
        InputError: `frames` for a model that takes no videos.

    >>> import t2v_eval
    >>> options = {"checkpoint": "/models/Molmo-7B-D-0924", "trust_remote_code": True}
    >>> scorer = t2v_eval.load("molmo-7b-d-0924", **options)  # doctest: +SKIP
    >>> type(scorer.prompt_builder).__name__  # doctest: +SKIP
    'RemoteCodePromptBuilder'
    """

    def __init__(
        self,
        checkpoint: CheckpointInfo,
        chat: str,
        context: int | None = None,
        image_settings: Mapping[str, Any] | None = None,
        frames: int | Mapping[str, Any] | None = None,
    ) -> None:
        layout = checkpoint.layout
        if not isinstance(layout, RemoteCodeModel):
            raise CheckpointError(
                f"{checkpoint.folder} is of another model than those with remote code that are "
                "supported (Molmo, mPLUG-Owl3, InternLM-XComposer2.5, InternVideo2-Chat)"
            )
        # A copy, as in `ProcessorPromptBuilder`.
        self._layout, self.tokenizer = layout, copy.deepcopy(layout.tokenizer)
        self._before, self._between, after = split_wrapper(chat)
        self._answer_lead = " " if after.endswith(" ") else ""
        self._tail = after.removesuffix(" ")
        limit = checkpoint.config.get_text_config().max_position_embeddings
        self.context = context or limit
        layout.set_image_options(image_settings or {})
        self.no_video_reason = layout.no_video_reason
        if not self.no_video_reason:
            self.sampling = sampling_of(frames)
        elif frames is not None:
            raise InputError(
                f"`frames={frames!r}`: this model takes no videos: {self.no_video_reason}"
            )

    @override
    def image_inputs(self, image: Image.Image) -> dict[str, Tensor]:
        return self._layout.image_inputs(self._before, image)

    @override
    def video_inputs(self, clip: Clip) -> MediaInputs:
        row = self._layout.video_inputs(self._before, clip.frames)
        return MediaInputs(row, frames=len(clip.frames))

    @override
    def tokenize(self, question: str, answer: str) -> PromptTokens:
        control = control_token_pattern(self.tokenizer).search(self._tail)
        start = control.start() if control else len(self._tail)
        text = self.encode(self._between + question + self._tail[:start])
        prompt = [*self._layout.suffix_tokens, *text, *self._tokens(self._tail[start:])]
        answer_tokens = self.encode(self._answer_lead + answer)
        return PromptTokens(prompt, [*answer_tokens, self.tokenizer.eos_token_id])


class LlavaPromptBuilder(PromptBuilder):
    """Build prompts of LLaVA-1.5 as its authors do: a fixed conversation around the image.

    The text before and the text after the image are tokenized apart, the image is padded to a
    square and counts as one token of the context, and the answer is tokenized with the prompt.

    Args:
        checkpoint: a checkpoint of LLaVA-1.5.
        chat: the conversation, a name of `templates/chat.toml`.
        context: the maximal number of tokens, an image counting as one.

    Raises:
        CheckpointError: the checkpoint is of another model, or its files are of several.

    >>> from transformers import LlavaNextConfig
    >>> checkpoint = CheckpointInfo(Path("llava-v1.6"), LlavaNextConfig(), None, False)
    >>> LlavaPromptBuilder(checkpoint, "USER: {image} {question}", 2048)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    t2v_eval.errors.CheckpointError: llava-v1.6 is of type 'llava_next', not 'llava', ...
    """

    def __init__(
        self,
        checkpoint: CheckpointInfo,
        chat: str,
        context: int,
    ) -> None:
        folder, config, layout, _ = checkpoint
        if config.model_type != "llava":
            raise CheckpointError(
                f"{folder} is of type {config.model_type!r}, not 'llava', whose images are read "
                f"whole; load it as 'hf-vlm:{folder}', asked by its own chat template"
            )
        before, self._between, self._tail = split_wrapper(chat)
        self.context = context
        try:
            self.tokenizer = LlamaTokenizer.from_pretrained(folder, model_max_length=10**9)
            processor_folder = layout.processor_folder if layout else folder
            self.processor: Any = CLIPImageProcessorPil.from_pretrained(processor_folder)
        except Exception as error:  # transformers raises many kinds for files of other models
            raise CheckpointError(
                f"{folder} has no tokenizer and processor of LLaVA: {first_lines(error)}"
            ) from error
        vision = config.vision_config
        match_tower_size(self.processor, processor_folder, vision)
        self._check_tokenizer(folder, config)
        self.vocab_size = self.tokenizer.vocab_size  # Llama's; converted weights have more rows
        patches = (vision.image_size // vision.patch_size) ** 2
        patches += config.vision_feature_select_strategy == "full"
        start = [self.tokenizer.bos_token_id, *self.encode(before)]
        self._context_used = len(start) + 1
        ids = start + patches * [config.image_token_id]
        self._input_ids = torch.tensor([ids], dtype=torch.long)

    def _check_tokenizer(self, folder: Path, config: Any) -> None:
        """Check that the tokenizer is that of the model, without its row for the image token.

        Raises:
            CheckpointError: it is another.
        """
        tokenizer, text = self.tokenizer, config.get_text_config()
        check_vocabulary(tokenizer, text.vocab_size, folder)
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id)
        expected = (text.bos_token_id, text.eos_token_id)
        image = config.image_token_id
        actual = tokenizer.get_vocab().get("<image>", image)
        if None in ends or ends != expected or actual != image or image < tokenizer.vocab_size:
            raise CheckpointError(
                f"the tokenizer of {folder} ({tokenizer.vocab_size} tokens) is not that of this "
                f"model: texts begin and end with {ends} and an image is token {actual}, but "
                f"config.json says {expected} and {image}; put the tokenizer of this "
                "checkpoint there"
            )

    @override
    def image_inputs(self, image: Image.Image) -> dict[str, Tensor]:
        square = pad_to_square(image.convert("RGB"), self.processor.image_mean)
        pixels = self.processor(square, return_tensors="pt").pixel_values
        return {"input_ids": self._input_ids, "pixel_values": pixels}

    @override
    def tokenize(self, question: str, answer: str) -> PromptTokens:
        prompt = self._between + question + self._tail
        tokens = self.encode(prompt + answer)
        # A space at the end of the prompt becomes part of the answer's first token.
        split = len(self.encode(prompt)) - prompt.endswith(" ")
        return PromptTokens(tokens[:split], [*tokens[split:], self.tokenizer.eos_token_id])

    @override
    def context_used(self, inputs: dict[str, Tensor]) -> int:
        return self._context_used
