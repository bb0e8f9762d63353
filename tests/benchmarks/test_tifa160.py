"""TIFA's 160 prompts: five generators' images, rated by five people or by two."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_key, duplicate_line, json_with
from helpers.benchmarks.expected_metrics import agreement
from helpers.benchmarks.small_files import copy, draw
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, InputError
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


def write(root: Path) -> None:
    copy(root, "tifa160/tifa160.json", "agreement/tifa160/dsg_tifa160_anns.csv")
    for seed, row in enumerate(json.loads((root / "tifa160.json").read_text()).values()):
        draw(root / row["image_path"], seed)


def write_two_raters(root: Path) -> None:
    copy(root, "tifa160/human_annotations.json")
    for seed, row in enumerate(json.loads((root / "human_annotations.json").read_text()).values()):
        draw(root / row["image_path"], seed)


def means_of_five(root: Path) -> list[float]:
    end = {"mini-dalle": "mini_dalle", "vq-diffusion": "vq_diffusion"}
    end |= {f"sd{v}dot{w}": f"stable_diffusion_v{v}_{w}" for v, w in ((1, 1), (1, 5), (2, 1))}
    answers: dict[str, list[int]] = {}
    with (root / "dsg_tifa160_anns.csv").open() as stream:
        for row in csv.DictReader(stream):
            name = f"{row['source_id']}_{end[row['model_type']]}"
            answers.setdefault(name, []).append(int(row["answer"]))
    return [float(np.mean(answers[name])) for name in by_prompt(root / "tifa160.json")]


def means_of_two(root: Path) -> list[float]:
    rows = json.loads((root / "human_annotations.json").read_text())
    names = by_prompt(root / "human_annotations.json")
    return [float(np.mean(rows[name]["human_scores"])) for name in names]


def by_prompt(path: Path) -> list[str]:
    rows = json.loads(path.read_text())
    order = list(dict.fromkeys(row["text_id"] for row in rows.values()))
    return sorted(rows, key=lambda name: order.index(rows[name]["text_id"]))


TAGS = {"coco": 2, "partiprompt": 4}
EXAMPLES = {
    "tifa160": Example(
        write=write,
        items=6,
        images=30,
        texts=6,
        tags=TAGS,
        metric=agreement(means_of_five),
        duplicate=duplicate_line("dsg_tifa160_anns.csv"),
        duplicate_message="row .*: .* rated .* before",
        malformed=json_with("tifa160.json", lambda c: next(iter(c.values())).update(text_id=3)),
        malformed_message="tifa160.json, '.*': 'text_id' is 3, not str",
    ),
    "tifa160-two-raters": Example(
        write=write_two_raters,
        items=6,
        images=30,
        texts=6,
        tags=TAGS,
        metric=agreement(means_of_two),
        duplicate=duplicate_key("human_annotations.json"),
        duplicate_message="the key '.*' occurs twice",
        malformed=json_with(
            "human_annotations.json", lambda c: next(iter(c.values())).update(human_scores=[6])
        ),
        malformed_message="is 6, not from 1 to 5",
    ),
}


def test_tifa160_likert(tmp_path):
    write(tmp_path)
    items = benchmarks.create("tifa160", root=tmp_path).items()
    assert {item.id for item in items} == {
        "coco_669925", "coco_100240", "partiprompt_86", "partiprompt_1192", "partiprompt_1175",
        "partiprompt_1412",
    }  # fmt: skip
    assert items[0].texts == ["A Christmas tree with lights and teddy bear"]
    assert items[0].tags == ("coco",)
    assert sum(item.tags == ("partiprompt",) for item in items) == 4
    # Read off dsg_tifa160_anns.csv, for the five images of coco_669925 in the order of
    # tifa160.json: mini-dalle, sd1dot1, sd1dot5, sd2dot1, vq-diffusion.
    lines = (tmp_path / "dsg_tifa160_anns.csv").read_text().splitlines()
    inputs = {"mini-dalle": [], "sd1dot1": [], "sd1dot5": [], "sd2dot1": [], "vq-diffusion": []}
    for line in lines[1:]:
        if ",coco_669925," in line:
            inputs[line.split(",")[1]].append(int(line[-1]))
    assert {len(values) for values in inputs.values()} == {5}
    assert items[0].labels["human"] == [sum(values) / 5 for values in inputs.values()]
    assert [image.rsplit("/", 1)[1] for image in items[0].images][:2] == [
        "coco_669925_mini_dalle.jpg", "coco_669925_stable_diffusion_v1_1.jpg"
    ]  # fmt: skip


def test_tifa160_two_raters(tmp_path):
    write_two_raters(tmp_path)
    items = benchmarks.create("tifa160-two-raters", root=tmp_path).items()
    assert len(items) == 6 and items[0].labels["human"][:2] == [5, 3]
    with pytest.raises(InputError, match="'likert' or 'tifa'"):
        benchmarks.create("tifa160", raters="all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["coco_669925_mini_dalle"].pop("text"), "there is no 'text'"),
        (lambda c: c["coco_669925_mini_dalle"].update(text=""), "'text' is empty, not str"),
        (lambda c: c["coco_669925_mini_dalle"].update(text="x"), "has the texts"),
        (lambda c: c.update(coco_669925_mini_dalle=3), "is int, not an object"),
        (lambda c: c.pop("coco_669925_mini_dalle"), "row .*: tifa160.json has no image of"),
        (lambda c: c.update(new=c["coco_669925_mini_dalle"]), "'new': the image has no ratings"),
    ],
)
def test_tifa160_malformed(tmp_path, change, message):
    write(tmp_path)
    json_with("tifa160.json", change)(tmp_path)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("tifa160", root=tmp_path).items()


def test_tifa160_ratings_out_of_range(tmp_path):
    write(tmp_path)
    path = tmp_path / "dsg_tifa160_anns.csv"
    head, first, *rest = path.read_text().splitlines()
    for value, message in (("6", "'answer' is '6', not from 1 to 5"), ("good", "not a number")):
        path.write_text("\n".join([head, f"{first.rpartition(',')[0]},{value}", *rest]))
        with pytest.raises(BenchmarkDataError, match=f"row 1: .*{message}"):
            benchmarks.create("tifa160", root=tmp_path).items()


def test_a_scorer_asks_dsgs_questions_by_its_rule_and_else_tifas(tmp_path):
    """Texts are those of the ratings, whose white space differs in two of them."""
    write(tmp_path)
    copy(tmp_path, "agreement/dsg/dsg-1k-anns.csv")
    benchmark = open_benchmark("tifa160", root=tmp_path)
    texts = {item.texts[0] for item in benchmark.items()}
    dsg = benchmark.questions("dsg")
    assert {question.text for question in dsg} == texts and len(dsg.items) == 6
    with pytest.raises(BenchmarkDataError, match=r"holds no tifa_v1.0_question_answers.json"):
        benchmark.questions("tifa")
    text = benchmark.items()[0].texts[0]
    row = {"id": "coco_669925", "question": "is this a tree?", "choices": ["yes", "no"]}
    row |= {"answer": "yes", "element_type": "object"}
    other = {**row, "caption": "of a prompt that nobody rated", "id": "coco_1"}
    path = tmp_path / "tifa_v1.0_question_answers.json"
    path.write_text(json.dumps([{**row, "caption": f"{text.replace(' ', '  ')}\r\n"}, other]))
    (question,) = benchmark.questions("tifa")
    assert (question.text, question.answer) == (text, "yes")


@pytest.mark.filterwarnings("ignore:.*not of 48 x 48 pixels:t2v_eval.errors.T2VWarning")
def test_agreement_of_a_scorer_of_questions(tmp_path):
    write(tmp_path)
    copy(tmp_path, "agreement/dsg/dsg-1k-anns.csv")
    words = ["eval", "--model", "dsg", "--option", "vlm=tiny-clip-flant5", "--device", "cpu"]
    words += ["--benchmark", "tifa160", "--root", str(tmp_path), "--no-store", "--json"]
    words += ["--resamples", "5", "--no-noise-floor"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "depends on question '1', which is not there" in done.stderr
    assert "--on-error skip goes on without it" in done.stderr
    done = CliRunner().invoke(app, [*words, "--on-error", "skip"])
    assert done.exit_code == 0, done.output
    (run,) = json.loads(done.stdout)["runs"]
    assert run["counts"]["used"] == 25  # of 30; the dependencies of a text are incomplete
    assert "acc23" in run["metrics"]
    assert open_benchmark("tifa160", root=tmp_path).questions("dsg").hash in run["scorer"]["id"]
