"""People vote and rate in a real browser, and what they save becomes ratings of generators."""

import csv
import json
import re
import zlib

import pytest
from helpers.browser import SHOTS, pytestmark  # noqa: F401
from helpers.generated import HOSTILE, write_images, write_prompts
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.inputs.tables import write_table
from t2v_eval.votes.key import read_key
from t2v_eval.votes.reading import read_answers

TEXTS = ["a cat", HOSTILE, "سيارة حمراء بجانب بيت", "long " * 300, "a dog on a horse"]
STRENGTH = {"good": 2, "middling": 1, "weak": 0}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1440, "height": 900}}


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pages of `vote` and `rate` on the images of three generators."""
    folder = tmp_path_factory.mktemp("pages")
    prompts = write_prompts(folder, TEXTS)
    images = write_images(folder, list(STRENGTH), len(TEXTS), size=(320, 240))
    flags = [word for path in images for word in ("--images", path)]
    for command in ("vote", "rate"):
        run(command, prompts, *flags, "--out", folder / command, "--attention", "0.2")
    return folder


def data_of(page):
    return json.loads(page.locator("#data").text_content())


def ready(page, number=r"\\d+"):
    """Wait until the images of a task are in view; return its number, from 1."""
    page.wait_for_selector(f"#task[aria-busy=false] .count:text-matches('^{number} of')")
    return int(page.locator(".count").text_content().split()[0])


def best_choice(task):
    """What a person chooses who sees which generator is better and what is degraded."""
    if len(task.images) == 1:
        return 1 if task.is_attention else 2 + STRENGTH[task.images[0].generator]
    left, right = ((not i.degraded, STRENGTH[i.generator]) for i in task.images)
    return "left" if left > right else "right"


def answer(page, choices, count, press):
    """Answer the next tasks, each with `press` of its choice."""
    start = ready(page)
    for number in range(start, start + count):
        ready(page, number)
        press(choices[number - 1])


def by_key(page):
    keys = {"left": "ArrowLeft", "right": "ArrowRight", "tie": "t", "both bad": "B"}
    return lambda choice: page.keyboard.press(keys.get(choice, str(choice)))


def by_button(page):
    return lambda choice: page.click(f'[data-choice="{choice}"]')


def by_touch(page):
    """Taps, where they are not the second of a double tap on the same button, else clicks."""
    taps = [None]

    def press(choice):
        touch = page.tap if taps[-1] != choice else page.click
        touch(f'[data-choice="{choice}"]')
        taps.append(choice)

    return press


def save(page, folder):
    with page.expect_download() as download:
        page.click("#end .save")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name in page.locator("#status").text_content()
    return path


def answer_left(key, folder):
    """Write what the page saves of a person who always says that the left image is better."""
    voter = "ffffffff"
    answers = [
        {
            "task": task_id,
            "choice": "left",
            "check": f"{zlib.crc32(f'{key.page} {voter} {task_id} left'.encode()):08x}",
        }
        for task_id in key.tasks
    ]
    path = folder / "left.json"
    path.write_text(json.dumps({"version": 1, "kind": "vote", "page": key.page, "voter": voter,
                                "name": "", "answers": answers}))  # fmt: skip
    return path


def choices_of(page, key):
    return [best_choice(key.tasks[task["id"]]) for task in data_of(page)["tasks"]]


def test_votes_by_keys_become_a_rating(visit, folder, tmp_path):
    key = read_key(folder / "vote" / "key.json", "vote")
    page = visit(folder / "vote" / "vote.html", **DESK)
    page.screenshot(path=SHOTS / "vote-start-1440.png")
    choices = choices_of(page, key)
    assert len(choices) == 15 + 3
    page.fill("[name=name]", "  Ann Ö. ")
    page.keyboard.press("Enter")
    answer(page, choices, len(choices), by_key(page))
    assert page.locator("#end h1").text_content() == "Done. Thank you!"
    page.screenshot(path=SHOTS / "vote-end-1440.png")
    file = save(page, tmp_path)
    assert re.fullmatch(r"votes-[0-9a-f]{8}\.json", file.name)
    (person,) = read_answers([file], [key])
    assert (person.person, person.attention, person.passed) == ("Ann Ö.", 3, 3)
    # The same person under another id, who is the only one to be asked for attention.
    inattentive = answer_left(key, tmp_path)
    rated = run("rank", file, inattentive, "--key", folder / "vote" / "key.json", "--json",
                "--min-attention", "0.9", "--prior", "normal", "--resamples", "20")  # fmt: skip
    content = json.loads(rated.stdout)
    models = content["models"]
    assert {name: models[name]["win_rate"]["value"] for name in models} == {
        "good": 1, "middling": 0.5, "weak": 0
    }  # fmt: skip
    assert [*sorted(models, key=lambda m: -models[m]["bradley_terry"]["value"])] == [*STRENGTH]
    assert [*content["judges"]] == ["Ann Ö."]
    assert any("and is left out" in warning for warning in content["warnings"])


def test_ratings_by_touch_become_a_table_that_agree_reads(visit, folder, tmp_path):
    key = read_key(folder / "rate" / "key.json", "rate")
    page = visit(folder / "rate" / "rate.html", **PHONE)
    page.screenshot(path=SHOTS / "rate-start-390.png")
    choices = choices_of(page, key)
    page.tap("#start .primary")
    ready(page)
    page.screenshot(path=SHOTS / "rate-390.png")
    answer(page, choices, len(choices), by_touch(page))
    first = save(page, tmp_path)

    # Another person on the same device starts anew, under another id, and stops early.
    page.click("summary")
    page.click(".anew")
    assert page.locator("#start .primary").text_content() == "Start"
    page.fill("[name=name]", "Ben")
    page.tap("#start .primary")
    answer(page, [3] * len(choices), 9, by_button(page))
    page.tap(".pause")
    second = save(page, tmp_path)
    assert first.name != second.name

    table = tmp_path / "ratings.csv"
    done = run("ratings", first, second, "--key", folder / "rate" / "key.json", "--out", table)
    assert "of 15 images" in done.stdout
    assert "Ben passed" in done.stderr or not any(
        task.is_attention for task in [*key.tasks.values()][:9]
    )
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    name = next(n for n in rows[0] if n.startswith("rater_") and n != "rater_Ben")
    assert [*rows[0]] == ["image", "text", "prompt", "generator", name, "rater_Ben"]
    for row in rows:
        assert int(row[name]) == 2 + STRENGTH[row["generator"]]
        assert (tmp_path / row["image"]).is_file() and row["text"] == TEXTS[int(row["prompt"])]
    assert {row["rater_Ben"] for row in rows} == {"", "3"}
    for row in rows:
        row["score"] = STRENGTH[row["generator"]]
    write_table(tmp_path / "scored.csv", rows)
    agreed = run("agree", tmp_path / "scored.csv", "--human", name, "--scores", "score", "--json")
    assert json.loads(agreed.stdout)["scores"]["score"]["all"]["spearman"]["value"] == 1


def test_progress_is_kept_where_the_browser_is_closed(visit, folder, tmp_path):
    key = read_key(folder / "vote" / "key.json")
    profile = tmp_path / "profile"
    page = visit(folder / "vote" / "vote.html", profile=profile)
    choices = choices_of(page, key)
    page.fill("[name=name]", "Ann")
    page.click("#start .primary")
    answer(page, choices, 4, by_button(page))
    page.reload()
    assert page.locator("#start .primary").text_content() == "Go on (4 of 18 answered)"
    assert page.locator("[name=name]").input_value() == "Ann"
    page.click("#start .primary")
    assert ready(page) == 5
    answer(page, choices, 3, by_button(page))
    page.context.close()
    page = visit(folder / "vote" / "vote.html", profile=profile)
    assert page.locator("#start .primary").text_content() == "Go on (7 of 18 answered)"
    page.click("#start .primary")
    assert ready(page) == 8
    answer(page, choices, 11, by_button(page))
    (person,) = read_answers([save(page, tmp_path)], [key])
    assert [*person.choices.values()] == choices and person.person == "Ann"


def test_a_page_that_is_open_twice_loses_no_answer(visit, folder, tmp_path):
    first = visit(folder / "vote" / "vote.html", profile=tmp_path / "profile")
    first.click("#start .primary")
    answer(first, ["left"], 1, by_button(first))
    second = first.context.new_page()
    second.goto((folder / "vote" / "vote.html").as_uri())
    second.click("#start .primary:text-is('Go on (1 of 18 answered)')")
    answer(second, ["left", "right", "tie"], 2, by_button(second))
    answer(first, ["left", "tie"], 1, by_button(first))  # the answer of the later one counts
    assert ready(first) == 4
    first.click(".pause")
    (person,) = read_answers([save(first, tmp_path)], [read_key(folder / "vote" / "key.json")])
    assert [*person.choices.values()] == ["left", "tie", "tie"]


def test_an_answer_can_be_changed_and_is_saved_once(visit, folder, tmp_path):
    key = read_key(folder / "vote" / "key.json")
    page = visit(folder / "vote" / "vote.html")
    page.click("#start .primary")
    ready(page)
    assert page.locator("#task .back").is_disabled()
    answer(page, ["left", "tie", "right"], 3, by_key(page))
    for number in (3, 2):
        ready(page, number + 1)
        page.keyboard.press("Backspace")
    ready(page, 2)
    assert page.locator("[aria-pressed=true]").get_attribute("data-choice") == "tie"
    page.keyboard.press("b")
    ready(page, 4)
    page.click(".pause")
    assert "3 of 18 are answered" in page.locator("#end .next").text_content()
    (person,) = read_answers([save(page, tmp_path)], [key])
    assert [*person.choices.values()] == ["left", "both bad", "right"]
    page.click("#end .instructions")
    assert page.locator("#start").is_visible()


def test_one_press_or_double_click_answers_one_task(visit, folder):
    page = visit(folder / "vote" / "vote.html")
    page.click("#start .primary")
    ready(page)
    page.dblclick('[data-choice="tie"]')
    assert ready(page) == 2
    page.keyboard.down("t")
    for _ in range(3):
        page.keyboard.down("t")  # as of a key that is held
    page.keyboard.up("t")
    assert ready(page) == 3
    for key in ("Control+b", "Alt+t", "x", "ArrowUp"):
        page.keyboard.press(key)
    assert ready(page) == 3
    page.click(".enlarge >> nth=0")
    page.keyboard.press("t")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert ready(page) == 3 and not page.locator("dialog").is_visible()


def test_what_is_written_in_prompts_is_text(visit, folder):
    page = visit(folder / "vote" / "vote.html")
    at = next(n for n, task in enumerate(data_of(page)["tasks"]) if task["text"] == HOSTILE)
    page.click("#start .primary")
    answer(page, ["tie"] * 18, at, by_key(page))
    ready(page)
    assert page.locator("#text").text_content() == HOSTILE


@pytest.mark.parametrize("command", ["vote", "rate"])
@pytest.mark.parametrize("settings", [DESK, PHONE], ids=["1440", "390"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_whole_task_is_in_view(visit, folder, command, settings, scheme):
    page = visit(folder / command / f"{command}.html", scheme=scheme, **settings)
    width, height = settings["viewport"].values()
    long = [task["text"] for task in data_of(page)["tasks"]].index(TEXTS[3])
    page.click("#start .primary")
    answer(page, ["tie" if command == "vote" else 3] * 18, long, by_button(page))
    ready(page)
    page.screenshot(path=SHOTS / f"{command}-{width}-{scheme}.png")
    root = "document.documentElement"
    assert page.evaluate(f"[{root}.scrollWidth, {root}.scrollHeight]") == [width, height]
    boxes = [box.bounding_box() for box in page.locator(".enlarge").all()]
    assert len({(round(box["width"], 1), round(box["height"], 1)) for box in boxes}) == 1
    # On each screen, the images have most of the space that there is.
    assert sum(box["width"] * box["height"] for box in boxes) > 0.3 * width * height
    for button in page.locator("#task button").all():
        box = button.bounding_box()
        assert box["height"] >= 36 and box["y"] + box["height"] <= height
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
    labels = page.locator("figcaption").all_inner_texts()
    assert labels == (
        [] if command == "rate" else ["Left", "Right"] if width > 390 else ["Upper", "Lower"]
    )


def test_answers_are_copied(visit, folder, tmp_path):
    permissions = ["clipboard-read", "clipboard-write"]
    page = visit(folder / "vote" / "vote.html", permissions=permissions)
    page.click("#start .primary")
    answer(page, ["both bad"], 1, by_key(page))
    ready(page)
    page.click(".pause")
    page.click(".copy")
    page.wait_for_selector("#status:text-matches('^Copied')")
    path = tmp_path / "pasted.json"
    path.write_text(page.evaluate("navigator.clipboard.readText()"))
    (person,) = read_answers([path], [read_key(folder / "vote" / "key.json")])
    assert [*person.choices.values()] == ["both bad"]


def test_a_browser_that_keeps_nothing_says_so_and_can_be_used(visit, folder, tmp_path):
    page = visit(folder / "vote" / "vote.html")
    assert page.locator("#forgets").is_hidden()
    page.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked'); } })"
    )
    page.reload()
    assert page.locator("#forgets").is_visible()
    page.click("#start .primary")
    answer(page, ["tie"], 1, by_key(page))
    ready(page)
    page.click(".pause")
    assert len(read_answers([save(page, tmp_path)], [read_key(folder / "vote" / "key.json")])) == 1


def test_a_damaged_storage_is_as_if_nothing_were_kept(visit, folder):
    page = visit(folder / "vote" / "vote.html")
    for stored in (
        "no JSON",
        "null",
        "3",
        '{"voter": "x", "name": "", "answers": {}}',
        '{"voter": "0123abcd", "name": "Ann", "answers": {"nothing": "left"}}',
        '{"voter": "0123abcd", "name": "Ann", "answers": null}',
    ):
        page.evaluate("stored => localStorage.setItem(STORED, stored)", stored)
        page.reload()
        assert page.locator("#start .primary").text_content() == "Start", stored
        page.click("#start .primary")
        assert ready(page) == 1, stored
