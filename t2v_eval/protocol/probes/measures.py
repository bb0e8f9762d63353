"""Measure the images of a generator: statistics and hashes, in one pass over the files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from t2v_eval.errors import MediaError
from t2v_eval.inputs.decode_budget import BUDGET
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.local.batching import ahead
from t2v_eval.protocol.generated import GeneratedImages
from t2v_eval.protocol.probes.image_hashes import WORDS, Hashes, image_hash
from t2v_eval.protocol.probes.image_statistics import STATISTICS
from t2v_eval.utils.arrays import FloatArray

_AHEAD = 32  # images that wait for the one before them


@dataclass(frozen=True, slots=True)
class ImageMeasures:
    """The images of one generator as numbers.

    Attributes:
        statistics: shape (seeds, prompts, k), those of `STATISTICS`; NaN where an image failed.
        hashes: shape (seeds, prompts, words).
        sizes: the number of images of each width and height.
        failed: reasons, by the path of the image.

    >>> empty = ImageMeasures(np.zeros((1, 0, 4)), np.zeros((1, 0, 4), np.uint64))
    >>> dict(empty.failed)
    {}
    """

    statistics: FloatArray
    hashes: Hashes
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)


def measure_images(generator: GeneratedImages) -> ImageMeasures:
    """Decode and measure every image of a generator once, in threads.

    Images are measured as people see them: upright, in RGB, transparent pixels over white.

    Args:
        generator: the images; one that cannot be decoded is recorded and left out.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "red.png"
    ...     Image.new("RGB", (8, 8), "red").save(file)
    ...     measures = measure_images(GeneratedImages("new", {0: [file]}))
    >>> float(measures.statistics[0, 0, 0]), measures.sizes
    (1.0, Counter({(8, 8): 1}))
    """
    paths = [path for row in generator.images.values() for path in row]
    shape = generator.seeds, len(paths) // max(1, generator.seeds)
    statistics = np.full((len(paths), len(STATISTICS)), np.nan)
    hashes = np.zeros((len(paths), WORDS), np.uint64)
    result = ImageMeasures(
        statistics.reshape(*shape, len(STATISTICS)), hashes.reshape(*shape, WORDS)
    )
    for number, measured in enumerate(ahead(paths, _measure, _AHEAD)):
        if isinstance(measured, MediaError):
            result.failed[str(paths[number])] = str(measured)
        else:
            statistics[number], hashes[number], size = measured
            result.sizes[size] += 1
    return result


def _measure(path: Path) -> tuple[list[float], Hashes, tuple[int, int]] | MediaError:
    """Measure one image; runs in a thread."""
    try:
        with BUDGET.lease():
            image = decode(open_media(path))
            pixels = np.asarray(image)
            values = [statistic(pixels) for statistic in STATISTICS.values()]
            return values, image_hash(image), image.size
    except MediaError as error:
        return error
