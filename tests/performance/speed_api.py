"""How much asking many questions at once saves: rates against a server of our own.

    PYTHONPATH=tests python tests/performance/speed_api.py [LATENCY]

The server is another process on this machine and waits LATENCY seconds (0.25) before it answers;
that of written judgements is in this process.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from helpers.services.ask_server import Spoken
from helpers.services.loopback import Reply, Request, Server
from helpers.services.openai_server import sampled
from PIL import Image

import t2v_eval
from t2v_eval.scoring.plan import Block

WANTED = 15.0  # times the serial rate, with 64 requests open at 250 ms
WANTED_OF_JUDGES = 5.0  # times as fast, with 64 in flight
CARD = """
range = "1 to 5"
[judge]
score = "style"
[[judge.questions]]
text = "Grade the style of this image of {}; write Style: and a number from 1 to 5."
outputs.style = {pattern = 'Style: {number}', range = [1, 5]}
"""


def draw_images(count: int) -> list[Image.Image]:
    """Noise of about 200 KB as it is sent."""
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (224, 224, 3), dtype=np.uint8))
        for _ in range(count)
    ]


def rate(
    service: str, address: str, concurrency: int, images: int, texts: int
) -> tuple[float, float]:
    """Requests per second, and CPU seconds of this process per request."""
    asking = {"concurrency": concurrency, "patience": 60.0, "timeout": 60.0}
    scorer = Spoken(service).load(address, **asking)
    block = Block(draw_images(images), [f"{n} dogs" for n in range(texts)])
    started, cpu = time.perf_counter(), time.process_time()
    scorer.evaluate_blocks([block])
    cells = images * texts
    return cells / (time.perf_counter() - started), (time.process_time() - cpu) / cells


def measure(service: str, latency: float) -> None:
    program = Path(__file__).parents[1] / "helpers" / "services" / "loopback.py"
    command = [sys.executable, str(program), service, str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        try:
            rate(service, address, 1, 1, 1)  # what is imported and made once
            serial, cpu = rate(service, address, 1, 2, 10)
            print(f"{service}, serial: {serial:.2f} requests/s, {1000 * cpu:.1f} ms CPU a request")
            for concurrency, images in ((4, 5), (16, 15), (64, 50)):
                measured_rate, cpu = rate(service, address, concurrency, images, 20)
                print(
                    f"{service}, {concurrency} open: {measured_rate:.1f} requests/s, "
                    f"{measured_rate / serial:.1f} times (wanted at 64: {WANTED:g}), "
                    f"{1000 * cpu:.1f} ms CPU a request"
                )
        finally:
            server.kill()


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


def measure_judgements(latency: float) -> None:
    with tempfile.TemporaryDirectory() as folder, Server(grade, latency) as server:
        file = Path(folder) / "style.toml"
        file.write_text(CARD, encoding="utf-8")
        judge(file, server, 1, 1)  # what is imported and connected once
        serial, grades = judge(file, server, 1, 64)
        together, same = judge(file, server, 64, 64)
        equal = "equal" if torch.equal(grades, same) else "DIFFERENT"
        print(
            f"64 judgements: one by one {serial:.2f} s, 64 in flight {together:.2f} s, "
            f"{serial / together:.1f} times (wanted {WANTED_OF_JUDGES:g}), {equal} grades"
        )


def main(latency: float = 0.25) -> None:
    measure("openai", latency)
    if find_spec("google") and find_spec("google.genai"):
        measure("gemini", latency)
    measure_judgements(latency)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
