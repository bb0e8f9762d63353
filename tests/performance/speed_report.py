"""What a report of a million cells costs: statistics, files, the page, and reading it back.

    OMP_NUM_THREADS=1 python tests/performance/speed_report.py CASE [--items N] [--failing SHARE]

CASE is `ratings` (rated images of ten generators with ten tags), `continuous` (the same with
ratings without ties), `prompts` (half as many prompts, images of two generators) or `table` (a CSV
of scores, as `t2v-eval agree --out`). Each has 100,000 items, or `--items`, and ten scorers, or
`--scorers`, of which each lacks a share `--failing` of its scores, at random. Scores are noisy
judgements; no model runs.

A row of the table is a part of the work with its CPU seconds, and the peak memory of the process
until then. WANTED are the limits for 1,000,000 cells.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from t2v_eval.cards import ModelCard
from t2v_eval.evaluation.agreement import measure
from t2v_eval.evaluation.agreement_runs import agreement_runs
from t2v_eval.evaluation.benchmark import Benchmark
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.rating_tables.table import RatedTable, TableOptions
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import Media
from t2v_eval.inputs.tables import read_table
from t2v_eval.report.folders.index import find_reports, render_index
from t2v_eval.report.gate.checks import not_worse
from t2v_eval.report.report import Report
from t2v_eval.scoring.plan import Cells, Text, caption_text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer

WANTED = {"CPU seconds": 300.0, "GB": 4.0, "MB of the page": 30.0, "seconds to open": 2.0}
TAGS = tuple("counting colour relation action attribute text style scene emotion negation".split())
IMAGES = 3000


class Noisy(Scorer):
    """Scores the number that a text begins with, with noise; fails on some texts."""

    def __init__(self, seed: int, quality: np.ndarray, failing: float) -> None:
        name = f"scorer{seed}"
        super().__init__(on_error="skip", card=ModelCard(name, name, __name__))
        self.seed, self.quality, self.failing = seed, quality, failing

    def identity(self) -> dict[str, str]:
        return {"seed": str(self.seed), **super().identity()}

    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        rng = np.random.default_rng(self.seed)
        number = np.array([int(caption_text(text).partition(":")[0]) for text in texts])
        values = noisy(self.quality[number[cells[:, 1]]], self.seed, rng)
        bad = rng.random(len(cells)) < self.failing
        yield ScoreChunk(np.flatnonzero(~bad), torch.tensor(values[~bad]))
        yield ScoreChunk(np.flatnonzero(bad), None, "the service refused this image")


def noisy(quality: np.ndarray, seed: int, rng: np.random.Generator) -> np.ndarray:
    """Return scores from 0 to 1 of a scorer that is a little worse with every seed."""
    noise = rng.normal(scale=1.4 + 0.02 * (seed // 2), size=len(quality))
    values: np.ndarray = 1 / (1 + np.exp(-(quality - 3 + noise)))
    return values


class Parts:
    """The parts of the work, with the CPU seconds of each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part, and print its row."""
        start = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        print(f"{self.seconds[name]:8.1f} s  {peak():5.2f} GB  {name}", flush=True)


def peak() -> float:
    """Return the largest memory of this process so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def save_images(folder: Path, names: Sequence[str], seed: int = 0) -> None:
    """Write `IMAGES` distinct small photographs, and links to them under all names."""
    folder.mkdir(parents=True)
    for n, name in enumerate(names):
        if n >= IMAGES:
            os.link(folder / names[n % IMAGES], folder / name)
            continue
        grid = np.random.default_rng((seed, n)).integers(0, 255, (9, 12, 3), np.uint8)
        large = Image.fromarray(grid).resize((256, 192), Image.Resampling.BICUBIC)
        large.save(folder / name, "jpeg", quality=90)


def text_of(n: int) -> str:
    words = "a red dog left of two small houses under an old tree in the shining snow".split()
    return f"{n}: " + " ".join(words[: 4 + n % 13])


def ratings_of(quality: np.ndarray, continuous: bool) -> np.ndarray:
    """Return means of three raters from 1 to 5, or ratings without ties."""
    rng = np.random.default_rng(1)
    if continuous:
        return quality + rng.normal(scale=0.5, size=len(quality))
    raters = np.clip(np.rint(quality + rng.normal(scale=0.8, size=(3, len(quality)))), 1, 5)
    return raters.sum(axis=0) / 3


def rated_table(folder: Path, count: int, continuous: bool, scores: np.ndarray | None) -> Path:
    """Write a table of rated images, with columns of scores if there are any."""
    names = [f"{n}.jpg" for n in range(min(count, IMAGES))]
    save_images(folder / "images", names)
    quality = np.random.default_rng(0).uniform(1, 5, count)
    ratings = ratings_of(quality, continuous)
    columns = [f"scorer{k}" for k in range(0 if scores is None else scores.shape[1])]
    path = folder / "rated.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "image", "text", "human", "tags", "generator", *columns])
        for n, rating in enumerate(ratings.tolist()):
            cells = [
                "" if np.isnan(v) else repr(v) for v in (scores[n].tolist() if columns else ())
            ]
            image = f"images/{names[n % len(names)]}"
            row = [f"i{n}", image, text_of(n), rating, TAGS[n % 10], f"gen{n % 7}"]
            writer.writerow([*row, *cells])
    return path


