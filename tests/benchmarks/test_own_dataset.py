"""Data sets of Hugging Face's library as benchmarks: saved, as files, of images, from a hub."""

import io
import json

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import named_toys  # noqa: F401
from helpers.services.hub_server import hub  # noqa: F401
from helpers.toy import ToyEmbedding, draw_image
from typer.testing import CliRunner

datasets = pytest.importorskip("datasets")

from t2v_eval.cli.main import app  # noqa: E402
from t2v_eval.errors import BenchmarkDataError, InputError, MediaError, TableError  # noqa: E402
from t2v_eval.evaluation.options import open_benchmark  # noqa: E402
from t2v_eval.evaluation.run import evaluate  # noqa: E402
from t2v_eval.inputs.media import open_media  # noqa: E402

HUMAN = [5, 3, 1, 2, 4]


@pytest.fixture(autouse=True)
def nothing_is_kept(tmp_path_factory, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()


@pytest.fixture
def folder(tmp_path):
    for n in range(5):
        draw_image(n).save(tmp_path / f"p{n}.png")
    return tmp_path


def png(seed):
    stream = io.BytesIO()
    draw_image(seed).save(stream, "PNG")
    return stream.getvalue()


def judged(folder, **more):
    """A data set whose images are of its type Image."""
    columns = {
        "image": [str(folder / f"p{n}.png") for n in range(5)],
        "text": [f"text {n // 2}" for n in range(5)],
        "human": HUMAN,
        "group": [n // 2 for n in range(5)],
        "tags": ["a;b", "a;b", "a", "a", ""],
        "other": [{"anything": n} for n in range(5)],
    }
    result = datasets.Dataset.from_dict(columns | more)
    return result.cast_column("image", datasets.Image()) if "image" not in more else result


def test_as_it_is_saved(folder):
    judged(folder).save_to_disk(folder / "saved")
    items = open_benchmark(f"dataset:{folder / 'saved'}").items()
    assert [item.id for item in items] == ["0", "1", "5"]
    assert [item.labels["human"] for item in items] == [[5, 3], [1, 2], [4]]
    assert [item.tags for item in items] == [("a", "b"), ("a",), ()]
    assert items[0].texts == ["text 0"] and items[2].texts == ["text 2"]
    run = evaluate(ToyEmbedding(), open_benchmark(f"dataset:{folder / 'saved'}"), resamples=5)
    assert run.counts.failed == 0 and run.counts.used == 5


def test_images_are_their_bytes(folder):
    result = judged(folder).map(lambda row: row, writer_batch_size=2)
    result.save_to_disk(folder / "saved")
    for n in range(5):
        (folder / f"p{n}.png").unlink()
    images = [
        entry
        for item in open_benchmark(f"dataset:{folder / 'saved'}").items()
        for entry in item.images
    ]
    assert [entry.key for entry in images] == [open_media(png(n)).key for n in range(5)]


def test_lists_of_images_and_names_of_classes(folder):
    result = datasets.Dataset.from_dict(
        {
            "images": [[str(folder / "p0.png"), str(folder / "p1.png")], [str(folder / "p2.png")]],
            "text": ["x", "y"],
            "human": [[1.0, 0.0], [1.0]],
            "tags": [1, 0],
        },
        features=datasets.Features(
            {
                "images": datasets.List(datasets.Image()),
                "text": datasets.Value("string"),
                "human": datasets.List(datasets.Value("float32")),
                "tags": datasets.ClassLabel(names=["few", "many"]),
            }
        ),
    )
    result.save_to_disk(folder / "saved")
    actual = open_benchmark(f"dataset:{folder / 'saved'}")
    item, other = actual.items()
    assert item.labels == {"human": [1, 0]} and len(item.images) == 2
    assert (item.tags, other.tags) == (("many",), ("few",))
    assert actual.metric_names[0] == "auroc", "labels of 0 and 1"


def test_splits_are_named(folder):
    parts = datasets.DatasetDict({"train": judged(folder), "test": judged(folder).select([0, 4])})
    parts.save_to_disk(folder / "saved")
    assert len(open_benchmark(f"dataset:{folder / 'saved'}@test").items()) == 2
    with pytest.raises(BenchmarkDataError, match="has the splits train, test: name one, as"):
        open_benchmark(f"dataset:{folder / 'saved'}").items()
    with pytest.raises(BenchmarkDataError, match="no split 'dev', but train, test"):
        open_benchmark(f"dataset:{folder / 'saved'}@dev").items()


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_folders_of_files(folder, suffix):
    result = datasets.Dataset.from_dict(
        {
            "image": [str(folder / f"p{n}.png") for n in range(5)],
            "text": ["x"] * 5,
            "human": HUMAN,
        }
    )
    (folder / "data").mkdir()
    write = {"csv": result.to_csv, "jsonl": result.to_json, "parquet": result.to_parquet}[suffix]
    write(folder / "data" / f"train.{suffix}")
    items = open_benchmark(f"dataset:{folder / 'data'}").items()
    assert [item.labels["human"] for item in items] == [[h] for h in HUMAN]


def test_a_folder_of_images_with_a_metadata_file(folder):
    rows = [{"file_name": f"p{n}.png", "text": "x", "human": h} for n, h in enumerate(HUMAN)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    actual = open_benchmark(f"dataset:{folder}")
    items = actual.items()
    assert [item.labels["human"] for item in items] == [[h] for h in HUMAN]
    scores = evaluate(ToyEmbedding(), actual, resamples=2).scores
    expected = ToyEmbedding()([str(folder / f"p{n}.png") for n in range(5)], ["x"])
    assert np.concatenate(scores).ravel() == pytest.approx(expected.numpy().ravel(), abs=1e-6)


def test_columns_of_other_names(folder):
    result = judged(folder, r1=[5, 3, 1, 2, None], r2=[4, 3, 2, 2, 5])
    result = result.rename_columns({"image": "jpg", "text": "prompt", "human": "unused"})
    result.save_to_disk(folder / "saved")
    columns = {"image": "jpg", "text": "prompt", "human": ["r1", "r2"], "group": "prompt"}
    items = open_benchmark(f"dataset:{folder / 'saved'}", columns=columns).items()
    assert [item.labels["human"] for item in items] == [[4.5, 3], [1.5, 2], [5]]
    with pytest.raises(TableError, match="no column 'image'; the columns are 'jpg', .*'other'"):
        open_benchmark(f"dataset:{folder / 'saved'}").items()
    with pytest.raises(TableError, match="no column 'r3'; the columns are 'jpg'"):
        open_benchmark(f"dataset:{folder / 'saved'}", columns={"human": "r3"}).items()
    with pytest.raises(InputError, match="no column is called 'score' here: use image"):
        open_benchmark(f"dataset:{folder / 'saved'}", columns={"score": "r1"})
    with pytest.raises(InputError, match="only 'human' may be several"):
        open_benchmark(f"dataset:{folder / 'saved'}", columns={"text": ["a", "b"]})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "nowhere is neither a folder nor a data set of the hub, ORG/NAME"),
        ("some/where/else/than", "is neither a folder nor a data set"),
    ],
)
def test_what_is_no_data_set(source, message):
    with pytest.raises(BenchmarkDataError, match=message):
        open_benchmark(f"dataset:{source}").items()


