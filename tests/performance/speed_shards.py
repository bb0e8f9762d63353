"""Parallel efficiency of two shards, beside one process that does the work of both.

    OMP_NUM_THREADS=1 python tests/performance/speed_shards.py [--images 10500] [--ray]

Run it on an idle machine with two cores and Linux, from the root of the repository. Each process
has a core of its own, since threads of one process would decode on both. The work is
`t2v-eval score` of drawn images of 512 x 512 pixels with an embedded scorer, started anew each
time, so that loading counts too; choose as many images that one process takes a minute. Efficiency
is the time of one process, divided by twice that of the slower of two. With `--ray`, two workers of
Ray (extra `cluster`) do it too, which share the cores with Ray and with the process that writes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

WANTED = 0.9
COMMAND = "score images -t cat -m tiny-clip --batch-size 16 -q".split()


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the command in a folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "t2v_eval", *COMMAND, *options],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
    )


def run_shards(folder: Path, count: int) -> float:
    """Score all shards at once; return the seconds until the last has ended."""
    begin = time.perf_counter()
    workers = []
    for number in range(1, count + 1):
        out = ("--store", f"{count}.sqlite", "--out", f"{number}-of-{count}.csv")
        worker = start(folder, *out, "--shard", f"{number}/{count}")
        os.sched_setaffinity(worker.pid, {number - 1})  # its threads start later
        workers.append(worker)
    assert [worker.wait() for worker in workers] == [0] * count
    return time.perf_counter() - begin


def run_ray(folder: Path) -> float:
    """Score with two workers of Ray; return the seconds."""
    begin = time.perf_counter()
    out = ("--store", "ray.sqlite", "--out", "ray.csv")
    assert start(folder, *out, "--engine", "ray", "--workers", "2").wait() == 0
    return time.perf_counter() - begin


def main() -> None:
    """Print the times and the efficiency."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=10500)
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    images = arguments.images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        rng = np.random.default_rng(0)
        for number in range(images):
            small = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            large = Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC)
            large.save(folder / "images" / f"{number:05}.jpg", quality=90)
        one, two = run_shards(folder, 1), run_shards(folder, 2)
        rows = [
            len(file.read_text().splitlines()) - 1 for file in sorted(folder.glob("*-of-2.csv"))
        ]
        assert sum(rows) == images, rows
        ray = run_ray(folder) if arguments.ray else None
    print(
        f"{images} images: one process {one:.1f} s, two {two:.1f} s ({rows[0]} and {rows[1]} "
        f"images), efficiency {one / two / 2:.2f} (wanted {WANTED})"
    )
    if ray is not None:
        print(f"two workers of Ray {ray:.1f} s, efficiency {one / ray / 2:.2f}")


if __name__ == "__main__":
    main()
