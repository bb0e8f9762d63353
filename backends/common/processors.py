"""What prepares images and texts in the layout of transformers, held against config.json.

Files of processors name classes that are gone, and leave out what config.json says too.
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

FILES = ("preprocessor_config.json", "processor_config.json")
KINDS = ("image_processor_type", "feature_extractor_type")  # keys that name a class
WITH_CLASS_TOKEN = ("clip_vision_model", "clip", "metaclip_2_vision_model")
SQUARES = ("CLIPImageProcessor", "SiglipImageProcessor")  # classes that make images of one size


def read_image_processor(folder: Path, config: Any) -> Any:
    """What prepares images, on Pillow; sizes that its file leaves out are those of the tower.

    A class that transformers does not know, such as CLIPFeatureExtractor of old files, is that of
    the kind of model.

    Raises:
        CheckpointError: there is none, or it makes images of another size than the tower takes.
    """
    auto: Any = AutoImageProcessor  # which has no types
    found = _with_known_classes(
        folder, lambda at: auto.from_pretrained(at, local_files_only=True, backend="pil")
    )
    fit(found, folder, config.vision_config)
    return found


def fit(seeing: Any, folder: Path, vision: Any) -> None:
    """Give an image processor the size of the tower where its file says none, and compare them.

    Raises:
        CheckpointError: they differ.
    """
    side = getattr(vision, "image_size", None)
    if not type(seeing).__name__.startswith(SQUARES) or not isinstance(side, int):
        return
    stated = _stated(folder)
    square = {"height": side, "width": side}
    cropping = type(seeing).__name__.startswith("CLIP")
    if "size" not in stated:
        seeing.size = type(seeing)(size={"shortest_edge": side} if cropping else square).size
    if cropping and "crop_size" not in stated:
        seeing.crop_size = type(seeing)(crop_size=square).crop_size
    made = seeing(Image.new("RGB", (side + 9, side + 5)), return_tensors="pt").pixel_values[0]
    if tuple(made.shape[-2:]) != (side, side):
        raise CheckpointError(
            f"{folder}: its preprocessor_config.json makes images of {made.shape[-1]} x "
            f"{made.shape[-2]} pixels (size, crop_size), but config.json says that the model takes "
            f"{side} x {side} (vision_config.image_size)"
        )


def read_processor(folder: Path, config: Any, trusted: bool) -> Any:
    """What prepares images and texts; what its file leaves out is taken from config.json.

    Raises:
        CheckpointError: there is none.
        MissingPackageError: it needs a package that is not installed.
    """
    auto: Any = AutoProcessor  # which has no types
    try:
        found = _with_known_classes(
            folder, lambda at: auto.from_pretrained(at, trust_remote_code=trusted)
        )
    except ImportError as error:
        package = re.search(r"pip install ([\w-]+)", str(error))
        name = package[1] if package else error.name
        raise MissingPackageError(
            f"the processor of {folder} needs the package {name!r}: pip install {name}"
        ) from error
    if not hasattr(found, "tokenizer"):
        raise CheckpointError(
            f"{folder} has no processor of images and texts: its files say {type(found).__name__}"
            f"; add its processor_config.json or preprocessor_config.json"
        )
    stated, takes = _stated(folder), signature(type(found).__init__).parameters
    for name, value in _told_by(config).items():
        if name in takes and name not in stated and value is not None:
            setattr(found, name, value)
    vision = getattr(config, "vision_config", None)
    seeing = getattr(found, "image_processor", None)
    if vision is not None and seeing is not None:
        fit(seeing, folder, vision)
    return found


def check_vocabulary(
    tokenizer: Any, rows: int, source: Path, used: Iterable[int] = (), remedy: str = ""
) -> None:
    """Hold that a model has embeddings for the tokens of its tokenizer.

    Args:
        rows: how many there are.
        used: tokens that stand around a text. Others that were added to a vocabulary, and are in
            no text, may lie beyond.

    Raises:
        CheckpointError: it has not, so that the tokenizer is that of another.
    """
    added = tokenizer.added_tokens_decoder
    own = [number for number in tokenizer.get_vocab().values() if number not in added]
    last = max([*own, *used, *([] if own else added)], default=-1)
    if last >= rows:
        raise CheckpointError(
            f"the tokenizer of {source} ({type(tokenizer).__name__}) is not that of this model: it "
            f"has a vocabulary of {len(tokenizer)} tokens, numbered up to {last}, but the model "
            f"has embeddings of {rows}; " + (remedy or "put the tokenizer of this checkpoint there")
        )


def check_ends(tokenizer: Any, text: Any, source: Path) -> None:
    """Hold that CLIP finds the end of a text, whose state is the embedding, where its token is.

    Raises:
        CheckpointError: the tokenizer ends texts with another token: it is of another model.
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


def _told_by(config: Any) -> dict[str, Any]:
    """Fields of processors by their names there, as config.json says them."""
    vision = getattr(config, "vision_config", None)
    side, patch = getattr(vision, "image_size", None), getattr(vision, "patch_size", None)
    whole = isinstance(side, int) and isinstance(patch, int) and patch > 0
    first = getattr(vision, "model_type", "") in WITH_CLASS_TOKEN
    return {
        "patch_size": patch if isinstance(patch, int) else None,
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", None),
        "num_additional_image_tokens": int(first) if vision is not None else None,
        "num_image_tokens": (side // patch) ** 2 if whole and side and patch else None,
        "vision_aspect_ratio": getattr(config, "vision_aspect_ratio", None),
        "spatial_merge_size": getattr(config, "spatial_merge_size", None),
        "pooling_ratio": getattr(config, "projector_pooling_ratio", None),
        "downsample_factor": getattr(config, "downsample_factor", None),
    }


def _stated(folder: Path) -> dict[str, Any]:
    """Everything that the files of a processor say, of the processor and of its image processor."""
    stated: dict[str, Any] = {}
    for file in (folder / name for name in FILES):
        if file.exists():
            content = read_json(file)
            within = content.get("image_processor")
            stated |= within if isinstance(within, Mapping) else {}
            stated |= content
    return stated


def _with_known_classes(folder: Path, load: Any) -> Any:
    """What is loaded from a folder, or else from it without the names of classes in its files.

    Raises:
        CheckpointError: neither can be.
    """
    try:
        return load(folder)
    except ImportError:
        raise
    except Exception as error:  # whatever a library makes of files of another kind
        failed = error
    if named := [_stated(folder)[key] for key in KINDS if key in _stated(folder)]:
        try:
            with _unnamed(folder) as plain:
                return load(plain)
        except Exception:  # the first fault is the one to tell
            raise CheckpointError(
                f"{folder}: the {named[0]!r} of its preprocessor_config.json cannot be used here, "
                f"and neither can that of its kind of model: {first_lines(failed)}"
            ) from failed
    missing = not any((folder / name).exists() for name in FILES)
    lacks = f"it lacks {FILES[0]} or {FILES[1]}" if missing else first_lines(failed)
    raise CheckpointError(f"{folder} has no processor that can be used: {lacks}") from failed


@contextmanager
def _unnamed(folder: Path) -> Iterator[Path]:
    """The folder with files that name no class, so that its kind of model decides."""
    with TemporaryDirectory() as made:
        for file in folder.iterdir():
            target = Path(made) / file.name
            if file.name not in FILES:
                target.symlink_to(file.resolve())
                continue
            content = read_json(file)
            for part in (content, content.get("image_processor")):
                if isinstance(part, dict):
                    for key in KINDS:
                        part.pop(key, None)
            target.write_text(json.dumps(content), encoding="utf-8")
        yield Path(made)
