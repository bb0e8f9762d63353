"""Any dual encoder that OpenCLIP can build, published or your own; the score is the cosine.

As in t2v_metrics: the image is converted to RGB and goes through OpenCLIP's validation transform;
the cosine is neither scaled nor clipped. Published weights always run with the activation they were
trained with, where recent versions of OpenCLIP choose it by the name of the architecture (their
``openai:ViT-L-14`` is not what its authors released).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Unpack

import open_clip
from PIL import Image
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.inputs.fast_jpeg import Resizing
from t2v_eval.local.base import Options
from t2v_eval.local.checkpoint_files import check_content
from t2v_eval.local.dry_loading import WEIGHT_SUFFIXES
from t2v_eval.local.dual_encoder import EmbeddingScorer
from t2v_eval.local.weights import read_tensors
from t2v_eval.utils.arguments import check_path

from ..common.images import crop_extreme
from .open_clip_internals import (
    TextTower,
    apply_transform,
    build,
    clip_tokenizer,
    count_tokens,
    first_resizing,
    hub_tokenizer,
    image_size_of,
    load_weights,
    resolve_architecture,
    round_weights,
    spell_as_openai,
)
from .openai_archive import infer_architecture, is_archive, read_archive
from .rescaling import scale_and_bias

CONFIG = "open_clip_config.json"
CONFIGS = ("*.json", "*.txt", "*.model")
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
PREPROCESSING_KEYS = ("mean", "std", "interpolation", "resize_mode")


class OpenClip(EmbeddingScorer):
    """Score the cosine of image and text under a dual encoder of OpenCLIP, -1 to 1.

    Args:
        checkpoint: your own weights: a file, or a folder or hub id in OpenCLIP's layout. From an
            archive in OpenAI's layout the architecture is inferred, and it runs as OpenAI's does.
        arch: an architecture of OpenCLIP, or a JSON file in the format of its model configurations;
            by default the configuration beside the weights.
        pretrained: OpenCLIP's tag of the weights; with a `checkpoint`, the tag of its original.
        **options: options of `LocalScorer`.

    Raises:
        InputError: the architecture cannot be built, or `checkpoint` or `arch` is missing.
        UnknownNameError: OpenCLIP has no such architecture or tag.
        CheckpointError: the weights are missing, or are not of this architecture.

    >>> OpenClip(device="cpu")
    Traceback (most recent call last):
    t2v_eval.errors.InputError: 'OpenClip' needs `checkpoint=` and `arch=`
    """

    published: ClassVar[tuple[str | None, str | None]] = (None, None)  # arch and tag by default
    # File names in a folder, of which the first that exists is read.
    weights: ClassVar[Sequence[str]] = WEIGHTS
    # OpenAI resizes an image before converting it to RGB, and has another end token.
    as_openai = False

    def __init__(
        self,
        checkpoint: str | os.PathLike[str] | None = None,
        arch: str | os.PathLike[str] | None = None,
        pretrained: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        file = self._find(os.fspath(checkpoint), self.weights) if checkpoint else None
        tensors = self.read_openai(file) if file else None
        tag: dict[str, Any] = {}
        if file and tensors is not None:
            self.as_openai = True
            config = infer_architecture(tensors, file)
            arch = pretrained = "openai"
        else:
            arch, pretrained = self._name(file, arch, pretrained)
            config, tag = resolve_architecture(arch, pretrained)
            file = file or self._published(arch, tag)
        self._build(arch, config, tag, file.parent)
        load_weights(self.network, file, tensors)
        if tensors is not None:
            round_weights(self.network)
        self.scale, self.bias = scale_and_bias(self.network)
        self.network.to(self.device, self.dtype)
        self.texts = TextTower(self.network)
        self.files = [file, *([check_path("arch", arch)] if arch.endswith(".json") else [])]
        self.identity_facts = {"arch": Path(arch).stem, "tag": str(pretrained)}

    def read_openai(self, file: Path) -> dict[str, Tensor] | None:
        """Read the weights of a file in OpenAI's layout; return None for any other file."""
        return read_archive(file) if is_archive(file) else None

    @override
    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        for file in self.files:
            if file.suffix in WEIGHT_SUFFIXES:
                tensors = self.read_openai(file)
                yield from (read_tensors(file) if tensors is None else tensors).items()

    @override
    def resizing(self) -> Resizing | None:
        return first_resizing(self.transform)

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        prepared: Tensor = self.transform(image if self.as_openai else image.convert("RGB"))
        return prepared

    @override
    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        return apply_transform(self.transform, pixels)

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        embeddings: Tensor = self.network.encode_image(batch)
        return embeddings

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        ids: Tensor = self.tokenizer(list(texts))
        full = [text for text, last in zip(texts, ids[:, -1].tolist(), strict=True) if last]
        self.note_truncated(
            text for text in full if count_tokens(self.tokenizer, text) > ids.shape[1]
        )
        return self.texts(ids.to(self.device))

    def load_tokenizer(self, text: dict[str, Any], folder: Path) -> Any:
        """Load the tokenizer of the text tower, from beside the weights if it lies there.

        Args:
            text: the configuration of the text tower.
            folder: the folder of the weights.

        Raises:
            ValueError: the text tower needs another tokenizer than CLIP's and names none.
        """
        context, options = text.get("context_length", 77), text.get("tokenizer_kwargs") or {}
        name = text.get("hf_tokenizer_name")
        if not name:
            tokenizer = clip_tokenizer(context, **options)
            if tokenizer.vocab_size > text.get("vocab_size", tokenizer.vocab_size):
                raise ValueError("its vocabulary is not CLIP's, so it must name hf_tokenizer_name")
            return spell_as_openai(tokenizer) if self.as_openai else tokenizer
        if (folder / "tokenizer_config.json").exists():
            name = str(folder)
        elif "/" in name:
            name = str(self.locate(name, CONFIGS, revision=None))
        mode = text.get("tokenizer_mode")
        return hub_tokenizer(name, context_length=context, tokenizer_mode=mode, **options)

    def _name(
        self, file: Path | None, arch: str | os.PathLike[str] | None, pretrained: str | None
    ) -> tuple[str, str | None]:
        """Return architecture and tag: as given, as beside the weights, or as published."""
        if arch is None and file and (file.parent / CONFIG).exists():
            arch = file.parent / CONFIG
        elif arch is None:
            arch, pretrained = self.published[0], pretrained or self.published[1]
        if arch is None:
            raise InputError(f"{self.name!r} needs `checkpoint=` and `arch=`")
        return os.fspath(arch), pretrained

    def _published(self, arch: str, tag: Mapping[str, Any]) -> Path:
        """Return the weight file that OpenCLIP names for a tag."""
        if "hf_hub" not in tag:
            raise InputError(f"{self.name!r} with `arch={arch!r}` needs `checkpoint=` too")
        repository, file_name = os.path.split(tag["hf_hub"])
        names = (file_name.replace(".bin", ".safetensors"), file_name) if file_name else WEIGHTS
        return self._find(repository, names)

    def _build(
        self, arch: str, config: dict[str, Any], tag: Mapping[str, Any], folder: Path
    ) -> None:
        """Build the network with random weights, its tokenizer and its image transform."""
        try:
            self.network = build(config, tag.get("quick_gelu", False), self.device)
            self.tokenizer = self.load_tokenizer(config["text_cfg"], folder)
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointError(f"arch {arch!r} lacks a file: {error}") from error
        except (TypeError, KeyError, AttributeError, AssertionError, ValueError) as error:
            raise InputError(f"OpenCLIP cannot build arch {arch!r}: {error!r}") from error
        preprocessing = {key: tag[key] for key in PREPROCESSING_KEYS if key in tag}
        size = image_size_of(self.network)
        self.transform = open_clip.image_transform(size, is_train=False, **preprocessing)
        if size[0] == size[1] and preprocessing.get("resize_mode", "shortest") == "shortest":
            resample = Image.Resampling[preprocessing.get("interpolation", "bicubic").upper()]
            self.transform.transforms.insert(
                0, partial(crop_extreme, side=size[0], resample=resample)
            )

    def _find(self, source: str, names: Sequence[str]) -> Path:
        """Return the weight file of a file, folder or hub id: the first of `names` that exists."""
        for name in names:
            location = self.locate(source, (name, *CONFIGS))
            for file in (location, location / name):
                if file.is_file():
                    check_content(file)  # before a network is built for it
                    return file
        raise CheckpointError(f"{source} holds no weights: expected one of {', '.join(names)}")
