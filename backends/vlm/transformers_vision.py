"""What is asked of transformers beyond its documented interface where pictures and videos are seen:
inputs that take what was seen before, and classes of which methods are written anew.

`tests/backends/vlm/test_transformers_vision.py` has a test for each thing that is relied on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d
from transformers import (
    BaseVideoProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    Qwen2_5_VLModel,
    Qwen2VLModel,
    Qwen2VLVideoProcessor,
)

from ..common.images import smart_size
from ..common.transformers_internals import parameter_names
from ..common.versions import newer_than_tested
from .reading.inputs import PIXEL_VALUES_VIDEOS, TOKEN_POOLING, Row

MM_ENCODER_OUTPUTS = "mm_encoder_outputs"  # the input that takes precomputed vision features
ENCODER_OUTPUTS = {"pooler_output": False, "deepstack_features": True}  # True: a list by layer
MLLAMA_IMAGE_INPUTS = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")


def settings_of(processor: Any) -> set[str]:
    """The settings that an image or video processor takes; none where it does not say."""
    return {*getattr(getattr(processor, "valid_kwargs", None), "__annotations__", ())}


class VisionEncoder:
    """The part of a model that sees pictures, apart from the part that reads."""

    inputs: Sequence[str] = (
        "pixel_values",
        "pixel_attention_mask",
        PIXEL_VALUES_VIDEOS,
    )  # reading takes none

    def __init__(self, network: Any) -> None:
        self.network = network

    def see(self, rows: Sequence[Row], several: Sequence[bool]) -> list[Any]:
        """What each picture is to the reader; pictures of like shape are seen together.

        Args:
            several: whether a row has more than one picture, which are then seen by themselves.
        """
        groups: dict[Any, list[int]] = {}
        for n, row in enumerate(rows):
            shapes = (tuple(row[name].shape[1:]) for name in self._looked_at(row)[1].values())
            alone = n if several[n] or TOKEN_POOLING & row.keys() else None
            groups.setdefault((alone, *shapes), []).append(n)
        seen: list[Any] = [None] * len(rows)
        for group in groups.values():
            for n, made in zip(group, self._look([rows[n] for n in group]), strict=True):
                seen[n] = made
        return seen

    def given(self, seen: Sequence[Any]) -> Row:
        """The inputs by which a batch of rows is told what was seen."""
        parts = {
            name: _cat_layers([one[name] for one in seen]) if by_layer else _cat_rows(seen, name)
            for name, by_layer in ENCODER_OUTPUTS.items()
            if name in seen[0]
        }
        return {MM_ENCODER_OUTPUTS: {seen[0]["kind"]: SimpleNamespace(**parts)}}

    def _looked_at(self, row: Row) -> tuple[Any, dict[str, str]]:
        """What sees a row, and which of the row's inputs it takes under which names."""
        look = self.network.get_image_features
        if PIXEL_VALUES_VIDEOS in row:
            look = getattr(self.network, "get_video_features", look)
        names = {name: name for name in parameter_names(look) if name in row}
        return look, names or {"pixel_values": PIXEL_VALUES_VIDEOS}

    def _look(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        kind, pixels = (
            ("video", PIXEL_VALUES_VIDEOS)
            if PIXEL_VALUES_VIDEOS in rows[0]
            else ("image", "pixel_values")
        )
        look, names = self._looked_at(rows[0])
        given = {name: torch.cat([row[of] for row in rows]) for name, of in names.items()}
        made = look(**given, return_dict=True)
        found = {name: of for name in ENCODER_OUTPUTS if (of := made.get(name)) is not None}
        if len(rows) == 1:
            return [{"kind": kind, **found}]
        counts = [len(row[pixels]) for row in rows]
        split = {
            name: _layers(of, counts) if ENCODER_OUTPUTS[name] else _by_picture(of, counts)
            for name, of in found.items()
        }
        return [{"kind": kind, **{k: of[n] for k, of in split.items()}} for n in range(len(rows))]


class MllamaVisionEncoder(VisionEncoder):
    """Mllama's, whose reader looks at tiles from within."""

    inputs = MLLAMA_IMAGE_INPUTS

    def _looked_at(self, row: Row) -> tuple[Any, dict[str, str]]:
        return None, {name: name for name in MLLAMA_IMAGE_INPUTS}

    def given(self, seen: Sequence[Any]) -> Row:
        return {"cross_attention_states": torch.cat(list(seen))}

    def _look(self, rows: Sequence[Row]) -> list[Any]:
        given = {name: torch.cat([row[name] for row in rows]) for name in MLLAMA_IMAGE_INPUTS}
        made = self.network.vision_model(**given).last_hidden_state
        tiles: Tensor = self.network.multi_modal_projector(made)
        return [picture.flatten(0, 1) for picture in tiles]  # (tiles, patches, width) of each


def find_vision_encoder(network: Any) -> VisionEncoder | None:
    """The part of a model that sees, where reading can be told what it saw."""
    names = parameter_names(type(network).forward)
    if hasattr(network, "get_image_features") and MM_ENCODER_OUTPUTS in names:
        return VisionEncoder(network)
    if hasattr(network, "multi_modal_projector") and "cross_attention_states" in names:
        return MllamaVisionEncoder(network)
    return None


def _by_picture(made: Any, counts: Sequence[int]) -> list[Any]:
    """What was made of several pictures, apart: one each, or in proportion to their tiles."""
    tiles = [1] * len(counts) if len(made) == len(counts) else counts
    share, start, parts = len(made) // sum(tiles), 0, []
    for count in tiles:
        parts.append(made[start : start + share * count])
        start += share * count
    return parts


def _layers(made: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
    """The same, of every layer: a list by picture of lists by layer."""
    return [list(layers) for layers in zip(*(_by_picture(of, counts) for of in made), strict=True)]


def _cat_rows(seen: Sequence[Mapping[str, Any]], name: str) -> Any:
    return _cat([one[name] for one in seen])


def _cat_layers(pictures: Sequence[Sequence[Any]]) -> list[Any]:
    return [_cat(layer) for layer in zip(*pictures, strict=True)]


def _cat(parts: Sequence[Any]) -> Any:
    """Parts as they came: tensors as one, lists as one."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return [tensor for part in parts for tensor in part]


# Where text stands behind a video in Qwen2-VL and Qwen2.5-VL, whose tokens have three places each.
# A video's are counted in time, height and width, and text goes on behind the largest of them, as
# the authors have it (Wang et al. 2024, Qwen2-VL, section 2.1) and transformers had it up to 5.2.
# It has counted on from height and width alone since, so that text after many frames stands amidst
# them.

QWEN_MROPE_MODELS: Any = (Qwen2VLModel, Qwen2_5_VLModel)
ROPE_ARGUMENTS = ("input_ids", "mm_token_type_ids", "attention_mask")


def patch_text_positions_after_video(model: Any) -> bool:
    """Let a model of these classes do so; others are left as they are.

    Returns:
        False for one that places its tokens in a way that is not known here.
    """
    if not isinstance(model, QWEN_MROPE_MODELS):
        return True
    theirs = getattr(model, "get_rope_index", None)
    if theirs is None or not {*ROPE_ARGUMENTS} <= {*parameter_names(theirs)}:
        return False

    def get_rope_index(
        input_ids: Tensor,
        mm_token_type_ids: Tensor,
        *args: Any,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        mask = attention_mask
        places, _ = theirs(input_ids, mm_token_type_ids, *args, attention_mask=mask, **options)
        for row, kinds in enumerate(mm_token_type_ids):
            texts = (kinds[1:] == 0) & (kinds[:-1] != 0)  # each begins one further on
            for start in (texts.nonzero()[:, 0] + 1).tolist():
                behind = places[:, row, :start].max() + 1
                places[:, row, start:] += behind - places[0, row, start]
        used = torch.ones_like(input_ids) if mask is None else mask
        last = (places * used).amax((0, 2))
        return places, (last + 1 - used.sum(1))[:, None]

    if newer_than_tested("transformers") and not _alike(theirs, get_rope_index):
        return False
    model.get_rope_index = get_rope_index
    return True


def _alike(theirs: Callable[..., Any], ours: Callable[..., Any]) -> bool:
    """Whether a text alone has the same places by both."""
    ids = torch.arange(4)[None]
    mask = torch.ones_like(ids)
    try:
        made = [
            list(place(ids, torch.zeros_like(ids), attention_mask=mask)) for place in (theirs, ours)
        ]
        return all(torch.equal(a, b.to(a)) for a, b in zip(*made, strict=True))
    except Exception:  # whatever has become of it
        return False


# Frames of videos resized by Pillow, as readers of videos do that are not in transformers.


class PillowVideoProcessor(BaseVideoProcessor):
    """Bicubic; torchvision's pixels are others where one side grows and the other shrinks."""

    def resize(self, image: Tensor, size: Any, *_: Any, **__: Any) -> Tensor:
        """(..., 3, H, W), whole numbers of 0 to 255."""
        frames = [Image.fromarray(one) for one in image.flatten(0, -4).movedim(1, -1).numpy()]
        wanted = size.width, size.height
        made = [np.asarray(frame.resize(wanted, Image.Resampling.BICUBIC)) for frame in frames]
        whole = torch.from_numpy(np.stack(made)).movedim(-1, 1)
        return whole.reshape(*image.shape[:-2], size.height, size.width)


class InternVLFrameProcessor(PillowVideoProcessor, InternVLVideoProcessor):
    """Prepares frames as `load_video` of OpenGVLab/InternVL: one tile each."""


class TarsierFrameProcessor(Qwen2VLVideoProcessor, PillowVideoProcessor):
    """Two frames are read as one, and so each is given twice, as tarsier_processor.py of
    bytedance/tarsier does with `use_multi_images_for_video`.

    It is resized twice too: into the limit of pixels, which rounding to whole patches may then
    pass.
    """

    def patchify(self, videos: Tensor, **options: Any) -> Any:  # type: ignore[override]
        return super().patchify(videos.repeat_interleave(2, 1), **options)

    def resize(  # type: ignore[override]
        self, videos: Tensor, size: Any, resample: Any, **options: Any
    ) -> Any:
        most, (height, width) = size.longest_edge, videos.shape[-2:]
        high, wide = smart_size(height, width, 1, 0, most)
        limited = PillowVideoProcessor.resize(
            self, videos, SimpleNamespace(height=high, width=wide)
        )
        rounded = replace(size, longest_edge=2 * most)
        return super().resize(limited, rounded, resample, **options)


# LLaVA-OneVision and LLaVA-Video as their authors have them.

# How a grid of tokens becomes one of half its sides, the odd row and column kept or not. Always by
# two: the authors' code does not look at mm_spatial_pool_stride.
POOLING: dict[str, Callable[[Tensor], Tensor]] = {
    "bilinear": lambda of: interpolate(of, [(s + 1) // 2 for s in of.shape[2:]], mode="bilinear"),
    "average": lambda of: avg_pool2d(of, 2),
    "max": lambda of: max_pool2d(of, 2),
}
# In how many parts of a video, of so many frames of so many rows, each is followed by a newline.
NEWLINES: dict[str, Callable[[int, int], int]] = {
    "grid": lambda frames, rows: frames * rows,
    "frame": lambda frames, rows: frames,
    "one_token": lambda frames, rows: 1,
    "no_token": lambda frames, rows: 0,
}


class PooledLlavaOnevision(LlavaOnevisionModel):  # type: ignore[no-untyped-call]
    """LLaVA-OneVision whose videos have their tokens pooled and parted as the configuration says.

    As `get_2dPool`, `add_token_per_grid` and `add_token_per_frame` in llava_arch.py of
    LLaVA-VL/LLaVA-NeXT; that of transformers has always bilinear pooling and one newline.
    """

    def apply_pooling(self, image_features: Tensor) -> Tensor:
        """(frames, tokens, width), a quarter as many tokens."""
        side = round(image_features.shape[1] ** 0.5)
        grid = image_features.view(len(image_features), side, side, -1).permute(0, 3, 1, 2)
        return POOLING[self.config.pooling](grid.contiguous()).flatten(2).transpose(1, 2)

    def get_video_features(self, pixel_values_videos: Tensor, **options: Any) -> Any:
        """`pooler_output` is (videos, tokens, width)."""
        made = super().get_video_features(pixel_values_videos, **options)
        tokens = made.pooler_output[:, :-1]  # without the newline that is always put there
        frames = pixel_values_videos.shape[1]
        rows = round((tokens.shape[1] // frames) ** 0.5)
        if parts := NEWLINES[self.config.newlines](frames, rows):
            apart = tokens.unflatten(1, (parts, -1))
            newline = self.image_newline.to(apart).expand(*apart.shape[:2], 1, -1)
            tokens = torch.cat([apart, newline], 2).flatten(1, 2)
        made.pooler_output = tokens
        return made


class PooledLlavaOnevisionForConditionalGeneration(LlavaOnevisionForConditionalGeneration):  # type: ignore[no-untyped-call]
    """`PooledLlavaOnevision` with a head that predicts tokens."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = PooledLlavaOnevision(config)
        self.post_init()  # type: ignore[no-untyped-call]


class LlavaOnevisionFrameProcessor(PillowVideoProcessor, LlavaOnevisionVideoProcessor):
    """Prepares frames as SigLipImageProcessor of LLaVA-VL/LLaVA-NeXT."""


class PooledLlavaOnevisionProcessor(LlavaOnevisionProcessor):
    """Makes room for as many tokens as `PooledLlavaOnevision` has for a video."""

    config: Any

    def replace_video_token(self, video_inputs: Any, video_idx: int, **options: Any) -> str:
        frames, seeing = len(video_inputs["pixel_values_videos"][video_idx]), self.config
        side = seeing.vision_config.image_size // seeing.vision_config.patch_size
        rows, columns = POOLING[seeing.pooling](
            torch.zeros(1, 1, side, side, dtype=torch.float32)
        ).shape[2:]
        count = frames * rows * columns + NEWLINES[seeing.newlines](frames, rows)
        return str(self.video_token) * count
