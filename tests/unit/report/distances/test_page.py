"""The page of distances: content, files beside it, hostile names, and a browser that shows it."""

import csv
import html
import json
import re

import numpy as np
import pytest
from helpers.browser import SHOTS, pytestmark  # noqa: F401
from helpers.toy import draw_image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.cli.main import app
from t2v_eval.evaluation.distances.feature_set import FeatureSet
from t2v_eval.report.distances.page import render_distances, write_distances

HOSTILE = "</style><script>alert(1)</script>\u202e\x1b{{ 7 * 7 }}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos")
    for number in range(30):
        draw_image(number).save(path / f"{number}.png")
    return path


@pytest.fixture(scope="module")
def distances(folder):
    """Two generators, of which one has images that exist, with a hostile name."""
    rng = np.random.default_rng(0)
    names = tuple(f"{number}.png" for number in range(30))
    reference = FeatureSet("photos", rng.normal(size=(30, 3)), names=names, folder=folder)
    mine = FeatureSet(HOSTILE, rng.normal(size=(30, 3)), names=names, folder=folder)
    outside = FeatureSet(
        "named", rng.normal(size=(40, 3)) + 1, names=("../0.png", "/etc/hostname", *("x.png",) * 38)
    )
    metrics = ["fid", "kid", "precision"]
    return t2v_eval.distance(reference, [mine, outside], metrics, resamples=50, details=True)


def test_no_name_is_run_or_interpreted(distances):
    page = render_distances(distances, ["distance", HOSTILE])
    assert page.count("<script") == 0 and "7 * 7" in page and "\u202e" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    targets = re.findall(r"\b(?:src|href)=\"([^\"]*)", page)
    assert all(target.startswith(("#", "data:image/")) for target in targets)


def test_figures_curves_and_images_are_those_of_the_result(distances):
    page = html.unescape(render_distances(distances))
    for pair in distances.pairs:
        for value in pair.metrics.values():
            assert f"<b>{value.value:.3f}</b>".replace("-", "−") in page or abs(value.value) < 0.1
    assert page.count("<svg") == 1
    for text in ("fid-infinity", "unequal numbers", "Nearest to the reference", "photos (n = 30)"):
        assert text in page
    nearest = distances.pairs[0].details.nearest[0]
    assert nearest.image in page and f"distance {nearest.distance:.3f}" in page
    first, second = page.split('id="set-2"')
    assert first.count("data:image/") == 32, "16 images, each beside one of the reference"
    assert second.count("data:image/") == 16, "files outside of the folder are not shown"


def test_tables_and_json_are_beside_the_page(distances, tmp_path):
    page = write_distances(distances, tmp_path / "new")
    with (page.parent / "distances.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 8  # with fid-infinity
    kid = distances.pairs[1].metrics["kid"]
    row = next(r for r in rows if (r["images"], r["metric"]) == ("named", "kid"))
    assert [float(row[name]) for name in ("value", "low", "high")] == pytest.approx(list(kid))
    assert (row["reference"], row["n_reference"], row["n_images"]) == ("photos", "30", "40")
    content = json.loads((page.parent / "distances.json").read_text())
    assert content["pairs"][1]["metrics"]["kid"]["value"] == pytest.approx(kid.value)
    assert content["pairs"][0]["curves"]["kid"]["images"][-1] == 30
    assert len(content["pairs"][0]["farthest"]) == 8


def test_command_line_without_rows_of_the_reference(tmp_path):
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    np.savez(tmp_path / "mine.npz", features=rng.normal(size=(50, 3)))
    flags = ("--reference", tmp_path / "stats.npz", "--images", tmp_path / "mine.npz")
    command = ["distance", *flags, "--resamples", 20, "--out", tmp_path / "report"]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    page = html.unescape((tmp_path / "report" / "report.html").read_text())
    assert "Distances to" in page and "Nearest to the reference" not in page
    assert "Command: <code>t2v-eval distance" in page
    assert "stats.npz (n = unknown)" in page
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(app, [str(w) for w in (*command[:-1], tmp_path / "file")])
    assert done.exit_code != 0 and "fid" not in done.stdout, "known before anything is computed"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_browser_shows_it(distances, tmp_path, visit, width, scheme):
    page = visit(write_distances(distances, tmp_path), {"width": width, "height": 900}, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("svg.chart").count() == 1
    images = page.locator(".examples img")
    assert images.count() == 48
    assert images.first.evaluate("image => image.naturalWidth") > 0
    page.screenshot(path=SHOTS / f"distances-{width}.png", full_page=True)
