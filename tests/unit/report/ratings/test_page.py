"""The page of ratings: its content, hostile names, and a browser that shows it."""

import html
import itertools
import re

import numpy as np
import pytest
from helpers.browser import SHOTS, pytestmark  # noqa: F401

from t2v_eval import Battle, ratings_from_battles
from t2v_eval.report.ratings.page import claim, render_ratings, write_ratings

HOSTILE = "</style><script>alert(1)</script>\u202e\x1b{{ 7 * 7 }}"


def battles(names, n=300, judges=("ann", "bo")):
    rng = np.random.default_rng(0)
    for k in range(n):
        i, j = rng.permutation(len(names))[:2]
        gap = (j - i) / 2 + rng.normal()
        winner = "model_a" if gap > 0.3 else "model_b" if gap < -0.3 else "tie"
        yield Battle(names[i], names[j], winner, f"p{k % 30}", judges[k % len(judges)])


@pytest.fixture(scope="module")
def ratings():
    return ratings_from_battles([*battles(["best", HOSTILE, "last"])], resamples=50)


def test_no_name_is_run_or_interpreted(ratings):
    page = render_ratings(ratings, ["rank", HOSTILE])
    assert page.count("<script") == 0 and "7 * 7" in page and "\u202e" not in page
    assert page.count("</style>") == 2, "that of the page and that of the chart"
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert all(target.startswith("#") for target in re.findall(r"\b(?:src|href)=\"([^\"]*)", page))


def test_figures_of_the_page_are_those_of_the_result(ratings):
    page = html.unescape(render_ratings(ratings))
    for figures in ratings.models.values():
        assert f"<b>{figures.bradley_terry.value:.0f}</b>" in page
        assert f"<b>{figures.win_rate.value:.3f}</b>" in page
    assert f"{ratings.win_rates[0, 1]:.2f}<small>{ratings.met[0, 1]:.0f}</small>" in page
    assert "over 30 prompts" in page and "ann" in page


def test_what_is_claimed():
    same = [("a", "b", "model_a"), ("a", "b", "model_b")] * 20
    unsure = ratings_from_battles([*same, ("a", "b", "model_a")], resamples=50)
    assert claim(unsure) == (
        "a has the highest rating; the battles do not rule out that b is as good."
    )
    one = ratings_from_battles([("a", "b", "model_a")], prior="normal", resamples=5)
    assert "not rule out that b" in claim(one)
    rows = [(a, b, "tie") for a in "abcdef" for b in "abcdef" if a != b]
    assert "b, c, d and 2 more is as good" in claim(ratings_from_battles(rows, resamples=5))


def test_many_models(tmp_path):
    names = [f"model {k} with a name that is longer than a chart has room for" for k in range(70)]
    ratings = ratings_from_battles(
        [(a, b, "tie") for a, b in itertools.pairwise([*names, names[0]])], resamples=5
    )
    page = write_ratings(ratings, tmp_path / "new").read_text()
    assert 'id="pairs"' not in page, "4,900 cells are no table to read"


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_a_browser_shows_it(ratings, tmp_path, visit, width, scheme):
    page = visit(write_ratings(ratings, tmp_path), {"width": width, "height": 900}, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("table.figures tbody tr").first.locator("th").inner_text() == "best"
    assert page.locator("svg.chart").count() == 1
    page.screenshot(path=SHOTS / f"ratings-{width}.png", full_page=True)
