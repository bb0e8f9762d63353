"""Two people review random images in a real browser, and the command reads what they save."""

import json
from os.path import normpath

import pytest
from helpers.browser import SHOTS, pytestmark  # noqa: F401
from helpers.generated import HOSTILE, write_images, write_prompts
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.review.reading import read_review
from t2v_eval.votes.key import read_key

TEXTS = ["a cat", HOSTILE, "سيارة حمراء بجانب بيت", "long " * 300, "a dog on a horse"]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1280, "height": 800}}
HALF = 'half of a character: \ud83d, 😀 \t"quoted\\'


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("review")
    prompts = write_prompts(folder, TEXTS)
    images = write_images(folder, ["new", "old"], len(TEXTS), size=(320, 240))
    flags = [word for path in images for word in ("--images", path)]
    run("review", prompts, *flags, "--out", folder / "page")
    return folder / "page"


def tasks_of(page):
    return json.loads(page.locator("#data").text_content())["tasks"]


def ready(page, number):
    page.wait_for_selector(f"#task[aria-busy=false] .count:text-is('{number} of 10')")


def pressed(page):
    return [
        button.get_attribute("data-choice") for button in page.locator("[aria-pressed=true]").all()
    ]


def save(page, folder):
    with page.expect_download() as download:
        page.click("#end .save")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_two_people_review_by_keys_and_by_touch(visit, folder, tmp_path):
    key = read_key(folder / "key.json", "review")
    page = visit(folder / "review.html", **DESK)
    page.screenshot(path=SHOTS / "review-start-1280.png")
    tasks = tasks_of(page)
    generators = [key.tasks[task["id"]].images[0].generator for task in tasks]
    assert sorted(generators) == ["new"] * 5 + ["old"] * 5
    page.fill("[name=name]", "Ann")
    page.keyboard.press("Enter")
    # Ann: every image of `new` has a wrong count, the first image of all a note, the rest no fault.
    for number, generator in enumerate(generators, 1):
        ready(page, number)
        assert pressed(page) == []
        if generator == "old":
            page.keyboard.press("0")
            continue
        page.keyboard.press("3")
        page.keyboard.press("1")
        assert pressed(page) == ["hand anatomy", "count"]
        page.keyboard.press("1")
        assert pressed(page) == ["count"]
        if number == 10 or generators.index("new") == number - 1:
            page.keyboard.press("n")
            page.keyboard.insert_text("five 1 2 3")
            page.keyboard.press("Enter")
        else:
            page.keyboard.press("ArrowRight")
    assert page.locator("#end h1").text_content() == "Done. Thank you!"
    first = save(page, tmp_path)
    assert first.name.startswith("reviews-")

    # Ben, on a phone: only the first four images, of which one is passed over; then he stops.
    page = visit(folder / "review.html", **PHONE)
    page.screenshot(path=SHOTS / "review-start-390.png")
    page.tap("#start .primary")
    ready(page, 1)
    page.tap('[data-choice="count"]')
    page.tap('[data-choice="other"]')
    page.fill("[name=note]", HALF)
    page.screenshot(path=SHOTS / "review-390.png")
    page.tap(".on")
    ready(page, 2)
    page.click(".on")  # a further tap at once would be a double tap, which passes over no image
    ready(page, 3)
    page.tap('[data-choice="no fault"]')
    ready(page, 4)
    page.tap('[data-choice="unsafe"]')
    page.tap(".pause")
    assert "3 of 10 are answered" in page.locator("#end .next").text_content()
    second = save(page, tmp_path)

    result = read_review([first, second], folder / "key.json")
    ann, ben = result.raters
    assert ann == "Ann" and len(ben) == 8 and result.unseen == {ann: 0, ben: 7}
    by_path = {image.path: image for image in result.images}
    marks = [by_path[normpath(key.tasks[task["id"]].images[0].path)].marks for task in tasks]
    assert [mark[ann].flags for mark in marks] == [
        ("count",) if generator == "new" else () for generator in generators
    ]
    assert marks[generators.index("new")][ann].note == "five 1 2 3"
    assert [[*mark] for mark in marks[:4]] == [[ann, ben], [ann], [ann, ben], [ann, ben]]
    assert marks[0][ben].flags == ("count", "other")
    assert marks[0][ben].note == 'half of a character: \ufffd, 😀 "quoted\\'
    assert (marks[2][ben].flags, marks[3][ben].flags) == ((), ("unsafe",))
    own = {(r.flag, r.generator): r for r in result.rates if r.rule == ann}
    assert (own["count", "new"].count, own["count", "old"].count) == (5, 0)

    done = run("flags", first, second, "--key", folder / "key.json", "--json",
               "--out", tmp_path / "marks.csv")  # fmt: skip
    assert json.loads(done.stdout)["unseen"][ben] == 7
    assert "gave no answer to 7 images" in done.stderr
    assert len((tmp_path / "marks.csv").read_text().splitlines()) == 1 + 10 + 3
    for path in (first, second):
        path.rename(tmp_path / path.name)
    (tmp_path / "key.json").write_bytes((folder / "key.json").read_bytes())
    assert read_review(tmp_path).raters in ((ann, ben), (ben, ann))


