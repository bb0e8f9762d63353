"""Which images a review shows: by a hash, alike for all generators, and the page of them."""

import json
from pathlib import Path

import pytest
from helpers.generated import write_images
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, OutputError
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.review.flags import check_flags
from t2v_eval.review.page import write_review
from t2v_eval.review.sampling import images_of_folders, plan_review
from t2v_eval.votes.tasks import PromptImages


def prompts_of(count, names=("a", "b"), each=1):
    return [
        PromptImages(
            str(n),
            f"{n} cats",
            {name: [f"{name}/{n}_{k}.png" for k in range(each)] for name in names},
        )
        for n in range(count)
    ]


def chosen(tasks, name):
    return {task.text for task in tasks if task.images[0].generator == name}


@pytest.mark.parametrize("seed", [0, 7])
def test_generators_are_reviewed_on_the_same_prompts_each_image_once(seed):
    tasks = plan_review(prompts_of(100), Sample(20, seed))
    assert chosen(tasks, "a") == chosen(tasks, "b") and len(chosen(tasks, "a")) == 20
    paths = [task.images[0].path for task in tasks]
    assert len(set(paths)) == len(paths) == 40 == len({task.id for task in tasks})
    order = [task.images[0].generator for task in tasks]
    assert order != sorted(order)  # mixed


def test_the_seed_chooses_and_every_image_is_as_likely():
    counts = dict.fromkeys(range(20), 0)
    for seed in range(400):
        for task in plan_review(prompts_of(20, ["a"]), Sample(5, seed)):
            counts[int(task.text.split()[0])] += 1
    # 400 draws of 1 in 4: mean 100, standard deviation 8.7.
    assert all(65 < count < 135 for count in counts.values())


def test_images_that_are_added_move_few():
    before = chosen(plan_review(prompts_of(100), Sample(20)), "a")
    added = prompts_of(110)
    after = chosen(plan_review(added[100:] + added[:100], Sample(20)), "a")
    moved = before - after
    assert len(moved) == len(after & {f"{n} cats" for n in range(100, 110)}) < 8


def test_prompts_with_several_images_and_equal_texts_are_images_of_their_own():
    tasks = plan_review(prompts_of(4, ["a"], each=3), Sample(12))
    assert len(tasks) == 12
    assert len(plan_review(prompts_of(4, ["a"], each=3), Sample(5))) == 5
    twice = [PromptImages(str(n), "a cat", {"a": [f"{n}.png"]}) for n in range(3)]
    assert len(plan_review(twice, Sample(3))) == 3
    assert len(plan_review(twice, Sample(2))) == 2


def test_folders_without_prompts(tmp_path):
    for parent in ("seed0", "seed1"):
        (tmp_path / parent).mkdir()
        write_images(tmp_path / parent, ["new", "old"], 3)
    folders = [tmp_path / s / g for s in ("seed0", "seed1") for g in ("new", "old")]
    prompts = images_of_folders(folders)
    assert [prompt.prompt for prompt in prompts] == ["00000_0", "00001_0", "00002_0"]
    assert [*prompts[0].images] == ["seed0/new", "seed0/old", "seed1/new", "seed1/old"]
    assert {prompt.text for prompt in prompts} == {""}
    with pytest.raises(InputError, match="there twice"):
        images_of_folders([folders[0], folders[0]])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no images"):
        images_of_folders([tmp_path / "empty"])


def test_the_page_and_its_key(tmp_path):
    folders = write_images(tmp_path, ["secret-new", "secret-old"], 9)
    page = write_review(
        images_of_folders(folders), tmp_path / "out", sample=4, flags=["extra limbs"]
    )
    text = page.path.read_text()
    assert page.tasks == 8 and "secret" not in text and "00000_0" not in text
    assert "Extra limbs" in text and "Hand anatomy" not in text
    key = json.loads(page.key.read_text())
    assert (key["kind"], key["flags"]) == ("review", ["extra limbs"])
    assert key["sample"] == {"limit": 4, "seed": 0, "available": {"secret-new": 9, "secret-old": 9}}
    again = write_review(images_of_folders(folders), tmp_path / "out", 4, flags=["extra limbs"])
    assert again.id == page.id and page.path.read_text() == text
    with pytest.raises(OutputError, match="key of page"):
        write_review(
            images_of_folders(folders), tmp_path / "out", 4, flags=["extra limbs", "other"]
        )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "0 flags"),
        (["a"] * 2, "there twice"),
        ([str(n) for n in range(10)], "10 flags"),
        ([" "], "printable"),
        (["x" * 41], "printable"),
        (["a\x1bb"], "printable"),
        (["No fault"], "meaning of its own"),
        (["any flag"], "meaning of its own"),
    ],
)
def test_flags_that_cannot_be_used(flags, message):
    with pytest.raises(InputError, match=message):
        check_flags(flags)


def test_the_command_says_what_is_wrong(tmp_path):
    (folder,) = write_images(tmp_path, ["new"], 3)

    def refusal(*words):
        words = ["review", "--images", str(folder), "--out", str(tmp_path / "x"), *words]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 2 and not (tmp_path / "x" / "review.html").exists()
        return done.stderr

    assert "--sample 0: pass a whole number of at least 1" in refusal("--sample", "0")
    assert "--seed -1: pass" in refusal("--seed", "-1")
    assert "--flag 'no fault' has a meaning" in refusal("--flag", "no fault")
    assert "pass PROMPTS, too" in refusal("--column", "prompt=text")
    assert "--image-pixels" in refusal("--image-pixels", "5000")


def test_names_of_generators_without_a_common_folder(tmp_path, monkeypatch):
    write_images(tmp_path, ["new"], 1)
    monkeypatch.chdir(tmp_path / "new")
    assert [*images_of_folders([Path()])[0].images] == ["new"]
