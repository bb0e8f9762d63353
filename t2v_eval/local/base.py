"""Scorers whose model runs here: decoding, batching, devices.

`EmbeddingScorer`: pictures and texts are encoded apart, so M x N costs M + N encodings. For models
that read both together see `pair_scorer` and `prefix_sharing`. The author of a backend writes how
to encode a batch; everything around it is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, TypeVar

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from t2v_eval.errors import InputError, MediaError, ScoringError, TemplateError
from t2v_eval.inputs.decode_budget import BUDGET
from t2v_eval.inputs.image_file import decoding, in_words
from t2v_eval.inputs.media import Media, Video
from t2v_eval.inputs.urls import AllowUrls
from t2v_eval.local.batching import BatchSize, Failure, ahead
from t2v_eval.local.devices import free_bytes, pick_device, pick_dtype
from t2v_eval.local.similarity import SimilarityMixin, embed_one_by_one
from t2v_eval.local.state_cache import TensorCache
from t2v_eval.local.weights import HUB_FILES, Watched, locate
from t2v_eval.registry import Card
from t2v_eval.scoring.cautions import CUT
from t2v_eval.scoring.differentiable import Differentiable, no_gradients
from t2v_eval.scoring.plan import Cells, Text, by_image, caption_text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import ImageMode, OnError
from t2v_eval.store import Store, text_key

State = TypeVar("State")
Made = TypeVar("Made")


class Options(TypedDict, total=False):
    """What every local scorer takes; a backend hands them on as ``**options``."""

    card: Card | None
    device: str | torch.device | None
    dtype: str | torch.dtype | None
    batch_size: int | None
    keep_bytes: int | None
    cache_dir: str | None
    local_files_only: bool
    revision: str | None
    store: str | Path | Store | None
    image_mode: ImageMode
    on_error: OnError
    allow_urls: AllowUrls
    question_template: str | None
    answer_template: str | None
    template: str | None


class LocalScorer(Differentiable):
    """A scorer with a device, a precision and weights.

    Args:
        device: for example ``"cuda:0"``; default CUDA, then MPS, then the CPU.
        dtype: for example ``"bfloat16"``; default float32, and what
            `precision.large_dtype` says for large models.
        batch_size: where the search for a batch size starts.
        keep_bytes: how much of what was made of pictures is kept between calls; by default a tenth
            of the memory that is free at first, and 0 keeps nothing.
        cache_dir, local_files_only, revision: where the Hugging Face hub's files are kept, whether
            it may be asked, and which commit of a repository to take.
        options: see `Scorer`.
    """

    # Backends set `files`, those the numbers come from, and what else decides the numbers.
    identity_facts: Mapping[str, str] = {}
    sharing_mode = "one by one"  # what is computed once for several scores
    out_of_memory_hint = "a smaller dtype, smaller pictures, shorter texts or another device"

    def __init__(
        self,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int | None = None,
        keep_bytes: int | None = None,
        cache_dir: str | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._hub = {
            "cache_dir": cache_dir,
            "local_files_only": local_files_only,
            "revision": revision,
        }
        self.device = pick_device(device)
        self.dtype = pick_dtype(dtype) or torch.float32
        usual = 128 if self.device.type == "cuda" else 32
        self.start_batches_at(usual if batch_size is None else batch_size)
        self._watched = Watched()
        keep = keep_bytes
        self._cache = TensorCache(lambda: free_bytes(self.device) // 10 if keep is None else keep)

    @property
    def files(self) -> Sequence[Path]:
        """Where the numbers come from; those that change after they are set give no id."""
        return self._watched.paths

    @files.setter
    def files(self, paths: Sequence[Path]) -> None:
        self._watched = Watched(paths)

    def locate(self, checkpoint: str, patterns: Sequence[str] = HUB_FILES, **hub: Any) -> Path:
        """The local folder or file of a checkpoint; see `t2v_eval.local.weights.locate`."""
        return locate(checkpoint, patterns, **{**self._hub, **hub})

    def locate_weights(
        self, checkpoint: str, patterns: Sequence[str] = HUB_FILES, **hub: Any
    ) -> Path:
        """As `locate`; pickles are downloaded only where there are no safetensors."""
        found = self.locate(checkpoint, patterns, **hub)
        if any(found.glob("*.safetensors")):
            return found
        return self.locate(checkpoint, (*patterns, "*.bin"), **hub)

    def start_batches_at(self, size: int | None) -> None:
        if size is not None:
            self.batch, self.image_batch = BatchSize(size), BatchSize(size)

    def identity(self) -> dict[str, str]:
        return {
            "weights": self._watched.fingerprint(),
            **self.identity_facts,
            "dtype": str(self.dtype).removeprefix("torch."),
            # Pillow 13 resizes some sizes otherwise than those before it.
            "pillow": PIL.__version__.partition(".")[0],
            **super().identity(),
        }

    @property
    def execution(self) -> dict[str, str]:
        """How the work is done here, for a report: what decides the speed, beside `id`."""
        return {
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "mode": self.sharing_mode,
            "batch_size": str(self.batch.value),
            "image_batch_size": str(self.image_batch.value),
        }

    @abstractmethod
    def preprocess(self, image: Image.Image) -> Any:
        """One picture -> model input, for `stack` a tensor; runs in decoding threads.

        The picture is RGB in image mode "seen".
        """

    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        """RGB pixels (B, 3, H, W) in [0, 1] -> model inputs, as `preprocess` but with a gradient.

        A backend that writes it has `score_tensor`.
        """
        raise no_gradients(self.name)

    def inputs_of(self, pixels: Tensor) -> Tensor:
        """Model inputs on the scorer's device, in its dtype."""
        return self.preprocess_tensor(pixels).to(self.dtype).to(self.device)

    def stack(self, prepared: Sequence[Tensor]) -> Tensor:
        """Model inputs -> one batch on the scorer's device."""
        return torch.stack(list(prepared)).to(self.device, self.dtype)

    def _encode_in_batches(
        self, media: Sequence[Media], see: Callable[[Sequence[Any]], Iterable[State]]
    ) -> Iterator[tuple[dict[int, State], Failed]]:
        """Prepare pictures in threads, and hand out what `see` makes of a batch of them.

        Yields (what was made of pictures, why others failed), both by positions in `media`.
        """
        # Videos are large: few are prepared ahead, and few are seen together.
        most = 2 if any(isinstance(one, Video) for one in media) else self.image_batch.value
        prepared = enumerate(ahead(media, self._prepare, 2 * most))
        while window := list(islice(prepared, min(most, self.image_batch.value))):
            failed = {n: str(made) for n, made in window if isinstance(made, MediaError)}
            good = [n for n, _ in window if n not in failed]
            inputs = [made for n, made in window if n not in failed]
            made: dict[int, State] = {}
            # What `see` returns may be computed only when it is read.
            fitting = self.image_batch.run_adaptive(inputs, lambda b: [*see(b)], self._cache.clear)
            for part, states in fitting:
                if isinstance(states, Failure):
                    failed[good[part.start]] = self._failure_reason(
                        media[good[part.start]].name, states
                    )
                else:
                    made.update(zip(good[part], states, strict=True))
            yield made, failed

    def _cached_states(
        self, media: Sequence[Media], see: Callable[[Sequence[Any]], Iterable[State]]
    ) -> Iterator[tuple[dict[int, State], Failed]]:
        """As `_encode_in_batches`, but take cached states of earlier calls first."""
        todo: list[int] = []
        for start in range(0, len(media), self.image_batch.value):
            window = range(len(media))[start : start + self.image_batch.value]
            known = {
                n: state for n in window if (state := self._cache.get(media[n].key)) is not None
            }
            todo += [n for n in window if n not in known]
            if known:
                yield known, {}
        for made, failed in self._encode_in_batches([media[n] for n in todo], see):
            for n, state in made.items():
                self._cache.put(media[todo[n]].key, state)
            yield (
                {todo[n]: state for n, state in made.items()},
                {todo[n]: reason for n, reason in failed.items()},
            )

    def _failure_reason(self, what: str, failure: Failure) -> str:
        """Why the model made nothing of `what`, a picture or a text.

        Raises:
            ScoringError, MediaError: the reason, with `on_error="raise"`; what does not fit into
                the memory is raised where its cells are counted.
        """
        if self.on_error == "raise" and failure.error is not None:
            raise self._failure_error(what, failure) from failure.error
        return str(self._failure_error(what, failure))

    def _failure_error(self, what: str, failure: Failure) -> ScoringError | MediaError:
        if failure.error is None:
            return ScoringError(
                f"{what}: does not fit into the memory of {self.device}, even alone; "
                f"{self.out_of_memory_hint}"
            )
        words = in_words(failure.error)
        if isinstance(failure.error, (ScoringError, MediaError)):
            return type(failure.error)(words if what in words else f"{what}: {words}")
        return ScoringError(
            f"{what}: {self.name} failed on it: {words}; on_error='skip' scores the rest"
        )

    def _generate_in_batches(
        self,
        batch: BatchSize,
        pairs: Sequence[tuple[Media, str]],
        write: Callable[[Sequence[tuple[Media, str]]], list[str]],
    ) -> list[str]:
        """What `write` makes of pictures and prompts, in batches that fit.

        Raises:
            ScoringError: one that does not fit alone, or fails.
        """
        written: list[str] = []
        for part, texts in batch.run_adaptive(pairs, write, self._cache.clear):
            if isinstance(texts, Failure):
                raise self._failure_error(pairs[part.start][0].name, texts) from texts.error
            written += texts
        return written

    def map_one_by_one(self, media: Sequence[Media], make: Callable[[Media], Made]) -> list[Made]:
        made: list[Made] = []
        fitting = BatchSize(1).run_adaptive(media, lambda one: make(one[0]), self._cache.clear)
        for part, result in fitting:
            if isinstance(result, Failure):
                raise self._failure_error(media[part.start].name, result) from result.error
            made.append(result)
        return made

    def load(self, media: Media) -> Any:
        """What `preprocess` is given; a model that is shown videos has frames of them here."""
        return self.load_image(media)

    def prepared(self, media: Media) -> Any:
        """What `preprocess` makes of a picture; raises whatever `on_error` says."""
        made = self._prepare(media)
        if isinstance(made, MediaError):
            raise made
        return made

    def _prepare(self, media: Media) -> Any:
        remedy = "leave it out, or make it of a more usual size"
        try:
            # What is decoded counts for this thread until it is prepared.
            with BUDGET.lease(), decoding(media.name, "cannot be prepared for the model", remedy):
                image = self.load(media)
                try:
                    return self.preprocess(image)
                except (InputError, ScoringError) as error:
                    raise MediaError(
                        f"{media.name}: cannot be prepared for the model: {error}"
                    ) from error
        except MediaError as error:
            if self.on_error == "raise":
                raise
            return error


Failed: TypeAlias = dict[int, str]


class EmbeddingScorer(SimilarityMixin, LocalScorer):
    """A dual encoder. Subclasses write `preprocess`, `encode_images` and `encode_texts`.

    Where the score is not the cosine, they write `similarity` too.
    """

    sharing_mode = "pictures and texts encoded once"

    @abstractmethod
    def encode_images(self, batch: Tensor) -> Tensor:
        """Model inputs (B, ...), on the scorer's device in its dtype -> embeddings (B, ...)."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts, the template already applied -> embeddings (B, ...)."""

    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        """Embeddings (M, ...) and (N, ...), float64 -> scores (M, N); the cosine by default.

        In float64 on the CPU, so that a score does not depend on which others were asked for.
        """
        return unit(images) @ unit(texts).T

    def check_template(self) -> None:
        super().check_template()
        if self.template.answer:
            raise TemplateError(
                f"{self.name!r} embeds the text and reads no answer, so the answer template "
                f"{self.template.answer!r} has no meaning; pass a question_template alone"
            )

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        columns, column_of = np.unique(cells[:, 1], return_inverse=True)
        text_embeddings, lost = embed_one_by_one(
            self.embed_captions, [texts[j] for j in columns.tolist()], self._failure_reason
        )
        for column, reason in lost.items():
            yield ScoreChunk(np.flatnonzero(column_of == column), None, reason)
        left = np.flatnonzero(~np.isin(column_of, [*lost]))
        rows, spans = by_image(cells[left])
        spans = [left[span] for span in spans]
        media = [images[i] for i in rows]
        for numbers, embeddings, failed in self.embed_images(media):
            for n, reason in failed.items():
                yield ScoreChunk(spans[n], None, reason)
            encoded = [*zip(numbers, embeddings.cpu().double(), strict=True)]
            fitting = BatchSize(max(1, len(encoded))).run_adaptive(
                encoded,
                lambda part: self._similarities(
                    self.stack_embeddings([row for _, row in part]),
                    text_embeddings,
                    [column_of[spans[n]] for n, _ in part],
                ),
            )
            for part, values in fitting:
                positions = np.concatenate([spans[n] for n, _ in encoded[part]])
                if isinstance(values, Failure):
                    reason = self._failure_reason(media[encoded[part.start][0]].name, values)
                    yield ScoreChunk(positions, None, reason)
                else:
                    yield ScoreChunk(positions, values)

    def _similarities(
        self, images: Tensor, texts: Tensor, columns: Sequence[NDArray[np.int64]]
    ) -> Tensor:
        """Scores of pictures, each with the texts of its columns, picture by picture."""
        needed, column = np.unique(np.concatenate(columns), return_inverse=True)
        row = np.repeat(np.arange(len(columns)), [len(own) for own in columns])
        matrix = self.checked_similarity(images, texts[torch.from_numpy(needed)])
        return matrix[torch.from_numpy(row), torch.from_numpy(column)]

    def score_pixels(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        images = self.encode_images(self.inputs_of(pixels))
        unique = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        with torch.no_grad():
            made = self.embed_captions(list(unique))
        matrix = self.similarity(images.cpu().double(), made.cpu().double())
        return matrix[torch.arange(len(texts)), [unique[text] for text in texts]]

    def embed_captions(self, texts: Sequence[Text]) -> Tensor:
        """What `similarity` takes for texts; a scorer that uses references adds theirs here."""
        return self.embed_texts([caption_text(text) for text in texts])

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """float32 embeddings (N, ...) of texts (template applied), through the store if any.

        Texts are encoded sorted by length, so that a batch holds texts of like length.
        """
        filled = [self.template.fill(text)[0] for text in texts]
        keys = [f"text:{text_key(text)}" for text in filled]
        # Texts that were cut have a row of their own, as those that are stored are not read again.
        marks = {CUT + key: text for key, text in zip(keys, filled, strict=True)}
        known = self._stored_embeddings([*keys, *marks])
        self.note_truncated(marks[key] for key in known if key in marks)
        todo = [n for n in range(len(filled)) if keys[n] not in known]
        todo.sort(key=lambda n: len(filled[n]))
        for part, made in self.batch.batches(
            todo, lambda batch: self.encode_texts([filled[n] for n in batch])
        ):
            known |= self._store_embeddings([keys[n] for n in todo[part]], made.float())
            cut = [CUT + keys[n] for n in todo[part] if filled[n] in self._truncated]
            self._store_embeddings(cut, torch.ones(len(cut), 1, dtype=torch.float32))
        return self.stack_embeddings([known[key] for key in keys])

    def embed_images(self, media: Sequence[Media]) -> Iterator[tuple[list[int], Tensor, Failed]]:
        """Yield (positions in `media`, their float32 embeddings, why others failed)."""
        keys = [f"image:{m.key}" for m in media]
        known = self._stored_embeddings(keys)
        have = [n for n, key in enumerate(keys) if key in known]
        if have:
            yield have, self.stack_embeddings([known[keys[n]] for n in have]), {}
        todo = [n for n, key in enumerate(keys) if key not in known]
        windows = self._encode_in_batches(
            [media[n] for n in todo], lambda b: self.encode_images(self.stack(b))
        )
        for made, failed in windows:
            numbers = [todo[n] for n in made]
            rows = [row.float() for row in made.values()]
            self._store_embeddings([keys[n] for n in numbers], rows)
            yield (
                numbers,
                torch.stack(rows) if rows else torch.empty(0, dtype=torch.float32),
                {todo[n]: reason for n, reason in failed.items()},
            )

    def _stored_embeddings(self, keys: Sequence[str]) -> dict[str, Tensor]:
        if self.store is None:
            return {}
        found = self.store.get_embeddings(self.encoder_id, keys)
        return {key: torch.from_numpy(row.copy()).to(self.device) for key, row in found.items()}

    def _store_embeddings(self, keys: Sequence[str], made: Iterable[Tensor]) -> dict[str, Tensor]:
        rows = dict(zip(keys, made, strict=True))
        if self.store is not None and rows:
            arrays: dict[str, NDArray[np.float32]] = {k: r.cpu().numpy() for k, r in rows.items()}
            self.store.put_embeddings(self.encoder_id, arrays)
        return rows


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1 along the last dimension."""
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / length
