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
from tiny_vlm import TEXT, llava, qwen2_5_vl

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


def vlm_1_by_16(folder: Path, title: str, build: Callable[[Path], None]) -> None:
    """20 million parameters and 576 tokens of a picture, as many as LLaVA-1.5's."""
    build(folder)
    shared, apart = (load(f"hf-vlm:{folder}", device="cpu", share=s) for s in (True, False))
    pixels = np.random.default_rng(0).integers(0, 256, (672, 672, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    texts = [f"the cat number {n} by the river and {n * 3} dogs" for n in range(16)]
    side_by_side(
        f"{title}, 1 x 16 after a shared start against 16 pairs",
        8.0,
        lambda: shared(image, texts),
        lambda: apart(image, texts),
    )


LANGUAGE = {
    **TEXT,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 4096,
}
CLIP = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "image_size": 336,
    "patch_size": 14,
}
QWEN_TEXT = {
    **LANGUAGE,
    "rope_parameters": {
        "rope_type": "default",
        "mrope_section": [8, 12, 12],
        "rope_theta": 10000.0,
    },
}
QWEN = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "out_hidden_size": 384,
    "num_heads": 3,
    "depth": 8,
    "fullatt_block_indexes": [3, 7],
}


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip_8_by_8(folder)
        vlm_1_by_16(folder / "l", "LLaVA-like", lambda f: llava(f, LANGUAGE, CLIP))
        vlm_1_by_16(folder / "q", "Qwen2.5-VL-like", lambda f: qwen2_5_vl(f, QWEN_TEXT, QWEN, 576))
