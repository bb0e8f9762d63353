"""Prompts of one's own: which files and columns are read, and which image belongs to which."""

import json

import numpy as np
import pytest
from helpers.benchmarks.small_files import draw
from helpers.benchmarks.toy_benchmark import named_toys  # noqa: F401
from helpers.toy import ToyEmbedding
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.benchmarks.own_prompts import OwnPrompts
from t2v_eval.benchmarks.own_table import OwnTable
from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, InputError, T2VWarning, TableError
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.tables import write_table
from t2v_eval.registry import benchmarks

TEXTS = ["a red car", "two dogs", "a café at night"]
ROWS = [
    {"prompt": text, "id": f"p-{n}", "tags": tags}
    for n, (text, tags) in enumerate(zip(TEXTS, ["colour", "counting;animals", ""], strict=True))
]


def images_in(folder, *names):
    for seed, name in enumerate(names):
        draw(folder / name, seed)
    return folder


def write(path, rows=ROWS):
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".tsv":
        lines = ["\t".join(rows[0]), *("\t".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines), "utf-8")
    else:
        write_table(path, rows)
    return path


def matched(file, *folders, **options):
    """Read a benchmark; return it, and the paths of each item's images beside the file."""
    benchmark = open_benchmark(str(file), images=folders, **options)
    below = folders[0].parent
    return benchmark, [
        [path.removeprefix(f"{below}/") for path in map(str, item.images)]
        for item in benchmark.selected()
    ]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_a_table_of_prompts_is_a_prompt_set(tmp_path, suffix):
    folder = images_in(tmp_path / "mine", "p-0.png", "p-1.png", "p-2.png")
    benchmark, images = matched(write(tmp_path / f"set{suffix}"), folder)
    assert images == [[f"mine/p-{n}.png"] for n in range(3)]
    items = benchmark.items()
    assert [item.texts for item in items] == [[text] for text in TEXTS]
    assert [item.id for item in items] == ["p-0", "p-1", "p-2"]
    assert [item.tags for item in items] == [("colour",), ("counting", "animals"), ()]
    assert benchmark.selection.folders[0].rules == {"by id": 3}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_text_file_holds_a_prompt_a_line(tmp_path, encoding, end):
    file = tmp_path / "set.txt"
    file.write_bytes(end.join(["", TEXTS[0], "", f"  {TEXTS[1]}\t", TEXTS[2], ""]).encode(encoding))
    folder = images_in(tmp_path / "mine", "00000.png", "00001.png", "00002.png")
    benchmark, images = matched(file, folder)
    assert images == [[f"mine/{n:05}.png"] for n in range(3)]
    assert [item.texts[0] for item in benchmark.items()] == TEXTS


def test_the_report_of_two_generators_has_means_and_a_paired_difference(tmp_path):
    file = write(tmp_path / "set.csv")
    folders = [
        images_in(tmp_path / name, *(f"{n}_{k}.png" for n in range(3) for k in range(count)))
        for name, count in (("base", 1), ("new", 2))
    ]
    run = evaluate(ToyEmbedding(), open_benchmark(str(file), images=folders), resamples=20)
    means = {
        name: np.mean([scores[np.array(item.labels["folder"]) == k].mean()
                       for item, scores in zip(run.items, run.scores, strict=True)])
        for k, name in enumerate(("base", "new"))
    }  # fmt: skip
    assert run.metrics["base"].value == pytest.approx(means["base"])
    difference = pytest.approx(means["base"] - means["new"], abs=1e-6)
    assert run.metrics["base - new"].value == difference
    assert set(run.by_tag) == {"colour", "counting", "animals"}
    assert [remark.partition(":")[0] for remark in run.benchmark.remarks] == ["base", "new"]


@pytest.mark.parametrize("counts", [(1, 1, 1), (1, 2, 1)])
def test_means_of_generators_are_those_of_known_scores(tmp_path, counts):
    rows = [{"prompt": f"{n} dogs", "id": f"p-{n}"} for n in range(6)]
    folders = [
        images_in(tmp_path / name, *(f"p-{n}_{k}.png" for n in range(6) for k in range(count)))
        for name, count in zip("abc", counts, strict=True)
    ]
    benchmark = open_benchmark(str(write(tmp_path / "set.csv", rows)), images=folders)
    items, rng = benchmark.selected(), np.random.default_rng(0)
    scores = [rng.random((sum(counts), 1)) for _ in items]
    scores[1][0], scores[2][-1], scores[4][1:] = np.nan, np.nan, np.nan
    index = np.array([0, 1, 1, 4, 5, 3])
    figures = benchmark.statistic(items, scores)(index)
    parts = [np.split(of_item[:, 0], np.cumsum(counts)[:-1]) for of_item in scores]
    means = np.array(
        [[np.nansum(part) / (np.isfinite(part).sum() or np.nan) for part in row] for row in parts]
    )
    for k, name in enumerate("abc"):
        assert figures[name] == pytest.approx(np.nanmean(means[index, k]))
        for m, other in list(enumerate("abc"))[k + 1 :]:
            apart = means[:, k] - means[:, m]
            assert figures[f"{name} - {other}"] == pytest.approx(np.nanmean(apart[index]))
            actual = benchmark.contrasts(items, scores)[name, other]
            np.testing.assert_allclose(actual, apart)


