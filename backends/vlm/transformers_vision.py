"""Internals of transformers used for images and videos.

Precomputed vision features as an input, M-RoPE positions behind videos, and video processors and
networks as their authors have them. `tests/backends/vlm/test_transformers_vision.py` has a test for
each internal that is relied on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from transformers.utils.generic import ModelOutput
from typing_extensions import override

from ..common.images import smart_size
from ..common.transformers_internals import parameter_names
from ..common.versions import newer_than_tested
from .reading.inputs import PIXEL_VALUES_VIDEOS, TOKEN_POOLING, Row

MM_ENCODER_OUTPUTS = "mm_encoder_outputs"  # the input that takes precomputed vision features
ENCODER_OUTPUTS = {"pooler_output": False, "deepstack_features": True}  # True: a list by layer
MLLAMA_IMAGE_INPUTS = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")


def settings_of(processor: Any) -> set[str]:
    """Return the settings that an image or video processor takes; none where it names none.

    >>> from transformers import CLIPImageProcessorPil
    >>> "do_resize" in settings_of(CLIPImageProcessorPil()), settings_of(None)
    (True, set())
    """
    return {*getattr(getattr(processor, "valid_kwargs", None), "__annotations__", ())}


@dataclass
class EncoderOutput(ModelOutput):
    """Features as a vision encoder of transformers returns them, for `forward` and `generate`.

    >>> EncoderOutput([torch.zeros(4, 8)]).to_tuple()[0][0].shape
    torch.Size([4, 8])
    """

    pooler_output: Any = None
    deepstack_features: Any = None


class VisionEncoder:
    """Compute image and video features of a model, and the inputs that hand them to its decoder.

    Args:
        network: the model without its head.

    >>> class Network:
    ...     def get_image_features(self, pixel_values, return_dict):
    ...         return {"pooler_output": pixel_values.flatten(2)}
    >>> encoder = VisionEncoder(Network())
    >>> rows = [{"pixel_values": torch.zeros(1, 3, 4, 4)} for _ in range(2)]
    >>> [first, second] = encoder.encode(rows, [False, False])
    >>> first["modality"], first["pooler_output"].shape
    ('image', torch.Size([1, 3, 16]))
    """

    # Inputs of the vision tower, which are left out once there are features.
    inputs: Sequence[str] = ("pixel_values", "pixel_attention_mask", PIXEL_VALUES_VIDEOS)

    def __init__(self, network: Any) -> None:
        self.network = network

    def encode(self, rows: Sequence[Row], has_several_images: Sequence[bool]) -> list[Any]:
        """Return the features of each row; rows of one shape are encoded together.

        Args:
            rows: inputs of the model, with pixels.
            has_several_images: whether a row has more than one image; it is then encoded alone.
        """
        groups: dict[Any, list[int]] = {}
        for n, row in enumerate(rows):
            shapes = (tuple(row[name].shape[1:]) for name in self._arguments(row)[1].values())
            alone = n if has_several_images[n] or TOKEN_POOLING & row.keys() else None
            groups.setdefault((alone, *shapes), []).append(n)
        features: list[Any] = [None] * len(rows)
        for group in groups.values():
            encoded = self._encode_group([rows[n] for n in group])
            for n, feature in zip(group, encoded, strict=True):
                features[n] = feature
        return features

    def decoder_inputs(self, features: Sequence[Any]) -> Row:
        """Return the inputs by which the decoder gets the features of a batch of rows."""
        outputs = {
            name: _cat_layers([feature[name] for feature in features])
            if by_layer
            else _cat([feature[name] for feature in features])
            for name, by_layer in ENCODER_OUTPUTS.items()
            if name in features[0]
        }
        return {MM_ENCODER_OUTPUTS: {features[0]["modality"]: EncoderOutput(**outputs)}}

    def _arguments(self, row: Row) -> tuple[Any, dict[str, str]]:
        """Return the method that encodes a row, and for each of its arguments the row's input."""
        encode = self.network.get_image_features
        if PIXEL_VALUES_VIDEOS in row:
            encode = getattr(self.network, "get_video_features", encode)
        names = {name: name for name in parameter_names(encode) if name in row}
        return encode, names or {"pixel_values": PIXEL_VALUES_VIDEOS}

    def _encode_group(self, rows: Sequence[Row]) -> list[Any]:
        is_video = PIXEL_VALUES_VIDEOS in rows[0]
        modality = "video" if is_video else "image"
        encode, names = self._arguments(rows[0])
        arguments = {name: torch.cat([row[key] for row in rows]) for name, key in names.items()}
        result = encode(**arguments, return_dict=True)
        outputs = {
            name: value for name in ENCODER_OUTPUTS if (value := result.get(name)) is not None
        }
        if len(rows) == 1:
            return [{"modality": modality, **outputs}]
        counts = [len(row[PIXEL_VALUES_VIDEOS if is_video else "pixel_values"]) for row in rows]
        split = {
            name: (_split_layers if ENCODER_OUTPUTS[name] else _split_by_image)(value, counts)
            for name, value in outputs.items()
        }
        return [
            {"modality": modality, **{name: parts[n] for name, parts in split.items()}}
            for n in range(len(rows))
        ]


