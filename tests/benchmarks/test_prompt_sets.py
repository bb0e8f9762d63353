"""Sets of prompts: which image belongs to which, and what two generators' folders say."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.benchmarks.example import (
    COUNTS,
    Example,
    cell_with,
    duplicate_json_row,
    duplicate_key,
    duplicate_line,
    json_with,
    line_with,
    with_an_image,
)
from helpers.benchmarks.expected_metrics import Expected, Scores, per_item
from helpers.benchmarks.small_files import FIXTURES, copy, draw, write_json
from helpers.benchmarks.toy_benchmark import named_toys  # noqa: F401
from helpers.toy import ToyEmbedding, draw_image, expected
from PIL import Image
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, InputError, T2VWarning
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.registry import benchmarks
from t2v_eval.report.report import compare

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

SKILLS = "color shape texture spatial non_spatial complex numeracy 3d_spatial".split()


def draw_images(root: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        draw(root / "images" / f"{name}.png", seed)


def write_partiprompts(root: Path) -> None:
    copy(root, "prompt_sets/PartiPrompts.tsv")
    draw_images(root, "0", "1")


def write_drawbench(root: Path) -> None:
    (root / "drawbench.csv").write_text("Prompts,Category\nA red car.,Colors\nTwo.,Counting\n")
    draw_images(root, "0", "1")


def write_geneval(root: Path) -> None:
    copy(root, "prompt_sets/evaluation_metadata.jsonl")
    draw_images(root, "0", "1")


def write_t2i_compbench(root: Path) -> None:
    copy(root, *(f"prompt_sets/{path.name}" for path in (FIXTURES / "prompt_sets").glob("*.txt")))
    draw_images(root, *(f"{n:05}" for n in range(16)))


def write_genai_bench_prompts(root: Path) -> None:
    write_json(root / "genai_image.json", {n: {"prompt": f"of {n}"} for n in ("00003", "00009")})
    write_json(root / "genai_skills.json", {"counting": [9], "basic": [3, 9]})
    draw_images(root, "3", "00009")


def write_tifa_v1(root: Path) -> None:
    copy(root, "prompt_sets/tifa_v1.0_text_inputs.json")
    draw_images(root, "0", "1")


def write_dsg_1k(root: Path) -> None:
    copy(root, "prompt_sets/dsg-1k-anns.csv")
    draw_images(root, "0", "1")


def write_mjhq_30k(root: Path) -> None:
    rows = {"00ab12": ("animals", "a cat"), "7700000": ("food", "a red apple")}
    content = {name: {"category": tag, "prompt": text} for name, (tag, text) in rows.items()}
    write_json(root / "meta_data.json", content)
    for seed, (name, (tag, _)) in enumerate(rows.items()):
        draw(root / "images" / tag / f"{name}.jpg", seed)


def mean_over_prompts(items: list[Item], _: Path) -> tuple[Scores, Expected]:
    scores = per_item(items, lambda n: [float(n)] * len(items[n].images))
    return scores, {"score": sum(range(len(items))) / len(items)}


def example(write: Callable[[Path], None], **fields: Any) -> Example:
    """An example of two items; `fields` are the others that differ."""
    return Example(
        **{"items": 2, "images": 2, "texts": 2} | fields, write=write, metric=mean_over_prompts
    )


EXAMPLES = {
    "partiprompts": example(
        write_partiprompts,
        tags={"Abstract": 1, "Animals": 1, "Basic": 2},
        duplicate=with_an_image(duplicate_line("PartiPrompts.tsv")),
        duplicate_message=COUNTS,
        malformed=line_with("PartiPrompts.tsv", 2, "sky\tArts"),
        malformed_message="line 3 has 2 values between tabs, not 4",
    ),
    "drawbench": example(
        write_drawbench,
        tags={"Colors": 1, "Counting": 1},
        duplicate=with_an_image(duplicate_line("drawbench.csv")),
        duplicate_message=COUNTS,
        malformed=line_with("drawbench.csv", 2, ",Counting"),
        malformed_message="row 2.*'Prompts' is empty",
    ),
    "geneval": example(
        write_geneval,
        tags={"single_object": 1, "colors": 1},
        duplicate=with_an_image(duplicate_line("evaluation_metadata.jsonl")),
        duplicate_message=COUNTS,
        malformed=line_with("evaluation_metadata.jsonl", 1, '{"tag": "colors"}'),
        malformed_message="row 2.*'prompt'",
    ),
    "t2i-compbench": example(
        write_t2i_compbench,
        items=16,
        images=16,
        texts=16,
        tags=dict.fromkeys(SKILLS, 2),
        duplicate=with_an_image(duplicate_line("3d_spatial_val.txt"), "16"),
        duplicate_message=COUNTS,
        malformed=lambda root: (root / "shape_val.txt").write_bytes(b"caf\xe9\n"),
        malformed_message="shape_val.txt is not UTF-8 text in line 1, at byte 3",
    ),
    "genai-bench-prompts": example(
        write_genai_bench_prompts,
        tags={"counting": 1, "basic": 2},
        duplicate=duplicate_key("genai_image.json"),
        duplicate_message="the key '00003' occurs twice",
        malformed=json_with("genai_image.json", lambda c: c["00009"].pop("prompt")),
        malformed_message="genai_image.json, '00009': there is no 'prompt'",
    ),
    "tifa-v1": example(
        write_tifa_v1,
        tags={"coco": 1, "drawbench": 1},
        duplicate=with_an_image(duplicate_json_row("tifa_v1.0_text_inputs.json")),
        duplicate_message="id coco_301091 occurs twice",
        malformed=json_with("tifa_v1.0_text_inputs.json", lambda c: c[1].update(caption=3)),
        malformed_message="row 2: 'caption' is 3, not str",
    ),
    "mjhq-30k": example(
        write_mjhq_30k,
        tags={"animals": 1, "food": 1},
        duplicate=duplicate_key("meta_data.json"),
        duplicate_message="the key '00ab12' occurs twice",
        malformed=json_with("meta_data.json", lambda c: c["7700000"].pop("prompt")),
        malformed_message="meta_data.json, '7700000': there is no 'prompt'",
    ),
    "dsg-1k": example(
        write_dsg_1k,
        tags={"whoops": 1, "vrd": 1},
        duplicate=duplicate_line("dsg-1k-anns.csv"),
        duplicate_message="counts: 2, as a row is a question of a prompt",
        malformed=cell_with("dsg-1k-anns.csv", "text", "A ball"),
        malformed_message="row 2: whoops_5 has another text",
    ),
}


LONG = "a very long prompt of a robot that " + "walks and " * 12 + "stops"
PROMPTS = [
    ("bond", "Abstract", "Basic"),
    ("a red cube, on a blue ball!", "Artifacts", "Basic"),
    (LONG, "Artifacts", "Complex"),
]


@pytest.fixture
def root(tmp_path):
    lines = [("Prompt", "Category", "Challenge", "Note"), *((*row, "a note") for row in PROMPTS)]
    (tmp_path / "set").mkdir()
    path = tmp_path / "set" / "PartiPrompts.tsv"
    path.write_text("\n".join("\t".join(line) for line in lines) + "\n")
    return tmp_path / "set"


def images(folder, *names):
    for seed, name in enumerate(names):
        draw(folder / name, seed)
    return folder


def opened(root, *folders):
    return benchmarks.create("partiprompts", root=root, images=folders)


@pytest.mark.parametrize(
    "names",
    [
        ("0.png", "1.png", "2.png"),
        ("00000.jpg", "00001.jpeg", "00002.webp"),
        ("0_0.png", "0_1.png", "00001-3.png", "2_7.png"),
        ("00000/a.png", "1/samples/0003.png", "2/x.png", "2/y.png"),
        ("bond.png", "a_red_cube_on_a_blue_ball.png", f"{LONG[:110].replace(' ', '_')}.png"),
        ("Bond_2.png", "a red cube, on a blue ball_0.png", f"{LONG}-1.png"),
    ],
)
def test_images_find_their_prompts(root, tmp_path, names):
    items = opened(root, images(tmp_path / "mine", *names)).items()
    assert [item.texts[0] for item in items] == [prompt for prompt, *_ in PROMPTS]
    assert [item.tags for item in items][1:] == [("Artifacts", "Basic"), ("Artifacts", "Complex")]
    got = [[image[len(str(tmp_path / "mine")) + 1 :] for image in i.images] for i in items]
    flat = [name for entry in got for name in entry]
    assert sorted(flat) == sorted(names), "each image belongs to one prompt"
    first = [name for name in names if re.match(r"0+\b|0+[_/.]|[Bb]ond", name)]
    assert got[0] == sorted(first)


def test_the_mean_is_over_prompts_and_by_tag(root, tmp_path):
    folder = images(tmp_path / "mine", "0.png", "1_0.png", "1_1.png", "2.png", "notes.txt.png")
    run = evaluate(ToyEmbedding(), opened(root, folder), resamples=20)
    score = [expected(draw_image(n), PROMPTS[k][0]) for n, k in ((0, 0), (1, 1), (2, 1), (3, 2))]
    means = [score[0], (score[1] + score[2]) / 2, score[3]]
    assert run.metrics["score"].value == pytest.approx(np.mean(means), abs=1e-6)
    assert run.by_tag["Artifacts"]["score"].value == pytest.approx(np.mean(means[1:]), abs=1e-6)
    assert list(run.metrics) == ["score"]


def test_two_folders_are_compared_prompt_by_prompt(root, tmp_path):
    mine = images(tmp_path / "mine", "0.png", "1.png", "2.png")
    published = images(tmp_path / "theirs", "x/a.png", "0.png", "1.png", "2.png")
    run = evaluate(ToyEmbedding(), opened(root, mine, published), resamples=50)
    first = [expected(draw_image(n), PROMPTS[n][0]) for n in range(3)]
    second = [expected(draw_image(n + 1), PROMPTS[n][0]) for n in range(3)]
    value = {name: item.value for name, item in run.metrics.items()}
    assert value == {
        "mine": pytest.approx(np.mean(first), abs=1e-6),
        "theirs": pytest.approx(np.mean(second), abs=1e-6),
        "mine - theirs": pytest.approx(np.mean(first) - np.mean(second), abs=1e-6),
    }
    difference = run.metrics["mine - theirs"]
    apart = np.subtract(first, second)
    assert apart.min() - 1e-6 <= difference.low <= difference.high <= apart.max() + 1e-6


def test_whether_two_folders_differ_is_a_paired_test(root, tmp_path):
    mine = images(tmp_path / "mine", "0.png", "1.png", "2.png")
    published = images(tmp_path / "theirs", "x/a.png", "0.png", "1.png", "2.png")
    run = evaluate(ToyEmbedding(), opened(root, mine, published), resamples=5)
    apart = [
        expected(draw_image(n), PROMPTS[n][0]) - expected(draw_image(n + 1), PROMPTS[n][0])
        for n in range(3)
    ]

    def p(values):
        sums = [abs(np.dot(s, values)) for s in itertools.product((1, -1), repeat=len(values))]
        return np.mean(np.array(sums) >= sums[0] - 1e-9)

    assert run.contrasts == [("mine", "theirs")]
    name = "mine - theirs"
    assert run.tests[""][name] == pytest.approx((p(apart), p(apart)))
    tags = {"Abstract": [0], "Artifacts": [1, 2], "Basic": [0, 1], "Complex": [2]}
    actual = {tag: run.tests[tag][name].p for tag in tags}
    assert actual == pytest.approx(
        {tag: p([apart[n] for n in group]) for tag, group in tags.items()}
    )
    assert all(run.tests[tag][name].p_holm == min(1, 4 * min(actual.values())) for tag in tags)
    assert run.metrics[name].value == pytest.approx(np.mean(apart), abs=1e-6)
    assert list(run.tests) == ["", *run.by_tag]


def test_generators_that_differ_are_told_apart(root, tmp_path):
    (root / "PartiPrompts.tsv").write_text(
        "Prompt\tCategory\tChallenge\tNote\n"
        + "".join(f"a {n} b\tC{n % 2}\tall\t.\n" for n in range(12))
    )
    for name, colour in (("good", (255, 0, 0)), ("bad", (0, 0, 9)), ("same", (255, 0, 0))):
        for n in range(12):
            path = tmp_path / name / f"{n}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), colour).save(path)
    folders = [tmp_path / name for name in ("good", "bad", "same")]
    report = compare([ToyEmbedding()], [opened(root, *folders)], resamples=20)
    (run,) = report.runs
    tests = run.tests[""]
    assert tests["good - bad"].significant != tests["good - same"].significant
    assert tests["good - same"] == (1.0, 1.0) and tests["good - bad"].p == 2 / 2**12
    assert tests["good - bad"].p_holm == 3 * tests["good - bad"].p
    content = report.to_json()["runs"][0]
    figure = content["metrics"]["bad - same"]
    assert figure["significant"] and figure["excludes_zero"] and figure["p"] == 2 / 2**12
    assert "p" not in content["metrics"]["good"]
    by_tag = content["by_tag"]["C0"]["bad - same"]
    # Of nine, for three tags and three pairs, two are smaller: those of the tag of all items.
    assert by_tag["p"] == 2 / 2**6 and by_tag["p_holm"] == 7 * 2 / 2**6


def test_what_is_missing_is_said(root, tmp_path):
    with pytest.raises(BenchmarkDataError, match="set of 3 prompts: pass the folder .* `images=`"):
        opened(root).items()
    with pytest.raises(BenchmarkDataError, match="there is no folder"):
        opened(root, tmp_path / "nowhere").items()
    folder = images(tmp_path / "mine", "0.png", "2.png")
    with pytest.raises(BenchmarkDataError, match="1 of 3 prompts have no image .*red cube") as e:
        opened(root, folder).items()
    assert "00001.png" in str(e.value) and "start at 1" not in str(e.value)
    folder = images(tmp_path / "from1", "1.png", "2.png", "3.png")
    with pytest.raises(BenchmarkDataError, match="1 of 3 .*these seem to start at 1"):
        opened(root, folder).items()
    with pytest.warns(T2VWarning, match="3 items and partiprompts has 1632"):
        opened(root, images(tmp_path / "all", "0.png", "1.png", "2.png")).items()
    with pytest.raises(InputError, match="'winoground' takes no `images=`"):
        open_benchmark("winoground", root, images=[folder])
    (root / "PartiPrompts.tsv").write_text("a\tb\tc\td\n")
    with pytest.raises(BenchmarkDataError, match="has the columns"):
        opened(root, folder).items()


def test_the_command_takes_folders(root, tmp_path):
    for name in ("mine", "theirs"):
        images(tmp_path / name, "0.png", "1.png", "2.png")
    arguments = ["eval", "-m", "toy-colours", "-b", "partiprompts", "--no-store"]
    arguments += ["--root", root, "--images", tmp_path / "mine", "--images", tmp_path / "theirs"]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "mine - theirs" in result.stdout and "Artifacts (2)" in result.stdout
    assert "by tag corrected for all tags" in result.stdout
    assert result.stdout.count("no significant difference") == 5


SETS = {
    "drawbench": ("drawbench.csv", "Prompts,Category\nA red car.,Colors\nTwo dogs.,Counting\n"),
    "geneval": (
        "evaluation_metadata.jsonl",
        '{"tag": "counting", "include": [], "prompt": "a photo of two dogs"}\n'
        '{"tag": "colors", "include": [], "prompt": "a photo of a red car"}\n',
    ),
    "tifa-v1": (
        "tifa_v1.0_text_inputs.json",
        json.dumps([{"id": i, "caption": f"of {i}"} for i in ("coco_301091", "drawbench_3")]),
    ),
    "dsg-1k": (
        "dsg-1k-anns.csv",
        "item_id,text,proposition_id\nwhoops_5,A cube,1\nwhoops_5,A cube,2\nvrd_2_1,A dog,1\n",
    ),
}  # fmt: skip
TAGS = {
    "drawbench": [("Colors",), ("Counting",)],
    "geneval": [("counting",), ("colors",)],
    "tifa-v1": [("coco",), ("drawbench",)],
    "dsg-1k": [("whoops",), ("vrd_2",)],
}


@pytest.mark.parametrize("name", SETS)
def test_other_sets(tmp_path, name):
    file, content = SETS[name]
    (tmp_path / file).write_text(content)
    folder = images(tmp_path / "mine", "0.png", "1.png")
    items = benchmarks.create(name, root=tmp_path, images=folder).items()
    assert [item.tags for item in items] == TAGS[name]
    (tmp_path / file).unlink()
    with pytest.raises(BenchmarkDataError, match=re.escape(file)):
        benchmarks.create(name, root=tmp_path, images=folder).items()


def test_ids_of_a_set_are_names_too(tmp_path):
    (tmp_path / "dsg-1k-anns.csv").write_text(SETS["dsg-1k"][1])
    folder = images(tmp_path / "mine", "whoops_5.png", "vrd_2_1_0.png")
    items = benchmarks.create("dsg-1k", root=tmp_path, images=folder).items()
    assert [len(item.images) for item in items] == [1, 1]


def test_t2i_compbench_and_genai_bench(tmp_path):
    for skill in SKILLS:
        (tmp_path / f"{skill}_val.txt").write_text(f"a {skill} thing\nanother {skill} thing\n\n")
    folder = images(tmp_path / "mine", *(f"{n}.png" for n in range(16)))
    items = benchmarks.create("t2i-compbench", root=tmp_path, images=folder).items()
    assert [item.tags[0] for item in items][::2] == [
        "color", "shape", "texture", "spatial", "non_spatial", "complex", "numeracy", "3d_spatial"
    ]  # fmt: skip
    prompts = {"00003": {"prompt": "a dog"}, "00009": {"prompt": "two dogs"}}
    write_json(tmp_path / "genai_image.json", prompts)
    write_json(tmp_path / "genai_skills.json", {"counting": [9]})
    folder = images(tmp_path / "other", "3.png", "00009.png", "0.png")
    items = benchmarks.create("genai-bench-prompts", root=tmp_path, images=folder).items()
    assert [item.tags for item in items] == [(), ("counting",)]
    assert items[1].images[0].endswith("00009.png"), "the set's own numbers"


def test_overall_of_geneval_is_the_mean_over_tags_of_images(tmp_path):
    """As summary_scores.py of its repository, also where prompts have unequal numbers of images."""
    tags = ["counting", "counting", "counting", "colors", "position"]
    lines = [json.dumps({"tag": t, "prompt": f"prompt {n}"}) for n, t in enumerate(tags)]
    (tmp_path / "evaluation_metadata.jsonl").write_text("\n".join(lines))
    numbers = {"a": [4, 1, 2, 1, 3], "b": [1, 1, 1, 1, 1]}
    rng = np.random.default_rng(0)
    truth: dict[str, list[tuple[str, float]]] = {"a": [], "b": []}
    for name, counts in numbers.items():
        paths = [f"{n:05}/samples/{k:04}.png" for n, c in enumerate(counts) for k in range(c)]
        images(tmp_path / name, *paths)
    folders = [tmp_path / name for name in numbers]
    benchmark = benchmarks.create("geneval", root=tmp_path, images=folders)
    items = benchmark.items()
    scores = []
    for item, tag in zip(items, tags, strict=True):
        correct = rng.integers(0, 2, (len(item.images), 1)).astype(np.float32)
        scores.append(correct)
        for folder, value in zip(item.labels["folder"], correct[:, 0], strict=True):
            truth["ab"[folder]].append((tag, float(value)))
    scores[0][0] = np.nan  # a failed image counts nowhere
    truth["a"].pop(0)
    figures = benchmark.metrics(items, scores)
    for name, rows in truth.items():
        of_tags = [np.mean([v for t, v in rows if t == tag]) for tag in dict.fromkeys(tags)]
        assert figures[f"overall_{name}"] == pytest.approx(np.mean(of_tags))
    again = benchmarks.create("geneval", root=tmp_path, images=folders[1])
    items = again.items()
    figures = again.metrics(items, [np.ones((1, 1), np.float32)] * len(items))
    assert figures == {"score": 1.0, "overall": 1.0}
    sampled = again.statistic(items, [np.full((1, 1), n, np.float32) for n in range(5)])
    assert sampled(np.array([0, 0, 1, 4]))["overall"] == pytest.approx((1 / 3 + 4) / 2)
