"""The commands vote, rate, ratings and rank --key: what they print and what they refuse."""

import json
import zlib

import pytest
from helpers.generated import write_images, write_prompts
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.votes import page as page_module


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("votes")
    write_prompts(folder, ["a cat", "a dog", "a cow", "a horse"])
    write_images(folder, ["flux", "sdxl"], 4)
    for command in ("vote", "rate"):
        assert invoke(folder, command, "prompts.jsonl", *IMAGES, "--out", command).exit_code == 0
    return folder


IMAGES = ("--images", "flux", "--images", "sdxl")


def invoke(folder, *words):
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def refusal(folder, *words):
    done = invoke(folder, *words)
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    return line


def save(folder, command, voter, choose):
    """Write what the page of a command saves of a person."""
    key = json.loads((folder / command / "key.json").read_text())
    answers = []
    for task, content in key["tasks"].items():
        choice = choose(content)
        check = zlib.crc32(f"{key['page']} {voter} {task} {choice}".encode())
        answers.append({"task": task, "choice": choice, "check": f"{check:08x}"})
    content = {"version": 1, "kind": command, "page": key["page"], "voter": voter, "name": ""}
    (folder / f"{command}-{voter}.json").write_text(json.dumps(content | {"answers": answers}))
    return f"{command}-{voter}.json"


def test_a_page_says_how_to_go_on(folder):
    done = invoke(folder, "vote", "prompts.jsonl", *IMAGES, "--out", "vote", "--seed", "0")
    assert done.stdout == "4 pairs and 1 attention check: vote/vote.html (less than 1 MB)\n"
    assert "t2v-eval rank votes-*.json --key vote/key.json" in done.stderr
    words = ("--limit", "6", "--attention", "0", "--json", "-q")
    done = invoke(folder, "rate", "prompts.jsonl", *IMAGES, "--out", "few", *words)
    assert done.stderr == ""
    content = json.loads(done.stdout)
    assert (content["images"], content["attention"]) == (6, 0)
    assert content["bytes"] == (folder / "few" / "rate.html").stat().st_size


