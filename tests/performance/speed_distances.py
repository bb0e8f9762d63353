"""What distances between sets of images cost at the sizes of the field, beside other code.

    OMP_NUM_THREADS=1 python tests/performance/speed_distances.py [--rows 10000] [--manifold 50000]
    OMP_NUM_THREADS=1 python tests/performance/speed_distances.py --extraction 200

Features are random, of 2,048 dimensions in float32, as those of Inception. The memory that is shown
is the most that this process has had so far, with the features of both sets. Extraction has the
network of FID with random weights and random images; clean-fid's loop, in one process, opens and
resizes 32 images and runs the network.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import linalg

import t2v_eval
from t2v_eval.evaluation.distances.folders import extract_folder
from t2v_eval.extractors.extractor import NetworkExtractor
from t2v_eval.extractors.inception import FidInception
from t2v_eval.extractors.resizing import clean
from t2v_eval.stats.distances.frechet import fid, frechet_distance, moments
from t2v_eval.stats.distances.kernel import kid
from t2v_eval.stats.distances.manifold import overlap

D = 2048


def timed(what: str, work: Callable[[], object]) -> float:
    """Print how long `work` took, and the most memory that this process has had so far.

    Returns the seconds of the CPU, which other processes change little.
    """
    start, start_cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{seconds:7.1f} s, {cpu:7.1f} s of CPU, peak {peak:4.2f} GB: {what}", flush=True)
    return cpu


def sqrtm_distance(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> float:
    """FID of moments as pytorch-fid computes it."""
    gap = one[0] - other[0]
    root = linalg.sqrtm(one[1] @ other[1])
    return float(gap @ gap + np.trace(one[1] + other[1] - 2 * root.real))


def time_extraction(count: int) -> None:
    """Compare the extraction of a folder with clean-fid's loop."""
    rng = np.random.default_rng(0)
    network = FidInception().eval().requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((512, 512), Image.Resampling.BICUBIC)
            image.save(Path(folder) / f"{number}.jpg")

        def loop() -> None:
            files = sorted(Path(folder).glob("*.jpg"))
            for start in range(0, len(files), 32):
                batch = [clean(Image.open(f).convert("RGB")) for f in files[start : start + 32]]
                with torch.no_grad():
                    network(torch.stack(batch))

        extractor = NetworkExtractor(network, clean, {}, "cpu", batch_size=32)
        extract_folder(folder, extractor)  # both with files in the page cache
        start = time.perf_counter()
        timed(f"{count} images of 512 x 512", lambda: extract_folder(folder, extractor))
        middle = time.perf_counter()
        timed("clean-fid's loop", loop)
    # Decoding runs beside the network, so the clock counts, not the CPU.
    print(f"{(time.perf_counter() - middle) / (middle - start):.2f}x as fast")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--manifold", type=int, default=0, help="rows for precision and recall")
    parser.add_argument("--extraction", type=int, default=0, help="images to extract")
    arguments = parser.parse_args()
    if arguments.extraction:
        time_extraction(arguments.extraction)
        return
    rng, n = np.random.default_rng(0), arguments.manifold or arguments.rows
    reference, images = (
        np.maximum(rng.standard_normal((n, D), np.float32) + shift, 0) for shift in (0, 0.1)
    )
    timed("nothing, with both sets of features", lambda: None)
    if arguments.manifold:
        timed(f"precision, recall, density, coverage of {n:,}", lambda: overlap(reference, images))
        return
    mine = timed(f"FID of {n:,}, from features", lambda: fid(reference, images))
    both = moments(reference), moments(images)
    root = timed("FID of moments", lambda: frechet_distance(*both))
    theirs = timed("FID of moments by scipy's sqrtm", lambda: sqrtm_distance(*both))
    covariances = timed(
        "numpy.cov of both", lambda: [np.cov(x, rowvar=False) for x in (reference, images)]
    )
    print(
        f"from features {(theirs + covariances) / mine:.1f}x, moments {theirs / root:.1f}x faster"
    )
    timed(f"FID of {500:,} images", lambda: fid(both[0], images[:500]))
    timed(f"KID of {n:,}, exact", lambda: kid(reference, images))
    for metric in ("fid", "kid"):
        work = lambda metric=metric: t2v_eval.distance(reference, images, metric)  # noqa: E731
        timed(f"{metric} of {n:,} with its interval of 1,000 resamples", work)


if __name__ == "__main__":
    main()
