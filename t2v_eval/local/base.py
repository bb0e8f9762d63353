"""Scorers whose model runs on this machine: decoding, batching, devices, precision.

The author of a backend writes how to encode a batch; `dual_encoder`, `pair_scorer` and
`prefix_sharing` have the base classes for it.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeAlias, TypedDict, TypeVar

import PIL
import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, MediaError, ScoringError, UnsupportedError
from t2v_eval.inputs.decode_budget import BUDGET
from t2v_eval.inputs.image_file import decoding, error_message
from t2v_eval.inputs.media import Media, Video
from t2v_eval.inputs.urls import AllowUrls
from t2v_eval.local.batching import BatchSize, Failure, ahead
from t2v_eval.local.devices import free_bytes, pick_device, pick_dtype
from t2v_eval.local.dry_loading import WEIGHT_SUFFIXES
from t2v_eval.local.moving import move
from t2v_eval.local.state_cache import TensorCache
from t2v_eval.local.upload import Upload
from t2v_eval.local.weights import HUB_FILES, Watched, locate, read_tensors
from t2v_eval.scoring.differentiable import Differentiable, no_gradients
from t2v_eval.scoring.scorer import ImageMode, OnError
from t2v_eval.store import Store

State = TypeVar("State")
Result = TypeVar("Result")
Failed: TypeAlias = dict[int, str]  # reasons of failures by index


class Options(TypedDict, total=False):
    """Options of every local scorer; a backend passes them on as ``**options``.

    >>> options: Options = {"device": "cpu", "batch_size": 8, "on_error": "skip"}
    """

    card: ModelCard | None
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
        dtype: for example ``"bfloat16"``; default float32, and for large models what
            `precision.large_dtype` picks.
        batch_size: the first batch size that is tried.
        keep_bytes: size of the feature cache, which keeps features of images between calls; by
            default a tenth of the free memory, and 0 for no cache.
        cache_dir: where the Hugging Face hub's files are cached.
        local_files_only: whether to use only cached files.
        revision: the commit, branch or tag of a repository.
        options: see `Scorer`.

    Attributes:
        identity_facts: what decides the numbers beside weights, dtype and template; part of `id`.
        adapters: folders of LoRA adapters that are added to the weights.
        sharing_mode: the computation that scores share, for a report.
        out_of_memory_hint: what a user may try when an image does not fit into memory alone.
        uploads_ahead: whether only `stack` reads what `preprocess` returns, so that tensors of it
            may be on a CUDA device already.

    >>> import t2v_eval
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu", batch_size=8)
    >>> scorer.execution["device"], scorer.execution["batch_size"]
    ('cpu', '8')
    """

    identity_facts: Mapping[str, str] = {}
    adapters: Sequence[Path] = ()
    sharing_mode = "one by one"
    uploads_ahead = False
    out_of_memory_hint = "a smaller dtype, smaller images, shorter texts or another device"

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
        self._chosen_batch_size = batch_size
        self.start_batches_at(self._first_batch_size)
        self._watched = Watched()
        self.limit_cache(keep_bytes)

    @property
    def files(self) -> Sequence[Path]:
        """Return the weight and config files, which are hashed into `id`.

        Computing `id` raises `CheckpointError` if one of them changed since it was set here.
        """
        return self._watched.paths

    @files.setter
    def files(self, paths: Sequence[Path]) -> None:
        self._watched = Watched(paths)

    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors of the weight files anew, by name, as the loader reads them.

        A class that leaves tensors out, or computes its weights from them, yields those that are
        left or computed.

        Raises:
            CheckpointError: a file cannot be read.
        """
        for file in self.files:
            if file.suffix in WEIGHT_SUFFIXES:
                yield from read_tensors(file).items()

    def locate(self, checkpoint: str, patterns: Sequence[str] = HUB_FILES, **hub: Any) -> Path:
        """Return the local folder or file of a checkpoint; see `weights.locate`.

        Args:
            checkpoint: a directory, a file, a hub id or an https URL.
            patterns: the files to download.
            hub: overrides `cache_dir`, `local_files_only` or `revision` of this scorer.

        Raises:
            CheckpointError: as `weights.locate`.
        """
        return locate(checkpoint, patterns, **{**self._hub, **hub})

    def locate_weights(
        self, checkpoint: str, patterns: Sequence[str] = HUB_FILES, **hub: Any
    ) -> Path:
        """Locate as `locate` does; download pickles only if there are no safetensors.

        Args:
            checkpoint: as for `locate`.
            patterns: the files to download beside pickles.
            hub: as for `locate`.
        """
        folder = self.locate(checkpoint, patterns, **hub)
        if any(folder.glob("*.safetensors")):
            return folder
        return self.locate(checkpoint, (*patterns, "*.bin"), **hub)

    @override
    def start_batches_at(self, size: int | None) -> None:
        if size is not None:
            self.batch, self.image_batch = BatchSize(size), BatchSize(size)

    @property
    def _first_batch_size(self) -> int:
        """The first batch size that is tried: that of the caller or of the device."""
        default_size = 128 if self.device.type == "cuda" else 32
        return default_size if self._chosen_batch_size is None else self._chosen_batch_size

    @override
    def to(self, device: str | torch.device) -> Self:
        """Move the networks and their tensors to another device, and drop cached features.

        The precision stays as it is, so that the id does too. Copies that share the weights, such
        as those of `with_template`, move along.

        Args:
            device: for example ``"cuda:1"`` or ``"cpu"``.

        Returns:
            The scorer itself.

        Raises:
            InputError: no such device on this machine.
            UnsupportedError: the model is spread over several devices or quantised.
            ScoringError: it does not fit into the memory of the device; it stays where it was.
        """
        chosen = pick_device(device)
        with self._lock:
            before, copies = self.device, list(self._copies)
            try:
                self._move(copies, chosen)
            except UnsupportedError:
                raise
            except (RuntimeError, NotImplementedError) as error:
                self._move(copies, before)
                reason = str(error).partition("\n")[0]
                raise ScoringError(
                    f"{self.name!r} cannot be moved to {chosen} and stays on {before}: {reason}"
                ) from error
        return self

    def _move(self, copies: Sequence[Self], device: torch.device) -> None:
        self._cache.reset()
        for scorer in copies:
            move(scorer, device)
            scorer.device = device
            scorer.start_batches_at(self._first_batch_size)

    @override
    def identity(self) -> dict[str, str]:
        return {
            "weights": self._watched.fingerprint(),
            **self.identity_facts,
            "dtype": str(self.dtype).removeprefix("torch."),
            # Pillow 13 resizes some sizes differently from earlier versions.
            "pillow": PIL.__version__.partition(".")[0],
            **super().identity(),
        }

    def computing_anew(self) -> Self:
        """Return a copy that shares the weights, but neither a store nor the feature cache.

        An image that fails is a missing score of the copy.
        """
        other = copy.copy(self)
        other.store, other.on_error = None, "skip"
        other.limit_cache(0)
        return other

    def limit_cache(self, keep_bytes: int | None) -> None:
        """Start an empty feature cache of this size; None is a tenth of the free memory."""
        self._cache = TensorCache(
            lambda: free_bytes(self.device) // 10 if keep_bytes is None else keep_bytes
        )

    @property
    def execution(self) -> dict[str, str]:
        """Return how the model runs, for reports: what decides its speed but not its scores."""
        return {
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "mode": self.sharing_mode,
            "batch_size": str(self.batch.value),
            "image_batch_size": str(self.image_batch.value),
        }

    @abstractmethod
    def preprocess(self, image: Image.Image) -> Any:
        """Convert an image to model input, such as a tensor (C, H, W); runs in decoding threads.

        Args:
            image: the decoded image; RGB and upright in image mode "seen".

        Raises:
            MediaError, InputError, ScoringError: this image cannot be prepared.
        """

    def preprocess_tensor(self, pixels: Tensor) -> Tensor:
        """Convert RGB pixels to model inputs, with gradients.

        A backend that overrides it has `score_tensor`.

        Args:
            pixels: (B, 3, H, W), from 0 to 1.

        Raises:
            UnsupportedError: the backend does not override it.
        """
        raise no_gradients(self.name)

    def inputs_of(self, pixels: Tensor) -> Tensor:
        """Convert pixels as `preprocess_tensor` does, to the scorer's device and dtype."""
        return self.preprocess_tensor(pixels).to(self.dtype).to(self.device)

    def stack(self, prepared: Sequence[Tensor]) -> Tensor:
        """Stack B model inputs (...) to a batch (B, ...) on the scorer's device, in its dtype."""
        return torch.stack(list(prepared)).to(self.device, self.dtype)

    def _encode_in_batches(
        self, media: Sequence[Media], encode: Callable[[Sequence[Any]], Iterable[State]]
    ) -> Iterator[tuple[dict[int, State], Failed]]:
        """Prepare images in threads and encode them in batches that fit into memory.

        While a batch is encoded, the images of the next two are decoded, and copied to the device.

        Yields:
            States of images and reasons of failures, both by index into `media`.
        """
        # Videos are large, so only a few are prepared ahead and encoded together.
        has_videos = any(isinstance(item, Video) for item in media)
        size = 2 if has_videos else self.image_batch.value
        upload = Upload(self.device if self.uploads_ahead else torch.device("cpu"))
        prepared = enumerate(ahead(media, lambda m: upload.send(self._prepare(m)), 2 * size))
        while window := list(islice(prepared, min(size, self.image_batch.value))):
            failed = {n: str(item) for n, item in window if isinstance(item, MediaError)}
            numbers = [n for n, _ in window if n not in failed]
            inputs = [item for n, item in window if n not in failed]
            encoded: dict[int, State] = {}
            # The list makes a lazy result of `encode` fail here, inside the batch.
            parts = self.image_batch.run_adaptive(
                inputs,
                lambda b: [*encode(upload.receive(b))],
                lambda: upload.drop() | self._cache.clear(),
            )
            for part, states in parts:
                if isinstance(states, Failure):
                    n = numbers[part.start]
                    failed[n] = self._failure_reason(media[n].name, states)
                else:
                    encoded.update(zip(numbers[part], states, strict=True))
            yield encoded, failed

    def state_key(self, media: Media) -> str:
        """Return the key of an image's features in the cache, which copies of a scorer share."""
        return media.key

    def _cached_states(
        self, media: Sequence[Media], encode: Callable[[Sequence[Any]], Iterable[State]]
    ) -> Iterator[tuple[dict[int, State], Failed]]:
        """Encode as `_encode_in_batches` does, but yield states in the feature cache first."""
        todo: list[int] = []
        for start in range(0, len(media), self.image_batch.value):
            window = range(len(media))[start : start + self.image_batch.value]
            cached = {
                n: state
                for n in window
                if (state := self._cache.get(self.state_key(media[n]))) is not None
            }
            todo += [n for n in window if n not in cached]
            if cached:
                yield cached, {}
        for encoded, failed in self._encode_in_batches([media[n] for n in todo], encode):
            for n, state in encoded.items():
                self._cache.put(self.state_key(media[todo[n]]), state)
            yield (
                {todo[n]: state for n, state in encoded.items()},
                {todo[n]: reason for n, reason in failed.items()},
            )

    def _failure_reason(self, what: str, failure: Failure) -> str:
        """Return why the model failed on `what`, an image or a text.

        Raises:
            ScoringError, MediaError: the reason, with `on_error="raise"`. Out-of-memory is returned
                all the same: it is raised where the cells are counted.
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
        words = error_message(failure.error)
        if isinstance(failure.error, (ScoringError, MediaError)):
            return type(failure.error)(words if what in words else f"{what}: {words}")
        return ScoringError(
            f"{what}: {self.name} failed on it: {words}; `on_error='skip'` scores the rest"
        )

    def _generate_in_batches(
        self,
        batch: BatchSize,
        pairs: Sequence[tuple[Media, str]],
        generate: Callable[[Sequence[tuple[Media, str]]], list[Result]],
    ) -> list[Result]:
        """Generate texts for pairs of image and prompt, in batches that fit into memory.

        Raises:
            ScoringError: a pair does not fit alone, or fails.
        """
        generated: list[Result] = []
        for part, texts in batch.run_adaptive(pairs, generate, self._cache.clear):
            if isinstance(texts, Failure):
                raise self._failure_error(pairs[part.start][0].name, texts) from texts.error
            generated += texts
        return generated

    @override
    def map_one_by_one(
        self, media: Sequence[Media], work: Callable[[Media], Result]
    ) -> list[Result]:
        results: list[Result] = []
        parts = BatchSize(1).run_adaptive(media, lambda batch: work(batch[0]), self._cache.clear)
        for part, result in parts:
            if isinstance(result, Failure):
                raise self._failure_error(media[part.start].name, result) from result.error
            results.append(result)
        return results

    def load(self, media: Media) -> Any:
        """Decode the argument of `preprocess`; models of videos return frames of them.

        Raises:
            MediaError: it cannot be decoded.
        """
        return self.load_image(media)

    def prepare(self, media: Media, preprocess: Callable[[Any], Any] | None = None) -> Any:
        """Decode and preprocess one image.

        Args:
            media: the image.
            preprocess: a function in the place of the method `preprocess`.

        Returns:
            What `preprocess` returns.

        Raises:
            MediaError: it cannot be decoded or prepared, whatever `on_error` is.
        """
        prepared = self._prepare(media, preprocess)
        if isinstance(prepared, MediaError):
            raise prepared
        return prepared

    def _prepare(self, media: Media, preprocess: Callable[[Any], Any] | None = None) -> Any:
        remedy = "leave it out, or make it of a more usual size"
        try:
            # Decoded bytes count for this thread until the image is prepared.
            with BUDGET.lease(), decoding(media.name, "cannot be prepared for the model", remedy):
                image = self.load(media)
                try:
                    return (preprocess or self.preprocess)(image)
                except (InputError, ScoringError) as error:
                    raise MediaError(
                        f"{media.name}: cannot be prepared for the model: {error}"
                    ) from error
        except MediaError as error:
            if self.on_error == "raise":
                raise
            return error