def test_images_that_differ_in_shape_are_a_caution(folder, tmp_path):
    (square,) = write_images(tmp_path, ["square"], 4, size=(48, 48))
    images = ("--images", "flux", "--images", square)
    done = invoke(folder, "vote", "prompts.jsonl", *images, "--out", tmp_path / "out")
    assert "in 4 of 4 pairs the two images differ in shape" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--images", "flux", "--out", "x"), "the folders of at least two as --images"),
        ((*IMAGES, "--out", "x", "--pairs", "0"), "--pairs 0: pass a whole number of at least 1"),
        (
            (*IMAGES, "--out", "x", "--attention", "0.7"),
            "--attention 0.7: pass a share from 0 to 0.5",
        ),
        ((*IMAGES, "--out", "x", "--seed", "-1"), "--seed -1: pass a whole number of at least 0"),
        (
            (*IMAGES, "--out", "vote", "--seed", "9"),
            "could no longer be read: choose another --out",
        ),
        ((*IMAGES, "--out", "x", "--instructions", "no.txt"), "no.txt: No such file"),
        ((*IMAGES, "--out", "x", "--instructions", "empty.txt"), "empty.txt holds no text"),
        ((*IMAGES, "--images", "flux", "--out", "x"), "flux is passed twice as --images"),
        (("--images", "nothing", "--images", "flux", "--out", "x"), "nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(folder, words, message):
    (folder / "empty.txt").write_text(" \n")
    assert message in refusal(folder, "vote", "prompts.jsonl", *words)
    assert not (folder / "x").exists() or not [*(folder / "x").iterdir()]


def test_a_page_that_would_be_too_large_is_refused_with_flags(folder, monkeypatch):
    monkeypatch.setattr(page_module, "MAX_BYTES", 3000)
    line = refusal(folder, "vote", "prompts.jsonl", *IMAGES, "--out", "x")
    assert "pass --pairs" in line and "a smaller --image-pixels 512" in line


def test_missing_images_are_an_error_or_left_out(folder, tmp_path):
    write_images(tmp_path, ["part"], 3)
    images = ("--images", "flux", "--images", tmp_path / "part")
    words = ("vote", "prompts.jsonl", *images, "--out", tmp_path / "out")
    assert "1 of 4 prompts have no image" in refusal(folder, *words)
    assert invoke(folder, *words, "--on-missing", "skip").stdout.startswith(
        "3 pairs and 1 attention"
    )


def test_a_benchmark_with_images_of_its_own_is_refused(folder):
    line = refusal(folder, "rate", "scenes", "--images", "flux", "--out", "x")
    assert "scenes" in line and "--images" in line


def test_votes_are_ranked_with_their_key_alone(folder, tmp_path):
    votes = save(folder, "vote", "aaaaaaaa", lambda task: "left")
    assert "was saved on a page of `t2v-eval vote`: pass its --key" in refusal(
        folder, "rank", votes
    )
    assert "whose files `t2v-eval ratings` reads" in refusal(
        folder, "rank", votes, "--key", "rate/key.json"
    )
    assert "--column is of tables" in refusal(
        folder, "rank", votes, "--key", "vote/key.json", "--column", "prompt=x"
    )
    other = json.loads((folder / votes).read_text()) | {"page": "0" * 12}
    (tmp_path / "other.json").write_text(json.dumps(other))
    line = refusal(folder, "rank", tmp_path / "other.json", "--key", "vote/key.json")
    assert "other.json is of page '000000000000', the key of page" in line
    done = invoke(folder, "rank", votes, "--key", "vote/key.json", "--json", "--resamples", "10")
    models = json.loads(done.stdout)["models"]
    # Each generator is on the left in half of its pairs.
    assert {name: model["win_rate"]["value"] for name, model in models.items()} == {
        "flux": 0.5, "sdxl": 0.5
    }  # fmt: skip


def test_ratings_of_inattentive_people_are_said_and_left_out(folder, tmp_path):
    files = [
        save(folder, "rate", "aaaaaaaa", lambda task: 1 if "degraded" in task else 4),
        save(folder, "rate", "bbbbbbbb", lambda task: 5),
    ]
    words = ("ratings", *files, "--key", "rate/key.json", "--out", tmp_path / "ratings.csv")
    done = invoke(folder, *words)
    assert done.stdout == f"16 ratings of 8 images are in {tmp_path}/ratings.csv\n"
    assert done.stderr == "bbbbbbbb passed 0 of 1 attention checks\n"
    done = invoke(folder, *words, "--min-attention", "0.5", "--json")
    content = json.loads(done.stdout)
    assert content["raters"] == ["rater_aaaaaaaa"] and content["ratings"] == 8
    assert content["warnings"] == ["bbbbbbbb passed 0 of 1 attention checks, and is left out"]
    words = ("ratings", files[1], "--key", "rate/key.json", "--out", tmp_path / "none.csv")
    line = refusal(folder, *words, "--min-attention", "0.5")
    assert "--min-attention 0.5: nobody passed as many attention checks" in line
    assert not (tmp_path / "none.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--key", "no.json"), "no.json: no such file"),
        (("--key", "vote/key.json"), "whose files `t2v-eval rank` reads"),
        (("--key", "prompts.jsonl"), "is not JSON"),
        (("--key", "rate/key.json", "--out", "ratings.txt"), "a table ends in"),
        (("--key", "rate/key.json", "--out", "r.parquet", "--spreadsheet"), "--spreadsheet"),
    ],
)
def test_ratings_refuses_other_files(folder, words, message):
    file = save(folder, "rate", "cccccccc", lambda task: 3)
    assert message in refusal(folder, "ratings", file, *words)
