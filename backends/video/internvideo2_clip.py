"""InternVideo2-CLIP: the cosine of video and text, with a LLaMA or with MobileCLIP's text tower.

Wang et al. 2024, "InternVideo2: Scaling Foundation Models for Multimodal Video Understanding",
section 3.3. As multi_modality/models/internvideo2_clip.py and internvideo2_clip_small.py of the
authors, who load three files one after the other: later weights replace earlier ones.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    merge_lora,
    read_weights,
    shape_of,
)
from .clip_text import ClipTokens, MobileClipText, TowerSizes
from .internvideo2_vision import InternVideo2Vision, VisionSizes, rename, with_positions
from .llama_text import LORA_ALPHA, LlamaTokens, LlamaTower, read_llama_config
from .video_scorer import VideoScorer

VISION, TEXT = "vision_encoder.", "text_encoder."
UNUSED_VISION = (  # of pretraining; one frame has the mean of the positions over time
    *("clip_decoder.", "mae_decoder.", "final_clip_decoder."),
    *("clip_pos_embed", "mae_pos_embed", "clip_img_pos_embed", "img_pos_embed"),
)


class InternVideo2ClipNetwork(nn.Module):
    """A vision encoder and a text tower.

    Args:
        vision: sizes of the vision encoder.
        text: the text tower.
        aligned: width of the embeddings, where those of videos are projected once more.

    >>> import torch
    >>> vision = VisionSizes(width=8, hidden=16, heads=2, pool_heads=2, layers=1, patch=4,
    ...     patches=4, num_frames=2, output=6, picture_table=False)
    >>> text = MobileClipText(TowerSizes(8, 16, 2, 1), vocabulary=9, context=5, embedding=4)
    >>> network = InternVideo2ClipNetwork(vision, text, aligned=4)
    >>> network.embed_videos(torch.zeros(1, 2, 3, 8, 8)).shape
    torch.Size([1, 4])
    """

    def __init__(self, vision: VisionSizes, text: nn.Module, aligned: int | None = None) -> None:
        super().__init__()
        self.vision_encoder = InternVideo2Vision(vision)
        self.text_encoder = text
        self.vision_align = (
            nn.Sequential(nn.LayerNorm(vision.output), nn.Linear(vision.output, aligned))
            if aligned
            else None
        )

    def embed_videos(self, frames: Tensor) -> Tensor:
        """Return the embeddings (B, D) of videos (B, T, 3, H, W)."""
        embeddings: Tensor = self.vision_encoder.clip_projector(self.vision_encoder(frames))
        return embeddings if self.vision_align is None else self.vision_align(embeddings)


class _InternVideo2Clip(VideoScorer, EmbeddingScorer):
    """Three files of weights, and the cosine of video and text.

    Args:
        checkpoint: what training for retrieval changed: a file, or a folder with a config.json of
            the authors that names all three files, or a hub id.
        vision: weights of the vision encoder: a file, a folder with one, or a hub id.
        text: weights of the text tower, likewise.
        sizes: what the weights do not tell, from the card.
        **options: options of `VideoScorer`.
    """

    network: InternVideo2ClipNetwork
    tokens: ClipTokens | LlamaTokens

    def __init__(
        self,
        checkpoint: str,
        vision: str | None = None,
        text: str | None = None,
        sizes: Mapping[str, int] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        location = self.locate(checkpoint, PATTERNS)
        described = Sizes(location, sizes or {})
        named = described.value("model", "extra_ckpt_path")
        files = [
            self._find("vision", vision, described, "vision_ckpt_path"),
            self._find("text", text, described, "text_ckpt_path"),
            find_weights(location, None if location.is_file() else named),
        ]
        tensors = self.read(files)
        encoder = rename(tensors, VISION)
        vision_sizes = VisionSizes.of(encoder, described, self.num_frames, files[0])
        self.image_size = described.number("image_size", "model", "vision_encoder", "img_size")
        others = {n: t for n, t in tensors.items() if not n.startswith(VISION)}
        tensors = {**{VISION + n: t for n, t in encoder.items()}, **others}
        self.network = self.build_network(vision_sizes, tensors, described, files[-1])
        self.network.to(self.device)
        self.files = [*files, *described.files, *self.tokenizer_files(described)]
        self.identity_facts = {**self.identity_facts, "sizes": repr(dict(sizes or {}))}

    @abstractmethod
    def read_text_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of the text tower among those of its file, by the names here."""

    @abstractmethod
    def build_network(
        self, vision: VisionSizes, tensors: dict[str, Tensor], sizes: Sizes, file: Path
    ) -> InternVideo2ClipNetwork:
        """Return the network with all its weights, and set `tokens`."""

    @abstractmethod
    def tokenizer_files(self, sizes: Sizes) -> Sequence[Path]:
        """Return the files that decide the tokens."""

    def _find(self, argument: str, chosen: str | None, sizes: Sizes, key: str) -> Path:
        """Return a file of weights: that of config.json, or else that of the option."""
        named = sizes.value("model", key)
        if named is not None:
            return find_weights(sizes.folder, named)
        if chosen is None:
            raise InputError(f"{self.name!r} needs `{argument}=`, or a config.json that names it")
        return find_weights(self.locate(chosen, PATTERNS, argument=argument, revision=None))

    @override
    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        files, vision = self.files[:3], self.network.vision_encoder
        yield from with_positions(self.read(files), VISION, vision, files[0]).items()

    def read(self, files: Sequence[Path]) -> dict[str, Tensor]:
        """Read the three files in order; later weights replace earlier ones.

        Raises:
            CheckpointError: a file is damaged.
        """
        vision, text, trained = (read_weights(file) for file in files)
        # A file of stage 2 holds a whole network, a distilled one the vision encoder alone.
        encoder = rename(vision, VISION) or vision
        encoder = {n: t for n, t in encoder.items() if not n.startswith(UNUSED_VISION)}
        replaced = {n: t for n, t in trained.items() if n != "temp"}
        return {
            **{VISION + name: value for name, value in encoder.items()},
            **{TEXT + name: value for name, value in self.read_text_weights(text).items()},
            **replaced,
        }

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        return self.network.embed_videos(batch)

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        ids, cut = self.tokens(texts, self.as_read)
        self.note_truncated(cut)
        embeddings: Tensor = self.network.text_encoder(ids.to(self.device))
        return embeddings


