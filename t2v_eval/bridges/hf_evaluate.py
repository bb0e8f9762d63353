"""A scorer as a metric of Hugging Face evaluate, which collects batches and combines metrics."""

from __future__ import annotations

import io
import math
import os
from statistics import fmean
from typing import Any

from t2v_eval.bridges.rewards import list_images, rewards
from t2v_eval.errors import MediaError, MissingPackageError
from t2v_eval.inputs.media import open_media
from t2v_eval.scoring.scorer import Scorer


def evaluate_metric(scorer: Scorer, **options: Any) -> Any:
    """Return an `evaluate.Metric` (tested with 0.4.6): predictions are images, references texts.

    Its `compute` returns the mean score of image b with text b, NaN where there is none, and the
    number of images without a score.

    Args:
        scorer: with ``on_error="skip"`` an image that fails is counted; else it raises.
        options: of `evaluate.Metric`.

    Raises:
        MissingPackageError: evaluate is not installed.

    >>> import t2v_eval
    >>> half = t2v_eval.from_function(lambda images, texts: [[0.5] for _ in images])
    >>> evaluate_metric(half).compute(predictions=["a.png"], references=["cat"])  # doctest: +SKIP
    {'score': 0.5, 'failures': 0}
    """
    try:
        import evaluate
        from datasets import Features, Image, Value
    except ImportError as error:
        message = f"this metric needs the package {error.name!r}: pip install evaluate"
        raise MissingPackageError(message) from error

    class ScorerMetric(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> Any:
            # Files are not decoded by datasets, so that one which is broken fails alone.
            features = Features(predictions=Image(decode=False), references=Value("string"))
            return evaluate.MetricInfo(f"The mean score of {scorer.name}.", "", features)

        def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
            """Add images and their texts."""
            files = [_file(scorer, image) for image in list_images(predictions)]
            super().add_batch(predictions=files, references=references)

        def add(self, *, prediction: Any = None, reference: Any = None) -> None:
            """Add an image and its text."""
            self.add_batch(predictions=[prediction], references=[reference])

        def _compute(self, predictions: list[Any], references: list[str]) -> dict[str, float]:
            files = [row["path"] if row["bytes"] is None else row["bytes"] for row in predictions]
            values = rewards(scorer, files, references)
            scored = [value for value in values if value is not None]
            mean = fmean(scored) if scored else math.nan
            return {"score": mean, "failures": values.count(None)}

    metric = ScorerMetric(**options)
    metric.info.module_name = scorer.name  # by which `evaluate.combine` tells metrics apart
    return metric


def _file(scorer: Scorer, image: Any) -> Any:
    """Return an image as a file, without loss; evaluate itself would save some as JPEG."""
    if isinstance(image, (str, os.PathLike, bytes)):
        return image
    stream = io.BytesIO()
    try:
        scorer.load_image(open_media(image)).save(stream, "TIFF")
    except MediaError:
        if scorer.on_error != "skip":
            raise
    return stream.getvalue()  # an empty file is counted as a failure
