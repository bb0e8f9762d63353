"""Sets of prompts with questions: layouts of their authors, grids, and questions to ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.benchmarks.example import (
    Example,
    cell_with,
    duplicate_line,
    line_with,
    with_an_image,
)
from helpers.benchmarks.expected_metrics import Expected, Scores, per_item
from helpers.benchmarks.small_files import draw, write_json
from PIL import Image

import t2v_eval
from t2v_eval.errors import InputError, MediaError, UnsupportedError
from t2v_eval.evaluation.answers import read_answers, score_answers
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.report.report import compare

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

DPG = """item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,\
question_natural_language
partiprompts0,a red cube,,1,0,entity,whole,entity - whole (cube),Is there a cube?
partiprompts0,a red cube,,2,1,attribute,color,"attribute - color (cube, red)",Is the cube red?
COCOval7,a blue ball,,1,0,entity,whole,entity - whole (ball),Is there a ball?
"""
GENEVAL2 = [
    {
        "prompt": "two red cubes",
        "atom_count": 3,
        "vqa_list": [["How many cubes are in the image?", "two"], ["Are the cubes red?", "Yes"]],
        "skills": ["count", "attribute"],
    },
    {
        "prompt": "a ball",
        "atom_count": 4,
        "vqa_list": [["Are there any balls in the image?", "Yes"]],
        "skills": ["object"],
    },
]


def write_dpg(root: Path) -> None:
    (root / "dpg_bench.csv").write_text(DPG)
    for seed, name in enumerate(("partiprompts0", "COCOval7")):
        draw(root / "images" / f"{name}.png", seed)


def write_geneval2(root: Path) -> None:
    lines = "\n".join(json.dumps(row) for row in GENEVAL2)
    (root / "geneval2_data.jsonl").write_text(f"{lines}\n")
    for seed in range(2):
        draw(root / "images" / f"{seed}.png", seed)


def grid(path: Path, *colours: str, side: int = 8) -> None:
    image = Image.new("RGB", (2 * side, 2 * side))
    for n, colour in enumerate(colours):
        image.paste(colour, (n % 2 * side, n // 2 * side, (n % 2 + 1) * side, (n // 2 + 1) * side))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def write_oneig(root: Path, end: str = "") -> None:
    """As in the repository, where questions and dependencies are JSON inside of JSON."""
    prompt, name = ("prompt_cn", "OneIG-Bench-ZH.csv") if end else ("prompt_en", "OneIG-Bench.csv")
    classes = {"anime": "Anime_Stylization", "human": "Portrait", "object": "General_Object"}
    classes |= {"multilingualism": "Multilingualism"} if end else {}
    lines = [f"category,id,{prompt}", *(f"{c},000,a {n}" for n, c in classes.items())]
    (root / name).write_text("\n".join([*lines, "Text_Rendering,000,a sign"]) + "\n")
    for group in classes:
        row = {
            "question": json.dumps({"1": f"Is there a {group}?", "2": "Is it red?"}),
            "dependency": json.dumps({"1": [0], "2": [1]}),
        }
        path = root / "scripts" / "alignment" / "Q_D" / f"{group}{end}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"000": row})
        grid(root / "images" / group / "000.png", "red", "blue", "lime", "black")


def mean_over_prompts(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    scores = per_item(items, lambda n: [float(n)] * len(items[n].images))
    return scores, {"score": sum(range(len(items))) / len(items)}


def without_dependency(root: Path) -> None:
    path = root / "scripts" / "alignment" / "Q_D" / "human.json"
    path.write_text(json.dumps({"000": {"question": "{", "dependency": "{}"}}))


def example(write: Callable[[Path], None], **fields: Any) -> Example:
    counts = {"items": 2, "images": 2, "texts": 2, "tags": {}}
    return Example(**counts | fields, write=write, metric=mean_over_prompts)


DPG_EXAMPLE = example(
    write_dpg,
    duplicate=duplicate_line("dpg_bench.csv"),
    duplicate_message="counts: 2, as a row is a question of a prompt",
    malformed=cell_with("dpg_bench.csv", "text", ""),
    malformed_message="dpg_bench.csv, row 1.*'text' is empty",
)
ONEIG_EXAMPLE = example(
    write_oneig,
    items=3,
    images=9,  # three of each file, as the fourth is black
    texts=3,
    tags={"anime": 1, "human": 1, "object": 1},
    duplicate=lambda root: (root / "OneIG-Bench.csv").write_text(
        (root / "OneIG-Bench.csv").read_text() + "Portrait,000,a human\n"
    ),
    duplicate_message="counts: 3, as prompts are those that have questions",
    malformed=without_dependency,
    malformed_message="human.json, row 1, question",
)
EXAMPLES = {
    "dpg-bench": DPG_EXAMPLE,
    "dpg-bench-script": DPG_EXAMPLE,
    "geneval2": example(
        write_geneval2,
        tags={"3 atoms": 1, "4 atoms": 1},
        duplicate=with_an_image(duplicate_line("geneval2_data.jsonl")),
        duplicate_message="warns: items and .* has",
        malformed=line_with("geneval2_data.jsonl", 1, '{"prompt": "a ball"}'),
        malformed_message="row 2.*'atom_count'",
    ),
    "oneig": ONEIG_EXAMPLE,
    "oneig-zh": ONEIG_EXAMPLE._replace(
        write=lambda root: write_oneig(root, "_zh"),
        items=4,
        images=12,
        texts=4,
        tags={"anime": 1, "human": 1, "object": 1, "multilingualism": 1},
        duplicate=lambda root: (root / "OneIG-Bench-ZH.csv").write_text(
            (root / "OneIG-Bench-ZH.csv").read_text() + "Portrait,000,a human\n"
        ),
        duplicate_message="counts: 4, as prompts are those that have questions",
        malformed=lambda root: (root / "scripts/alignment/Q_D/human_zh.json").write_text("{"),
        malformed_message="human_zh.json",
    ),
}


def test_questions_are_those_of_the_files(tmp_path):
    for name, write in (("dpg", write_dpg), ("geneval2", write_geneval2), ("oneig", write_oneig)):
        (tmp_path / name).mkdir()
        write(tmp_path / name)
    dpg = open_benchmark("dpg-bench", root=tmp_path / "dpg").questions()
    assert [(q.item, q.parents) for q in dpg] == [
        ("partiprompts0", ()), ("partiprompts0", ("1",)), ("COCOval7", ()),
    ]  # fmt: skip
    script = open_benchmark("dpg-bench-script", root=tmp_path / "dpg").questions()
    assert [q.question for q in script] == ["Is the cube red?", "Is there a ball?"]
    geneval2 = open_benchmark("geneval2", root=tmp_path / "geneval2").questions()
    assert [(q.text, q.answer) for q in geneval2][:2] == [
        ("two red cubes", "two"), ("two red cubes", "Yes"),
    ]  # fmt: skip
    oneig = open_benchmark("oneig", root=tmp_path / "oneig").questions()
    assert [q.text for q in oneig] == ["a anime"] * 2 + ["a human"] * 2 + ["a object"] * 2
    assert [q.parents for q in oneig.items["human_000"]] == [(), ("1",)]


def test_a_grid_is_cut_and_black_images_count_only_in_oneig(tmp_path):
    write_oneig(tmp_path)
    options = {"root": tmp_path, "images": tmp_path / "images"}
    items = open_benchmark("oneig", **options).items()
    colours = [image.load().getpixel((0, 0)) for image in items[1].images]
    assert colours == [(255, 0, 0), (0, 0, 255), (0, 255, 0)]  # row by row
    assert {image.load().size for image in items[1].images} == {(8, 8)}
    whole = open_benchmark("oneig", grid="", **options).items()
    assert [len(item.images) for item in whole] == [1, 1, 1]

    (tmp_path / "dpg").mkdir()
    write_dpg(tmp_path / "dpg")
    folder = tmp_path / "dpg" / "images"
    grid(folder / "partiprompts0.png", "red", "blue", "lime", "black", side=5)
    grid(folder / "COCOval7.png", "red", "black", "black", "black", side=5)
    options = {"root": tmp_path / "dpg", "images": folder, "grid": "2x2"}
    assert [len(i.images) for i in open_benchmark("dpg-bench", **options).items()] == [4, 4]
    with pytest.raises(InputError, match="COLUMNSxROWS, for example 2x2"):
        open_benchmark("dpg-bench", root=tmp_path, grid="four")


def test_oneig_images_in_the_folders_of_generators(tmp_path):
    write_oneig(tmp_path)
    for group in ("anime", "human", "object"):
        for model, colour in (("good", "red"), ("bad", "blue")):
            grid(tmp_path / "all" / group / model / "000_1.webp", *[colour] * 4)
    options = {"root": tmp_path, "images": tmp_path / "all", "model": "good"}
    items = open_benchmark("oneig", **options).items()
    assert {len(item.images) for item in items} == {4}
    assert all(image.load().getpixel((2, 2))[0] > 200 for i in items for image in i.images)


def test_a_damaged_grid_is_an_error_that_names_it(tmp_path):
    write_oneig(tmp_path)
    (tmp_path / "images" / "human" / "000.png").write_bytes(b"\x89PNG")
    with pytest.raises(MediaError, match=r"human/000\.png"):
        open_benchmark("oneig", root=tmp_path, images=tmp_path / "images").items()


@pytest.mark.filterwarnings("ignore:.*not of 48 x 48 pixels:t2v_eval.errors.T2VWarning")
def test_a_scorer_without_questions_asks_those_of_the_benchmark(tmp_path):
    """As with the file that is named."""
    write_dpg(tmp_path)
    options = {"vlm": "tiny-clip-flant5", "device": "cpu", "dependency": "in-order"}
    benchmark = open_benchmark("dpg-bench", root=tmp_path, images=tmp_path / "images")
    scorer = t2v_eval.load("dsg", **options)
    report = compare([scorer], [benchmark], resamples=5, noise_floor=False)
    (run,) = report.runs
    named = t2v_eval.load("dsg", questions=str(tmp_path / "dpg_bench.csv"), **options)
    same = evaluate(named, benchmark, resamples=5, noise_floor=False)
    assert run.scorer.id == same.scorer.id and named.questions.hash in run.scorer.id
    np.testing.assert_array_equal(np.concatenate(run.scores), np.concatenate(same.scores))
    # The answers in the report give the same scores, and the means of each category.
    report.write(tmp_path / "report")
    answers = read_answers(tmp_path / "report" / "scores.csv")
    again = score_answers(answers, named.questions, "dsg", dependency="in-order")
    expected = np.concatenate(run.scores).ravel()
    np.testing.assert_allclose([text.score for text in again.texts], expected, rtol=1e-6)
    assert again.by_type(broad=True).keys() == {"entity", "attribute"}
    with pytest.raises(InputError, match="`questions=FILE`, or evaluate it on a benchmark"):
        scorer(run.items[0].images, run.items[0].texts)
    (tmp_path / "drawbench.csv").write_text("Prompts,Category\nA red car.,Colors\n")
    without = open_benchmark("drawbench", root=tmp_path, images=tmp_path / "images")
    draw(tmp_path / "images" / "0.png", 0)
    with pytest.raises(UnsupportedError, match="drawbench has no questions.*questions make"):
        evaluate(scorer, without)