class MllamaVisionEncoder(VisionEncoder):
    """Compute image features of Mllama, whose decoder attends to image tiles by cross-attention.

    Args:
        network: the model without its head.

    >>> features = [torch.zeros(6, 8), torch.zeros(6, 8)]  # of the tiles of two images
    >>> MllamaVisionEncoder(network=None).decoder_inputs(features)["cross_attention_states"].shape
    torch.Size([12, 8])
    """

    inputs = MLLAMA_IMAGE_INPUTS

    @override
    def decoder_inputs(self, features: Sequence[Any]) -> Row:
        return {"cross_attention_states": torch.cat(list(features))}

    @override
    def _arguments(self, row: Row) -> tuple[Any, dict[str, str]]:
        return None, {name: name for name in MLLAMA_IMAGE_INPUTS}

    @override
    def _encode_group(self, rows: Sequence[Row]) -> list[Any]:
        inputs = {name: torch.cat([row[name] for row in rows]) for name in MLLAMA_IMAGE_INPUTS}
        states = self.network.vision_model(**inputs).last_hidden_state
        projected: Tensor = self.network.multi_modal_projector(states)
        return [image.flatten(0, 1) for image in projected]  # (tiles, patches, width) of each


def find_vision_encoder(network: Any) -> VisionEncoder | None:
    """Return the encoder of a network whose decoder takes precomputed features, or None.

    >>> find_vision_encoder(torch.nn.Linear(1, 1)) is None
    True
    """
    names = parameter_names(type(network).forward)
    if hasattr(network, "get_image_features") and MM_ENCODER_OUTPUTS in names:
        return VisionEncoder(network)
    if hasattr(network, "multi_modal_projector") and "cross_attention_states" in names:
        return MllamaVisionEncoder(network)
    return None


def _split_by_image(features: Any, counts: Sequence[int]) -> list[Any]:
    """Return the features of each image: one item an image, or in proportion to its tiles."""
    tiles = [1] * len(counts) if len(features) == len(counts) else counts
    share, start, parts = len(features) // sum(tiles), 0, []
    for count in tiles:
        parts.append(features[start : start + share * count])
        start += share * count
    return parts


def _split_layers(layers: Sequence[Any], counts: Sequence[int]) -> list[list[Any]]:
    """Return for each image the list of its features by layer."""
    parts = (_split_by_image(layer, counts) for layer in layers)
    return [list(image) for image in zip(*parts, strict=True)]


def _cat_layers(images: Sequence[Sequence[Any]]) -> list[Any]:
    return [_cat(layer) for layer in zip(*images, strict=True)]


def _cat(parts: Sequence[Any]) -> Any:
    """Join tensors to one tensor, and lists of tensors to one list."""
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return [tensor for part in parts for tensor in part]


# Fix M-RoPE positions of text after a video in Qwen2-VL and Qwen2.5-VL, whose tokens have three
# positions each. Those of a video count time, height and width, and text goes on after the largest
# of them (Wang et al. 2024, Qwen2-VL, section 2.1), as in transformers up to 5.2. Since 5.3 it goes
# on after height and width alone, so that text after many frames has positions amidst theirs.

QWEN_MROPE_MODELS: Any = (Qwen2VLModel, Qwen2_5_VLModel)
ROPE_ARGUMENTS = ("input_ids", "mm_token_type_ids", "attention_mask")


def patch_text_positions_after_video(model: Any) -> bool:
    """Replace `get_rope_index` of Qwen2-VL and Qwen2.5-VL; leave other models as they are.

    Returns:
        False where the model is of these classes but computes positions in an unknown way.

    >>> patch_text_positions_after_video(torch.nn.Linear(1, 1))
    True
    """
    if not isinstance(model, QWEN_MROPE_MODELS):
        return True
    original = getattr(model, "get_rope_index", None)
    if original is None or not {*ROPE_ARGUMENTS} <= {*parameter_names(original)}:
        return False

    def get_rope_index(
        input_ids: Tensor,
        mm_token_type_ids: Tensor,
        *args: Any,
        attention_mask: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor]:
        mask = attention_mask
        positions, _ = original(input_ids, mm_token_type_ids, *args, attention_mask=mask, **options)
        for row, types in enumerate(mm_token_type_ids):
            texts = (types[1:] == 0) & (types[:-1] != 0)  # each begins at the next token
            for start in (texts.nonzero()[:, 0] + 1).tolist():
                expected = positions[:, row, :start].max() + 1
                positions[:, row, start:] += expected - positions[0, row, start]
        used = torch.ones_like(input_ids) if mask is None else mask
        last = (positions * used).amax((0, 2))
        return positions, (last + 1 - used.sum(1))[:, None]

    if newer_than_tested("transformers") and not _agree_on_text(original, get_rope_index):
        return False
    model.get_rope_index = get_rope_index
    return True


