"""Load a server with many clients: answers that are lost or wrong, latency and throughput.

    python tests/performance/load_server.py [--clients 64] [--seconds 60] [--model tiny-clip]

starts `t2v-eval serve` in a process of its own and compares every score with that of the scorer in
this process. Then one client asks the same, one request at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image, ImageDraw

import t2v_eval

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.services.scoring_server import file_of

COLOURS = ["red", "green", "blue", "orange", "purple", "black"]
TOLERANCE = 1e-4  # of scores of other batches


@dataclass
class Tally:
    """What clients have seen."""

    seconds: list[float] = field(default_factory=list)
    lost: int = 0
    wrong: int = 0


def scenes(count: int) -> list[Image.Image]:
    """Drawn scenes, as the embedded models know them."""
    chance, images = random.Random(0), []
    for _ in range(count):
        image = Image.new("RGB", (48, 48), (240, 238, 230))
        x, y = chance.randint(8, 40), chance.randint(8, 40)
        ImageDraw.Draw(image).ellipse((x - 7, y - 7, x + 7, y + 7), fill=chance.choice(COLOURS))
        images.append(image)
    return images


async def client(
    http: httpx2.AsyncClient, seed: int, until: float, files: list[Any], scores: Any, tally: Tally
) -> None:
    """Ask for two images with two texts again and again."""
    chance, texts = random.Random(seed), [f"a {colour} circle" for colour in COLOURS]
    while time.monotonic() < until:
        rows, columns = chance.sample(range(len(files)), 2), chance.sample(range(len(texts)), 2)
        body = {"images": [files[i] for i in rows], "texts": [texts[j] for j in columns]}
        start = time.monotonic()
        try:
            response = await http.post("/v1/score", json=body)
            values = response.json()["results"][0]["scores"]
        except (httpx2.HTTPError, KeyError, ValueError):
            tally.lost += 1
            continue
        tally.seconds.append(time.monotonic() - start)
        expected = scores[np.ix_(rows, columns)]
        tally.wrong += not np.allclose(np.array(values, float), expected, atol=TOLERANCE)


async def load(address: str, clients: int, seconds: float, files: list[Any], scores: Any) -> Tally:
    """Let clients ask for a time."""
    tally, until = Tally(), time.monotonic() + seconds
    limits = httpx2.Limits(max_connections=clients)
    async with httpx2.AsyncClient(base_url=address, timeout=120, limits=limits) as http:
        await asyncio.gather(
            *(client(http, n, until, files, scores, tally) for n in range(clients))
        )
    return tally


def main() -> None:
    """Print a line for many clients and one for a single one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="tiny-clip")
    options = parser.parse_args()
    images = scenes(200)
    scorer = t2v_eval.load(options.model, device="cpu")
    scores = scorer(images, [f"a {colour} circle" for colour in COLOURS]).numpy()
    files = [file_of(image) for image in images]
    command = [
        *(sys.executable, "-m", "t2v_eval", "serve", "-m", options.model),
        *("--port", "0", "--no-store", "--device", "cpu"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = server.stderr.readline().partition(" at ")[2].partition(";")[0]
        for clients in (options.clients, 1):
            tally = asyncio.run(load(address, clients, options.seconds, files, scores))
            median, high = 1000 * np.quantile(tally.seconds, [0.5, 0.95])
            print(
                f"{clients} clients: {len(tally.seconds)} requests, {tally.lost} lost, "
                f"{tally.wrong} wrong, {len(tally.seconds) / options.seconds:.0f} a second, "
                f"median {median:.0f} ms, 95th percentile {high:.0f} ms"
            )
        server.terminate()


if __name__ == "__main__":
    main()
