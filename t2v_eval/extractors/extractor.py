"""Extract features of images in batches, with decoding threads, on any device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typing_extensions import override

from t2v_eval.errors import MediaError, ScoringError
from t2v_eval.inputs.decode_budget import BUDGET
from t2v_eval.inputs.image_file import decoding, error_message
from t2v_eval.inputs.media import Media, decode
from t2v_eval.local.batching import BatchSize, Failure, ahead
from t2v_eval.local.devices import pick_device
from t2v_eval.local.upload import Upload
from t2v_eval.utils.torch_internals import inference


class Extracted(NamedTuple):
    """Features of some images.

    Attributes:
        numbers: which images they are of.
        features: shape (B, d), float32.
        logits: of a classifier, shape (B, classes), float32; None without one.
        failed: why other images have none, by their number.

    >>> Extracted([0], np.ones((1, 2), np.float32), None, {1: "b.png: damaged"}).failed
    {1: 'b.png: damaged'}
    """

    numbers: list[int]
    features: NDArray[np.float32]
    logits: NDArray[np.float32] | None
    failed: Mapping[int, str]


class Extractor(ABC):
    """Turns images into rows of features.

    >>> from t2v_eval.extractors.names import load_extractor
    >>> load_extractor("tiny-clip", device="cpu").facts()["network"]
    'tiny-clip'
    """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return all that decides the features: network, hash of weights, resizer, versions."""

    @abstractmethod
    def extract(self, media: Sequence[Media]) -> Iterator[Extracted]:
        """Extract features of images, in batches.

        Args:
            media: the images.

        Yields:
            Features as they are computed; each image occurs once, with features or a reason.
        """


class NetworkExtractor(Extractor):
    """A network, and how an image becomes its input.

    Args:
        network: maps inputs (B, ...) to features (B, d), or to features and logits.
        prepare: maps an upright RGB image to an input (...); runs in decoding threads.
        facts: see `Extractor.facts`.
        device: for example "cuda:0"; default CUDA, then MPS, then the CPU.
        batch_size: the first batch size that is tried; it is halved when memory runs out.

    >>> from t2v_eval.inputs.media import open_media
    >>> def mean_colour(image):
    ...     return torch.tensor(image.resize((1, 1)).getpixel((0, 0)), dtype=torch.float32)
    >>> extractor = NetworkExtractor(torch.nn.Identity(), mean_colour, {"network": "mean"}, "cpu")
    >>> (batch,) = extractor.extract([open_media(Image.new("RGB", (4, 4), "red"))])
    >>> batch.features.tolist()
    [[255.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        network: torch.nn.Module,
        prepare: Callable[[Image.Image], Tensor],
        facts: Mapping[str, Any],
        device: str | torch.device | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.device = pick_device(device)
        self._network = network.to(self.device).eval().requires_grad_(False)
        self._prepare_image = prepare
        self._facts = dict(facts)
        default_size = 128 if self.device.type == "cuda" else 32
        self._batch = BatchSize(default_size if batch_size is None else batch_size)

    @override
    def facts(self) -> dict[str, Any]:
        return {**self._facts, "dtype": "float32"}

    @override
    def extract(self, media: Sequence[Media]) -> Iterator[Extracted]:
        upload = Upload(self.device)
        size = 2 * self._batch.value
        prepared = enumerate(ahead(media, lambda item: upload.send(self._prepare(item)), size))
        while window := list(islice(prepared, self._batch.value)):
            failed = {n: str(item) for n, item in window if isinstance(item, MediaError)}
            readable = [(n, item) for n, item in window if not isinstance(item, MediaError)]
            rows: list[tuple[NDArray[np.float32], NDArray[np.float32] | None]] = []
            numbers: list[int] = []
            parts = self._batch.run_adaptive(
                [item for _, item in readable], lambda b: self._run(upload.receive(b)), upload.drop
            )
            for part, result in parts:
                if isinstance(result, Failure):
                    number = readable[part.start][0]
                    failed[number] = _reason(media[number].name, result)
                else:
                    rows.append(result)
                    numbers += [n for n, _ in readable[part]]
            yield _joined(numbers, rows, failed)

    def _prepare(self, item: Media) -> Tensor | MediaError:
        remedy = "leave it out, or save it again"
        try:
            with BUDGET.lease(), decoding(item.name, "cannot be prepared", remedy):
                return self._prepare_image(decode(item))
        except MediaError as error:
            return error

    def _run(self, inputs: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        with inference():
            result = self._network(torch.stack(list(inputs)).to(self.device))
        features, logits = result if isinstance(result, tuple) else (result, None)
        if not torch.isfinite(features).all():
            raise ScoringError("the network returned NaN or infinite features")
        return (
            features.float().cpu().numpy(),
            None if logits is None else logits.float().cpu().numpy(),
        )


def _reason(name: str, failure: Failure) -> str:
    if failure.error is None:
        return f"{name}: does not fit into the memory, even alone"
    return f"{name}: {error_message(failure.error)}"


def _joined(
    numbers: list[int],
    rows: Sequence[tuple[NDArray[np.float32], NDArray[np.float32] | None]],
    failed: Mapping[int, str],
) -> Extracted:
    if not rows:
        return Extracted([], np.empty((0, 0), np.float32), None, failed)
    logits = [part for _, part in rows if part is not None]
    return Extracted(
        numbers,
        np.concatenate([part for part, _ in rows]),
        np.concatenate(logits) if logits else None,
        failed,
    )
