"""How much asking many questions at once saves: rates against a server of our own.

    PYTHONPATH=tests python tests/performance/speed_api.py [LATENCY]

The server is another process on this machine and waits LATENCY seconds (0.25) before it answers.
"""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from helpers.services.ask_server import Spoken
from PIL import Image

from t2v_eval.scoring.plan import Block

WANTED = 15.0  # times the serial rate, with 64 requests open at 250 ms


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


def main(latency: float = 0.25) -> None:
    measure("openai", latency)
    if find_spec("google") and find_spec("google.genai"):
        measure("gemini", latency)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:]))