def _agree_on_text(*functions: Callable[..., Any]) -> bool:
    """Return whether two functions give a text without images the same positions."""
    ids = torch.arange(4)[None]
    mask = torch.ones_like(ids)
    try:
        first, second = (
            list(positions(ids, torch.zeros_like(ids), attention_mask=mask))
            for positions in functions
        )
        return all(torch.equal(a, b.to(a)) for a, b in zip(first, second, strict=True))
    except Exception:  # the untested version may raise anything
        return False


# Video processors that resize frames by Pillow, as the authors' code does.


class PillowVideoProcessor(BaseVideoProcessor):
    """Resize frames with Pillow's bicubic filter.

    torchvision's result differs where one side grows and the other shrinks.

    >>> size = SimpleNamespace(height=4, width=2)
    >>> PillowVideoProcessor().resize(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), size).shape
    torch.Size([1, 3, 4, 2])
    """

    @override
    def resize(self, image: Tensor, size: Any, *_: Any, **__: Any) -> Tensor:
        """Return frames (..., 3, H, W) of whole numbers, 0 to 255."""
        arrays = image.flatten(0, -4).movedim(1, -1).numpy()
        resized = [
            np.asarray(
                Image.fromarray(array).resize((size.width, size.height), Image.Resampling.BICUBIC)
            )
            for array in arrays
        ]
        frames = torch.from_numpy(np.stack(resized)).movedim(-1, 1)
        return frames.reshape(*image.shape[:-2], size.height, size.width)


class InternVLFrameProcessor(PillowVideoProcessor, InternVLVideoProcessor):
    """Prepare frames as `load_video` of OpenGVLab/InternVL: one tile each.

    >>> processor = InternVLFrameProcessor(size={"height": 8, "width": 8}, do_sample_frames=False)
    >>> processor([torch.zeros(2, 3, 20, 10, dtype=torch.uint8)])["pixel_values_videos"][0].shape
    torch.Size([2, 3, 8, 8])
    """


class TarsierFrameProcessor(Qwen2VLVideoProcessor, PillowVideoProcessor):
    """Prepare frames as tarsier_processor.py of bytedance/tarsier.

    That is with `use_multi_images_for_video`: the model merges two frames into one patch, so each
    frame is repeated. A frame is also resized twice: into the limit of pixels, and then to whole
    patches, which may exceed the limit.

    >>> processor = TarsierFrameProcessor(patch_size=2, merge_size=2, do_sample_frames=False,
    ...     cap_pixels_per_frame=True)
    >>> frames = torch.zeros(3, 3, 64, 64, dtype=torch.uint8)
    >>> processor([frames])["video_grid_thw"][:, 0]  # each frame is a step of its own
    tensor([3])
    """

    @override
    def patchify(self, videos: Tensor, **options: Any) -> Any:  # type: ignore[override]
        return super().patchify(videos.repeat_interleave(2, 1), **options)

    @override
    def resize(  # type: ignore[override]
        self, videos: Tensor, size: Any, resample: Any, **options: Any
    ) -> Any:
        limit = size.longest_edge
        height, width = smart_size(videos.shape[-2], videos.shape[-1], 1, 0, limit)
        limited = PillowVideoProcessor.resize(
            self, videos, SimpleNamespace(height=height, width=width)
        )
        rounded = replace(size, longest_edge=2 * limit)
        return super().resize(limited, rounded, resample, **options)


# LLaVA-OneVision and LLaVA-Video as their authors have them.