def open_case(case: str, folder: Path, count: int) -> tuple[Benchmark, np.ndarray]:
    """Write the files of a case; return its benchmark and the quality of each text."""
    quality = np.random.default_rng(0).uniform(1, 5, count)
    if case != "prompts":
        path = rated_table(folder, count, case == "continuous", None)
        return open_benchmark(str(path)), quality
    with (folder / "prompts.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "prompt", "tags"])
        writer.writerows([n, text_of(n), TAGS[n % 10]] for n in range(count // 2))
    for seed, name in enumerate(("flux", "sdxl")):
        save_images(folder / name, [f"{n:06}.jpg" for n in range(count // 2)], seed)
    images = [folder / "flux", folder / "sdxl"]
    return open_benchmark(str(folder / "prompts.csv"), images=images), quality


def report_of(options: argparse.Namespace, folder: Path, parts: Parts) -> Report:
    """Compute the runs of a case, and their differences."""
    case, count, failing = options.case, options.items, options.failing
    if case == "table":
        rng = np.random.default_rng(2)
        quality = np.random.default_rng(0).uniform(1, 5, count)
        scores = np.stack([noisy(quality, seed, rng) for seed in range(options.scorers)], axis=1)
        scores[rng.random(scores.shape) < failing] = np.nan
        path = rated_table(folder, count, False, scores)
        columns = [f"scorer{k}" for k in range(options.scorers)]
        with parts.part("reading the table"):
            options = TableOptions(tags="tags")
            table = RatedTable.read(read_table(path), "human", columns, options)
        with parts.part("agreement"):
            result = measure(table)
        with parts.part("runs of the columns"):
            runs = agreement_runs(table, result, path)
    else:
        benchmark, quality = open_case(case, folder, count)
        with parts.part("reading the items"):
            items = benchmark.selected()
        runs = []
        for seed in range(options.scorers):
            with parts.part("scoring and statistics of the scorers"):
                runs.append(evaluate(Noisy(seed, quality, failing), benchmark, items=items))
    report = Report(runs)
    with parts.part("differences"):
        report.differences  # noqa: B018  (computed when first used)
    return report


def open_page(page_file: Path) -> None:
    """Open the page in Chromium, sort its items and open one; print the times of each."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(page_file.as_uri())
            page.wait_for_selector(".item")
            ready = float(page.evaluate("document.documentElement.dataset.ready")) / 1000
            timing = "performance.getEntriesByType('navigation')[0]"
            parsed = float(page.evaluate(f"{timing}.domContentLoadedEventEnd")) / 1000
            start = time.perf_counter()
            page.locator(".item button.open").first.click()
            page.wait_for_selector("dialog[open]")
            opened = time.perf_counter() - start
            page.screenshot(path=str(page_file.parent / f"item-{width}.png"))
            page.keyboard.press("Escape")
            page.screenshot(path=str(page_file.parent / f"page-{width}.png"))
            print(
                f"{width} pixels wide: items can be used after {ready:.2f} s, the page is parsed "
                f"after {parsed:.2f} s, an item opens in {opened:.2f} s"
            )
            page.close()
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("case", choices=("ratings", "continuous", "prompts", "table"))
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--scorers", type=int, default=10)
    parser.add_argument("--failing", type=float, default=0.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    parts = Parts()
    print(
        f"{options.case}, {options.items} items, {options.scorers} scorers, "
        f"{options.failing:.1%} failed"
    )
    with tempfile.TemporaryDirectory(dir=options.out) as temporary:
        folder = Path(temporary)
        report = report_of(options, folder, parts)
        out = (options.out or folder) / f"report-{options.case}"
        with parts.part("writing the report"):
            page = report.write(out)
        written = sum(parts.seconds.values())
        for file in sorted(out.iterdir()):
            print(f"{file.stat().st_size / 1e6:8.1f} MB  {file.name}")
        with parts.part("loading the report"):
            Report.load(out)
        with parts.part("the gate"):
            not_worse(out, out, 0.01)
        with parts.part("the index"):
            render_index(find_reports([out]), out.parent / "index.html")
        size = page.stat().st_size / 1e6
        print(
            f"{written:.0f} CPU seconds, {peak():.2f} GB, a page of {size:.1f} MB; wanted: {WANTED}"
        )
        open_page(page)
        sys.exit(written > WANTED["CPU seconds"] or peak() > WANTED["GB"])


if __name__ == "__main__":
    main()
