"""How much 64 written judgements in flight save over one by one, with the same answers.

    PYTHONPATH=tests python tests/performance/speed_judges.py [LATENCY]

A server of this process waits LATENCY seconds (0.25) before it answers; both ways of asking are
measured in one run.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from pathlib import Path

import torch
from helpers.services.loopback import Reply, Request, Server
from helpers.services.openai_server import sampled
from performance.speed_api import draw_images

import t2v_eval

WANTED = 5.0  # times as fast, with 64 in flight
CARD = """
range = "1 to 5"
[judge]
score = "style"
[[judge.questions]]
text = "Grade the style of this image of {}; write Style: and a number from 1 to 5."
outputs.style = {pattern = 'Style: {number}', range = [1, 5]}
"""


def grade(request: Request) -> Reply:
    """Write a grade that depends on the image and the question."""
    number = hashlib.blake2b(request.cell.encode(), digest_size=1).digest()[0] % 5 + 1
    return Reply(sampled(f"It is neat. Style: {number}"))


def judge(file: Path, server: Server, concurrency: int, images: int) -> tuple[float, torch.Tensor]:
    """Return the seconds that the judgements take, and the grades."""
    options = {"base_url": server.url, "api_key": "k", "concurrency": concurrency}
    scorer = t2v_eval.load(str(file), vlm="openai-compatible:served-model-1", **options)
    pictures = draw_images(images)
    started = time.perf_counter()
    grades = scorer(pictures, "two dogs")
    return time.perf_counter() - started, grades


def main(latency: float = 0.25) -> None:
    with tempfile.TemporaryDirectory() as folder, Server(grade, latency) as server:
        file = Path(folder) / "style.toml"
        file.write_text(CARD, encoding="utf-8")
        judge(file, server, 1, 1)  # what is imported and connected once
        serial, grades = judge(file, server, 1, 64)
        together, same = judge(file, server, 64, 64)
        equal = "equal" if torch.equal(grades, same) else "DIFFERENT"
        print(
            f"64 judgements: one by one {serial:.2f} s, 64 in flight {together:.2f} s, "
            f"{serial / together:.1f} times (wanted {WANTED:g}), {equal} grades"
        )


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