# Ways to pool a grid of tokens to half its sides; bilinear keeps an odd row and column. The factor
# is always two: the authors' code does not read mm_spatial_pool_stride.
POOLING: dict[str, Callable[[Tensor], Tensor]] = {
    "bilinear": lambda x: interpolate(x, [(s + 1) // 2 for s in x.shape[2:]], mode="bilinear"),
    "average": lambda x: avg_pool2d(x, 2),
    "max": lambda x: max_pool2d(x, 2),
}
# The number of newline tokens in a video of `frames` frames with `rows` rows of tokens each.
NEWLINES: dict[str, Callable[[int, int], int]] = {
    "grid": lambda frames, rows: frames * rows,
    "frame": lambda frames, rows: frames,
    "one_token": lambda frames, rows: 1,
    "no_token": lambda frames, rows: 0,
}


class PooledLlavaOnevision(LlavaOnevisionModel):  # type: ignore[no-untyped-call]
    """LLaVA-OneVision whose configuration says how video tokens are pooled and where newlines are.

    As `get_2dPool`, `add_token_per_grid` and `add_token_per_frame` in llava_arch.py of
    LLaVA-VL/LLaVA-NeXT; that of transformers always has bilinear pooling and one newline.

    >>> network = SimpleNamespace(config=SimpleNamespace(pooling="bilinear"))
    >>> PooledLlavaOnevision.apply_pooling(network, torch.zeros(2, 9, 8)).shape
    torch.Size([2, 4, 8])
    """

    @override
    def apply_pooling(self, image_features: Tensor) -> Tensor:
        """Return (frames, tokens, width) with a quarter of the tokens."""
        side = round(image_features.shape[1] ** 0.5)
        grid = image_features.view(len(image_features), side, side, -1).permute(0, 3, 1, 2)
        return POOLING[self.config.pooling](grid.contiguous()).flatten(2).transpose(1, 2)

    @override
    def get_video_features(self, pixel_values_videos: Tensor, **options: Any) -> Any:
        """Return features whose `pooler_output` is (videos, tokens, width)."""
        features = super().get_video_features(pixel_values_videos, **options)
        tokens = features.pooler_output[:, :-1]  # without the one newline of transformers
        frames = pixel_values_videos.shape[1]
        rows = round((tokens.shape[1] // frames) ** 0.5)
        if parts := NEWLINES[self.config.newlines](frames, rows):
            split = tokens.unflatten(1, (parts, -1))
            newline = self.image_newline.to(split).expand(*split.shape[:2], 1, -1)
            tokens = torch.cat([split, newline], 2).flatten(1, 2)
        features.pooler_output = tokens
        return features


class PooledLlavaOnevisionForConditionalGeneration(
    LlavaOnevisionForConditionalGeneration  # type: ignore[no-untyped-call]
):
    """`PooledLlavaOnevision` with a head that predicts tokens.

    >>> from transformers import LlavaOnevisionConfig, Qwen2Config, SiglipVisionConfig
    >>> small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    >>> small |= {"num_attention_heads": 2}
    >>> config = LlavaOnevisionConfig(
    ...     text_config=Qwen2Config(vocab_size=16, num_key_value_heads=2, **small),
    ...     vision_config=SiglipVisionConfig(image_size=16, patch_size=4, **small))
    >>> config.pooling, config.newlines = "bilinear", "grid"
    >>> network = PooledLlavaOnevisionForConditionalGeneration(config).eval()
    >>> pixels = torch.zeros(1, 3, 3, 16, 16)  # a video of three frames
    >>> features = network.model.get_video_features(pixels, vision_feature_layer=-1,
    ...     vision_feature_select_strategy="full", return_dict=True)
    >>> features.pooler_output.shape  # of each frame, two rows of two tokens and a newline
    torch.Size([1, 18, 8])
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = PooledLlavaOnevision(config)
        self.post_init()  # type: ignore[no-untyped-call]


class LlavaOnevisionFrameProcessor(PillowVideoProcessor, LlavaOnevisionVideoProcessor):
    """Prepare frames as SigLipImageProcessor of LLaVA-VL/LLaVA-NeXT.

    >>> processor = LlavaOnevisionFrameProcessor(size={"height": 8, "width": 8})
    >>> processor([torch.zeros(2, 3, 20, 10, dtype=torch.uint8)])["pixel_values_videos"][0].shape
    torch.Size([2, 3, 8, 8])
    """


class PooledLlavaOnevisionProcessor(LlavaOnevisionProcessor):
    """Put as many placeholder tokens into a prompt as `PooledLlavaOnevision` has for a video.

    >>> vision = SimpleNamespace(image_size=16, patch_size=4)
    >>> processor = object.__new__(PooledLlavaOnevisionProcessor)
    >>> processor.video_token = "<video>"
    >>> processor.config = SimpleNamespace(vision_config=vision, pooling="max", newlines="frame")
    >>> inputs = {"pixel_values_videos": torch.zeros(1, 3, 3, 16, 16)}
    >>> processor.replace_video_token(inputs, 0).count("<video>")  # 3 frames of 2 x 2 and a newline
    15
    """

    config: Any

    @override
    def replace_video_token(self, video_inputs: Any, video_idx: int, **options: Any) -> str:
        frames, config = len(video_inputs["pixel_values_videos"][video_idx]), self.config
        side = config.vision_config.image_size // config.vision_config.patch_size
        rows, columns = POOLING[config.pooling](
            torch.zeros(1, 1, side, side, dtype=torch.float32)
        ).shape[2:]
        count = frames * rows * columns + NEWLINES[config.newlines](frames, rows)
        return str(self.video_token) * count
