"""Load processors and tokenizers of transformers, and check them against config.json.

Published processor files name classes that transformers no longer has, and leave out settings that
config.json holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor

from t2v_eval.errors import CheckpointError, MissingPackageError
from t2v_eval.local.checkpoint_files import first_lines, read_json

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
CLASS_KEYS = ("image_processor_type", "feature_extractor_type")  # keys whose value is a class name
WITH_CLASS_TOKEN = ("clip_vision_model", "clip", "metaclip_2_vision_model")
SQUARE_PROCESSORS = ("CLIPImageProcessor", "SiglipImageProcessor")  # whose output has one size


def read_image_processor(folder: Path, config: Any) -> Any:
    """Load an image processor on its Pillow backend; missing sizes are those of the vision tower.

    A class that transformers does not know, such as CLIPFeatureExtractor in old files, is replaced
    by that of the model type.

    Args:
        folder: holds preprocessor_config.json.
        config: the configuration of the model, with a `vision_config`.

    Raises:
        CheckpointError: it is missing, or its output size differs from the tower's input size.

    >>> from tempfile import TemporaryDirectory
    >>> from transformers import CLIPConfig
    >>> config = CLIPConfig(vision_config={"image_size": 32, "patch_size": 16})
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "preprocessor_config.json")
    ...     _ = file.write_text('{"image_processor_type": "CLIPImageProcessor"}')
    ...     read_image_processor(Path(folder), config).crop_size["height"]
    32
    """
    auto: Any = AutoImageProcessor  # which has no types
    processor = _load_with_fallback(
        folder, lambda at: auto.from_pretrained(at, local_files_only=True, backend="pil")
    )
    match_tower_size(processor, folder, config.vision_config)
    return processor


def match_tower_size(image_processor: Any, folder: Path, vision: Any) -> None:
    """Set an image processor's size to the vision tower's where its file has none, and check it.

    Args:
        image_processor: changed in place.
        folder: holds its file.
        vision: the configuration of the vision tower.

    Raises:
        CheckpointError: the output size differs from the tower's input size.

    >>> from tempfile import TemporaryDirectory
    >>> from types import SimpleNamespace
    >>> from transformers import CLIPImageProcessorPil
    >>> processor = CLIPImageProcessorPil()
    >>> with TemporaryDirectory() as folder:  # whose file names no sizes
    ...     match_tower_size(processor, Path(folder), SimpleNamespace(image_size=32))
    >>> processor.crop_size["height"], processor.size["shortest_edge"]
    (32, 32)
    """
    side = getattr(vision, "image_size", None)
    if not type(image_processor).__name__.startswith(SQUARE_PROCESSORS) or not isinstance(
        side, int
    ):
        return
    settings = _read_settings(folder)
    square = {"height": side, "width": side}
    cropping = type(image_processor).__name__.startswith("CLIP")
    if "size" not in settings:
        image_processor.size = type(image_processor)(
            size={"shortest_edge": side} if cropping else square
        ).size
    if cropping and "crop_size" not in settings:
        image_processor.crop_size = type(image_processor)(crop_size=square).crop_size
    pixels = image_processor(
        Image.new("RGB", (side + 9, side + 5)), return_tensors="pt"
    ).pixel_values[0]
    if tuple(pixels.shape[-2:]) != (side, side):
        raise CheckpointError(
            f"{folder}: its preprocessor_config.json makes images of {pixels.shape[-1]} x "
            f"{pixels.shape[-2]} pixels (size, crop_size), but the model takes {side} x {side} "
            "(config.json, vision_config.image_size)"
        )


def read_processor(folder: Path, config: Any, trust_remote_code: bool) -> Any:
    """Load a processor of images and texts; settings its file leaves out come from config.json.

    Args:
        folder: holds the files of processor and tokenizer.
        config: the configuration of the model.
        trust_remote_code: whether Python code in the folder may run.

    Raises:
        CheckpointError: it cannot be loaded or has no tokenizer.
        MissingPackageError: it needs a package that is not installed.

    >>> import t2v_eval
    >>> from transformers import AutoConfig
    >>> folder = t2v_eval.load("tiny-clip", device="cpu").files[0].parent
    >>> type(read_processor(folder, AutoConfig.from_pretrained(folder), False)).__name__
    'CLIPProcessor'
    """
    auto: Any = AutoProcessor  # which has no types
    try:
        processor = _load_with_fallback(
            folder, lambda at: auto.from_pretrained(at, trust_remote_code=trust_remote_code)
        )
    except ImportError as error:
        package = re.search(r"pip install ([\w-]+)", str(error))
        name = package[1] if package else error.name
        raise MissingPackageError(
            f"the processor of {folder} needs the package {name!r}: pip install {name}"
        ) from error
    if not hasattr(processor, "tokenizer"):
        raise CheckpointError(
            f"{folder} has no processor of images and texts: its files say "
            f"{type(processor).__name__}; add its processor_config.json or preprocessor_config.json"
        )
    settings, takes = _read_settings(folder), signature(type(processor).__init__).parameters
    for name, value in _fields_from_config(config).items():
        if name in takes and name not in settings and value is not None:
            setattr(processor, name, value)
    vision = getattr(config, "vision_config", None)
    image_processor = getattr(processor, "image_processor", None)
    if vision is not None and image_processor is not None:
        match_tower_size(image_processor, folder, vision)
    return processor


def check_vocabulary(
    tokenizer: Any, rows: int, source: Path, used: Iterable[int] = (), remedy: str = ""
) -> None:
    """Check that a model has an embedding for every token of its tokenizer.

    Args:
        tokenizer: the tokenizer.
        rows: number of token embeddings of the model.
        source: where the tokenizer is from, for the message.
        used: special tokens that surround every text. Added tokens that occur in no text may lie
            beyond `rows`.
        remedy: what to do, for the message.

    Raises:
        CheckpointError: a token has no embedding, so the tokenizer is of another model.

    >>> from transformers import T5Tokenizer
    >>> tokenizer = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)], extra_ids=0)
    >>> check_vocabulary(tokenizer, rows=3, source=Path("t5"))
    """
    added = tokenizer.added_tokens_decoder
    vocabulary = [number for number in tokenizer.get_vocab().values() if number not in added]
    last = max([*vocabulary, *used, *([] if vocabulary else added)], default=-1)
    if last >= rows:
        raise CheckpointError(
            f"the tokenizer of {source} ({type(tokenizer).__name__}) is not that of this model: it "
            f"has a vocabulary of {len(tokenizer)} tokens, numbered up to {last}, but the model "
            f"has embeddings of {rows}; " + (remedy or "put the tokenizer of this checkpoint there")
        )


def check_end_token(tokenizer: Any, text: Any, source: Path) -> None:
    """Check that the tokenizer's end token is the one whose state CLIP pools.

    Args:
        tokenizer: CLIP's tokenizer.
        text: the configuration of the text tower.
        source: where the tokenizer is from, for the message.

    Raises:
        CheckpointError: it is another token, so the tokenizer is of another model.

    >>> from types import SimpleNamespace
    >>> text = SimpleNamespace(eos_token_id=2, model_type="clip_text_model", vocab_size=10)
    >>> check_end_token(SimpleNamespace(eos_token_id=9), text, Path("clip"))
    """
    end, expected = tokenizer.eos_token_id, text.eos_token_id
    if expected == 2 and text.model_type == "clip_text_model":
        # As configurations from before 2023 say: the highest number is the end.
        expected = text.vocab_size - 1
    if end != expected:
        raise CheckpointError(
            f"the tokenizer of {source} ({type(tokenizer).__name__}, {len(tokenizer)} tokens) is "
            f"not that of this model: it ends a text with token {end}, but config.json "
            f"(text_config.eos_token_id) and the vocabulary of {text.vocab_size} with {expected}; "
            "put the tokenizer of this checkpoint there"
        )


def _fields_from_config(config: Any) -> dict[str, Any]:
    """Return settings of a processor, by its names, that follow from config.json."""
    vision = getattr(config, "vision_config", None)
    side, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    is_grid_known = isinstance(side, int) and isinstance(patch, int) and patch > 0
    has_class_token = getattr(vision, "model_type", "") in WITH_CLASS_TOKEN
    return {
        "patch_size": patch if isinstance(patch, int) else None,
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", None),
        "num_additional_image_tokens": int(has_class_token) if vision is not None else None,
        "num_image_tokens": (side // patch) ** 2 if is_grid_known and side and patch else None,
        "vision_aspect_ratio": getattr(config, "vision_aspect_ratio", None),
        "spatial_merge_size": getattr(config, "spatial_merge_size", None),
        "pooling_ratio": getattr(config, "projector_pooling_ratio", None),
        "downsample_factor": getattr(config, "downsample_factor", None),
    }


def _read_settings(folder: Path) -> dict[str, Any]:
    """Read the files of a processor; settings of its image processor are merged in."""
    settings: dict[str, Any] = {}
    for file in (folder / name for name in PROCESSOR_FILES):
        if file.exists():
            content = read_json(file)
            within = content.get("image_processor")
            settings |= within if isinstance(within, Mapping) else {}
            settings |= content
    return settings


def _load_with_fallback(folder: Path, load: Any) -> Any:
    """Load from a folder; where that fails, again without the class names in its files.

    Raises:
        CheckpointError: both fail.
    """
    try:
        return load(folder)
    except ImportError:
        raise
    except Exception as error:  # any error of a library given files of another kind
        failed = error
    if named := [
        _read_settings(folder)[key] for key in CLASS_KEYS if key in _read_settings(folder)
    ]:
        try:
            with _without_class_names(folder) as plain:
                return load(plain)
        except Exception:  # the first error is the one to report
            raise CheckpointError(
                f"{folder}: the {named[0]!r} of its preprocessor_config.json cannot be used here, "
                f"and neither can that of its kind of model: {first_lines(failed)}"
            ) from failed
    missing = not any((folder / name).exists() for name in PROCESSOR_FILES)
    lacks = (
        f"it lacks {PROCESSOR_FILES[0]} or {PROCESSOR_FILES[1]}" if missing else first_lines(failed)
    )
    raise CheckpointError(f"{folder} has no processor that can be used: {lacks}") from failed


@contextmanager
def _without_class_names(folder: Path) -> Iterator[Path]:
    """Yield a copy of the folder whose files name no class, so that the model type decides."""
    with TemporaryDirectory() as temporary:
        for file in folder.iterdir():
            target = Path(temporary) / file.name
            if file.name not in PROCESSOR_FILES:
                target.symlink_to(file.resolve())
                continue
            content = read_json(file)
            for part in (content, content.get("image_processor")):
                if isinstance(part, dict):
                    for key in CLASS_KEYS:
                        part.pop(key, None)
            target.write_text(json.dumps(content), encoding="utf-8")
        yield Path(temporary)
