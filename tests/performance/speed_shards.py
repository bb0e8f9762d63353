"""Parallel efficiency of two shards, beside one process that does the work of both.

    OMP_NUM_THREADS=1 python tests/performance/speed_shards.py [--images 10500]

Run it on an idle machine with two cores and Linux, from the root of the repository. Each process
has a core of its own, since threads of one process would decode on both. The work is
`t2v-eval score` of drawn images of 512 x 512 pixels with an embedded scorer, started anew each
time, so that loading counts too; choose as many images that one process takes a minute. Efficiency
is the time of one process, divided by twice that of the slower of two.
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


def run_shards(folder: Path, count: int) -> float:
    """Score all shards at once; return the seconds until the last has ended."""
    start = time.perf_counter()
    workers = []
    for number in range(1, count + 1):
        out = ["--store", f"{count}.sqlite", "--out", f"{number}-of-{count}.csv"]
        command = [sys.executable, "-m", "t2v_eval", *COMMAND, *out, "--shard", f"{number}/{count}"]
        worker = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
        )
        os.sched_setaffinity(worker.pid, {number - 1})  # its threads start later
        workers.append(worker)
    assert [worker.wait() for worker in workers] == [0] * count
    return time.perf_counter() - start


def main() -> None:
    """Print the times and the efficiency."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=10500)
    images = parser.parse_args().images
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
    print(
        f"{images} images: one process {one:.1f} s, two {two:.1f} s ({rows[0]} and {rows[1]} "
        f"images), efficiency {one / two / 2:.2f} (wanted {WANTED})"
    )


if __name__ == "__main__":
    main()
