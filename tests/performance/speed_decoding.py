"""CPU time of decoding, resizing and normalising JPEG files for CLIP, in each image mode.

    OMP_NUM_THREADS=1 python tests/performance/speed_decoding.py

The files are photographs that scikit-learn ships, resized to squares, of quality 90, in memory; the
transform is OpenCLIP's, to 224 pixels. Modes take turns in one process on one thread; times are
medians of rounds. Differences are of the resized pixels, of 255.
"""

from __future__ import annotations

import io
import statistics
import time

import numpy as np
import open_clip
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from t2v_eval.inputs.fast_jpeg import Resizing
from t2v_eval.inputs.media import Media, decode, open_media

ROUNDS, REPEATS, SIDE = 9, 4, 224
RESIZING = Resizing(SIDE, "bicubic")


def files_of(size: int) -> list[Media]:
    """Return the photographs as JPEG files of some size."""
    media = []
    for pixels in load_sample_images().images:
        stream = io.BytesIO()
        square = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
        square.save(stream, "JPEG", quality=90)
        media.append(open_media(stream.getvalue()))
    return media


def main() -> None:
    """Print images per second of CPU time in each mode, and how far pixels differ."""
    torch.set_num_threads(1)
    transform = open_clip.image_transform(SIDE, is_train=False)
    for size in (512, 1024, 2048):
        media = files_of(size)
        seconds: dict[str, list[float]] = {"seen": [], "fast": []}
        for _ in range(ROUNDS):
            for mode, times in seconds.items():
                start = time.process_time()
                for _ in range(REPEATS):
                    for image in media:
                        transform(decode(image, mode, RESIZING))
                times.append((time.process_time() - start) / REPEATS / len(media))
        rates = {mode: 1 / statistics.median(times) for mode, times in seconds.items()}
        apart = [
            np.abs(np.subtract(*(_resized(decode(image, m, RESIZING)) for m in seconds)))
            for image in media
        ]
        mean, largest = max(a.mean() for a in apart), max(a.max() for a in apart)
        print(
            f"{size} x {size}: seen {rates['seen']:.0f}/s, fast {rates['fast']:.0f}/s, "
            f"{rates['fast'] / rates['seen']:.1f} times; differences {mean:.2f} on average, "
            f"{largest:.0f} at most"
        )


def _resized(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)


if __name__ == "__main__":
    main()
