"""Videos and the small vision-language models that are shown them."""

from __future__ import annotations

from helpers.toy import draw_image

import t2v_eval

TEXTS = ["cat", "the tall lighthouse stands next to the calm river " * 3, "two dogs", ""]


def load(checkpoint, **options):
    return t2v_eval.load(f"hf-vlm:{checkpoint}", device="cpu", **options)


def frames_of(seed, count=4):
    return [draw_image(10 * seed + n, (60, 44)) for n in range(count)]
