"""Unmasked Teacher (UMT): the cosine of video and text, or the logit of a match.

Li et al. 2023, "Unmasked Teacher: Towards Training-Efficient Video Foundation Models", section 3.4.
Patches of all frames attend to each other. Positions are sines of their number in the video; a
picture has those of the first frame. As multi_modality/models/umt.py and backbones/vit/vit.py of
the authors, which t2v_metrics calls.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from typing_extensions import override

from t2v_eval.local.dual_encoder import unit

from .bert import BertSizes, FusionBert
from .checkpoint import Sizes, build, check_heads, count_layers, read_weights, shape_of
from .layers import Mlp, PatchEmbedding, attend
from .matching import VideoBertScorer, VideoTextDualEncoder, VideoTextMatching

EPS = 1e-6
UNUSED = (  # of pretraining, and what no score depends on
    "temp",
    "text_encoder.cls.",
    "text_encoder.embeddings.position_ids",
    "vision_encoder.clip_decoder.",
)


class _Attention(nn.Module):
    """Self-attention whose queries and values have biases, and whose keys have none."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.empty(width, dtype=torch.float32))
        self.v_bias = nn.Parameter(torch.empty(width, dtype=torch.float32))
        self.proj = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        query, key, value = linear(states, self.qkv.weight, bias).chunk(3, dim=-1)
        output: Tensor = self.proj(attend(query, key, value, self.heads))
        return output


class _Block(nn.Module):
    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.attn(self.norm1(states))
        output: Tensor = states + self.mlp(self.norm2(states))
        return output


