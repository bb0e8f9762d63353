"""The page of a report in a real browser: sorting, filters, opening items, keys, small screens."""

import csv
import io
import itertools
import re
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import Guesses, Knows, Toys, named_toys  # noqa: F401
from helpers.browser import PHONE, SHOTS, pytestmark, wait_until  # noqa: F401
from helpers.toy import draw_image
from PIL import Image
from playwright.sync_api import expect

from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.local.function import from_function
from t2v_eval.report.html import render
from t2v_eval.report.report import compare
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer

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


def shown(page):
    return page.locator(".item .open").all_text_contents()


def test_all_items_can_be_reached_but_not_all_are_built_at_once(visit, file):
    page = visit(file)
    assert page.locator(".count").text_content() == "120 of 120 items"
    assert 0 < len(shown(page)) < 120
    page.select_option(".sort", "number")
    while (built := len(shown(page))) < 120:
        page.mouse.wheel(0, 100_000)
        wait_until(page, f"document.querySelectorAll('.item .open').length > {built}")
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
    expect(dialog).to_be_hidden()
    page.select_option(".by-failure", "any")
    page.locator(".item .open").first.click()
    assert "not a picture" in dialog.text_content() and "could not be read" in dialog.text_content()
    dialog.locator(".close").click()
    expect(dialog).to_be_hidden()


def test_an_item_of_many_images_shows_them_in_turn(visit, tmp_path):
    class Many(Rated):
        def items(self):
            return [Item([draw_image(n) for n in range(60)], ["a text"], tags=("odd",))]

    page = visit(compare([Says(agrees)], [Many()], resamples=2).write(tmp_path))
    page.locator(".item .open").click()
    dialog, more = page.locator("dialog"), page.locator(".more-images")
    for count, said in [(24, "show 24 more of 60 images"), (48, "show 12 more of 60 images")]:
        assert dialog.locator("th img").count() == count and more.text_content() == said
        more.click()
    assert dialog.locator("th img").count() == 60 and more.count() == 0
    page.keyboard.press("Escape")  # reaches the dialog though its button is gone
    expect(dialog).to_be_hidden()


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


SIDEWAYS = """() => [document.documentElement, ...document.querySelectorAll("dialog, dialog *")]
    .filter((e) => e.scrollWidth > e.clientWidth && getComputedStyle(e).overflowX !== "visible")
    .map((e) => `${e.tagName} ${e.className}`)"""


@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_shows_images_of_an_item_one_below_the_other(visit, generators, width):
    page = visit(generators, {"width": width, "height": 844})
    page.select_option(".sort", "number")
    page.locator(".item .open").first.click()
    dialog = page.locator("dialog")
    wait_until(page, "[...document.querySelectorAll('dialog img')].every((e) => e.naturalWidth)")
    assert page.evaluate(SIDEWAYS) == []
    page.screenshot(path=SHOTS / f"two-generators-{width}.png")
    boxes = dialog.locator("img").evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.width, b.top])"
    )
    assert len(boxes) == 6 and len({left for left, *_ in boxes}) == 1
    assert all(wide > 0.75 * width for _, wide, _ in boxes)
    # The name of its generator is above an image, and its scores are below, before the next image.
    parts = [dialog.locator(name).evaluate_all(
        "all => all.map((e) => e.getBoundingClientRect().top)"
    ) for name in (".generator", "img", ".score")]  # fmt: skip
    order = [top for of_image in zip(*parts, strict=True) for top in of_image]
    assert order == sorted(order)
    assert dialog.get_by_text("a thing 0", exact=True).count() == 1, "the prompt is there once"
    values = dialog.locator(".score b").all_text_contents()
    buttons = dialog.locator(".bar-of-buttons button")
    assert len({*buttons.evaluate_all("all => all.map((e) => e.offsetTop)")}) == 1
    page.set_viewport_size({"width": 900, "height": 500})
    page.wait_for_selector("dialog table")
    assert dialog.locator("tbody .score b").all_text_contents() == values
    page.set_viewport_size({"width": width, "height": 844})
    page.wait_for_selector("dialog table", state="detached")
    assert page.evaluate(SIDEWAYS) == []


def test_a_phone_shows_each_text_below_each_image(visit, tmp_path):
    class Texts(Rated):
        def items(self):
            return [Item([draw_image(n) for n in range(30)], ["one", LONG], tags=("odd",))]

    class Places(Says):
        def score_cells(self, images, texts, cells):
            values = cells @ [0.01, 0.001] + 0.01234
            yield ScoreChunk(np.arange(len(cells)), self.tensor(values))

        def tensor(self, value):
            import torch

            return torch.tensor(value, dtype=torch.float32)

    page = visit(compare([Places(agrees)], [Texts()], resamples=2).write(tmp_path), PHONE)
    card = page.locator(".item")
    right, left = (
        card.locator("tbody tr")
        .first.locator(name)
        .evaluate_all(f"all => all.map((e) => e.getBoundingClientRect().{side})")
        for name, side in ((".score b", "right"), (".score", "left"))
    )
    assert len(left) == 4 and all(a <= b for a, b in zip(right, left[1:], strict=False))
    assert card.locator("tbody th").first.evaluate("e => e.offsetWidth") > 0.75 * PHONE["width"]
    card.locator(".open").click()
    dialog = page.locator("dialog")
    page.locator(".more-images").click()
    assert page.evaluate(SIDEWAYS) == []
    blocks = dialog.locator(".single")
    assert blocks.count() == 30
    for i in range(30):
        texts = blocks.nth(i).locator(".row .text").all_text_contents()
        values = blocks.nth(i).locator(".score b").all_text_contents()
        wanted = [0.01 * i + 0.01234, 0.01 * i + 0.01334]
        assert texts == ["one", LONG] and [*map(float, values)] == pytest.approx(wanted, rel=1e-3)


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


