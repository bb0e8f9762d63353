"""LanguageBind-Video: the cosine of video and text.

Zhu et al. 2024, "LanguageBind: Extending Video-Language Pretraining to N-modality by Language-based
Semantic Alignment", section 3. CLIP whose vision layers attend over the frames at each place before
they attend over the places of each frame. As languagebind/video/modeling_video.py and
processing_video.py of the authors, whose transform also mirrors half of all videos at random when a
model is used; here no video is mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from ftfy import fix_text
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import gelu
from transformers import CLIPTokenizer
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.inputs.video import Clip
from t2v_eval.local.dual_encoder import EmbeddingScorer
from t2v_eval.local.weights import HUB_FILES, weight_files

from ..common.images import crop_extreme, to_pixels
from ..common.pretrained import load_pretrained
from ..common.processors import check_vocabulary
from .checkpoint import (
    Sizes,
    build,
    check_heads,
    count_layers,
    merge_lora,
    read_weights,
    shape_of,
)
from .clip_text import quick_gelu
from .frames import resize_crop
from .layers import attend
from .video_scorer import VideoScorer

VISION, TEXT = "vision_model.", "text_model."
WEIGHTS = ("pytorch_model*.bin*",)
PEFT = "encoder.base_model.model."  # what peft writes in the place of "encoder."
UNUSED = ("position_ids", "logit_scale")  # numbers of the places; the temperature
IMAGE_SIZE = 224  # of the authors' transform, whatever the configuration says
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"gelu": gelu, "quick_gelu": quick_gelu}
# What the authors' configuration class assumes where config.json does not say.
DEFAULTS = {"heads": 12, "text_heads": 8, "num_frames": 1, "lora_alpha": 16}


class LayerSizes(NamedTuple):
    """Sizes of a layer, and its activation.

    Attributes:
        width: of the states.
        hidden: width of the feed-forward layer.
        heads: of each attention.
        eps: of the norms.
        activation: between the feed-forward layers: a name of `ACTIVATIONS`.

    >>> LayerSizes(1024, 4096, 16, 1e-5, "gelu").heads
    16
    """

    width: int
    hidden: int
    heads: int
    eps: float
    activation: str


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    @override
    def forward(self, states: Tensor, causal: bool = False) -> Tensor:
        query, key, value = self.q_proj(states), self.k_proj(states), self.v_proj(states)
        output: Tensor = self.out_proj(attend(query, key, value, self.heads, causal=causal))
        return output


class _FeedForward(nn.Module):
    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.width, sizes.hidden)
        self.fc2 = nn.Linear(sizes.hidden, sizes.width)
        self.activation = ACTIVATIONS[sizes.activation]

    @override
    def forward(self, states: Tensor) -> Tensor:
        output: Tensor = self.fc2(self.activation(self.fc1(states)))
        return output


class _TextLayer(nn.Module):
    def __init__(self, sizes: LayerSizes) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(sizes.width, sizes.eps)
        self.self_attn = _Attention(sizes.width, sizes.heads)
        self.layer_norm2 = nn.LayerNorm(sizes.width, sizes.eps)
        self.mlp = _FeedForward(sizes)

    @override
    def forward(self, states: Tensor, causal: bool = True) -> Tensor:
        """Map states (B, L, width) to the same shape."""
        states = states + self.self_attn(self.layer_norm1(states), causal)
        output: Tensor = states + self.mlp(self.layer_norm2(states))
        return output


class _VideoLayer(_TextLayer):
    def __init__(self, sizes: LayerSizes, num_frames: int) -> None:
        super().__init__(sizes)
        shape = (1, num_frames, sizes.width)
        self.temporal_embedding = nn.Parameter(torch.empty(*shape, dtype=torch.float32))
        self.temporal_layer_norm1 = nn.LayerNorm(sizes.width, sizes.eps)
        self.temporal_attn = _Attention(sizes.width, sizes.heads)

    @override
    def forward(self, states: Tensor, causal: bool = False) -> Tensor:
        """Map states (B, T, N, width) to the same shape."""
        batch, frames, places, width = states.shape
        by_place = states.transpose(1, 2).flatten(0, 1) + self.temporal_embedding
        by_place = by_place + self.temporal_attn(self.temporal_layer_norm1(by_place))
        by_frame = by_place.view(batch, places, frames, width).transpose(1, 2).flatten(0, 1)
        return super().forward(by_frame, causal).view(batch, frames, places, width)


def _embedding(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(*shape, dtype=torch.float32))


class LanguageBindVision(nn.Module):
    """The vision tower of LanguageBind-Video.

    Args:
        sizes: of its layers.
        layers: number of layers.
        patch: side of a patch, in pixels.
        patches: number of patches of a frame.
        num_frames: number of frames of a video.

    >>> vision = LanguageBindVision(LayerSizes(8, 16, 2, 1e-5, "gelu"), 1, 4, 4, num_frames=2)
    >>> vision(torch.zeros(1, 2, 3, 8, 8)).shape
    torch.Size([1, 8])
    """

    def __init__(
        self, sizes: LayerSizes, layers: int, patch: int, patches: int, num_frames: int
    ) -> None:
        super().__init__()
        width = sizes.width
        self.class_embedding = _embedding(width)
        self.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=False)
        self.position_embedding = _embedding(1 + patches, width)
        self.pre_layrnorm = nn.LayerNorm(width, sizes.eps)  # spelled as in the weights
        self.layers = nn.ModuleList(_VideoLayer(sizes, num_frames) for _ in range(layers))
        self.post_layernorm = nn.LayerNorm(width, sizes.eps)

    @override
    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (B, T, 3, H, W) to features (B, width): the mean over the frames."""
        batch, number = frames.shape[:2]
        patches = self.patch_embedding(frames.flatten(0, 1)).flatten(2).transpose(1, 2)
        token = self.class_embedding.expand(len(patches), 1, -1)
        states = torch.cat([token, patches], dim=1) + self.position_embedding
        states = self.pre_layrnorm(states).unflatten(0, (batch, number))
        for layer in self.layers:
            states = layer(states)
        features: Tensor = self.post_layernorm(states[:, :, 0]).mean(1)
        return features


