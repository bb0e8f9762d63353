"""Parts of benchmarks, items without images, and cautions, in every form of a report."""

import json

import jsonschema
import numpy as np
import pytest
from helpers.benchmarks.examples import EXAMPLES, opened
from helpers.benchmarks.small_files import draw
from helpers.benchmarks.toy_benchmark import named_toys  # noqa: F401
from helpers.toy import ToyEmbedding, draw_image, expected
from helpers.toy_truncating import Short
from typer.testing import CliRunner

from t2v_eval.cards import ModelCard
from t2v_eval.cli import main as cli
from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, InputError, MediaError, T2VWarning
from t2v_eval.evaluation.run import evaluate
from t2v_eval.evaluation.selection import LeftOut
from t2v_eval.inputs.media import decode, open_media
from t2v_eval.registry import benchmarks, models
from t2v_eval.report import html
from t2v_eval.report.report import Report, compare
from t2v_eval.scoring.cautions import size_of

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

ROWS = [("a red cube", "counting"), ("two dogs", "counting"), ("a cat", "colors"), ("x", "other")]


def call(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def root(tmp_path):
    rows = [{"tag": tag, "include": [], "prompt": text} for text, tag in ROWS]
    (tmp_path / "set").mkdir()
    path = tmp_path / "set/evaluation_metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "set"


def folder(path, *numbers, seed=0):
    for n in numbers:
        draw(path / f"{n}.png", seed + n)
    return path


def mean(numbers, seed=0):
    return np.mean([expected(draw_image(seed + n), ROWS[n][0]) for n in numbers])


def test_a_part_needs_the_images_of_the_part_alone(root, tmp_path):
    mine = folder(tmp_path / "mine", 0, 1, 2)
    benchmark = benchmarks.create("geneval", root=root, images=mine)
    run = evaluate(ToyEmbedding(), benchmark, subset=["counting", "Colors"], resamples=5)
    assert run.metrics["score"].value == pytest.approx(mean([0, 1, 2]), abs=1e-6)
    assert run.benchmark.subset == ["counting", "Colors"]
    assert (run.benchmark.items, run.benchmark.items_of_all) == (3, 4)
    entry = evaluate(ToyEmbedding(), benchmark, subset="counting", resamples=5)
    assert entry.metrics["score"].value == pytest.approx(mean([0, 1]), abs=1e-6)
    with pytest.raises(InputError, match=r"no item of geneval has the tag 'count'.*counting \(2\)"):
        evaluate(ToyEmbedding(), benchmark, subset="count")
    created = benchmarks.create("geneval", root=root, images=mine, subset="colors")
    assert [item.texts for item in created.items()] == [["a cat"]]


def test_prompts_without_images(root, tmp_path):
    mine = folder(tmp_path / "mine", 0, 2)
    benchmark = benchmarks.create("geneval", root=root, images=mine)
    with pytest.raises(
        BenchmarkDataError, match="2 of 4 prompts .*two dogs.*`subset=.*`on_missing="
    ):
        evaluate(ToyEmbedding(), benchmark)
    run = evaluate(ToyEmbedding(), benchmark, on_missing="skip", resamples=5)
    assert run.metrics["score"].value == pytest.approx(mean([0, 2]), abs=1e-6)
    assert run.benchmark.left_out == LeftOut(2, {"1": "two dogs", "3": "x"})
    nothing = benchmarks.create("geneval", root=root, images=folder(tmp_path / "no", 77))
    with pytest.raises(BenchmarkDataError, match="4 of 4 prompts have no image"):
        evaluate(ToyEmbedding(), nothing, on_missing="skip")
    with pytest.raises(InputError, match="use 'raise' or 'skip'"):
        evaluate(ToyEmbedding(), benchmark, on_missing="ignore")


def test_two_folders_are_compared_on_the_prompts_that_both_have(root, tmp_path):
    folders = [folder(tmp_path / "mine", 0, 1, 2), folder(tmp_path / "theirs", 1, 2, 3, seed=9)]
    benchmark = benchmarks.create("geneval", root=root, images=folders, on_missing="skip")
    run = evaluate(ToyEmbedding(), benchmark, resamples=5)
    value = {name: item.value for name, item in run.metrics.items()}
    assert value["mine"] == pytest.approx(mean([0, 1, 2]), abs=1e-6)
    assert value["theirs"] == pytest.approx(mean([1, 2, 3], 9), abs=1e-6)
    assert value["mine - theirs"] == pytest.approx(mean([1, 2]) - mean([1, 2], 9), abs=1e-6)
    assert run.benchmark.left_out.items == 0 and run.benchmark.items == 4
    assert "mine - theirs is over the 2 prompts that both have" in run.benchmark.remarks[-1]


def test_equal_folders_are_equal_whatever_lies_in_one(root, tmp_path):
    for name in ("one", "other"):
        for n in range(4):
            for k in range(2):
                draw(tmp_path / name / f"{n:05}/samples/{k:05}.png", 2 * n + k)
    for n in range(4):
        draw(tmp_path / f"other/{n:05}/grid.png", 50 + n)
    draw(tmp_path / "other/00000/samples/._00000.png", 60)
    folders = [tmp_path / "one", tmp_path / "other"]
    (run,) = compare(
        [ToyEmbedding()], [benchmarks.create("geneval", root=root, images=folders)], resamples=5
    ).runs
    assert run.metrics["one - other"].value == 0 and run.tests[""]["one - other"].p == 1


def test_the_command_and_every_form_of_the_report(root, tmp_path):
    mine, out = folder(tmp_path / "mine", 0, 2), tmp_path / "out"
    draw(mine / "grid.png", 3)
    common = ["eval", "-m", "toy-colours", "-b", "geneval", "--root", root, "--images", mine]
    common += ["--no-store", "--out", out]
    error = call(*common, code=2).stderr
    assert "2 of 4 prompts" in error and "--on-missing skip" in error and "--subset" in error
    done = call(*common, "--on-missing", "skip")
    assert "geneval: 2 of 4 items are left out" in done.stderr
    content = json.loads((out / "report.json").read_text())
    schema = json.loads((html.files("t2v_eval.report") / "report.schema.json").read_text())
    jsonschema.validate(content, schema)
    facts = content["runs"][0]["benchmark"]
    assert facts["folders"] == [
        {
            "folder": "mine",
            "prompts": 2,
            "prompts_of_all": 4,
            "rules": {"by number": 2},
            "ignored": {"a grid": 1},
        }
    ]
    for output in (done.stdout, (out / "report.md").read_text(), (out / "report.html").read_text()):
        flat = " ".join(output.split())
        assert "2 of 4 items" in flat and "2 images by number" in flat
        assert "2 items are left out" in flat and "1 file ignored (a grid): grid.png" in flat
    done = call(*common, "--subset", "colors")
    for output in (done.stdout, (out / "report.md").read_text(), (out / "report.html").read_text()):
        assert "geneval (part: colors)" in output.replace("\\", "")
    assert "(3)" not in call(*common, "--subset", "nope", code=2).stderr


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_benchmark_can_leave_out_an_item(tmp_path, name):
    EXAMPLES[name].write(tmp_path)
    whole = opened(name, tmp_path)
    items = list(whole.items())
    named = [
        (n, image)
        for n, item in enumerate(items)
        for image in item.images
        if isinstance(image, str)
    ]
    tags = [tag for item in items for tag in item.tags]
    if tags:
        part = whole.selecting(subset=tags[0]).selected()
        assert [item.id for item in part] == [i.id for i in items if tags[0] in i.tags]
    if not named:
        return  # the images are in the tables
    missing = named[-1][1]
    (tmp_path / missing).unlink()
    lacking = {items[n].id for n, image in named if image == missing}
    if name in ("genai-bench-video-527", "t2vscore-alignment"):
        return  # a shorter video is one too, if its last frame is what is missing
    if len(lacking) == len(items):
        with pytest.raises(BenchmarkDataError, match="lacks an image|no image"):
            whole.selecting(on_missing="skip").selected()
        return
    remaining = whole.selecting(on_missing="skip")
    assert {item.id for item in remaining.selected()} == {item.id for item in items} - lacking
    assert set(remaining.selection.left_out) == lacking


def test_published_figures_are_of_the_whole(tmp_path):
    EXAMPLES["winoground"].write(tmp_path)
    benchmark = opened("winoground", tmp_path)
    names = {n for group in benchmark.card.published.values() for n in group if n != "source"}
    scorer = ToyEmbedding(card=ModelCard(min(names), "x", "x"))
    assert evaluate(scorer, benchmark, resamples=2).benchmark.published
    tag = benchmark.items()[0].tags[0]
    assert not evaluate(scorer, benchmark, resamples=2, subset=tag).benchmark.published


def test_a_table_of_one_s_own(tmp_path):
    for n in (0, 1, 3):
        draw(tmp_path / f"{n}.png", n)
    rows = [f"{n}.png,text {n},{n},{'odd' if n % 2 else 'even'}" for n in range(4)]
    (tmp_path / "judged.csv").write_text("\n".join(["image,text,human,tags", *rows]) + "\n")
    from t2v_eval.evaluation.options import open_benchmark

    table = open_benchmark(str(tmp_path / "judged.csv"))
    with pytest.raises(MediaError, match=r"row 3: .*2.png: no such file.*`on_missing='skip'`"):
        table.items()
    assert [item.id for item in table.selecting(subset="odd").selected()] == ["2", "4"]
    skipping = table.selecting(on_missing="skip")
    assert len(skipping.selected()) == 3 and list(skipping.selection.left_out) == ["3"]
    assert skipping.selection.total == 4


def sized(store=None):
    card = ModelCard("toy", "x", "x", expects_size=(8, 8), caution="it means nothing")
    return ToyEmbedding(card=card, store=store, device="cpu")


def test_a_caution_is_said_of_stored_scores_too(root, tmp_path):
    mine, store = folder(tmp_path / "mine", 0, 1, 2, 3), tmp_path / "store.sqlite"
    other = draw_image(0).size != (8, 8)
    assert other, "the toys are of another size"
    for reused in (0, 4, 4):
        benchmark = benchmarks.create("geneval", root=root, images=mine)
        with pytest.warns(T2VWarning, match="it means nothing"):
            run = evaluate(sized(store), benchmark, resamples=5)
        assert run.counts.reused == reused
        (caution,) = run.scorer.cautions
        assert caution.startswith("4 of 4 images are not of 8 x 8 pixels")
    page = Report([run]).write(tmp_path / "out")
    for output in (page.read_text(), (tmp_path / "out/report.md").read_text()):
        assert "it means nothing" in output


def test_texts_that_were_cut_are_counted_whoever_computed(root, tmp_path):
    mine, store = folder(tmp_path / "mine", 0, 1, 2, 3), tmp_path / "store.sqlite"
    later = folder(tmp_path / "later", 0, 1, 2, 3, seed=20)
    for images, reused in ((mine, 0), (mine, 4), (later, 0), (later, 4)):
        benchmark = benchmarks.create("geneval", root=root, images=images)
        with pytest.warns(T2VWarning, match="2 of 4 texts are longer"):  # a red cube, two dogs
            run = evaluate(Short(store=store, device="cpu"), benchmark, resamples=5)
        assert run.counts.reused == reused and run.scorer.truncated_texts == 2
        assert run.scorer.cautions[0].startswith("2 of 4 texts are longer")


@pytest.mark.parametrize("turn", range(1, 9))
def test_sizes_are_those_of_what_is_decoded(tmp_path, turn):
    image = draw_image(1, (12, 30))
    exif = image.getexif()
    exif[274] = turn
    image.save(tmp_path / "a.jpg", exif=exif)
    media = open_media(str(tmp_path / "a.jpg"))
    for mode in ("seen", "original"):
        assert size_of(media, mode) == decode(media, mode).size
    (tmp_path / "b.jpg").write_bytes(b"no image")
    assert size_of(open_media(str(tmp_path / "b.jpg"))) is None


def test_no_model_is_loaded_for_what_is_not_there(tmp_path, monkeypatch):
    class Loaded(ToyEmbedding):
        def __init__(self, **options):
            raise AssertionError("it was loaded")

    models.register("toy-loaded", kind="clip")(Loaded)
    draw(tmp_path / "images/a.png", 0)
    (tmp_path / "c.json").write_text('{"a": "x"}')
    m, missing = ("-m", "toy-loaded", "--no-store"), tmp_path / "gone"
    for command in (
        ("caption", f"{missing}.json", tmp_path / "images", *m),
        ("caption", tmp_path / "c.json", missing, *m),
        ("caption", tmp_path / "c.json", tmp_path / "images", "--references", missing, *m),
        ("score", missing, "-t", "x", *m),
        ("score", tmp_path / "images/a.png", *m),
        ("score", "--pairs", missing, *m),
        ("eval", "-b", "geneval", "--root", missing, "--images", tmp_path / "images", *m),
        ("eval", "-b", f"{missing}.csv", *m),
        ("prefer", missing, tmp_path / "images/a.png", "x", *m),
    ):
        error = call(*command, code=2).stderr
        assert "gone" in error or "--text" in error
    with pytest.raises(AssertionError, match="it was loaded"):
        call("caption", tmp_path / "c.json", tmp_path / "images", *m)
    assert cli.app is app
