"""How long the page of a report takes to open in Chromium, with many items and their images.

    python tests/performance/speed_page.py [ITEMS]

ITEMS (10,000) drawn photographs with a rating and scores of five scorers. The first figure is the
time from the start of the navigation until the items are there and can be sorted and filtered, the
second the time until the whole page is loaded.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import sync_playwright

from t2v_eval.evaluation.benchmark import Benchmark, Item, Scores
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import Media
from t2v_eval.report.html import render
from t2v_eval.report.report import Report
from t2v_eval.scoring.plan import Cells, Text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer

WANTED = 1.0  # seconds
SCORERS = 5


class Rated(Benchmark):
    """Soft noise, which takes as many bytes as photographs do."""

    pooled = True

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def items(self) -> Sequence[Item]:
        words = "a red dog left of two small houses under an old tree in the shining snow".split()
        return [
            Item(
                images=[self._image(n)],
                texts=[f"{n}: " + " ".join(words[: 4 + n % 13])],
                labels={"human": [(n * 7919 % 13) / 3 + 1]},
                tags=(("counting", "attribute", "relation")[n % 3],),
            )
            for n in range(self.n)
        ]

    def metrics(self, items: Sequence[Item], scores: Scores) -> dict[str, float]:
        cells = np.concatenate(scores)
        values = cells[~np.isnan(cells)]
        return {"mean": float(values.mean()) if len(values) else float("nan")}

    def _image(self, n: int) -> bytes:
        grid = np.random.default_rng(n).integers(0, 255, (9, 12, 3), np.uint8)
        stream = io.BytesIO()
        large = Image.fromarray(grid).resize((512, 384), Image.Resampling.BICUBIC)
        large.save(stream, "jpeg", quality=90)
        return stream.getvalue()


class Noisy(Scorer):
    """Scores at random, and now and then none."""

    def __init__(self, seed: int) -> None:
        super().__init__(on_error="skip")
        self.seed = seed

    def identity(self) -> dict[str, str]:
        return {"seed": str(self.seed), **super().identity()}

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        values = np.random.default_rng(self.seed).beta(2, 2, len(cells))
        bad = np.arange(len(cells)) % 997 == self.seed
        yield ScoreChunk(np.flatnonzero(~bad), torch.tensor(values[~bad]))
        yield ScoreChunk(np.flatnonzero(bad), None, "the service refused this image")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    benchmark = Rated(count)
    items = benchmark.items()
    runs = [evaluate(Noisy(seed), benchmark, items=items, resamples=2) for seed in range(SCORERS)]
    started = time.perf_counter()
    text = render(runs, Report(runs).labels, [])
    written = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page_file = Path(folder) / "report.html"
        page_file.write_text(text)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        times, whole = [], []
        for _ in range(5):
            page = browser.new_page()
            page.goto(page_file.as_uri())
            page.wait_for_selector(".item")
            times.append(float(page.evaluate("document.documentElement.dataset.ready")) / 1000)
            loaded = "performance.getEntriesByType('navigation')[0].loadEventEnd"
            whole.append(float(page.evaluate(loaded)) / 1000)
            page.close()
        browser.close()
    print(f"{count} items, {SCORERS} scorers: {len(text) / 2**20:.1f} MiB, made in {written:.0f} s")
    print(f"opens in {min(times):.2f} to {max(times):.2f} s, wanted: {WANTED:g} s")
    print(f"is complete in {min(whole):.2f} to {max(whole):.2f} s")
    sys.exit(max(times) > WANTED)


if __name__ == "__main__":
    main()
