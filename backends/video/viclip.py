"""ViCLIP: the cosine of video and text.

Wang et al. 2023, "InternVid: A Large-scale Video-Text Dataset for Multimodal Understanding and
Generation", section 4. CLIP whose vision tower reads the patches of all frames together, with
positions in space and in time; the one class token has no position in time. As
Data/InternVid/viclip of the authors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.local.dual_encoder import EmbeddingScorer

from .checkpoint import (
    PATTERNS,
    Sizes,
    build,
    check_heads,
    count_layers,
    find_weights,
    read_weights,
    shape_of,
)
from .clip_text import ClipTextTower, ClipTokens, ClipTransformer, TowerSizes
from .layers import PatchEmbedding
from .video_scorer import VideoScorer

VISION, TEXT = "vision_encoder.", "text_encoder."
FEED_FORWARD = "transformer.resblocks.0.mlp.c_fc.weight"


class ViClipVision(nn.Module):
    """The vision tower of ViCLIP, by its authors' names.

    Args:
        sizes: of its transformer.
        patch: side of a patch, in pixels.
        patches: number of patches of a frame.
        num_frames: number of frames of a video.
        embedding: width of the embeddings.

    >>> sizes = TowerSizes(width=8, hidden=16, heads=2, layers=1)
    >>> vision = ViClipVision(sizes, patch=4, patches=4, num_frames=2, embedding=6)
    >>> vision(torch.zeros(1, 2, 3, 8, 8)).shape
    torch.Size([1, 6])
    """

    def __init__(
        self, sizes: TowerSizes, patch: int, patches: int, num_frames: int, embedding: int
    ) -> None:
        super().__init__()
        width = sizes.width

        def table(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, dtype=torch.float32))

        self.class_embedding = table(width)
        self.positional_embedding = table(1 + patches, width)
        self.temporal_positional_embedding = table(1, num_frames, width)
        self.patch_embed = PatchEmbedding(width, patch, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = ClipTransformer(sizes)
        self.ln_post = nn.LayerNorm(width)
        self.proj = table(width, embedding)

    @override
    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (B, T, 3, H, W) to embeddings (B, D); one frame has the mean time."""
        first, space = self.positional_embedding[0], self.positional_embedding[1:]
        time = self.temporal_positional_embedding[0]
        time = time if frames.shape[1] > 1 else time.mean(0, keepdim=True)
        patches = (self.patch_embed(frames) + space + time[:, None]).flatten(1, 2)
        token = (self.class_embedding + first).expand(len(patches), 1, -1)
        states = self.transformer(self.ln_pre(torch.cat([token, patches], dim=1)))
        embeddings: Tensor = self.ln_post(states[:, 0]) @ self.proj
        return embeddings


class ViClipNetwork(nn.Module):
    """Both towers of ViCLIP.

    Args:
        vision: arguments of `ViClipVision`.
        text: arguments of `ClipTextTower`.

    >>> sizes = TowerSizes(8, 16, 2, 1)
    >>> network = ViClipNetwork((sizes, 4, 4, 2, 6), (sizes, 9, 5, 6))
    >>> network.text_encoder(torch.tensor([[7, 1, 8]])).shape
    torch.Size([1, 6])
    """

    def __init__(
        self, vision: tuple[TowerSizes, int, int, int, int], text: tuple[TowerSizes, int, int, int]
    ) -> None:
        super().__init__()
        self.vision_encoder = ViClipVision(*vision)
        self.text_encoder = ClipTextTower(*text)


