"""Benchmarks of a true text among false ones, with figures counted by hand."""

import numpy as np
import pytest
from published_layouts import sugarcrepe

from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


@pytest.fixture
def benchmark(tmp_path):
    sugarcrepe(tmp_path)
    return benchmarks.create("sugarcrepe", root=tmp_path)


def test_sugarcrepe(benchmark):
    items = benchmark.items()
    assert [item.id for item in items][:3] == ["add_att/0", "add_att/1", "add_obj/0"]
    assert items[0].texts == [
        "A drawing of a young woman with many facial piercings.",
        "A drawing of a tattooed young woman with many facial piercings.",
    ]
    assert items[0].images[0].endswith("val2017/000000085329.jpg")
    assert items[0].tags == ("add_att", "add") and items[-1].tags == ("swap_obj", "swap")
    tags = [tag for item in items for tag in item.tags]
    assert tags.count("replace") == 6 and tags.count("add") == tags.count("swap") == 4


def test_a_tie_is_wrong_and_parts_count_alike(benchmark):
    items = benchmark.items()
    scores = [np.array([[0.9, 0.1]], np.float32) for _ in items]
    scores[0] = np.array([[0.5, 0.5]], np.float32)
    scores[2] = np.array([[0.1, 0.5]], np.float32)
    assert benchmark.metrics(items, scores) == {
        "macro": pytest.approx(6 / 7),
        "accuracy": pytest.approx(12 / 14),
    }
    # Without three of the last part's and the one before's items, the parts still count alike.
    found = benchmark.statistic(items, scores)(np.array([0, 1, 2, 2, 3, 4, 5]))
    assert found["accuracy"] == pytest.approx(4 / 7)
    assert found["macro"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    scores[0][:] = np.nan
    assert benchmark.metrics(items, scores)["accuracy"] == pytest.approx(12 / 13)
    nothing = [np.full((1, 2), np.nan, np.float32)] * len(items)
    assert all(np.isnan(value) for value in benchmark.metrics(items, nothing).values())