def test_names_without_spaces_are_no_wider_than_a_phone(visit, tmp_path):
    """Such as paths of tables and prompt files."""
    benchmark = type("a/path/to/a/" * 9 + "table.csv", (Rated,), {})(n=7)
    scorers = [type("Scorer" * 20 + str(n), (Says,), {}) for n in range(2)]
    report = compare([scorers[0](agrees), scorers[1](reverses)], [benchmark], resamples=5)
    page = visit(report.write(tmp_path), PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert "table.csv" in page.locator("h1").text_content()


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


@pytest.fixture(scope="module")
def generators(tmp_path_factory):
    """A report of two generators with three images a prompt, of 600 x 450 noisy pixels."""
    root, noise = tmp_path_factory.mktemp("generators"), np.random.default_rng(0)
    prompts = [f"a thing {n}" for n in range(12)]
    (root / "drawbench.csv").write_text(
        "Prompts,Category\n"
        + "".join(f"{p},{'odd' if n % 2 else 'even'}\n" for n, p in enumerate(prompts))
    )
    folders = [root / name for name in ("flux", "<b>sdxl")]
    for level, folder in zip((140, 90), folders, strict=True):
        folder.mkdir()
        for n, k in itertools.product(range(12), range(3)):
            small = noise.integers(level - 20 - 5 * n, level + 60, (9, 12, 3), np.uint8)
            image = Image.fromarray(small).resize((600, 450), Image.Resampling.BICUBIC)
            image.save(folder / f"{n:05}_{k}.jpg")

    def brightness(images, texts):
        return [[float(np.asarray(image).mean()) / 255] * len(texts) for image in images]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the set is not whole
        report = compare(
            from_function(brightness), "drawbench", root=root, images=folders, resamples=50
        )
    return report.write(tmp_path_factory.mktemp("page"))


def test_the_first_screen_says_what_was_measured(visit, generators, tmp_path):
    for name, viewport, scheme in (
        ("1440", {"width": 1440, "height": 900}, "light"),
        ("dark", {"width": 1440, "height": 900}, "dark"),
        ("390", {"width": 390, "height": 844}, "light"),
    ):
        page = visit(generators, viewport, scheme)
        claim = page.locator(".claim").first
        assert claim.text_content().startswith("flux scores higher than <b>sdxl on brightness")
        below = "e => e.getBoundingClientRect().bottom"
        assert claim.evaluate(below) < viewport["height"] / 2
        first_chart = page.locator(".summary svg").first
        assert first_chart.evaluate(below) < viewport["height"], "the difference is in view too"
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        page.screenshot(path=SHOTS / f"generators-{name}.png")


def test_images_are_below_the_names_of_their_generators(visit, generators):
    page = visit(generators)
    page.select_option(".sort", "number")
    names = page.locator(".item").first.locator(".generator").all_text_contents()
    assert [name.split(" ")[-1] for name in names] == ["flux"] * 2 + ["<b>sdxl"] * 2
    page.locator(".item .open").first.click()
    dialog = page.locator("dialog")
    assert dialog.locator(".generator").count() == 6
    wait_until(page, "document.querySelector('dialog img').naturalWidth === 600")
    wait_until(page, "document.querySelector('.item img').naturalWidth === 160")
    assert "higher than" in dialog.text_content()


def test_items_are_sorted_by_the_difference(visit, generators):
    page = visit(generators)
    page.select_option(".sort", "above-0-0")
    gaps = page.evaluate("""() => {
        const data = JSON.parse(document.getElementById("items-1").textContent);
        const order = [...document.querySelectorAll(".item .open")].map((e) => Number(e.dataset.n));
        const m = data.metrics.indexOf(data.contrasts[0]);
        return order.map((n) => data.items.find((item) => item.index === n).verdicts[0][m]);
    }""")
    assert len(gaps) == 12 and gaps == sorted(gaps, reverse=True) and len(set(gaps)) > 1
    first = shown(page)[0]
    page.select_option(".sort", "below-0-0")
    assert shown(page)[-1] == first
    assert "✓" not in page.locator(".verdicts").first.text_content()


def test_a_link_leads_to_the_same_items_and_to_one_of_them(visit, file):
    page = visit(file)
    page.select_option(".sort", "number")
    page.select_option(".by-tag", label="odd")
    page.fill(".find", "text 01")
    page.locator(".item .open").nth(1).click()
    name = page.locator("dialog h2").text_content()
    link = page.evaluate("location.href")
    assert "item=" in link
    again = visit(file)
    again.goto(link)
    expect(again.locator("dialog h2")).to_have_text(name)
    again.keyboard.press("Escape")
    wait_until(again, "!location.href.includes('item=')")
    assert again.locator(".find").input_value() == "text 01"
    assert shown(again) == shown(page) and len(shown(again)) == 5
    again.fill(".find", "")
    again.select_option(".by-tag", "")
    again.select_option(".sort", "people")
    assert "#" not in again.evaluate("location.href"), "the state of the beginning needs no address"
    again.goto(file.as_uri() + "#in=items-1&sort=nonsense&tag=99&item=12345&find=%3Cb%3E")
    expect(again.locator(".find")).to_have_value("<b>")
    assert shown(again) == []


def test_contents_lead_to_each_part(visit, file):
    page = visit(file)
    links = page.locator("nav a")
    for n in range(links.count()):
        target = links.nth(n).get_attribute("href")
        assert page.locator(target).count() == 1, target
    assert {"Items", "Scores and people"} <= set(links.all_text_contents())


def test_tables_are_copied_as_other_formats(browser, file):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(file.as_uri())
    texts = {}
    for kind in ("Markdown", "LaTeX", "CSV"):
        page.locator(".tools").first.get_by_text(kind).click()
        wait_until(page, "document.querySelector('.tools').textContent.includes('copied')")
        texts[kind] = page.evaluate("navigator.clipboard.readText()")
        page.reload()
    context.close()
    lines = texts["Markdown"].splitlines()
    assert (
        lines[0] == "| scorer | mean | scores used | time |"
        and lines[1] == "| --- | --- | --- | --- |"
    )
    assert re.match(r"\| Says \\#\d \(.*\) \| \d\.\d+ \\\[\d\.\d+, \d\.\d+\\\] \|", lines[2]), (
        lines[2]
    )
    assert texts["LaTeX"].startswith("\\begin{tabular}{lrrr}") and "Says \\#1" in texts["LaTeX"]
    rows = list(csv.reader(io.StringIO(texts["CSV"])))
    assert rows[0] == ["scorer", "mean", "scores used", "time"]
    assert {len(row) for row in rows} == {4} and rows[1][1].endswith("]")


def test_charts_are_saved_with_their_colours(visit, file, tmp_path):
    page = visit(file, scheme="dark")
    tools = page.locator("svg.chart").first.locator("xpath=../following-sibling::div[1]")
    for kind in ("SVG", "PNG"):
        with page.expect_download() as download:
            tools.get_by_text(kind).click()
        assert download.value.suggested_filename == f"chart-1.{kind.lower()}"
        download.value.save_as(tmp_path / kind)
    text = (tmp_path / "SVG").read_text()
    assert text.startswith("<svg") and "var(" not in text and "currentColor" not in text
    ElementTree.fromstring(text)
    image = Image.open(tmp_path / "PNG").convert("RGB")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    expected = tuple(int(v) for v in re.findall(r"\d+", background)[:3])
    assert image.getpixel((2, 2)) == expected and len(image.getcolors(1 << 20)) > 20
    assert image.width > 1000


def test_a_place_among_scores_is_a_dot_and_no_bar(visit, file):
    page = visit(file)
    dot = page.locator(".item .place-of i").first
    assert dot.evaluate("e => e.offsetWidth === e.offsetHeight && e.offsetWidth < 10")


def test_the_headline_is_beside_the_names_on_a_phone(visit, tmp_path):
    class Several(Rated):
        def metrics(self, items, scores):
            return {f"metric {n}": 0.5 for n in range(6)} | {"mean": 0.5}

    run = compare([Says(agrees), Says(lambda n: -n)], [Several(n=4)], resamples=3)
    page = visit(run.write(tmp_path), PHONE)
    heads = page.locator(".figures").first.locator("thead th")
    assert heads.nth(1).text_content() == "mean"
    box = heads.nth(1).bounding_box()
    assert box["x"] + box["width"] < PHONE["width"]


@pytest.mark.parametrize(("labels_by", "word"), [("people", "people"), ("truth", "the truth")])
def test_who_judged_is_named_as_it_was(visit, tmp_path, labels_by, word):
    kind = type("Kind", (Rated,), {"labels_by": labels_by})
    page = visit(compare([Says(agrees), Says(reverses)], [kind(n=6)], resamples=3).write(tmp_path))
    text = page.locator("body").inner_text()
    assert f"disagreement with {word}" in text and f"Scores and {word}" in text
    assert ("people" in text.lower()) == (labels_by == "people")


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
