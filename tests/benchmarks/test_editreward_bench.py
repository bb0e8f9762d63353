"""EditReward-Bench: pairs among two to four edits, and the accuracies of its README."""

from pathlib import Path

import numpy as np
import pyarrow
import pytest
from helpers.benchmarks.example import Example, duplicate_table_row, table_with
from helpers.benchmarks.expected_metrics import column
from helpers.benchmarks.small_files import jpeg
from helpers.judges import Reciting
from pyarrow import parquet

import t2v_eval
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import Edit, ImageGroup, open_media
from t2v_eval.scoring.generation import Written

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

TABLE = "data/train-00000-of-00001.parquet"
PAIRS = [  # id, dataset, comparison, ranking
    ("a_0", "2pair", "AvsB", "B>A"),
    ("b_0", "2pair", "AvsB", "A=B=Good"),
    ("c_0", "3pair", "AvsB", "A>B"),
    ("c_1", "3pair", "AvsC", "C>A"),
    ("c_2", "3pair", "BvsC", "C>B"),
]
HUMAN = [[0, 1], [0.5, 0.5], [1, 0], [0, 1], [0, 1]]


def write(root: Path) -> None:
    (root / "data").mkdir(parents=True)
    rows = [
        {
            "id": name,
            "dataset": dataset,
            "instruction": f"Change {name[0]}.",
            "source_image": {"bytes": jpeg(ord(name[0])), "path": None},
            "candidate_1": {"bytes": jpeg(2 * n), "path": None},
            "candidate_2": {"bytes": jpeg(2 * n + 1), "path": None},
            "comparison_type": compared,
            "ranking": ranking,
        }
        for n, (name, dataset, compared, ranking) in enumerate(PAIRS)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), root / TABLE)


def right_but_one_pair_of_three(*_):
    """Both 2pairs are right, the tie with equal scores; of the three pairs the last is wrong.

    Of the four pairs that people do not tie, three are right.
    """
    scores = [column(0, 1), column(1, 1), column(2, 1), column(1, 2), column(2, 1)]
    expected = {"preference": 4 / 5, "accuracy": 3 / 4}
    return scores, expected | {"individual_accuracy": 4 / 5, "group_accuracy": 2 / 3}


EXAMPLES = {
    "editreward-bench": Example(
        write=write,
        items=5,
        images=10,
        texts=5,
        tags={"2pair": 2, "3pair": 3},
        metric=right_but_one_pair_of_three,
        duplicate=duplicate_table_row(TABLE),
        duplicate_message="the id a_0, AvsB occurs twice",
        malformed=table_with(TABLE, "ranking", "C>A"),
        malformed_message=f"{TABLE}, row 1: 'ranking' is 'C>A' for 'AvsB'",
    )
}


def test_candidates_are_edits_of_one_source_with_peoples_choice(tmp_path):
    write(tmp_path)
    items = open_benchmark("editreward-bench", tmp_path).items()
    assert [item.labels["human"] for item in items] == HUMAN
    assert all(isinstance(image, Edit) for item in items for image in item.images)
    assert items[0].images[0].source is items[0].images[1].source
    groups = [item.group for item in items]
    assert len({*groups}) == 3 and groups[2] == groups[3] == groups[4]


@pytest.mark.parametrize("name", ["editscore", "firm-edit"])
def test_judges_of_edits_are_asked_about_both_candidates(name, tmp_path):
    """The judge prefers the candidate whose key is greater, by a grade that both images decide."""
    write(tmp_path)
    benchmark = open_benchmark("editreward-bench", tmp_path)

    class Keys(Reciting):
        def write_passes(self, images, prompts, writing):
            for n, media in enumerate(images):
                key = (media.images[-1] if isinstance(media, ImageGroup) else media).key
                grade = 1 + 4 * int(key[:8], 16) // 2**32
                yield [n], [[Written(f'{{"score": {[grade] * (1 + (name == "editscore"))}}}')]]

    judge = t2v_eval.load(name, vlm=Keys(lambda _: []), wording="ours")
    run = evaluate(judge, benchmark, resamples=5)
    right = 0
    for item, human in zip(benchmark.items(), HUMAN, strict=True):
        first, second = (int(open_media(e.result).key[:8], 16) for e in item.images)
        grades = [1 + 4 * key // 2**32 for key in (first, second)]
        right += (grades[0] > grades[1]) - (grades[0] < grades[1]) == np.sign(human[0] - human[1])
    assert run.metrics["individual_accuracy"].value == pytest.approx(right / 5)


def test_a_missing_score_leaves_its_group_out_and_groups_weigh_alike(tmp_path):
    write(tmp_path)
    benchmark = open_benchmark("editreward-bench", tmp_path)
    items = benchmark.items()
    scores = [column(0, 1), column(2, 1), column(2, 1), column(1, 2), column(1, 2)]
    metrics = benchmark.metrics(items, scores)
    # Of three groups, a and c are right; b is a tie with different scores.
    assert metrics["group_accuracy"] == pytest.approx(2 / 3)
    assert metrics["preference"] == pytest.approx((4 + 0.5) / 5)
    scores[3] = column(np.nan, 1)
    metrics = benchmark.metrics(items, scores)
    assert metrics["group_accuracy"] == pytest.approx(1 / 2)
    assert metrics["individual_accuracy"] == pytest.approx(3 / 4)
