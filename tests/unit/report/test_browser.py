"""The page of a report in a real browser: sorting, filters, opening items, keys, small screens."""

import itertools
import os
import shutil

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import Guesses, Knows, Toys, named_toys  # noqa: F401
from helpers.processes import HANGING
from helpers.toy import draw_image
from PIL import Image

from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.report.html import render
from t2v_eval.report.report import compare
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# Continuous integration installs a Chromium, so that a missing one is a failure there.
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="no Chromium on PATH (on Debian: apt install chromium)",
)

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1200, "height": 900}
LONG = "an endless caption without a single place to break " + "x" * 400


class Rated(Benchmark):
    """n images with a text and a rating each; the hostile, the long and the right-to-left too."""

    pooled = True
    headline = "mean"

    def __init__(self, n=120, **options):
        super().__init__(**options)
        self.n = n

    def items(self):
        texts = {1: "<img src=x onerror=alert(1)></script>", 2: "سيارة حمراء بجانب بيت", 3: LONG}
        return [
            Item(
                images=[b"no picture" if n % 50 == 7 else draw_image(n)],
                texts=[texts.get(n, f"text {n:03}")],
                labels={"human": [None if n == 5 else n % 5 + 1]},
                tags=("even" if n % 2 == 0 else "odd",),
                id=f"item-{n}",
            )
            for n in range(self.n)
        ]

    def metrics(self, items, scores):
        values = [item for item in np.concatenate([s.ravel() for s in scores]) if item == item]
        return {"mean": float(np.mean(values)) if values else float("nan")}


class Says(Scorer):
    """A number of its own for each text: `of` its place among those that were asked."""

    def __init__(self, of, **options):
        super().__init__(**options)
        self.of = of

    def identity(self):
        return {"of": self.of.__name__, **super().identity()}

    def score_cells(self, images, texts, cells):
        for position, (i, j) in enumerate(cells.tolist()):
            at = np.array([position])
            try:
                self.load_image(images[i])
            except Exception:
                yield ScoreChunk(at, None, "not a picture")
                continue
            yield ScoreChunk(at, self.tensor(self.of(j)))

    def tensor(self, value):
        import torch

        return torch.tensor([float(value)])


def agrees(n):
    return n % 5 + n / 1000


def reverses(n):
    return -(n % 5) - n / 1000 if n in (13, 14) else agrees(n)


@pytest.fixture(scope="module")
def report():
    scorers = [Says(agrees, on_error="skip"), Says(reverses, on_error="skip")]
    return compare(scorers, [Rated()], resamples=5)