class InternVideo2Clip(_InternVideo2Clip):
    """Score the cosine of video and text by InternVideo2-CLIP 1B or 6B, from -1 to 1.

    Wang et al. 2024, section 3.3, without the temperature. LoRA is merged into the weights.

    Args:
        checkpoint: what training for retrieval changed: a file, a folder or a hub id; a folder may
            have a config.json of the authors that names all files.
        vision: weights of stage 2: a file, a folder with one, or a hub id.
        text: weights of InternVL-C (internvl_c_13b_224px.pth).
        tokenizer: a folder or hub id with the config.json and tokenizer.model of LLaMA.
        sizes: what the weights do not tell, from the card: `heads`, `pool_heads`, `image_size`.
        **options: options of `VideoScorer`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention, or a file that is not named.

    >>> import t2v_eval
    >>> name, folder = "internvideo2-clip-1b", "/models/internvideo2-clip"
    >>> scorer = t2v_eval.load(name, checkpoint=folder)  # doctest: +SKIP
    >>> scorer("clip.mp4", ["a dog runs", "a cat sleeps"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """

    def __init__(self, checkpoint: str, tokenizer: str | None = None, **options: Any) -> None:
        self._tokenizer_source = tokenizer
        super().__init__(checkpoint, **options)

    @override
    def read(self, files: Sequence[Path]) -> dict[str, Tensor]:
        return merge_lora(super().read(files), files[-1], LORA_ALPHA)

    @override
    def read_text_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        used = ("transformer.", "text_projection")  # the file holds InternVL's vision tower too
        return {
            name: value
            for name, value in tensors.items()
            if name.startswith(used) and not name.endswith("rotary_emb.inv_freq")
        }

    @override
    def build_network(
        self, vision: VisionSizes, tensors: dict[str, Tensor], sizes: Sizes, file: Path
    ) -> InternVideo2ClipNetwork:
        named = sizes.value("model", "tokenizer_path")
        if self._tokenizer_source is not None:
            folder = self.locate(
                self._tokenizer_source, PATTERNS, argument="tokenizer", revision=None
            )
        elif isinstance(named, str):
            folder = sizes.folder / named
        else:
            raise InputError(f"{self.name!r} needs `tokenizer=`, the folder of its LLaMA")
        config = read_llama_config(folder)
        self.tokens = LlamaTokens(folder, config.vocab_size)
        self._tokenizer_files = [folder / "config.json", self.tokens.file]
        _, embedding = shape_of(tensors, f"{TEXT}text_projection", 2, file)

        def network(sizes: VisionSizes) -> InternVideo2ClipNetwork:
            return InternVideo2ClipNetwork(sizes, LlamaTower(config, embedding))

        return build(network, tensors, file, self.dtype, vision)

    @override
    def tokenizer_files(self, sizes: Sizes) -> Sequence[Path]:
        return self._tokenizer_files


