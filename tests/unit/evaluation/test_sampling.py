"""`--limit`: a random part of the items that stays nearly the same when items are added."""

import csv
import json

import pytest
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import InputError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.evaluation.selection import Selection


def items_of(numbers, **facts):
    return [Item([f"/{n}/p{n}.png"], [f"text {n}"], id=str(k), **facts)
            for k, n in enumerate(numbers)]  # fmt: skip


def texts(items):
    return {item.texts[0] for item in items}


def test_as_many_items_as_wanted_in_their_order():
    items = items_of(range(100))
    chosen = Sample(30).choose(items)
    assert len(chosen) == 30 and chosen == [item for item in items if item in chosen]
    assert Sample(30).choose(items) == chosen != Sample(30, seed=1).choose(items)
    assert Sample(500).choose(items) == items


def test_items_that_are_added_move_few_others():
    before, after = items_of(range(100)), items_of([*range(1000, 1010), *range(100)])
    for seed in range(5):
        first, second = Sample(40, seed).choose(before), Sample(40, seed).choose(after)
        assert len(texts(first) & texts(second)) >= 30
        assert texts(first) - texts(second) == texts(first) - (texts(first) & texts(second))
        new = {f"text {n}" for n in range(1000, 1010)}
        assert len(texts(first) - texts(second)) == len(texts(second) & new)


def test_each_item_is_as_likely_as_another():
    counts = dict.fromkeys((f"text {n}" for n in range(20)), 0)
    for seed in range(400):
        for text in texts(Sample(5, seed).choose(items_of(range(20)))):
            counts[text] += 1
    # Binomial with n = 400, p = 0.25: five standard deviations are 43.
    assert all(abs(count - 100) <= 43 for count in counts.values()), counts


def test_the_folder_and_the_number_of_an_item_play_no_part():
    moved = [Item([f"/elsewhere/p{n}.png"], [f"text {n}"], id="x") for n in range(50)]
    chosen = texts(Sample(10).choose(items_of(range(50))))
    assert texts(Sample(10).choose(moved)) == chosen


def test_equal_items_are_several_and_groups_are_one():
    equal = [Item([], ["same"]) for _ in range(6)]
    assert len(Sample(4).choose(equal)) == 4
    grouped = [Item([], [f"{n}"], group=f"g{n // 3}") for n in range(12)]
    chosen = Sample(2).choose(grouped)
    assert len(chosen) == 6 and len({item.group for item in chosen}) == 2
    assert len(Sample(2).choose(equal, ["a", "a", "b", "b", "", ""])) in (2, 3, 4)


def test_tags_come_first_and_missing_images_later():
    items = items_of(range(10), tags=("even",)) + items_of(range(10, 20), tags=("odd",))
    selection = Selection("mine", "odd", "raise", Sample(4))
    chosen = selection.choose(items)
    assert len(chosen) == 4 and all(item.tags == ("odd",) for item in chosen)
    assert not selection.whole and "4 of 20 items" in " ".join(selection.facts(4).remarks)


@pytest.mark.parametrize("limit", [0, -1, 2.5, True, "3"])
def test_an_impossible_limit_is_an_error(limit):
    with pytest.raises(InputError, match="`limit="):
        t2v_eval.compare("tiny-clip", "scenes", limit=limit)


def test_a_run_and_its_report_say_what_was_sampled(tmp_path):
    few = {"n": 12}
    report = t2v_eval.compare(
        "tiny-clip", "scenes", benchmark_options=few, limit=5, seed=3, resamples=5
    )
    (run,) = report.to_json()["runs"]
    assert run["sample"] == {"limit": 5, "seed": 3} and "sample" not in run["benchmark"]
    assert run["benchmark"]["items"] == 5 and run["benchmark"]["items_of_all"] == 12
    page = report.write(tmp_path)
    for text in (page.read_text(), (tmp_path / "report.md").read_text()):
        assert "sample of 5" in text and "5 of 12 items" in text
    assert t2v_eval.Report.load(tmp_path).runs[0].benchmark.sample == Sample(5, 3)
    whole = t2v_eval.compare("tiny-clip", "scenes", benchmark_options=few, resamples=5)
    assert "sample" not in whole.to_json()["runs"][0]


def write_set(folder, number):
    """Prompts as DrawBench's, with an image of each."""
    folder.mkdir()
    with (folder / "drawbench.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["Prompts", "Category"])
        writer.writerows([f"prompt {n}", "Colors" if n % 2 else "Text"] for n in range(number))
    (folder / "images").mkdir()
    for n in range(number):
        draw_image(n).save(folder / "images" / f"{n:03}.png")


def test_a_set_of_prompts_needs_only_the_images_of_its_sample(tmp_path):
    folder = tmp_path / "set"
    write_set(folder, 8)
    common = ["eval", "-m", "tiny-clip", "-b", "drawbench", "--root", str(folder)]
    common += ["--images", str(folder / "images"), "--no-store", "--resamples", "5"]
    common += ["--subset", "Colors", "--limit", "2"]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [*common, "--out", str(out)])
    assert done.exit_code == 0, done.output
    (run,) = json.loads((out / "report.json").read_text())["runs"]
    assert run["benchmark"]["items"] == 2 and run["sample"] == {"limit": 2, "seed": 0}
    scores = list(csv.DictReader((out / "scores.csv").open()))
    for n in range(8):
        if f"prompt {n}" not in {row["text"] for row in scores}:
            (folder / "images" / f"{n:03}.png").unlink()
    assert CliRunner().invoke(app, common).exit_code == 0


def test_rows_of_a_group_of_a_table_stay_together(tmp_path):
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "text", "human", "group"])
        for n in range(12):
            draw_image(n).resize((48, 48)).save(tmp_path / f"{n}.png")
            writer.writerow([f"{n}.png", f"text {n // 3}", n, f"g{n // 3}"])
    report = t2v_eval.compare("tiny-clip", str(tmp_path / "t.csv"), limit=2, resamples=5)
    assert report.runs[0].counts.cells == 6