@pytest.mark.filterwarnings("ignore:.*48 x 48:t2v_eval.errors.T2VWarning")
def test_it_works_in_python_and_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "set.csv")
    images_in(tmp_path / "a", "p-0.png", "p-1.png", "p-2.png")
    report = t2v_eval.compare("tiny-clip", "set.csv", images=["a"], resamples=5)
    assert report.runs[0].benchmark.name == "set.csv"
    run = t2v_eval.compare("tiny-clip", "set.csv", images="a", resamples=5).runs[0]
    assert run.metrics["score"].value == report.runs[0].metrics["score"].value
    command = ["eval", "-m", "tiny-clip", "-b", "set.csv", "--images", "a", "--no-store"]
    done = CliRunner().invoke(app, [*command, "--resamples", "5", "--out", "out"])
    assert done.exit_code == 0 and "3 images by id" in done.stdout
    content = json.loads((tmp_path / "out" / "report.json").read_text())
    assert content["runs"][0]["benchmark"]["name"] == "set.csv"
    done = CliRunner().invoke(app, ["data", "set.csv"])
    assert done.exit_code == 0 and "found 3 prompts" in done.stderr


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["0.png", "1.png", "2.png"], "0.png"),
        (["1.png", "2.png", "3.png"], "1.png"),
        (["image_001.png", "image_002.png", "image_003.png"], "image_001.png"),
        (["1/a.png", "2/a.png", "3/a.png"], "1/a.png"),
        (["1_0.png", "2_0.png", "3_0.png"], "1_0.png"),
        (["two dogs.png", "A_Red_Car.png", "cafe-at-night.png", "a-café-at-night_2.png"], None),
    ],
)
def test_prompts_without_ids_are_found_by_number_from_0_or_1_or_by_text(tmp_path, names, first):
    file = tmp_path / "set.txt"
    file.write_text("\n".join(TEXTS), "utf-8")
    _, images = matched(file, images_in(tmp_path / "mine", *names))
    assert images[0] == [f"mine/{first or 'A_Red_Car.png'}"]
    if first:
        assert [len(of_prompt) for of_prompt in images] == [1, 1, 1]


def test_numbers_start_at_one_only_where_no_folder_has_a_zero(tmp_path):
    file = tmp_path / "set.txt"
    file.write_text("\n".join(TEXTS), "utf-8")
    whole = images_in(tmp_path / "whole", "0.png", "1.png", "2.png")
    part = images_in(tmp_path / "part", "1.png", "2.png", "3.png")
    with pytest.raises(BenchmarkDataError, match="part .* seem to start at 1, as there is 3"):
        matched(file, whole, part, on_missing="skip")
    part.joinpath("3.png").unlink()
    _, images = matched(file, whole, part, on_missing="skip")
    assert images[1] == ["whole/1.png", "part/1.png"], "the same numbers are the same prompts"


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (["img1", "img2", "img0"], ["img1.png", "img2.png", "img0.png"]),
        (["a", "a_1", "A-1"], ["a.png", "a_1.png", "A-1.png"]),
        (["12", "7", "003"], ["00012.png", "7_1.png", "3.png"]),
        (
            ["animals/cat", "animals/dog", "cat"],
            ["animals/cat.png", "animals/dog/0.png", "cat.png"],
        ),
        (["動物", "🐱", "naïve"], ["動物.png", "🐱_0.png", "nai\u0308ve.png"]),
        ([3.0, 1.0, 2.0], ["3.png", "1.png", "2.png"]),
        (["x y", "x/y z", "ü"], ["x_y_2.png", "x_y_z.png", "Ü.png"]),
    ],
)
def test_images_are_found_by_ids_of_any_kind(tmp_path, ids, names):
    rows = [{"prompt": text, "id": name} for text, name in zip(TEXTS, ids, strict=True)]
    file = tmp_path / "set.json"
    file.write_text(json.dumps(rows))
    _, images = matched(file, images_in(tmp_path / "mine", *names))
    assert images == [[f"mine/{name}"] for name in names]


def test_a_name_that_stands_for_two_ids_is_an_error(tmp_path):
    rows = [{"prompt": text, "id": name} for text, name in zip(TEXTS[:2], "!a ?a".split())]  # noqa: B905
    file = write(tmp_path / "set.csv", rows)
    with pytest.raises(BenchmarkDataError, match="may be of 'a red car'"):
        matched(file, images_in(tmp_path / "mine", "a.png"))


def test_a_prompt_that_occurs_twice_shares_images_that_are_named_by_it(tmp_path):
    file = tmp_path / "set.txt"
    file.write_text("a cat\na dog\na cat\n")
    with pytest.warns(T2VWarning, match=rf"{file}: 1 of 3 items occur twice"):
        _, images = matched(file, images_in(tmp_path / "mine", "a cat.png", "a dog.png"))
    assert images == [["mine/a cat.png"], ["mine/a dog.png"], ["mine/a cat.png"]]
    _, images = matched(file, images_in(tmp_path / "other", "0.png", "1.png", "2.png"))
    assert images == [["other/0.png"], ["other/1.png"], ["other/2.png"]]


def test_parts_of_the_prompts_and_of_the_images(tmp_path):
    file = write(tmp_path / "set.csv")
    folder = images_in(tmp_path / "mine", "p-0.png", "p-1.png", "notes.png")
    with pytest.raises(BenchmarkDataError, match="1 of 3 prompts have no image .*p-2"):
        matched(file, folder)
    assert matched(file, folder, subset="colour")[1] == [["mine/p-0.png"]]
    benchmark, images = matched(file, folder, on_missing="skip")
    assert len(images) == 2 and benchmark.selection.left_out == {"p-2": TEXTS[2]}
    assert benchmark.selection.folders[0].ignored == {"of no prompt of the set": 1}


@pytest.mark.parametrize(
    ("header", "options", "kind"),
    [
        ("prompt", {}, OwnPrompts),
        ("prompt,human", {}, OwnPrompts),
        ("Prompts,id", {"columns": {"prompt": "Prompts"}}, OwnPrompts),
        ("image,prompt", {"columns": {"prompt": "prompt"}}, OwnPrompts),
        ("image,text,human", {}, OwnTable),
        ("image,prompt,human", {}, OwnTable),
        ("images,texts,human", {}, OwnTable),
        ("file,prompt,score", {"columns": {"image": "file"}}, OwnTable),
    ],
)
def test_columns_decide_what_a_file_holds(tmp_path, header, options, kind):
    file = tmp_path / "file.csv"
    file.write_text(f"{header}\n{','.join('1' for _ in header.split(','))}\n")
    assert type(open_benchmark(str(file), **options)) is kind


@pytest.mark.parametrize("column", ["text", "caption", "Prompt", "Prompts", "Captions"])
def test_a_column_of_another_name_is_proposed(tmp_path, column):
    file = write(tmp_path / "set.csv", [{column: text, "n": 1} for text in TEXTS])
    folder = images_in(tmp_path / "mine", "0.png", "1.png", "2.png")
    with pytest.raises(TableError, match=rf"neither.*`columns={{'prompt': '{column}'}}`"):
        open_benchmark(str(file), images=[folder])
    _, images = matched(file, folder, columns={"prompt": column})
    assert images == [["mine/0.png"], ["mine/1.png"], ["mine/2.png"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,id\na,1\nb,1\n", "row 2: the id '1' is that of row 1 too"),
        ("prompt,id\na,1\n ,2\n", "row 2: 'prompt' is empty"),
        ("prompt,id\na,1,3\n", r"row 1 \(line 2\) has 3 values"),
        ("prompt\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_a_row_that_is_no_prompt_is_named(tmp_path, content, message):
    file = tmp_path / "set.csv"
    file.write_text(content)
    folder = images_in(tmp_path / "mine", "1.png")
    with pytest.raises(TableError, match=message):
        open_benchmark(str(file), images=[folder]).items()


def test_rows_that_are_no_prompts_may_be_left_out(tmp_path):
    file = tmp_path / "set.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": 5}\n{"prompt": "c"}\nnot json\n')
    folder = images_in(tmp_path / "mine", "0.png", "1.png", "2.png", "3.png")
    with pytest.warns(T2VWarning, match="2 of 4 rows cannot be used.*'prompt' is int, not a text"):
        benchmark = open_benchmark(str(file), images=[folder], on_error="skip")
        items = benchmark.items()
    assert [(item.id, item.images[0][-5:]) for item in items] == [("0", "0.png"), ("2", "2.png")]


def test_images_and_prompts_go_together(tmp_path):
    prompts, judged = tmp_path / "set.csv", tmp_path / "judged.csv"
    prompts.write_text("prompt\na\n")
    judged.write_text("image,text,human\na.png,a,1\n")
    with pytest.raises(BenchmarkDataError, match=r"set of 1 prompts: .*`images=`"):
        open_benchmark(str(prompts)).items()
    with pytest.raises(InputError, match=r"column of images \('image'\).*leave `images=` out"):
        open_benchmark(str(judged), images=[tmp_path])
    with pytest.raises(InputError, match="no column is called 'human' here: use prompt, id, tags"):
        open_benchmark(str(prompts), columns={"human": "a", "prompt": "prompt"})


def test_a_text_file_is_no_table_of_judgements():
    assert benchmarks.card("own.txt").args == {"file": "own.txt"}
    with pytest.raises(TableError, match="no such file"):
        open_benchmark("nowhere.txt", images=["a"]).items()
