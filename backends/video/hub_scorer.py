"""Scorers of videos whose network, tokenizer and processor are those of transformers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor  # type: ignore[import-untyped]
from transformers import AutoConfig, AutoTokenizer, AutoVideoProcessor, BatchEncoding
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.inputs.video import Clip
from t2v_eval.local.weights import read_tensors, weight_files

from ..common.pretrained import load_pretrained
from ..common.processors import check_vocabulary
from .frames import check_one_size
from .video_scorer import VideoScorer


class HubVideoScorer(VideoScorer):
    """A scorer of videos that reads a folder of transformers; frames go through its processor.

    Subclasses call `open_folder` first, then `open_tokenizer` and `open_processor`.

    Attributes:
        model_types: the `model_type` of configurations that it reads; the first is named in
            messages.
        padding: how texts are padded, as a tokenizer calls it.
        config: the configuration of the model.
        context: number of tokens of a text that are read.
        processor: what turns frames into inputs.

    >>> HubVideoScorer.resizes
    ('processor',)
    """

    resizes = ("processor",)
    model_types: ClassVar[Sequence[str]]
    padding: ClassVar[str] = "longest"
    config: Any
    context: int
    processor: Any

    def open_folder(self, checkpoint: str) -> Path:
        """Locate a checkpoint, and read its configuration; its files become `files`.

        Raises:
            CheckpointError: a file is missing or damaged, or the model is of another type.
        """
        folder = self.locate_weights(checkpoint)
        self.config = load_pretrained(AutoConfig, folder, self.model_types[0])
        if self.config.model_type not in self.model_types:
            raise CheckpointError(
                f"{folder} holds a model of type {self.config.model_type!r}, not "
                f"{' or '.join(map(repr, self.model_types))}"
            )
        described = [file for s in ("json", "txt", "model") for file in folder.glob(f"*.{s}")]
        self.files = [*weight_files(folder), *sorted(described)]
        return folder

    def read_weights(self, folder: Path) -> dict[str, Tensor]:
        """Read the weights that scores depend on, by the names of the network.

        Raises:
            CheckpointError: a file is damaged.
        """
        return read_tensors(folder)

    @override
    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.read_weights(self.files[0].parent).items()

    def open_tokenizer(self, folder: Path, vocab_size: int, context: int) -> None:
        """Load the tokenizer of a model that has `vocab_size` tokens and reads `context` of a text.

        Raises:
            CheckpointError: it is missing, damaged or of another model.
        """
        self.tokenizer = load_pretrained(AutoTokenizer, folder, self.model_types[0])
        check_vocabulary(self.tokenizer, vocab_size, folder, self.tokenizer("").input_ids)
        self.context = context

    def open_processor(self, folder: Path) -> None:
        """Load the processor of frames, by default that of videos.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        self.processor = load_pretrained(AutoVideoProcessor, folder, self.model_types[0])

    def check_count(self, positions: int) -> None:
        """Check that the frames to read are as many as the model has positions for.

        Raises:
            InputError: they are not.
        """
        if self.num_frames != positions:
            raise InputError(
                f"`frames={self.num_frames}`: {self.name!r} has positions for {positions} frames"
            )

    def frame_inputs(self, frame: Image.Image) -> Tensor:
        """Return the model inputs (1, 3, H, W) of an RGB frame."""
        video = pil_to_tensor(frame)[None]
        inputs = self.processor(videos=[video], do_sample_frames=False, return_tensors="pt")
        prepared: Tensor = inputs.pixel_values_videos[0]
        return prepared

    @override
    def fit(self, frame: Image.Image) -> Image.Image:
        """Return the frame as it is: the processor resizes it."""
        return frame

    @override
    def preprocess(self, image: Image.Image | Clip) -> Tensor:
        """Return the frames (T, 3, H, W) of a video; an image is a video of one frame.

        Where the model reads a fixed number of frames, a single one is repeated.

        Raises:
            InputError: the processor makes frames of several sizes.
        """
        frames = image.frames if isinstance(image, Clip) else [image.convert("RGB")]
        # Frame by frame, since those of a video may differ in size; a repeated frame once.
        unique = {id(frame): frame for frame in frames}
        inputs = {key: self.frame_inputs(frame) for key, frame in unique.items()}
        pixels = [inputs[id(frame)] for frame in frames]
        check_one_size(tuple(frame.shape[-2:]) for frame in pixels)
        alone = self.fixed_count and len(pixels) == 1
        return torch.cat(pixels * self.num_frames if alone else pixels)

    def note_cut(self, texts: Sequence[str]) -> None:
        """Note the texts that are longer than the model reads."""
        read = [self.as_read(text) for text in texts]
        lengths = [len(self.tokenizer(text, verbose=False).input_ids) for text in read]
        self.note_truncated(
            text for text, length in zip(texts, lengths, strict=True) if length > self.context
        )

    def tokenize(self, texts: Sequence[str]) -> BatchEncoding:
        """Return token ids and attention mask (B, L) of texts, truncated where too long."""
        inputs: BatchEncoding = self.tokenizer(
            [self.as_read(text) for text in texts],
            padding=self.padding,
            truncation=True,
            max_length=self.context,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return inputs.to(self.device)
