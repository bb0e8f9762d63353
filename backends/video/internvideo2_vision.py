"""The vision encoder of InternVideo2, of every stage and size.

Wang et al. 2024, "InternVideo2: Scaling Foundation Models for Multimodal Video Understanding",
section 3. A class token and the patches of all frames attend to each other, with RMS norms, also of
queries and keys over the whole width, and scaled residuals. An attention pools them, whose query is
the mean of all tokens. As multi_modality/models/backbones/internvideo2/internvideo2.py and
internvideo2_clip_vision.py of the authors, without their compiled kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from typing_extensions import override

from t2v_eval.errors import CheckpointError

from .checkpoint import Sizes, check_heads, count_layers, shape_of
from .layers import Mlp, PatchEmbedding, attend, stretch_in_time

RMS_EPS, POOL_EPS = 1e-6, 1e-5
CONFIG = ("model", "vision_encoder")


class VisionSizes(NamedTuple):
    """Sizes of the encoder.

    Attributes:
        width: of the tokens.
        hidden: width of the feed-forward layers.
        heads: of each attention.
        pool_heads: of the attention that pools.
        layers: number of layers.
        patch: side of a patch, in pixels.
        patches: number of patches of a frame.
        num_frames: number of frames of a video.
        output: width of the pooled features.
        picture_table: whether a picture has positions of its own.

    >>> sizes = VisionSizes(1408, 6144, 16, 16, 40, 14, 256, 4, 768, True)
    >>> sizes.num_frames * sizes.patches + 1  # tokens of a video
    1025
    """

    width: int
    hidden: int
    heads: int
    pool_heads: int
    layers: int
    patch: int
    patches: int
    num_frames: int
    output: int
    picture_table: bool

    @classmethod
    def of(cls, tensors: dict[str, Tensor], sizes: Sizes, frames: int, file: Path) -> VisionSizes:
        """Read the sizes off the weights of the encoder, and stretch its positions to `frames`.

        Args:
            tensors: the weights, without a prefix; `pos_embed` is replaced.
            sizes: those that the weights do not tell.
            frames: number of frames of a video; with 1, which is a picture, positions stay.
            file: where the weights are from, for messages.

        Raises:
            CheckpointError: weights are missing, or do not fit together.
        """
        width, *_, patch = shape_of(tensors, "patch_embed.proj.weight", 5, file)
        hidden, _ = shape_of(tensors, "blocks.0.mlp.fc1.weight", 2, file)
        output, _ = shape_of(tensors, "clip_projector.cross_attn.proj.weight", 2, file)
        heads = sizes.number("heads", *CONFIG, "num_heads")
        pool_heads = sizes.number("pool_heads", *CONFIG, "attn_pool_num_heads")
        for number in (heads, pool_heads):
            check_heads(width, number, "vision", file)
        side = sizes.number("image_size", *CONFIG, "img_size")
        patches = (side // patch) ** 2
        frames = stretch_positions(tensors, patches, frames, file)
        layers = count_layers(tensors, "blocks.", file)
        own_table = "img_pos_embed" in tensors
        return cls(
            *(width, hidden, heads, pool_heads, layers),
            *(patch, patches, frames, output, own_table),
        )


def stretch_positions(tensors: dict[str, Tensor], patches: int, frames: int, file: Path) -> int:
    """Replace `pos_embed` by one for another number of frames; the class token keeps its own.

    A picture has no need of it: it has positions of its own, or the mean over frames.

    Args:
        tensors: weights of the encoder.
        patches: number of patches of a frame.
        frames: number of frames of a video.
        file: where the weights are from, for messages.

    Returns:
        The number of frames that it is for now.

    Raises:
        CheckpointError: the positions are not those of whole frames.

    >>> tensors = {"pos_embed": torch.zeros(1, 9, 6)}
    >>> stretch_positions(tensors, patches=4, frames=4, file=Path("stage2.pth"))
    4
    >>> tensors["pos_embed"].shape
    torch.Size([1, 17, 6])
    """
    _, rows, _ = shape_of(tensors, "pos_embed", 3, file)
    old, rest = divmod(rows - 1, max(1, patches))
    if rest or not old:
        raise CheckpointError(
            f"{file} does not fit this model: pos_embed has {rows} positions, which are not a "
            f"class token and whole frames of {patches} patches; put the config.json of these "
            "weights beside them"
        )
    if frames == 1:
        return old
    first, others = tensors["pos_embed"][0, :1], tensors["pos_embed"][0, 1:]
    tensors["pos_embed"] = torch.cat([first, stretch_in_time(others, old, frames)])[None]
    return frames


def with_positions(
    tensors: Mapping[str, Tensor], prefix: str, vision: InternVideo2Vision, file: Path
) -> dict[str, Tensor]:
    """Return weights of a file with positions for the number of frames of a loaded encoder.

    Args:
        tensors: weights of a network.
        prefix: what the names of its vision encoder begin with.
        vision: the encoder that was loaded from them.
        file: where the weights are from, for messages.

    Raises:
        CheckpointError: the positions are not those of whole frames.

    >>> sizes = VisionSizes(width=8, hidden=16, heads=2, pool_heads=2, layers=1, patch=4,
    ...     patches=4, num_frames=4, output=6, picture_table=False)
    >>> stored = {"vision.pos_embed": torch.zeros(1, 9, 8)}
    >>> loaded = with_positions(stored, "vision.", InternVideo2Vision(sizes), Path("stage2.pth"))
    >>> loaded["vision.pos_embed"].shape
    torch.Size([1, 17, 8])
    """
    encoder = rename(tensors, prefix)
    patches = (vision.pos_embed.shape[1] - 1) // vision.num_frames
    stretch_positions(encoder, patches, vision.num_frames, file)
    return {**tensors, **{prefix + name: value for name, value in encoder.items()}}


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = nn.RMSNorm(width, RMS_EPS)
        self.k_norm = nn.RMSNorm(width, RMS_EPS)
        self.proj = nn.Linear(width, width)

    @override
    def forward(self, states: Tensor) -> Tensor:
        query, key, value = self.qkv(states).chunk(3, dim=-1)
        attended = attend(self.q_norm(query), self.k_norm(key), value, self.heads)
        output: Tensor = self.proj(attended)
        return output


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width, dtype=torch.float32))

    @override
    def forward(self, states: Tensor) -> Tensor:
        return states * self.gamma


class _Block(nn.Module):
    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(sizes.width, RMS_EPS)
        self.attn = _Attention(sizes.width, sizes.heads)
        self.ls1 = _Scale(sizes.width)
        self.norm2 = nn.RMSNorm(sizes.width, RMS_EPS)
        self.mlp = Mlp(sizes.width, sizes.hidden)
        self.ls2 = _Scale(sizes.width)

    @override
    def forward(self, states: Tensor) -> Tensor:
        states = states + self.ls1(self.attn(self.norm1(states)))
        output: Tensor = states + self.ls2(self.mlp(self.norm2(states)))
        return output


class _PoolingProjections(nn.Module):
    def __init__(self, width: int, output: int) -> None:
        super().__init__()
        for name in ("q", "k", "v"):
            self.add_module(name, nn.Linear(width, width, bias=False))
            bias = nn.Parameter(torch.empty(width, dtype=torch.float32))
            self.register_parameter(f"{name}_bias", bias)
        self.proj = nn.Linear(width, output)

    def project(self, name: str, states: Tensor) -> Tensor:
        """Project states to queries, keys or values."""
        weight: Tensor = self.get_submodule(name).get_parameter("weight")
        return linear(states, weight, self.get_parameter(f"{name}_bias"))


class _Pooling(nn.Module):
    """Attention from the mean of all tokens to them."""

    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.heads = sizes.pool_heads
        self.norm1_q = nn.LayerNorm(sizes.width, POOL_EPS)
        self.norm1_k = nn.LayerNorm(sizes.width, POOL_EPS)
        self.norm1_v = nn.LayerNorm(sizes.width, POOL_EPS)
        self.cross_attn = _PoolingProjections(sizes.width, sizes.output)

    @override
    def forward(self, tokens: Tensor) -> Tensor:
        inner = self.cross_attn
        query = inner.project("q", self.norm1_q(tokens.mean(1, keepdim=True)))
        key = inner.project("k", self.norm1_k(tokens))
        value = inner.project("v", self.norm1_v(tokens))
        output: Tensor = inner.proj(attend(query, key, value, self.heads))
        return output[:, 0]


class InternVideo2Vision(nn.Module):
    """The vision encoder of InternVideo2.

    >>> sizes = VisionSizes(width=8, hidden=16, heads=2, pool_heads=2, layers=1, patch=4,
    ...     patches=4, num_frames=2, output=6, picture_table=False)
    >>> vision = InternVideo2Vision(sizes)
    >>> tokens = vision(torch.zeros(1, 2, 3, 8, 8))
    >>> tokens.shape, vision.clip_projector(tokens).shape
    (torch.Size([1, 9, 8]), torch.Size([1, 6]))
    """

    def __init__(self, sizes: VisionSizes) -> None:
        super().__init__()
        self.num_frames = sizes.num_frames
        rows = 1 + sizes.num_frames * sizes.patches
        self.cls_token = nn.Parameter(torch.empty(1, 1, sizes.width, dtype=torch.float32))
        self.pos_embed = nn.Parameter(torch.empty(1, rows, sizes.width, dtype=torch.float32))
        table = torch.empty(1, 1 + sizes.patches, sizes.width, dtype=torch.float32)
        self.img_pos_embed = nn.Parameter(table) if sizes.picture_table else None
        self.patch_embed = PatchEmbedding(sizes.width, sizes.patch)
        self.blocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.layers))
        self.clip_projector = _Pooling(sizes)

    @override
    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (B, T, 3, H, W) to tokens (B, 1 + T * N, width), the class token first."""
        patches = self.patch_embed(frames).flatten(1, 2)
        states = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        states = states + self._positions(frames.shape[1])
        for block in self.blocks:
            states = block(states)
        return states

    def _positions(self, num_frames: int) -> Tensor:
        if num_frames != 1:
            return self.pos_embed
        if self.img_pos_embed is not None:
            return self.img_pos_embed
        first, others = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        mean = others.view(1, self.num_frames, -1, others.shape[-1]).mean(1)
        return torch.cat([first, mean], dim=1)


def rename(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it.

    >>> list(rename({"vision_encoder.cls_token": torch.ones(1), "temp": torch.ones(1)},
    ...     "vision_encoder."))
    ['cls_token']
    """
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