@pytest.fixture(scope="module")
def file(report, tmp_path_factory):
    return report.write(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # Containers run tests as root, where Chromium's own sandbox cannot start.
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Opens a file; at the end, nothing may have been said on the console or asked of a network."""
    said, asked, contexts = [], [], []

    def go(path, viewport=DESK, scheme="light"):
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * HANGING)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    yield go
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def shown(page):
    return page.locator(".item .open").all_text_contents()


def test_all_items_can_be_reached_but_not_all_are_built_at_once(visit, file):
    page = visit(file)
    assert page.locator(".count").text_content() == "120 of 120 items"
    assert 0 < len(shown(page)) < 120
    page.select_option(".sort", "number")
    while (built := len(shown(page))) < 120:
        page.mouse.wheel(0, 100_000)
        page.wait_for_function(
            "n => document.querySelectorAll('.item .open').length > n", arg=built
        )
    assert shown(page) == [f"item-{n}" for n in range(120)]
    assert page.locator(".more").is_hidden()


def test_sorting(visit, file):
    page = visit(file)
    assert page.locator(".sort").input_value() == "people", "people come first where they spoke"
    # One scorer turns the order of two items around; the other never disagrees with people much.
    assert set(shown(page)[:2]) == {"item-13", "item-14"}
    page.select_option(".sort", "apart")
    assert set(shown(page)[:2]) == {"item-13", "item-14"}
    page.select_option(".sort", "people-0")
    assert not {"item-13", "item-14"} & set(shown(page)[:2])
    page.select_option(".sort", "worst-1")
    assert set(shown(page)[:2]) == {"item-14", "item-13"} and shown(page)[0] == "item-14"
    page.select_option(".sort", "number")
    assert shown(page)[:3] == ["item-0", "item-1", "item-2"]


def test_filters(visit, file):
    page = visit(file)
    page.select_option(".sort", "number")
    page.select_option(".by-tag", label="odd")
    assert page.locator(".count").text_content() == "60 of 120 items"
    assert shown(page)[:2] == ["item-1", "item-3"]
    page.select_option(".by-failure", "any")
    assert shown(page) == ["item-7", "item-57", "item-107"]
    assert page.locator(".item").first.get_by_text("failed").count() == 2
    page.select_option(".by-failure", label="failed: not a picture")
    assert len(shown(page)) == 3
    page.select_option(".by-failure", "none")
    assert page.locator(".count").text_content() == "57 of 120 items"
    page.select_option(".by-tag", "")
    page.select_option(".by-failure", "")
    page.fill(".find", "TEXT 01")
    assert shown(page) == [f"item-{n}" for n in range(10, 20)]
    page.fill(".find", "nothing has this")
    assert shown(page) == [] and page.locator(".more").is_hidden()
    page.fill(".find", "")
    page.check(".differs")
    assert shown(page) == ["item-13", "item-14"]


def test_an_item_opens_with_all_of_it_and_keys_move_on(visit, file):
    page = visit(file)
    page.select_option(".sort", "number")
    page.locator(".item .open").nth(1).click()
    dialog = page.locator("dialog")
    assert dialog.locator("h2").text_content() == "item-1"
    text = dialog.text_content()
    assert "<img src=x onerror=alert(1)></script>" in text and "Says [" not in text
    assert "people 2" in text and "Says #1 1.001" in text and "odd" in text
    assert dialog.locator(".place").text_content() == "2 of 120"
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h2").text_content() == "item-2"
    assert dialog.locator(".text").evaluate("e => getComputedStyle(e).direction") == "rtl"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert dialog.locator("h2").text_content() == "item-0"
    assert dialog.locator(".before").is_disabled()
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    page.select_option(".by-failure", "any")
    page.locator(".item .open").first.click()
    assert "not a picture" in dialog.text_content() and "could not be read" in dialog.text_content()
    dialog.locator(".close").click()
    assert dialog.is_hidden()


def test_everything_works_from_the_keyboard(visit, file):
    page = visit(file)
    page.locator(".sort").focus()
    page.keyboard.press("End")
    assert page.locator(".sort").input_value() == "worst-1"
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "open":
            break
    name = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    assert page.locator("dialog h2").text_content() == name
    page.keyboard.press("Tab")
    inside = page.evaluate("document.activeElement.closest('dialog') !== null")
    assert inside or page.evaluate("document.activeElement === document.body")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == name, "back where it was opened"


def test_a_phone_scrolls_in_one_direction_only(visit, file):
    page = visit(file, PHONE)
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not page.evaluate(wide)
    page.select_option(".sort", "number")
    page.locator(".item .open").nth(3).click()
    dialog = page.locator("dialog")
    assert dialog.evaluate("e => e.scrollWidth <= e.clientWidth") and not page.evaluate(wide)
    assert "x" * 400 in dialog.text_content(), "long captions are whole here"


def test_names_in_wide_tables_are_not_broken_into_letters(visit, tmp_path):
    class Many(Rated):
        def metrics(self, items, scores):
            return {"mean": 0.5} | {f"metric {n}": 0.5 for n in range(6)}

    run = compare([Says(agrees), Says(lambda n: -n)], [Many(n=4)], resamples=3)
    page = visit(run.write(tmp_path), PHONE)
    widths = "all => all.map(e => e.offsetWidth)"  # 0 is what is folded away
    assert all(w == 0 or w >= 60 for w in page.eval_on_selector_all(".figures th", widths))
    first = page.eval_on_selector_all(".figures th:first-child", widths)
    assert all(w == 0 or w >= 100 for w in first)


def test_a_run_in_which_all_failed_can_be_read_on_a_phone(visit, tmp_path):
    class Fails(Says):
        def score_cells(self, images, texts, cells):
            yield ScoreChunk(np.arange(len(cells)), None, f"<b>all</b> failed with {'x' * 300}")

    failed = compare([Fails(agrees, on_error="skip")], [Rated(n=9)], resamples=3)
    page = visit(failed.write(tmp_path), PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert "failed on 9 of 9" in page.text_content("table") and len(shown(page)) == 9
    assert "no scores" in page.text_content("body") and "Spearman" not in page.text_content("body")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(visit, file, scheme):
    page = visit(file, scheme=scheme)
    background, ink, series = page.evaluate(
        """() => ["background-color", "color"].map(
            (name) => getComputedStyle(document.body).getPropertyValue(name)).concat(
            getComputedStyle(document.querySelector(".k0")).color)"""
    )
    assert (luminance(background) < 0.2) == (scheme == "dark")
    assert contrast(background, ink) > 7 and contrast(background, series) > 3
    axis = page.locator("svg.chart text").first.evaluate("e => getComputedStyle(e).fill")
    assert contrast(background, axis) > 7, "charts follow"


def luminance(colour):
    values = [int(v) / 255 for v in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(first, other):
    dark, light = sorted([luminance(first), luminance(other)])
    return (light + 0.05) / (dark + 0.05)


def test_pairs_of_images_and_texts_without_ratings(visit, tmp_path):
    page = visit(compare([Knows(), Guesses()], [Toys()], resamples=3).write(tmp_path))
    assert page.locator(".sort").input_value() == "apart"
    assert set(shown(page)[:4]) == {f"toy-{n}" for n in (0, 3, 6, 9)}
    page.check(".differs")
    assert len(shown(page)) == 4
    assert page.locator(".item table").first.locator("tbody tr").count() == 2


def test_of_thousands_of_items_only_those_that_are_near_are_built(visit, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (12, 48, 64, 3), np.uint8)
    images = [Image.fromarray(item) for item in noise]

    class Many(Rated):
        def items(self):
            several = zip(range(self.n), itertools.cycle(images), strict=False)
            return [Item([image], [f"text {n:05}"], {"human": [n % 5]}) for n, image in several]

    run = compare([Says(agrees)], [Many(n=3000)], resamples=1)
    (tmp_path / "page.html").write_text(render(run.runs, run.labels, []))
    page = visit(tmp_path / "page.html")
    assert page.locator(".count").text_content() == "3000 of 3000 items"
    assert page.locator(".item").count() < 500
    page.fill(".find", "text 02999")
    assert shown(page) == ["2999"]
