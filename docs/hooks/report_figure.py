"""Draw the figure of a report that README and the home page show.

    t2v-eval demo --out demo-report
    python docs/hooks/report_figure.py demo-report/report.html docs/assets/report.png

needs playwright and a Chromium on the PATH.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 800, 1142  # pixels of each of two columns
SCALE = 0.8  # of the text
SECOND = "h3:text('Distributions of scores')"  # heading at the top of the second column


def columns(page: Path) -> list[Image.Image]:
    """Take two screenshots of a report: from its top, and from a heading further down."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        window = {"width": round(WIDTH / SCALE), "height": round(HEIGHT / SCALE)}
        tab = browser.new_page(viewport=window, device_scale_factor=SCALE)
        tab.goto(page.resolve().as_uri())
        tab.select_option("select.sort", "apart")
        tab.wait_for_timeout(500)
        shots = []
        for selector in (None, SECOND):
            if selector:
                tab.eval_on_selector(selector, "heading => heading.scrollIntoView()")
            shots.append(Image.open(io.BytesIO(tab.screenshot())).convert("RGB"))
        browser.close()
    return shots


def main() -> None:
    """Read the paths of the report and of the figure from the command line."""
    report, figure = map(Path, sys.argv[1:])
    image = Image.new("RGB", (2 * WIDTH, HEIGHT), "white")
    for n, column in enumerate(columns(report)):
        image.paste(column, (n * WIDTH, 0))
    image.quantize(256, kmeans=1).save(figure, optimize=True)


if __name__ == "__main__":
    main()
