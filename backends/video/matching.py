"""A vision encoder beside BERT: the cosine of their embeddings, or the logit of a match.

Both are how the authors of UMT and InternVideo2 (stage 2) retrieve videos: the cosine from the text
layers of BERT, and a matching head on the first token of the layers that also attend to the video.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from typing_extensions import override

from t2v_eval.local.dual_encoder import EmbeddingScorer

from ..blip.bert_text import VOCABULARY_FILES, BertTextPairScorer, BertTextScorer
from .bert import FusionBert
from .checkpoint import PATTERNS, Sizes, find_weights
from .video_scorer import VideoScorer, same_shape

PUBLISHED_BERT = "google-bert/bert-base-uncased"


class VideoTextNetwork(Protocol):
    """A network that reads videos and texts.

    Attributes:
        text_encoder: reads texts, alone or together with a video.
        text_proj: projects the first state of a text to its embedding.
        itm_head: two logits from the first state of a text that has read a video.

    >>> from t2v_eval.backends.video.umt import UmtNetwork
    >>> hasattr(UmtNetwork, "read_videos"), hasattr(UmtNetwork, "embed_videos")
    (True, True)
    """

    text_encoder: FusionBert
    text_proj: nn.Linear
    itm_head: nn.Linear

    def read_videos(self, frames: Tensor) -> Tensor:
        """Return the tokens (B, N, width) of videos (B, T, 3, H, W)."""

    def embed_videos(self, frames: Tensor) -> Tensor:
        """Return the embeddings (B, D) of videos (B, T, 3, H, W)."""


class VideoBertScorer(VideoScorer, BertTextScorer):
    """A scorer of videos whose texts are read by BERT. Subclasses write `build_network`.

    Args:
        checkpoint: weights in the authors' layout: a file, or a folder or hub id with one. A
            config.json beside them, in the authors' layout, comes before the `sizes`.
        sizes: what the weights do not tell, from the card: `heads`, `text_heads`, `image_size`.
        tokenizer: a folder or hub id with BERT's vocabulary; by default that beside the weights,
            in the folder itself or in "bert", or else the published one.
        **options: options of `VideoScorer`.

    Raises:
        CheckpointError: a file is missing, damaged or of another model.

    >>> VideoBertScorer.max_tokens
    35
    """

    network: Any

    def __init__(
        self,
        checkpoint: str,
        sizes: Mapping[str, int] | None = None,
        tokenizer: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        location = self.locate(checkpoint, PATTERNS)
        file = find_weights(location)
        described = Sizes(location, sizes or {})
        self.network = self.build_network(file, described)
        bert: FusionBert = self.network.text_encoder
        vocabulary = self.set_tokenizer(
            self._find_vocabulary(described.folder, tokenizer),
            [],
            rows=bert.embeddings.word_embeddings.num_embeddings,
        )
        self.network.to(self.device)
        self.files = [file, vocabulary, *described.files]
        self.identity_facts = {**self.identity_facts, "sizes": repr(dict(sizes or {}))}

    @abstractmethod
    def read(self, file: Path) -> dict[str, Tensor]:
        """Read the weights that scores depend on, by the names of the network.

        Raises:
            CheckpointError: the file is damaged.
        """

    @override
    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.read(self.files[0]).items()

    @abstractmethod
    def build_network(self, file: Path, sizes: Sizes) -> VideoTextNetwork:
        """Read the weights and return the network; set `image_size`.

        Raises:
            CheckpointError: the weights are of another model.
        """

    def _find_vocabulary(self, folder: Path, tokenizer: str | None) -> Path:
        for place in (folder, folder / "bert") if tokenizer is None else ():
            if any((place / name).is_file() for name in VOCABULARY_FILES):
                return place
        patterns = ("*.txt", "tokenizer.json")
        source = PUBLISHED_BERT if tokenizer is None else tokenizer
        return self.locate(source, patterns, argument="tokenizer", revision=None)


class VideoTextDualEncoder(VideoBertScorer, EmbeddingScorer):
    """Score the cosine of video and text, from -1 to 1.

    >>> VideoTextDualEncoder.similarity(None, torch.eye(2), torch.tensor([[0.0, 3.0]]))
    tensor([[0.],
            [1.]])
    """

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        embeddings: Tensor = self.network.embed_videos(batch)
        return embeddings

    @override
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        ids, mask = self.tokenize(texts)
        embeddings: Tensor = self.network.text_proj(self.network.text_encoder.read(ids, mask)[:, 0])
        return embeddings


class VideoTextMatching(VideoBertScorer, BertTextPairScorer):
    """Score the logit of a match of video and text, without bounds: no softmax, no sigmoid.

    Texts that several pairs share are read once, and so are the keys and values of a video.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("umt-b16-25m-itm", checkpoint="/models/umt")  # doctest: +SKIP
    >>> scorer(["a.mp4", "b.mp4"], ["a dog runs"]).shape  # doctest: +SKIP
    torch.Size([2, 1])
    """

    @override
    def encode_images(self, batch: Tensor) -> Sequence[Tensor]:
        """Return the tokens (N, width) of each video."""
        tokens: Tensor = self.network.read_videos(batch)
        return tokens.unbind()

    @override
    def score(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        unique_texts = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        ids, mask = self.tokenize_filled([*unique_texts])
        read = self.network.text_encoder.read(ids, mask)
        text_of = torch.tensor([unique_texts[text] for text in texts], dtype=torch.long)
        logits = torch.empty(len(texts), dtype=torch.float32, device=self.device)
        for pairs in same_shape(states):
            videos = {id(states[n]): states[n] for n in pairs}
            places = {key: n for n, key in enumerate(videos)}
            rows = torch.tensor([places[id(states[n])] for n in pairs], dtype=torch.long)
            chosen = text_of[pairs].to(self.device)
            tokens = torch.stack([*videos.values()])
            fused = self.network.text_encoder.fuse(
                read[chosen], mask[chosen], tokens, rows.to(self.device)
            )
            logits[pairs] = self.network.itm_head(fused[:, 0])[:, 1].float()
        return logits