class LanguageBindText(nn.Module):
    """The text tower of LanguageBind: CLIP's.

    Args:
        sizes: of its layers.
        layers: number of layers.
        vocabulary: number of tokens.
        context: number of positions.

    >>> text = LanguageBindText(LayerSizes(8, 16, 2, 1e-5, "gelu"), 1, vocabulary=9, context=5)
    >>> text(torch.tensor([[7, 1, 8]])).shape
    torch.Size([1, 8])
    """

    def __init__(self, sizes: LayerSizes, layers: int, vocabulary: int, context: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, sizes.width)
        self.position_embedding = _embedding(context, sizes.width)
        self.layers = nn.ModuleList(_TextLayer(sizes) for _ in range(layers))
        self.final_layer_norm = nn.LayerNorm(sizes.width, sizes.eps)

    @override
    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (B, L) to features (B, width), those at the largest id."""
        states = self.token_embedding(ids) + self.position_embedding[: ids.shape[1]]
        for layer in self.layers:
            states = layer(states)
        features: Tensor = self.final_layer_norm(states)[torch.arange(len(ids)), ids.argmax(1)]
        return features


class LanguageBindNetwork(nn.Module):
    """Both towers and their projections.

    Args:
        vision: arguments of `LanguageBindVision`.
        text: arguments of `LanguageBindText`.
        embedding: width of the embeddings.

    >>> sizes = LayerSizes(8, 16, 2, 1e-5, "gelu")
    >>> network = LanguageBindNetwork((sizes, 1, 4, 4, 2), (sizes, 1, 9, 5), embedding=6)
    >>> network.embed_videos(torch.zeros(1, 2, 3, 8, 8)).shape
    torch.Size([1, 6])
    """

    def __init__(
        self,
        vision: tuple[LayerSizes, int, int, int, int],
        text: tuple[LayerSizes, int, int, int],
        embedding: int,
    ) -> None:
        super().__init__()
        self.vision_model, self.text_model = LanguageBindVision(*vision), LanguageBindText(*text)
        self.visual_projection = nn.Linear(vision[0].width, embedding, bias=False)
        self.text_projection = nn.Linear(text[0].width, embedding, bias=False)

    def embed_videos(self, frames: Tensor) -> Tensor:
        """Return the embeddings (B, D) of videos (B, T, 3, H, W)."""
        embeddings: Tensor = self.visual_projection(self.vision_model(frames))
        return embeddings

    def embed_texts(self, ids: Tensor) -> Tensor:
        """Return the embeddings (B, D) of texts, given as token ids (B, L)."""
        embeddings: Tensor = self.text_projection(self.text_model(ids))
        return embeddings


class LanguageBindVideo(VideoScorer, EmbeddingScorer):
    """Score the cosine of video and text, from -1 to 1.

    Zhu et al. 2024, section 3, without the temperature, as t2v_metrics. The authors' demo returns a
    softmax over texts of the cosine times the temperature. The frames of a video that has fewer
    than the model reads are repeated, and so is an image.

    Args:
        checkpoint: a folder, a weight file or a hub id in the authors' layout: config.json,
            vocab.json, merges.txt and pytorch_model.bin.
        **options: options of `VideoScorer`, without `resize`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention, or another number of frames than the model has positions
            for.

    >>> import t2v_eval
    >>> name, folder = "languagebind-video-v1.5-ft", "/models/languagebind"
    >>> scorer = t2v_eval.load(name, checkpoint=folder)  # doctest: +SKIP
    >>> scorer("clip.mp4", ["a dog runs", "a cat sleeps"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """

    resizes = ("short-side-bilinear",)

    def __init__(self, checkpoint: str, **options: Any) -> None:
        super().__init__(**options)
        self.image_size = IMAGE_SIZE
        location = self.locate(checkpoint)
        if location.is_dir() and not any(location.glob("*.safetensors")):
            location = self.locate(checkpoint, (*HUB_FILES, *WEIGHTS))
        sizes = Sizes(location, DEFAULTS)
        if not sizes.files:
            raise CheckpointError(f"{sizes.folder} has no config.json of LanguageBind-Video")
        self._source = (location, sizes)
        self.network = self._build(location, sizes)
        self.network.to(self.device)
        self.tokenizer: Any = load_pretrained(CLIPTokenizer, sizes.folder, "tokenizer of CLIP")
        rows = self.network.text_model.token_embedding.num_embeddings
        check_vocabulary(self.tokenizer, rows, sizes.folder, self.tokenizer("").input_ids)
        described = [file for s in ("json", "txt") for file in sizes.folder.glob(f"*.{s}")]
        self.files = [*weight_files(location), *sorted(described)]

    @override
    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._read(*self._source).items()

    @staticmethod
    def _read(location: Path, sizes: Sizes) -> dict[str, Tensor]:
        """Read the weights with their LoRA updates, by the names of the network."""
        alpha = sizes.number("lora_alpha", "vision_config", "lora_alpha")
        return merge_lora(_plain_names(read_weights(location)), location, alpha)

    def _build(self, location: Path, sizes: Sizes) -> LanguageBindNetwork:
        tensors = self._read(location, sizes)
        width, _, patch, _ = shape_of(tensors, f"{VISION}patch_embedding.weight", 4, location)
        rows, _ = shape_of(tensors, f"{VISION}position_embedding", 2, location)
        if rows - 1 != (IMAGE_SIZE // patch) ** 2:
            raise CheckpointError(
                f"{location} does not fit this model: it has positions for {rows - 1} patches, and "
                f"a frame of {IMAGE_SIZE} pixels has {(IMAGE_SIZE // patch) ** 2} of {patch}"
            )
        num_frames = sizes.number("num_frames", "vision_config", "num_frames")
        if self.num_frames != num_frames:
            raise InputError(
                f"`frames={self.num_frames}`: {self.name!r} has positions for {num_frames} frames"
            )
        vocabulary, text_width = shape_of(tensors, f"{TEXT}token_embedding.weight", 2, location)
        context, _ = shape_of(tensors, f"{TEXT}position_embedding", 2, location)
        embedding, _ = shape_of(tensors, "visual_projection.weight", 2, location)
        layers = [count_layers(tensors, f"{part}layers.", location) for part in (VISION, TEXT)]
        vision = self._layer_sizes(tensors, sizes, VISION, "heads", width, location)
        text = self._layer_sizes(tensors, sizes, TEXT, "text_heads", text_width, location)
        return build(
            LanguageBindNetwork,
            tensors,
            location,
            self.dtype,
            (vision, layers[0], patch, rows - 1, num_frames),
            (text, layers[1], vocabulary, context),
            embedding,
        )

    def _layer_sizes(
        self,
        tensors: Mapping[str, Tensor],
        sizes: Sizes,
        part: str,
        heads: str,
        width: int,
        file: Path,
    ) -> LayerSizes:
        """Return the sizes of the layers of one tower."""
        section = f"{part.removesuffix('_model.')}_config"
        hidden, _ = shape_of(tensors, f"{part}layers.0.mlp.fc1.weight", 2, file)
        number = sizes.number(heads, section, "num_attention_heads")
        check_heads(width, number, part.removesuffix("_model."), file)
        activation = sizes.value(section, "hidden_act") or "quick_gelu"
        eps = sizes.value(section, "layer_norm_eps") or 1e-5
        if activation not in ACTIVATIONS or not isinstance(eps, float):
            raise CheckpointError(
                f"{sizes.folder / 'config.json'}: {section} has hidden_act {activation!r} and "
                f"layer_norm_eps {eps!r}; LanguageBind-Video has "
                f"{' or '.join(map(repr, ACTIVATIONS))} and a number"
            )
        return LayerSizes(width, hidden, number, eps, activation)

    @override
    def fit(self, frame: Image.Image) -> Image.Image:
        """Return the frame as it is: its normalised pixels are resized, not these."""
        return crop_extreme(frame, self.image_size, Image.Resampling.BILINEAR)

    @override
    def preprocess(self, image: Image.Image | Clip) -> Tensor:
        """Return the frames (T, 3, H, W) of a video; one frame or an image is repeated."""
        frames = image.frames if isinstance(image, Clip) else [self.fit(image.convert("RGB"))]
        pixels = [resize_crop(to_pixels(frame), self.image_size) for frame in frames]
        return torch.stack(pixels if len(pixels) > 1 else pixels * self.num_frames)

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        return self.network.embed_videos(batch)

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        context = len(self.network.text_model.position_embedding)
        # The tokenizer of transformers 4, which the authors used, mended texts by itself.
        rows = self.tokenizer([fix_text(self.as_read(text)) for text in texts], verbose=False)
        self.note_truncated(
            text for text, row in zip(texts, rows.input_ids, strict=True) if len(row) > context
        )
        end = self.tokenizer.eos_token_id
        cut = [row if len(row) <= context else [*row[: context - 1], end] for row in rows.input_ids]
        # The tower is causal: padding behind the end changes nothing.
        longest = max(map(len, cut))
        ids = torch.tensor([row + [end] * (longest - len(row)) for row in cut], dtype=torch.long)
        return self.network.embed_texts(ids.to(self.device))


def _plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that `LanguageBindNetwork` uses, by its names."""
    plain: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not name.endswith(UNUSED):
            short = name.replace(PEFT, "encoder.").replace(".encoder.", ".")
            short = short.replace(".embeddings.", ".")
            plain[short.replace("position_embedding.weight", "position_embedding")] = value
    return plain