def test_what_cannot_be_read_is_said(folder):
    (folder / "empty").mkdir()
    with pytest.raises(BenchmarkDataError, match="empty cannot be read: .*"):
        open_benchmark(f"dataset:{folder / 'empty'}").items()
    judged(folder, image=["p9.png"] * 5).save_to_disk(folder / "paths")
    with pytest.raises(MediaError, match="row 1: .*p9.png: no such file"):
        open_benchmark(f"dataset:{folder / 'paths'}").items()


@pytest.fixture
def on_hub(hub, tmp_path_factory, monkeypatch):  # noqa: F811
    """The loopback hub for the library of data sets, too."""
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", hub.url)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    cache = str(tmp_path_factory.mktemp("hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
    return hub


def test_a_data_set_of_the_hub(on_hub, folder):
    stream = io.BytesIO()
    judged(folder, image=[{"bytes": png(n), "path": None} for n in range(5)]).to_parquet(stream)
    on_hub.files["someone/judged"] = {"test.parquet": stream.getvalue()}
    items = open_benchmark("dataset:someone/judged@test").items()
    assert [item.labels["human"] for item in items] == [[5, 3], [1, 2], [4]]
    images = [entry for item in items for entry in item.images]
    assert [entry.key for entry in images] == [open_media(png(n)).key for n in range(5)]
    assert [entry.name[-5:] for entry in images] == [f"row {n + 1}" for n in range(5)]


def test_a_data_set_that_is_not_there_or_gated(on_hub):
    with pytest.raises(BenchmarkDataError, match="someone/nothing cannot be read: .*"):
        open_benchmark("dataset:someone/nothing").items()
    on_hub.files["someone/gated"] = {"train.csv": b"image,text,human\na,b,1\n"}
    on_hub.gated.add("someone/gated")
    with pytest.raises(BenchmarkDataError, match="someone/gated cannot be read: .*gated"):
        open_benchmark("dataset:someone/gated").items()


def test_the_command(folder):
    judged(folder).rename_column("human", "rating").save_to_disk(folder / "saved")
    requests = ["eval", "-m", "toy-colours", "--no-store", "-b", f"dataset:{folder / 'saved'}"]
    result = CliRunner().invoke(app, [*requests, "--column", "human=rating"])
    assert result.exit_code == 0, result.output
    assert "3 items" in result.stdout and "acc23" in result.stdout
    assert CliRunner().invoke(app, requests).exit_code == 2
    wrong = CliRunner().invoke(app, [*requests, "--column", "rating"])
    assert wrong.exit_code == 2 and "write FIELD=COLUMN" in wrong.stderr