def test_what_was_not_looked_at_is_missing(visit, folder, tmp_path):
    page = visit(folder / "review.html")
    page.click("#start .primary")
    for number in range(1, 4):
        ready(page, number)
        page.keyboard.press("ArrowRight")
    ready(page, 4)
    page.keyboard.press("2")
    page.keyboard.press("2")  # taken back: no answer, and not "no fault"
    page.keyboard.press("ArrowRight")
    ready(page, 5)
    page.keyboard.press("0")
    ready(page, 6)
    page.keyboard.press("ArrowLeft")
    ready(page, 5)
    assert pressed(page) == ["no fault"]
    page.keyboard.press("5")
    assert pressed(page) == ["other"]
    page.keyboard.press("0")
    ready(page, 6)
    page.click(".pause")
    assert "1 of 10 are answered" in page.locator("#end .next").text_content()
    result = read_review(save(page, tmp_path), folder / "key.json")
    (image,) = result.images
    assert [mark.flags for mark in image.marks.values()] == [()]
    page.click("#end .back")
    ready(page, 1)


def test_a_note_alone_is_no_answer_and_is_not_lost(visit, folder):
    page = visit(folder / "review.html")
    page.click("#start .primary")
    ready(page, 1)
    page.keyboard.press("n")
    page.keyboard.insert_text("n 0 5")
    page.keyboard.press("Enter")
    ready(page, 1)
    assert "a note alone is no answer" in page.evaluate(
        "document.querySelector('[name=note]').validationMessage.toLowerCase()"
    )
    page.keyboard.press("Escape")
    page.keyboard.press("5")
    assert page.locator("[name=note]").input_value() == "n 0 5"
    page.keyboard.press("ArrowRight")
    ready(page, 2)
    page.reload()
    page.click("#start .primary:text-is('Go on (1 of 10 answered)')")
    ready(page, 2)
    page.keyboard.press("ArrowLeft")
    ready(page, 1)
    assert page.locator("[name=note]").input_value() == "n 0 5" and pressed(page) == ["other"]


@pytest.mark.parametrize("settings", [DESK, PHONE], ids=["1280", "390"])
def test_a_whole_image_with_its_flags_is_in_view(visit, folder, settings):
    page = visit(folder / "review.html", scheme="dark", **settings)
    width, height = settings["viewport"].values()
    long = [task["text"] for task in tasks_of(page)].index(TEXTS[3]) + 1
    page.click("#start .primary")
    for number in range(1, long):
        ready(page, number)
        page.click(".on")
    ready(page, long)
    page.screenshot(path=SHOTS / f"review-{width}-dark.png")
    root = "document.documentElement"
    assert page.evaluate(f"[{root}.scrollWidth, {root}.scrollHeight]") == [width, height]
    box = page.locator(".enlarge").bounding_box()
    assert box["width"] * box["height"] > 0.3 * width * height
    for control in page.locator("#task button, #task input").all():
        box = control.bounding_box()
        assert box["height"] >= 36 and box["y"] + box["height"] <= height
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
