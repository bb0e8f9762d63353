"""MMRB2: pairs of images, and the files of verdicts that its script reads."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import Expected, Scores, column
from helpers.benchmarks.small_files import draw, write_json
from helpers.judges import Reciting
from helpers.toy import ToyEmbedding
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, UnsupportedError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import Edit, open_media
from t2v_eval.registry import benchmarks
from t2v_eval.scoring.generation import Written

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

PAIRS = [  # id, source, chosen, votes
    ("wise_7_flux_imagen4", "wise", "A", [6, 4, 1]),
    ("wise_7_imagen4_flux", "wise", "B", [1, 2, 3]),
    ("evalmuse_1_flux_flux", "evalmuse", "A", [5, 6, 4]),
]


def pair(name, source, chosen, votes):
    responses = {
        f"response_{k}": {"model_name": "flux", "response_content": [["image", f"{name}_{n}.jpg"]]}
        for n, k in enumerate("ab")
    }
    more = {"human_annotations": votes, "prompt_metadata": {"id": name.split("_")[1]}}
    return {"id": name, "chosen": chosen, "prompt_source": source, **more, **responses}


def write(root: Path) -> None:
    full = []
    for row in (pair(*row) for row in PAIRS):
        full.append(row | {"prompt_content": [["text", f"prompt of {row['prompt_source']}"]]})
        for n, k in enumerate("ab"):
            path = f"images/{row['id']}_{n}.jpg"
            full[-1][f"response_{k}"] = {"response_content": [["image", path]]}
            draw(root / path, len(full) * 2 + n)
    write_json(root / "t2i.json", {"pairs": full})


def write_edits(root: Path) -> None:
    """The first and the last pair have one source; the last but one has two."""
    write(root)
    (root / "t2i.json").rename(root / "edit.json")
    sources = [["image", f"input_images/{n}.jpg"] for n in range(2)]
    for n in range(2):
        draw(root / sources[n][1], 9 + n)
    content = json.loads((root / "edit.json").read_text())
    for row, images in zip(content["pairs"], (sources[:1], sources, sources[1:]), strict=True):
        row["prompt_content"] = [*images, ["text", f"Change {len(images)}."]]
    write_json(root / "edit.json", content)


def right_wrong_and_both(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    scores = [column(1, 0), column(1, 0), column(0.5, 0.5)]
    return scores, {"accuracy": (2 + 0 + 1) / 6, "both_orders": 1 / 3}


EXAMPLES = {
    "mmrb2-t2i": Example(
        write=write,
        items=3,
        images=6,
        texts=3,
        tags={"wise": 2, "evalmuse": 1, "2 of 3 raters": 1, "3 of 3 raters": 2},
        metric=right_wrong_and_both,
        duplicate=duplicate_json_row("t2i.json", "pairs"),
        duplicate_message="the id wise_7_flux_imagen4 occurs twice",
        malformed=json_with("t2i.json", lambda c: c["pairs"][1].update(chosen="tie")),
        malformed_message="t2i.json, 'wise_7_imagen4_flux': 'chosen' is 'tie', not A or B",
    ),
    "mmrb2-edit": Example(
        write=write_edits,
        items=2,
        images=4,
        texts=2,
        tags={"wise": 1, "evalmuse": 1, "2 of 3 raters": 1, "3 of 3 raters": 1},
        metric=lambda *_: ([column(1, 0), column(0, 1)], {"accuracy": 1 / 2, "both_orders": 1 / 2}),
        duplicate=duplicate_json_row("edit.json", "pairs"),
        duplicate_message="the id wise_7_flux_imagen4 occurs twice",
        malformed=json_with("edit.json", lambda c: c["pairs"][1]["prompt_content"].append("a")),
        malformed_message="edit.json, 'wise_7_imagen4_flux': 'a' is no kind of content",
    ),
}


def test_an_edit_has_its_source_and_several_sources_are_left_out(tmp_path):
    write_edits(tmp_path)
    items = open_benchmark("mmrb2-edit", tmp_path).items()
    assert [item.texts for item in items] == [["Change 1."]] * 2
    first, second = items[1].images
    assert isinstance(first, Edit) and first.source == second.source == str(
        tmp_path / "input_images/1.jpg"
    )
    assert second.result == str(tmp_path / "images/evalmuse_1_flux_flux_1.jpg")


def test_pairs_of_a_prompt_are_resampled_together(tmp_path):
    write(tmp_path)
    items = open_benchmark("mmrb2-t2i", tmp_path).items()
    assert [item.labels["human"] for item in items] == [[1, 0], [0, 1], [1, 0]]
    assert items[0].group == items[1].group != items[2].group
    assert items[0].texts == ["prompt of wise"]
    assert items[2].images[1].endswith("images/evalmuse_1_flux_flux_1.jpg")


def judged(*verdicts):
    return {
        order: [{"judgement": verdict, "evaluator": "mine"}] if verdict != "none" else []
        for order, verdict in zip(("forward", "reverse"), verdicts, strict=True)
    }


def test_verdicts_count_as_in_the_authors_script(tmp_path):
    """compute_accuracy.py on these files: 20 of 60 verdicts are right, pair 50 is missing."""
    answers = ("A", "B", "tie", "", "none")
    cases = [*itertools.product("AB", answers, answers)]
    pairs = [pair(f"wise_{n}_a_b", "wise", c[0], [6, 6, 1]) for n, c in enumerate(cases)]
    pairs.append(pair("wise_50_a_b", "wise", "A", [6, 6, 1]))
    write_json(tmp_path / "t2i_response_only.json", {"pairs": pairs})
    results = {f"wise_{n}_a_b": judged(*case[1:]) for n, case in enumerate(cases)}
    write_json(tmp_path / "mine.json", results | {"of another task": judged("A", "B")})
    arguments = ["results", tmp_path / "mine.json", "-b", "mmrb2-t2i", "--root", tmp_path, "--json"]
    run = CliRunner().invoke(app, [*map(str, arguments), "--resamples", "20"])
    assert run.exit_code == 0, run.output
    content = json.loads(run.stdout)
    assert content["metrics"]["all"]["accuracy"]["value"] == pytest.approx(20 / 60)
    # Of the nine pairs of verdicts that are there, one is right twice, whatever was chosen.
    assert content["metrics"]["all"]["both_orders"]["value"] == pytest.approx(2 / 18)
    assert (content["results"], content["missing"]) == (102, 102 - 60)
    for verdicts, right in ((("A", "B"), 1), (("B", "A"), 0), (("A", "A"), 0.5)):
        write_json(tmp_path / "mine.json", {"wise_0_a_b": judged(*verdicts)})
        benchmark = open_benchmark("mmrb2-t2i", tmp_path)
        metrics = benchmark.metrics(*benchmark.read_results(tmp_path / "mine.json"))
        assert metrics["accuracy"] == right, "people chose A, which is shown second in reverse"
    write_json(tmp_path / "mine.json", {"of another task": judged("A", "B")})
    run = CliRunner().invoke(app, [*map(str, arguments)])
    assert run.exit_code == 2 and "has no result of mmrb2-t2i" in run.output


class FirstShown(ToyEmbedding):
    """A judge that prefers what it is shown first, and is never asked about one image."""

    def prefer_all(self, pairs, progress=None):
        raise AssertionError

    def pair_blocks(self, pairs):
        from t2v_eval.scoring.plan import Block

        return [Block([image_a, image_a], [text]) for image_a, _, text in pairs]


def test_a_judge_of_pairs_is_asked_for_both_orders(tmp_path):
    write(tmp_path)
    run = evaluate(FirstShown(), open_benchmark("mmrb2-t2i", tmp_path), resamples=5)
    assert run.metrics["accuracy"].value == 0.5 and run.metrics["both_orders"].value == 0
    assert [scores.shape for scores in run.scores] == [(2, 1)] * 3


class Beside(Reciting):
    """A model that is shown a source and two results, and names the result whose key is less."""

    def write_passes(self, images, prompts, writing):
        for n, (_, first, second) in enumerate(media.images for media in images):
            better = "A" if first.key < second.key else "B"
            yield [n], [[Written(f'{{"better_response": "{better}"}}')]]


def test_a_judge_of_two_edits_sees_their_source(tmp_path):
    write_edits(tmp_path)
    benchmark = open_benchmark("mmrb2-edit", tmp_path)
    judge = t2v_eval.load("mmrb2-edit-judge", vlm=Beside(lambda _: []), wording="ours")
    run = evaluate(judge, benchmark, resamples=5)
    right = []
    for item in benchmark.items():
        first, second = (open_media(edit.result).key for edit in item.images)
        right.append((first < second) == (item.labels["human"] == [1, 0]))
    assert run.metrics["accuracy"].value == run.metrics["both_orders"].value == sum(right) / 2
    blind = t2v_eval.load("mmrb2-judge", vlm=Beside(lambda _: []), wording="ours")
    with pytest.raises(UnsupportedError, match="edits need a judge that sees their source"):
        evaluate(blind, benchmark, resamples=5)


def test_labels_alone_are_enough_for_results(tmp_path):
    labels = {"pairs": [pair(*row) for row in PAIRS]}
    write_json(tmp_path / "t2i_response_only.json", labels)
    benchmark = open_benchmark("mmrb2-t2i", tmp_path)
    assert benchmark.check().startswith("the labels of 3 pairs, for files of results. To score")
    write_json(tmp_path / "mine.json", {})
    items, scores = benchmark.read_results(tmp_path / "mine.json")
    assert len(items) == 6 and np.isnan(scores).all()
    with pytest.raises(UnsupportedError, match="winoground reads no files of results"):
        benchmarks.create("winoground").read_results(tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"human_annotations": [7]}, "a vote is 7, not from 1 to 6"),
        ({"prompt_content": [["image", "0.png"]]}, "the prompt has no text"),
        ({"prompt_content": ["a cat"]}, "'a cat' is no kind of content"),
        ({"response_a": {"response_content": []}}, "a response does not have exactly one image"),
    ],
)
def test_malformed(tmp_path, change, message):
    write(tmp_path)
    json_with("t2i.json", lambda content: content["pairs"][0].update(change))(tmp_path)
    with pytest.raises(BenchmarkDataError, match=f"'wise_7_flux_imagen4': {message}"):
        open_benchmark("mmrb2-t2i", tmp_path).items()