class ViClip(VideoScorer, EmbeddingScorer):
    """Score the cosine of video and text, from -1 to 1.

    Wang et al. 2023, section 4, without the temperature. The authors' demo returns a softmax over
    texts of 100 times the cosine.

    Args:
        checkpoint: weights in the authors' layout: a file, or a folder or hub id with one; a
            config.json beside them with the sizes of both towers comes before `sizes`, and a
            gzipped list of merges (bpe_*.gz) before CLIP's.
        sizes: what the weights do not tell, from the card: `heads` and `text_heads`.
        weights: name of the weight file, where a folder or repository has several.
        **options: options of `VideoScorer`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention, or another number of frames than the model has positions
            for.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("viclip-l-14", checkpoint="/models/viclip")  # doctest: +SKIP
    >>> scorer("clip.mp4", ["a dog runs", "a cat sleeps"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """

    def __init__(
        self,
        checkpoint: str,
        sizes: Mapping[str, int] | None = None,
        weights: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        location = self.locate(checkpoint, PATTERNS)
        described = Sizes(location, sizes or {})
        named = weights if weights and (described.folder / weights).is_file() else None
        file = find_weights(location, None if location.is_file() else named)
        self.network = self._build(file, described)
        merges = sorted(described.folder.glob("bpe_*.gz"))
        text: ClipTextTower = self.network.text_encoder
        context, rows = len(text.positional_embedding), text.token_embedding.num_embeddings
        self.tokens = ClipTokens(context, rows, merges[0] if merges else None, as_openai=True)
        self.network.to(self.device)
        self.files = [file, *described.files, *merges[:1]]
        self.identity_facts = {**self.identity_facts, "sizes": repr(dict(sizes or {}))}

    def _build(self, file: Path, sizes: Sizes) -> Any:
        tensors = {
            name.replace(f"{VISION}conv1.", f"{VISION}patch_embed.proj."): value
            for name, value in read_weights(file).items()
            if name != "temp"
        }
        vision = self._vision_sizes(tensors, sizes, file)
        context, width = shape_of(tensors, f"{TEXT}positional_embedding", 2, file)
        vocabulary, _ = shape_of(tensors, f"{TEXT}token_embedding.weight", 2, file)
        hidden, _ = shape_of(tensors, f"{TEXT}{FEED_FORWARD}", 2, file)
        _, embedding = shape_of(tensors, f"{TEXT}text_projection", 2, file)
        heads = sizes.number("text_heads", "text", "heads")
        check_heads(width, heads, "text", file)
        layers = count_layers(tensors, f"{TEXT}transformer.resblocks.", file)
        text = (TowerSizes(width, hidden, heads, layers), vocabulary, context, embedding)
        return build(ViClipNetwork, tensors, file, self.dtype, vision, text)

    def _vision_sizes(
        self, tensors: Mapping[str, Tensor], sizes: Sizes, file: Path
    ) -> tuple[TowerSizes, int, int, int, int]:
        """Return the arguments of the vision tower; set `image_size`."""
        width, *_, patch = shape_of(tensors, f"{VISION}patch_embed.proj.weight", 5, file)
        rows, _ = shape_of(tensors, f"{VISION}positional_embedding", 2, file)
        _, frames, _ = shape_of(tensors, f"{VISION}temporal_positional_embedding", 3, file)
        hidden, _ = shape_of(tensors, f"{VISION}{FEED_FORWARD}", 2, file)
        _, embedding = shape_of(tensors, f"{VISION}proj", 2, file)
        heads = sizes.number("heads", "vision", "heads")
        check_heads(width, heads, "vision", file)
        layers = count_layers(tensors, f"{VISION}transformer.resblocks.", file)
        side = round((rows - 1) ** 0.5)
        if side * side != rows - 1:
            raise CheckpointError(
                f"{file} does not fit this model: {VISION}positional_embedding has {rows} rows, "
                "which are not a class token and a square of patches"
            )
        if self.num_frames not in (1, frames):
            raise InputError(
                f"`frames={self.num_frames}`: {self.name!r} has positions for {frames} frames; use "
                f"{frames}, or 1 for a picture"
            )
        self.image_size = side * patch
        return TowerSizes(width, hidden, heads, layers), patch, rows - 1, frames, embedding

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        embeddings: Tensor = self.network.vision_encoder(batch)
        return embeddings

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        ids, cut = self.tokens(texts, self.as_read)
        self.note_truncated(cut)
        embeddings: Tensor = self.network.text_encoder(ids.to(self.device))
        return embeddings