class InternVideo2ClipSmall(_InternVideo2Clip):
    """Score the cosine of video and text by InternVideo2-CLIP S14, B14 or L14, from -1 to 1.

    Wang et al. 2024, section 3.3, without the temperature. The text tower is that of MobileCLIP-B.

    Args:
        checkpoint: what training for retrieval changed: a file, a folder or a hub id; a folder may
            have a config.json of the authors that names all files, and a gzipped list of merges
            (bpe_*.gz) that replaces CLIP's.
        vision: weights of the distilled vision encoder: a file, a folder with one, or a hub id.
        text: weights of MobileCLIP-B (mobileclip_blt.pt).
        sizes: what the weights do not tell, from the card: `heads`, `pool_heads`, `text_heads`,
            `image_size`.
        **options: options of `VideoScorer`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.
        InputError: an unknown convention, or a file that is not named.

    >>> import t2v_eval
    >>> name, folder = "internvideo2-clip-b14", "/models/internvideo2-clip"
    >>> scorer = t2v_eval.load(name, checkpoint=folder)  # doctest: +SKIP
    >>> scorer("clip.mp4", ["a dog runs", "a cat sleeps"]).shape  # doctest: +SKIP
    torch.Size([1, 2])
    """

    @override
    def read_text_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        text = rename(tensors, TEXT)  # the file holds MobileCLIP's image tower too
        table = text.pop("positional_embedding.pos_embed.pos_embed", None)
        return text if table is None else {**text, "positions": table.flatten(0, -2)}

    @override
    def build_network(
        self, vision: VisionSizes, tensors: dict[str, Tensor], sizes: Sizes, file: Path
    ) -> InternVideo2ClipNetwork:
        vocabulary, width = shape_of(tensors, f"{TEXT}embedding_layer.weight", 2, file)
        context, _ = shape_of(tensors, f"{TEXT}positions", 2, file)
        hidden, _ = shape_of(tensors, f"{TEXT}transformer.0.pre_norm_ffn.1.weight", 2, file)
        _, embedding = shape_of(tensors, f"{TEXT}projection_layer", 2, file)
        layers = count_layers(tensors, f"{TEXT}transformer.", file)
        aligned, _ = shape_of(tensors, "vision_align.1.weight", 2, file)
        description = sizes.value("model", "text_encoder", "config")
        self._check_causal(sizes, description)
        heads = sizes.number_in("text_heads", description, "text_cfg", "n_heads_per_layer")
        check_heads(width, heads, "text", file)
        merges = self.tokenizer_files(sizes)
        self.tokens = ClipTokens(context, vocabulary, merges[0] if merges else None)
        text = TowerSizes(width, hidden, heads, layers)

        def network(sizes: VisionSizes) -> InternVideo2ClipNetwork:
            tower = MobileClipText(text, vocabulary, context, embedding)
            return InternVideo2ClipNetwork(sizes, tower, aligned)

        return build(network, tensors, file, self.dtype, vision)

    def _check_causal(self, sizes: Sizes, description: Any) -> None:
        """Refuse the text towers of MobileCLIP-S, which read texts in another way."""
        if description is None:
            return
        config = sizes.read(description)
        text = config.get("text_cfg")
        if not isinstance(text, Mapping) or text.get("model_name") != "base":
            raise CheckpointError(f"{description} does not describe the text tower of MobileCLIP-B")
        if text.get("causal_masking") is not True:
            raise CheckpointError(
                f"{description}: its text tower is not causal, so it is not that of MobileCLIP-B"
            )

    @override
    def tokenizer_files(self, sizes: Sizes) -> Sequence[Path]:
        return sorted(sizes.folder.glob("bpe_*.gz"))[:1]