class UmtVision(nn.Module):
    """The vision encoder of UMT.

    Args:
        width: of the states.
        hidden: width of the feed-forward layers.
        heads: of each attention.
        layers: number of layers.
        patch: side of a patch, in pixels.

    >>> vision = UmtVision(width=8, hidden=16, heads=2, layers=1, patch=4)
    >>> vision(torch.zeros(1, 2, 3, 8, 8)).shape
    torch.Size([1, 8, 8])
    """

    def __init__(self, width: int, hidden: int, heads: int, layers: int, patch: int) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(width, patch)
        self.blocks = nn.ModuleList(_Block(width, hidden, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, EPS)
        self.pool_norm = nn.LayerNorm(width, EPS)

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (B, T, 3, H, W) to tokens (B, T * N, width), frame by frame."""
        states = self.patch_embed(frames).flatten(1, 2)
        states = states + sine_positions(*states.shape[1:]).to(states)
        for block in self.blocks:
            states = block(states)
        output: Tensor = self.norm(states)
        return output

    def pool(self, tokens: Tensor, num_frames: int) -> Tensor:
        """Return the features (B, T, width) of each frame: the mean of its tokens."""
        batch, _, width = tokens.shape
        features: Tensor = self.pool_norm(tokens.view(batch, num_frames, -1, width).mean(2))
        return features


class UmtNetwork(nn.Module):
    """UMT: a vision encoder, BERT, and the projections of both.

    Args:
        vision: arguments of `UmtVision`.
        text: sizes of BERT.
        embedding: width of the embeddings.

    >>> text = BertSizes(vocabulary=9, positions=6, types=2, width=8, hidden=16, heads=2,
    ...                  layers=2, fusion=1, vision_width=8)
    >>> network = UmtNetwork((8, 16, 2, 1, 4), text, embedding=4)
    >>> network.embed_videos(torch.zeros(1, 2, 3, 8, 8)).shape
    torch.Size([1, 4])
    """

    def __init__(self, vision: tuple[int, ...], text: BertSizes, embedding: int) -> None:
        super().__init__()
        self.vision_encoder = UmtVision(*vision)
        self.text_encoder = FusionBert(text)
        self.vision_proj = nn.Linear(vision[0], embedding)
        self.text_proj = nn.Linear(text.width, embedding)
        self.itm_head = nn.Linear(text.width, 2)

    def read_videos(self, frames: Tensor) -> Tensor:
        """Return the tokens (B, T * N, width) of videos (B, T, 3, H, W)."""
        tokens: Tensor = self.vision_encoder(frames)
        return tokens

    def embed_videos(self, frames: Tensor) -> Tensor:
        """Return the mean (B, D) of the unit embeddings of the frames of each video."""
        features = self.vision_encoder.pool(self.read_videos(frames), frames.shape[1])
        return unit(self.vision_proj(features).float()).mean(1)


@lru_cache(maxsize=8)
def sine_positions(count: int, width: int) -> Tensor:
    """Return the sines and cosines of positions, computed in float64.

    Vaswani et al. 2017, "Attention Is All You Need", section 3.5.

    Returns:
        (count, width) float32.

    >>> sine_positions(2, 2)
    tensor([[0.0000, 1.0000],
            [0.8415, 0.5403]])
    """
    columns = torch.arange(width, dtype=torch.float64)
    rates = 10000 ** (2 * (columns // 2) / width)
    angles = torch.arange(count, dtype=torch.float64)[:, None] / rates
    return torch.where(columns % 2 == 0, angles.sin(), angles.cos()).float()


class _Umt(VideoBertScorer):
    """A UMT network with its weights."""

    max_tokens = 32

    @override
    def read(self, file: Path) -> dict[str, Tensor]:
        tensors = {
            name.replace("text_encoder.bert.", "text_encoder.")
            .replace("text_encoder.encoder.", "text_encoder.")
            .replace("vision_encoder.encoder.", "vision_encoder."): value
            for name, value in read_weights(file).items()
        }
        return {n: t for n, t in tensors.items() if not n.startswith(UNUSED)}

    @override
    def build_network(self, file: Path, sizes: Sizes) -> Any:
        tensors = self.read(file)
        width, *_, patch = shape_of(tensors, "vision_encoder.patch_embed.proj.weight", 5, file)
        hidden, _ = shape_of(tensors, "vision_encoder.blocks.0.mlp.fc1.weight", 2, file)
        layers = count_layers(tensors, "vision_encoder.blocks.", file)
        encoder = ("model", "vision_encoder")
        heads = sizes.number("heads", *encoder, "encoder_num_heads")
        check_heads(width, heads, "vision", file)
        self.image_size = sizes.number("image_size", *encoder, "img_size")
        description = sizes.value("model", "text_encoder", "config")
        text_heads = sizes.number_in("text_heads", description, "num_attention_heads")
        text = BertSizes.of(tensors, "text_encoder.", text_heads, file)
        embedding, _ = shape_of(tensors, "vision_proj.weight", 2, file)
        vision = (width, hidden, heads, layers, patch)
        return build(UmtNetwork, tensors, file, self.dtype, vision, text, embedding)


class UmtClip(_Umt, VideoTextDualEncoder):
    """Score the mean over frames of the cosine of a frame's features and the text, from -1 to 1.

    Li et al. 2023, section 3.4, without the temperature, as t2v_metrics and the authors' evaluation
    return it. The features of a frame depend on all frames.

    Args:
        checkpoint: as `VideoBertScorer`.
        sizes: as `VideoBertScorer`.
        tokenizer: as `VideoBertScorer`.
        **options: options of `VideoScorer`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("umt-b16-25m-clip", checkpoint="/models/umt")  # doctest: +SKIP
    >>> scorer("clip.mp4", ["a dog runs", "a cat sleeps"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        return images @ unit(texts).T


class UmtItm(_Umt, VideoTextMatching):
    """Score the logit of a match of video and text, without bounds.

    Li et al. 2023, section 3.4: the second output of the matching head, without a softmax, as
    t2v_metrics and the authors' evaluation return it.

    Args:
        checkpoint: as `VideoBertScorer`.
        sizes: as `VideoBertScorer`.
        tokenizer: as `VideoBertScorer`.
        **options: options of `VideoScorer`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention.
        TemplateError: the template has an answer.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("umt-b16-25m-itm", checkpoint="/models/umt")  # doctest: +SKIP
    >>> scorer("clip.mp4", ["a dog runs", "a cat sleeps"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """
