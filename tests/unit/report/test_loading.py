"""Reports are rebuilt from their folder, and what is not in it is named."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import HOSTILE, Toys, named_toys  # noqa: F401
from PIL import Image

from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.report.report import Report, compare

FIXTURES = Path(__file__).parents[2] / "fixtures"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    report = compare(["toy-oracle", "toy-guesser"], [Toys(broken=1)], resamples=50, on_error="skip")
    folder = tmp_path_factory.mktemp("report")
    report.write(folder)
    return report, folder


def test_a_loaded_report_says_what_the_written_one_says(written):
    report, folder = written
    for path in (folder, folder / "report.json", str(folder)):
        loaded = Report.load(path)
        assert loaded.to_json() == report.to_json()
        assert loaded.labels == report.labels
        assert str(list(loaded.rows())) == str(list(report.rows())), "as text, since NaN is not NaN"
        assert str(list(loaded.figures())) == str(list(report.figures()))
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["text"] for row in csv.DictReader(stream)] == [
            row["text"] for row in loaded.rows()
        ]


def test_loaded_runs_have_items_scores_failures_and_samples(written):
    report, folder = written
    for run, loaded in zip(report.runs, Report.load(folder).runs, strict=True):
        assert (loaded.scorer, loaded.counts, loaded.errors) == (
            run.scorer,
            run.counts,
            run.errors,
        )
        assert str(loaded.benchmark) == str(run.benchmark)
        assert loaded.failures == run.failures != {}
        for a, b in zip(loaded.items, run.items, strict=True):
            assert (a.texts, a.tags, a.id, a.group) == (b.texts, b.tags, b.id, b.group)
            assert len(a.images) == len(b.images)
        for a, b in zip(loaded.scores, run.scores, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == np.float32
        before, after = run.bootstrap[""], loaded.bootstrap[""]
        assert (after.n, after.seed, after.resamples) == (12, 0, 50)
        assert str(after.value) == str(before.value)
        for name, sample in before.resampled.items():
            np.testing.assert_array_equal(after.resampled[name], sample)
    assert HOSTILE in Report.load(folder).runs[0].items[0].tags


def test_differences_are_those_of_the_file(written):
    report, folder = written
    (before,), (after,) = report.differences, Report.load(folder).differences
    assert (after.metrics["right"], after.tests["even"]["right"], after.cells, after.used) == (
        before.metrics["right"],
        before.tests["even"]["right"],
        before.cells,
        before.used,
    )


@pytest.mark.filterwarnings("ignore:.*figures are not those of the whole benchmark")
def test_ratings_groups_and_generators_are_kept(tmp_path):
    rows = ["image,text,human,group"]
    for n in range(6):
        Image.new("RGB", (8, 8), (40 * n, 90, 30)).save(tmp_path / f"{n}.png")
        rows.append(f"{tmp_path}/{n}.png,text {n},{n % 4 + 0.5},{n // 2}")
    (tmp_path / "rated.csv").write_text("\n".join(rows))
    report = compare("toy-colours", str(tmp_path / "rated.csv"), resamples=9)
    report.write(tmp_path / "rated")
    (run,) = Report.load(tmp_path / "rated").runs
    assert list(Report.load(tmp_path / "rated").rows()) == list(report.rows())
    assert sorted(float(h[0, 0]) for h in run.human) == [0.5, 0.5, 1.5, 1.5, 2.5, 3.5]
    assert run.bootstrap[""].n == len({item.group or n for n, item in enumerate(run.items)})

    (tmp_path / "drawbench.csv").write_text("Prompts,Category\n=a;b,x\na dog,y\n")
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        for n in range(2):
            for k in range(1 + n):
                image = Image.new("RGB", (8, 8), (100 * n, 40 * k, 30 * len(name)))
                image.save(tmp_path / name / f"{n:05}_{k}.png")
    report = compare(
        "toy-colours",
        "drawbench",
        root=tmp_path,
        images=[tmp_path / "old", tmp_path / "new"],
        resamples=9,
    )
    for name, spreadsheet in (("plain", False), ("spreadsheet", True)):
        report.write(tmp_path / name, spreadsheet=spreadsheet)
        loaded = Report.load(tmp_path / name)
        assert [r["generator"] for r in loaded.rows()] == ["old", "new", "old", "old", "new", "new"]
        assert list(loaded.rows()) == list(report.rows())
        assert loaded.runs[0].contrasts == report.runs[0].contrasts == [("old", "new")]
        assert loaded.runs[0].tests == report.runs[0].tests
        assert loaded.runs[0].items[0].texts == ["=a;b"]


def test_a_report_of_version_1_is_loaded():
    loaded = Report.load(FIXTURES / "reports" / "version-1.json")
    assert loaded.runs and loaded.differences and list(loaded.figures())
    assert math.isfinite(loaded.runs[0].metrics["group"].value)
    with pytest.raises(UnsupportedError, match=r"scores\.csv is not in .*reports"):
        list(loaded.rows())


def test_what_is_not_in_the_folder_is_named(written, tmp_path):
    _, folder = written
    loaded = Report.load(folder)
    with pytest.raises(UnsupportedError, match=f"images are not in {folder}"):
        loaded.write(tmp_path)
    with pytest.raises(UnsupportedError, match="cannot be resampled or compared anew"):
        Report(loaded.runs).differences  # noqa: B018


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("report.json", None, "holds no report.json"),
        ("report.json", b"{", "is not JSON"),
        ("report.json", b'{"schema_version": 2, "runs": [{}], "differences": []}', "not a report"),
        ("scores.csv", b"benchmark,item,image,text_index\nToys,0,0,0\n", "row 1: KeyError"),
        ("scores.csv", b"item,image,text_index,score\na,0,x,\n", "row 1: ValueError"),
        ("samples.npz", b"no archive", "samples.npz cannot be read"),
    ],
)
def test_damaged_folders_are_refused(written, tmp_path, file, content, message):
    for part in written[1].iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        Report.load(tmp_path)


def test_files_of_different_runs_are_refused(written, tmp_path):
    _, folder = written
    other = compare("toy-oracle", [Toys(n=4)], resamples=5)
    other.write(tmp_path)
    for file, message in (("scores.csv", "of different runs"), ("samples.npz", "not of this")):
        own = (folder / file).read_bytes()
        (folder / file).write_bytes((tmp_path / file).read_bytes())
        try:
            with pytest.raises(InputError, match=message):
                Report.load(folder)
        finally:
            (folder / file).write_bytes(own)
    lines = (tmp_path / "scores.csv").read_text().splitlines(keepends=True)
    (tmp_path / "scores.csv").write_text("".join(lines[:2] + lines[3:]))
    with pytest.raises(InputError, match="lacks rows"):
        Report.load(tmp_path)
    with pytest.raises(InputError, match="no such folder or report.json"):
        Report.load(tmp_path / "none")


def test_samples_hold_no_code(written, tmp_path):
    for part in written[1].iterdir():
        (tmp_path / part.name).write_bytes(part.read_bytes())
    np.savez(
        tmp_path / "samples.npz", run0_metrics=np.array([print], dtype=object), allow_pickle=True
    )
    with pytest.raises(InputError, match="cannot be read"):
        Report.load(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    (tmp_path / "samples.npz").unlink()
    assert Report.load(tmp_path).to_json() == content, "older reports have no samples"
