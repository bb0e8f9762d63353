"""Dual encoders: images and texts are encoded apart, so M x N scores cost M + N encodings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import TemplateError
from t2v_eval.inputs.media import Media
from t2v_eval.local.base import Failed, LocalScorer
from t2v_eval.local.batching import BatchSize, Failure
from t2v_eval.local.similarity import SimilarityMixin, embed_one_by_one
from t2v_eval.scoring.cautions import CUT
from t2v_eval.scoring.plan import Cells, Text, by_image, caption_text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.store import text_key


class EmbeddingScorer(SimilarityMixin, LocalScorer):
    """A dual encoder. Subclasses write `preprocess`, `encode_images` and `encode_texts`.

    Where the score is not the cosine, they write `similarity` too. Options are those of
    `LocalScorer`.

    >>> from PIL import Image
    >>> class MeanColour(EmbeddingScorer):
    ...     def preprocess(self, image):
    ...         return torch.tensor(image.resize((1, 1)).getpixel((0, 0))) / 255
    ...     def encode_images(self, batch):
    ...         return batch
    ...     def encode_texts(self, texts):
    ...         return torch.tensor([[float(c in text) for c in ("red", "green")] + [0.0]
    ...                              for text in texts])
    >>> scorer = MeanColour(device="cpu")
    >>> scorer([Image.new("RGB", (8, 8), "red")], ["a red wall", "a green wall"])
    tensor([[1., 0.]])
    """

    sharing_mode = "images and texts encoded once"
    uploads_ahead = True

    @abstractmethod
    def encode_images(self, batch: Tensor) -> Tensor:
        """Encode B images.

        Args:
            batch: model inputs (B, ...), on the scorer's device in its dtype.

        Returns:
            Embeddings (B, ...), of any length.
        """

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode B texts.

        Args:
            texts: texts to which the template is already applied.

        Returns:
            Embeddings (B, ...), of any length, in the same shape as those of images.
        """

    @override
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        """Score embeddings against each other, by default with the cosine, -1 to 1.

        In float64 on the CPU, so that a score does not depend on the others of its call.

        Args:
            images: embeddings (M, ...).
            texts: embeddings (N, ...).

        Returns:
            (M, N) scores.
        """
        return unit(images) @ unit(texts).T

    @override
    def check_template(self) -> None:
        super().check_template()
        if self.template.answer:
            raise TemplateError(
                f"{self.name!r} embeds the text and reads no answer, so the answer template "
                f"{self.template.answer!r} has no meaning; pass `question_template=` alone"
            )

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        columns, column_of = np.unique(cells[:, 1], return_inverse=True)
        text_embeddings, failed_texts = embed_one_by_one(
            self.embed_captions, [texts[j] for j in columns.tolist()], self._failure_reason
        )
        for column, reason in failed_texts.items():
            yield ScoreChunk(np.flatnonzero(column_of == column), None, reason)
        remaining = np.flatnonzero(~np.isin(column_of, [*failed_texts]))
        rows, spans = by_image(cells[remaining])
        spans = [remaining[span] for span in spans]
        media = [images[i] for i in rows]
        for numbers, embeddings, failed in self.embed_images(media):
            for n, reason in failed.items():
                yield ScoreChunk(spans[n], None, reason)
            encoded = [*zip(numbers, embeddings.cpu().double(), strict=True)]
            parts = BatchSize(max(1, len(encoded))).run_adaptive(
                encoded,
                lambda part: self._similarities(
                    self.stack_embeddings([row for _, row in part]),
                    text_embeddings,
                    [column_of[spans[n]] for n, _ in part],
                ),
            )
            for part, values in parts:
                positions = np.concatenate([spans[n] for n, _ in encoded[part]])
                if isinstance(values, Failure):
                    reason = self._failure_reason(media[encoded[part.start][0]].name, values)
                    yield ScoreChunk(positions, None, reason)
                else:
                    yield ScoreChunk(positions, values)

    def _similarities(
        self, images: Tensor, texts: Tensor, columns: Sequence[NDArray[np.int64]]
    ) -> Tensor:
        """Score each image with the texts of its columns; return the scores image by image."""
        needed, column = np.unique(np.concatenate(columns), return_inverse=True)
        row = np.repeat(np.arange(len(columns)), [len(texts_of_row) for texts_of_row in columns])
        matrix = self.checked_similarity(images, texts[torch.from_numpy(needed)])
        return matrix[torch.from_numpy(row), torch.from_numpy(column)]

    @override
    def score_pixels(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        images = self.encode_images(self.inputs_of(pixels))
        unique = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        with torch.no_grad():
            embeddings = self.embed_captions(list(unique))
        matrix = self.similarity(images.cpu().double(), embeddings.cpu().double())
        return matrix[torch.arange(len(texts)), [unique[text] for text in texts]]

    def embed_captions(self, texts: Sequence[Text]) -> Tensor:
        """Embed N texts for `similarity`; a scorer that uses references adds theirs here.

        Returns:
            (N, ...) embeddings.
        """
        return self.embed_texts([caption_text(text) for text in texts])

    @override
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Apply the template and embed texts, through the store if there is one.

        Texts are sorted by length first, so that a batch holds texts of similar length.

        Returns:
            (N, ...) float32 embeddings.
        """
        filled = [self.template.fill(text)[0] for text in texts]
        keys = [f"text:{text_key(text)}" for text in filled]
        # Truncated texts get a second row as a mark, since stored texts are not tokenized again.
        marks = {CUT + key: text for key, text in zip(keys, filled, strict=True)}
        cached = self._stored_embeddings([*keys, *marks])
        self.note_truncated(marks[key] for key in cached if key in marks)
        todo = [n for n in range(len(filled)) if keys[n] not in cached]
        todo.sort(key=lambda n: len(filled[n]))
        for part, embeddings in self.batch.batches(
            todo, lambda batch: self.encode_texts([filled[n] for n in batch])
        ):
            cached |= self._store_embeddings([keys[n] for n in todo[part]], embeddings.float())
            cut = [CUT + keys[n] for n in todo[part] if filled[n] in self._truncated]
            self._store_embeddings(cut, torch.ones(len(cut), 1, dtype=torch.float32))
        return self.stack_embeddings([cached[key] for key in keys])

    @override
    def embed_images(self, media: Sequence[Media]) -> Iterator[tuple[list[int], Tensor, Failed]]:
        """Embed images, through the store if there is one.

        Yields:
            Indices into `media`, their (B, ...) float32 embeddings, and the reasons of images that
            failed, by index.
        """
        keys = [image_key(m) for m in media]
        cached = self._stored_embeddings(keys)
        stored = [n for n, key in enumerate(keys) if key in cached]
        if stored:
            yield stored, self.stack_embeddings([cached[keys[n]] for n in stored]), {}
        todo = [n for n, key in enumerate(keys) if key not in cached]
        batches = self._encode_in_batches(
            [media[n] for n in todo], lambda b: self.encode_images(self.stack(b))
        )
        for encoded, failed in batches:
            numbers = [todo[n] for n in encoded]
            rows = [row.float() for row in encoded.values()]
            self._store_embeddings([keys[n] for n in numbers], rows)
            yield (
                numbers,
                torch.stack(rows) if rows else torch.empty(0, dtype=torch.float32),
                {todo[n]: reason for n, reason in failed.items()},
            )

    def _stored_embeddings(self, keys: Sequence[str]) -> dict[str, Tensor]:
        if self.store is None:
            return {}
        rows = self.store.get_embeddings(self.encoder_id, keys)
        return {key: torch.from_numpy(row.copy()).to(self.device) for key, row in rows.items()}

    def _store_embeddings(
        self, keys: Sequence[str], embeddings: Iterable[Tensor]
    ) -> dict[str, Tensor]:
        rows = dict(zip(keys, embeddings, strict=True))
        if self.store is not None and rows:
            # Where texts play no part, theirs hold nothing, which a store takes for damage.
            arrays: dict[str, NDArray[np.float32]] = {
                key: row.cpu().numpy() for key, row in rows.items() if row.numel()
            }
            self.store.put_embeddings(self.encoder_id, arrays)
        return rows


def image_key(media: Media) -> str:
    """Return the key under which a store keeps the embedding of an image.

    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import open_media
    >>> image_key(open_media(Image.new("RGB", (4, 2))))[:6]
    'image:'
    """
    return f"image:{media.key}"


def unit(vectors: Tensor) -> Tensor:
    """Scale vectors to length 1 along the last dimension; a vector of zeros becomes NaN.

    Args:
        vectors: shape (..., D).

    >>> unit(torch.tensor([[3.0, 4.0]])).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / length
