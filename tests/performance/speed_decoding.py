"""CPU time of reading, decoding, resizing and normalising JPEG files for CLIP, in each image mode.

    OMP_NUM_THREADS=1 python tests/performance/speed_decoding.py

The files are photographs that scikit-learn ships, resized to squares, of quality 90; the transform
is OpenCLIP's, to 224 pixels. Each file is hashed, read and decoded anew, in one mode after the
other, in one process on one thread. Times are those of the fastest round, which other work on the
machine has disturbed least. Differences are of the resized pixels, of 255.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from t2v_eval.inputs.fast_jpeg import Resizing
from t2v_eval.inputs.media import decode, open_media

ROUNDS, SIDE = 20, 224
RESIZING = Resizing(SIDE, "bicubic")
WANTED = {1024: 2}  # times the rate of "seen"


def files_of(size: int, folder: Path) -> list[Path]:
    """Write the photographs as JPEG files of some size."""
    paths = []
    for n, pixels in enumerate(load_sample_images().images):
        square = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
        paths.append(folder / f"{size}-{n}.jpg")
        square.save(paths[-1], "JPEG", quality=90)
    return paths


def main() -> None:
    """Print images per second of CPU time in each mode, and how far pixels differ."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for size in (512, 1024, 2048):
            compare(size, files_of(size, Path(folder)))


def compare(size: int, paths: list[Path]) -> None:
    transform = open_clip.image_transform(SIDE, is_train=False)
    seconds: dict[str, list[float]] = {"seen": [], "fast": []}
    for _ in range(ROUNDS):
        for path in paths:
            for mode, times in seconds.items():
                start = time.process_time()
                transform(decode(open_media(path), mode, RESIZING))
                times.append(time.process_time() - start)
    rates = {
        mode: len(paths) / sum(min(times[n :: len(paths)]) for n in range(len(paths)))
        for mode, times in seconds.items()
    }
    apart = [
        np.abs(np.subtract(*(_resized(decode(open_media(path), m, RESIZING)) for m in seconds)))
        for path in paths
    ]
    mean, largest = max(a.mean() for a in apart), max(a.max() for a in apart)
    wanted = f" (wanted {WANTED[size]})" if size in WANTED else ""
    print(
        f"{size} x {size}: seen {rates['seen']:.0f}/s, fast {rates['fast']:.0f}/s, "
        f"{rates['fast'] / rates['seen']:.1f} times{wanted}; differences {mean:.2f} on average, "
        f"{largest:.0f} at most"
    )


def _resized(image: Image.Image) -> np.ndarray:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)


if __name__ == "__main__":
    main()
