"""How much sharing work saves: our way and one call a pair, side by side in one process.

    python tests/speed.py

CPU seconds on one thread, medians of interleaved rounds; random weights of the real shape.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image

from t2v_eval import load

ROUNDS = 3


def cpu_seconds(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def side_by_side(
    title: str,
    target: float,
    ours: Callable[[], torch.Tensor],
    theirs: Callable[[], torch.Tensor],
) -> None:
    """Print both times, their ratio, and how far the results are apart."""
    ours(), theirs()
    rounds = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(ROUNDS)]
    fast, slow = (statistics.median(r[k][0] for r in rounds) for k in (0, 1))
    apart = (rounds[0][0][1] - rounds[0][1][1]).abs().max().item()
    print(
        f"{title}: {fast:.2f} s against {slow:.2f} s, {slow / fast:.1f} times "
        f"(wanted {target:g}), largest difference {apart:.1e}"
    )


def clip_8_by_8(folder: Path) -> None:
    torch.manual_seed(0)
    weights = folder / "vit-b-32.pt"
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), weights)
    scorer = load("open_clip", checkpoint=weights, arch="ViT-B-32", device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 256, 320, 3), dtype=np.uint8)
    images = [Image.fromarray(p) for p in pixels]
    texts = [f"a photo of {n} small dogs on a red sofa beside a lamp" for n in range(8)]
    side_by_side(
        "CLIP ViT-B-32, 8 x 8 in one call against 64 calls",
        6.0,
        lambda: scorer(images, texts),
        lambda: torch.stack([torch.cat([scorer(i, t)[0] for t in texts]) for i in images]),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        clip_8_by_8(Path(temporary))
