"""InternVideo2 of stage 2: the cosine of video and text, or the logit of a match.

Wang et al. 2024, "InternVideo2: Scaling Foundation Models for Multimodal Video Understanding",
section 3.2. As multi_modality/models/internvideo2_stage2.py of the authors, which t2v_metrics
calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from .bert import BertSizes, FusionBert
from .checkpoint import Sizes, build, read_weights, shape_of
from .internvideo2_vision import InternVideo2Vision, VisionSizes, rename, with_positions
from .matching import VideoBertScorer, VideoTextDualEncoder, VideoTextMatching

VISION = "vision_encoder."
UNUSED = (  # of pretraining, and what no score depends on
    "temp",
    "text_encoder.cls.",
    "text_encoder.embeddings.position_ids",
    f"{VISION}clip_decoder.",
    f"{VISION}final_clip_decoder.",
    f"{VISION}clip_pos_embed",
    f"{VISION}clip_img_pos_embed",
)


class Stage2Network(nn.Module):
    """InternVideo2 of stage 2: a vision encoder, BERT, and the projections of both.

    Args:
        vision: sizes of the vision encoder.
        text: sizes of BERT.
        embedding: width of the embeddings.

    >>> import torch
    >>> vision = VisionSizes(width=8, hidden=16, heads=2, pool_heads=2, layers=1, patch=4,
    ...     patches=4, num_frames=2, output=6, picture_table=True)
    >>> text = BertSizes(vocabulary=9, positions=6, types=2, width=8, hidden=16, heads=2,
    ...                  layers=2, fusion=1, vision_width=8)
    >>> Stage2Network(vision, text, 4).embed_videos(torch.zeros(1, 2, 3, 8, 8)).shape
    torch.Size([1, 4])
    """

    def __init__(self, vision: VisionSizes, text: BertSizes, embedding: int) -> None:
        super().__init__()
        self.vision_encoder = InternVideo2Vision(vision)
        self.text_encoder = FusionBert(text)
        self.vision_proj = nn.Linear(vision.output, embedding)
        self.text_proj = nn.Linear(text.width, embedding)
        self.itm_head = nn.Linear(text.width, 2)

    def read_videos(self, frames: Tensor) -> Tensor:
        """Return the tokens (B, 1 + T * N, width) of videos (B, T, 3, H, W)."""
        tokens: Tensor = self.vision_encoder(frames)
        return tokens

    def embed_videos(self, frames: Tensor) -> Tensor:
        """Return the embeddings (B, D) of videos (B, T, 3, H, W)."""
        pooled = self.vision_encoder.clip_projector(self.read_videos(frames))
        embeddings: Tensor = self.vision_proj(pooled)
        return embeddings


class _Stage2(VideoBertScorer):
    """A network of stage 2 with its weights."""

    max_tokens = 40

    @override
    def read(self, file: Path) -> dict[str, Tensor]:
        tensors = {
            name.replace("text_encoder.bert.", "text_encoder.").replace(
                "text_encoder.encoder.", "text_encoder."
            ): value
            for name, value in read_weights(file).items()
        }
        return {n: t for n, t in tensors.items() if not n.startswith(UNUSED)}

    @override
    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        tensors = dict(super().stored_weights())
        vision: InternVideo2Vision = self.network.vision_encoder
        yield from with_positions(tensors, VISION, vision, self.files[0]).items()

    @override
    def build_network(self, file: Path, sizes: Sizes) -> Any:
        tensors = self.read(file)
        vision_tensors = rename(tensors, VISION)
        vision = VisionSizes.of(vision_tensors, sizes, self.num_frames, file)
        tensors |= {f"{VISION}{name}": value for name, value in vision_tensors.items()}
        self.image_size = sizes.number("image_size", "model", "vision_encoder", "img_size")
        description = sizes.value("model", "text_encoder", "config")
        text_heads = sizes.number_in("text_heads", description, "num_attention_heads")
        text = BertSizes.of(tensors, "text_encoder.", text_heads, file)
        embedding, _ = shape_of(tensors, "vision_proj.weight", 2, file)
        return build(Stage2Network, tensors, file, self.dtype, vision, text, embedding)


class Stage2Clip(_Stage2, VideoTextDualEncoder):
    """Score the cosine of video and text, from -1 to 1.

    Wang et al. 2024, section 3.2, without the temperature, as t2v_metrics returns it. The authors'
    demo and their current evaluation return softmaxes over texts instead, of 100 times the cosine
    and of the cosine. With another number of frames than 4, positions are stretched in time.

    Args:
        checkpoint: as `VideoBertScorer`.
        sizes: as `VideoBertScorer`, with `pool_heads`.
        tokenizer: as `VideoBertScorer`.
        **options: options of `VideoScorer`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention.

    >>> import t2v_eval
    >>> name, folder = "internvideo2-1b-stage2-clip", "/models/internvideo2"
    >>> scorer = t2v_eval.load(name, checkpoint=folder)  # doctest: +SKIP
    >>> scorer("clip.mp4", ["a dog runs", "a cat sleeps"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """


class Stage2Itm(_Stage2, VideoTextMatching):
    """Score the logit of a match of video and text, without bounds.

    Wang et al. 2024, section 3.2: the second output of the matching head, without a softmax, as
    t2v_metrics returns it.

    Args:
        checkpoint: as `VideoBertScorer`.
        sizes: as `VideoBertScorer`, with `pool_heads`.
        tokenizer: as `VideoBertScorer`.
        **options: options of `VideoScorer`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention.
        TemplateError: the template has an answer.

    >>> import t2v_eval
    >>> name, folder = "internvideo2-1b-stage2-itm", "/models/internvideo2"
    >>> scorer = t2v_eval.load(name, checkpoint=folder)  # doctest: +SKIP
    >>> scorer("clip.mp4", ["a dog runs", "a cat sleeps"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """
