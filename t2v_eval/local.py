"""Scorers whose model runs here: decoding, batching, devices and the two ways to be fast.

`EmbeddingScorer`: pictures and texts are encoded apart, so M x N costs M + N encodings.
`PairScorer`: a picture is encoded once, then read together with each of its texts.
The author of a backend writes how to encode a batch; everything around it is here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypedDict, TypeVar

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from t2v_eval.batching import BatchSize, ahead
from t2v_eval.devices import free_bytes, pick_device, pick_dtype
from t2v_eval.embeddings import Comparing
from t2v_eval.errors import MediaError, ScoringError, TemplateError
from t2v_eval.kept import Kept
from t2v_eval.media import Media, Video
from t2v_eval.outcome import Scored
from t2v_eval.pixels import Differentiable, no_gradients
from t2v_eval.plan import Cells, Text, by_image
from t2v_eval.registry import Card
from t2v_eval.scorer import ImageMode, OnError, plain
from t2v_eval.store import Store, text_key
from t2v_eval.weights import HUB_FILES, Watched, locate

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
    allow_urls: bool
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
    facts: Mapping[str, str] = {}
    mode = "one by one"  # what is computed once for several scores
    remedy = "a smaller dtype, smaller pictures, shorter texts or another device"

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
        self._kept = Kept(lambda: free_bytes(self.device) // 10 if keep is None else keep)

    @property
    def files(self) -> Sequence[Path]:
        """Where the numbers come from; those that change after they are set give no id."""
        return self._watched.paths

    @files.setter
    def files(self, paths: Sequence[Path]) -> None:
        self._watched = Watched(paths)

    def locate(self, checkpoint: str, patterns: Sequence[str] = HUB_FILES, **hub: Any) -> Path:
        """The local folder or file of a checkpoint; see `t2v_eval.weights.locate`."""
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
            **self.facts,
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
            "mode": self.mode,
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

    def _windows(
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
            for part, states in self.image_batch.fitting(inputs, see, self._kept.clear):
                if states is None:
                    failed[good[part.start]] = self._too_large(media[good[part.start]].name)
                else:
                    made.update(zip(good[part], states, strict=True))
            yield made, failed

    def _states(
        self, media: Sequence[Media], see: Callable[[Sequence[Any]], Iterable[State]]
    ) -> Iterator[tuple[dict[int, State], Failed]]:
        """As `_windows`; what is kept of earlier calls is not made again, and comes first."""
        todo: list[int] = []
        for start in range(0, len(media), self.image_batch.value):
            window = range(len(media))[start : start + self.image_batch.value]
            known = {
                n: state for n in window if (state := self._kept.get(media[n].key)) is not None
            }
            todo += [n for n in window if n not in known]
            if known:
                yield known, {}
        for made, failed in self._windows([media[n] for n in todo], see):
            for n, state in made.items():
                self._kept.put(media[todo[n]].key, state)
            yield (
                {todo[n]: state for n, state in made.items()},
                {todo[n]: reason for n, reason in failed.items()},
            )

    def _too_large(self, what: str) -> str:
        return f"{what}: does not fit into the memory of {self.device}, even alone; {self.remedy}"

    def _written(
        self,
        batch: BatchSize,
        pairs: Sequence[tuple[Media, str]],
        write: Callable[[Sequence[tuple[Media, str]]], list[str]],
    ) -> list[str]:
        """What `write` makes of pictures and prompts, in batches that fit.

        Raises:
            ScoringError: one that does not fit alone.
        """
        written: list[str] = []
        for part, texts in batch.fitting(pairs, write, self._kept.clear):
            if texts is None:
                raise ScoringError(self._too_large(pairs[part.start][0].name))
            written += texts
        return written

    def each(self, media: Sequence[Media], make: Callable[[Media], Made]) -> list[Made]:
        made: list[Made] = []
        fitting = BatchSize(1).fitting(media, lambda one: make(one[0]), self._kept.clear)
        for part, result in fitting:
            if result is None:
                raise ScoringError(self._too_large(media[part.start].name))
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
        try:
            image = self.load(media)
            try:
                return self.preprocess(image)
            except (ValueError, RuntimeError, OverflowError, MemoryError) as error:
                raise MediaError(
                    f"{media.name}: cannot be prepared for the model: {error}"
                ) from error
        except MediaError as error:
            if self.on_error == "raise":
                raise
            return error


Failed: TypeAlias = dict[int, str]


class EmbeddingScorer(Comparing, LocalScorer):
    """A dual encoder. Subclasses write `preprocess`, `encode_images` and `encode_texts`.

    Where the score is not the cosine, they write `similarity` too.
    """

    mode = "pictures and texts encoded once"

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
    ) -> Iterator[Scored]:
        columns, column_of = np.unique(cells[:, 1], return_inverse=True)
        text_embeddings = self.embed_captions([texts[j] for j in columns.tolist()])
        text_embeddings = text_embeddings.cpu().double()
        rows, spans = by_image(cells)
        for numbers, embeddings, failed in self.embed_images([images[i] for i in rows]):
            for n, reason in failed.items():
                yield Scored(spans[n], None, reason)
            if numbers:
                positions = np.concatenate([spans[n] for n in numbers])
                row = np.repeat(np.arange(len(numbers)), [len(spans[n]) for n in numbers])
                needed, column = np.unique(column_of[positions], return_inverse=True)
                matrix = self.similarity(
                    embeddings.cpu().double(), text_embeddings[torch.from_numpy(needed)]
                )
                yield Scored(positions, matrix[torch.from_numpy(row), torch.from_numpy(column)])

    def score_pixels(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        images = self.encode_images(self.inputs_of(pixels))
        unique = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        with torch.no_grad():
            made = self.embed_captions(list(unique))
        matrix = self.similarity(images.cpu().double(), made.cpu().double())
        return matrix[torch.arange(len(texts)), [unique[text] for text in texts]]

    def embed_captions(self, texts: Sequence[Text]) -> Tensor:
        """What `similarity` takes for texts; a scorer that uses references adds theirs here."""
        return self.embed_texts([plain(text) for text in texts])

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """float32 embeddings (N, ...) of texts (template applied), through the store if any.

        Texts are encoded sorted by length, so that a batch holds texts of like length.
        """
        filled = [self.template.fill(text)[0] for text in texts]
        keys = [f"text:{text_key(text)}" for text in filled]
        known = self._stored(keys)
        todo = [n for n in range(len(filled)) if keys[n] not in known]
        todo.sort(key=lambda n: len(filled[n]))
        for part, made in self.batch.batches(
            todo, lambda batch: self.encode_texts([filled[n] for n in batch])
        ):
            known |= self._keep([keys[n] for n in todo[part]], made.float())
        return torch.stack([known[key] for key in keys])

    def embed_images(self, media: Sequence[Media]) -> Iterator[tuple[list[int], Tensor, Failed]]:
        """Yield (positions in `media`, their float32 embeddings, why others failed)."""
        keys = [f"image:{m.key}" for m in media]
        known = self._stored(keys)
        have = [n for n, key in enumerate(keys) if key in known]
        if have:
            yield have, torch.stack([known[keys[n]] for n in have]), {}
        todo = [n for n, key in enumerate(keys) if key not in known]
        windows = self._windows(
            [media[n] for n in todo], lambda b: self.encode_images(self.stack(b))
        )
        for made, failed in windows:
            numbers = [todo[n] for n in made]
            rows = [row.float() for row in made.values()]
            self._keep([keys[n] for n in numbers], rows)
            yield (
                numbers,
                torch.stack(rows) if rows else torch.empty(0),
                {todo[n]: reason for n, reason in failed.items()},
            )

    def _stored(self, keys: Sequence[str]) -> dict[str, Tensor]:
        if self.store is None:
            return {}
        found = self.store.get_embeddings(self.encoder_id, keys)
        return {key: torch.tensor(row, device=self.device) for key, row in found.items()}

    def _keep(self, keys: Sequence[str], made: Iterable[Tensor]) -> dict[str, Tensor]:
        rows = dict(zip(keys, made, strict=True))
        if self.store is not None and rows:
            arrays: dict[str, NDArray[np.float32]] = {k: r.cpu().numpy() for k, r in rows.items()}
            self.store.put_embeddings(self.encoder_id, arrays)
        return rows


class PairScorer(LocalScorer, Generic[State]):
    """A model that reads picture and text together.

    Subclasses write `preprocess`, `encode_images` (the part that depends on the picture alone, once
    a picture) and `score`.
    """

    mode = "pictures encoded once"

    @abstractmethod
    def encode_images(self, batch: Tensor) -> Sequence[State]:
        """Model inputs (B, ...) on the scorer's device -> what is kept of each picture."""

    @abstractmethod
    def score(self, states: Sequence[State], texts: Sequence[str]) -> Tensor:
        """Aligned pairs, texts of like length -> scores (P,). The template is not yet applied."""

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[Scored]:
        rows, spans = by_length(cells, texts)
        media = [images[i] for i in rows]
        for states, failed in self._states(media, lambda b: self.encode_images(self.stack(b))):
            for n, reason in failed.items():
                yield Scored(spans[n], None, reason)
            pairs = [
                (int(p), media[n].name, state, plain(texts[cells[p, 1]]))
                for n, state in states.items()
                for p in spans[n]
            ]
            pairs.sort(key=lambda pair: len(pair[3]))
            for part, values in self.batch.fitting(
                pairs,
                lambda b: self.score([s for _, _, s, _ in b], [t for *_, t in b]),
                self._kept.clear,
            ):
                positions = np.array([p for p, *_ in pairs[part]])
                why = None if values is not None else self._too_large(pairs[part.start][1])
                yield Scored(positions, values, why)

    def score_pixels(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        return self.score(self.encode_images(self.inputs_of(pixels)), texts)


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1 along the last dimension."""
    length: Tensor = vectors.norm(dim=-1, keepdim=True)
    return vectors / length


def by_length(cells: Cells, texts: Sequence[Text]) -> tuple[list[int], list[NDArray[np.int64]]]:
    """As `by_image`, with pictures in the order of their longest text.

    Pictures that are read together then have texts of like length, so that little is filling.
    """
    rows, spans = by_image(cells)
    lengths = np.array([len(plain(text)) for text in texts])
    order = sorted(range(len(rows)), key=lambda n: lengths[cells[spans[n], 1]].max())
    return [rows[n] for n in order], [spans[n] for n in order]
