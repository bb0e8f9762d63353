"""The hashes of data: equal for equal data, other for any change that matters."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.benchmarks.toy_benchmark import Knows, Toys
from helpers.toy import draw_image

from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.data_hash import items_sha256
from t2v_eval.evaluation.run import evaluate

ITEM = Item(["a.png"], ["a cat"], tags=("animal",), group="0")


@pytest.mark.parametrize(
    ("item", "ratings", "same"),
    [
        (ITEM, [[1.0]], True),
        (replace(ITEM, images=["b.png"]), [[1.0]], True),
        (replace(ITEM, texts=["a dog"]), [[1.0]], False),
        (replace(ITEM, tags=()), [[1.0]], False),
        (replace(ITEM, group="1"), [[1.0]], False),
        (replace(ITEM, references=[["a kitten"]]), [[1.0]], False),
        (ITEM, [[2.0]], False),
        (ITEM, [[np.nan]], False),
        (ITEM, None, False),
    ],
)
def test_the_hash_of_items_changes_with_what_metrics_depend_on(item, ratings, same):
    human = None if ratings is None else np.array(ratings)
    assert (items_sha256([item], [human]) == items_sha256([ITEM], [np.array([[1.0]])])) is same


def test_the_hash_of_items_sees_their_order_and_number():
    other = replace(ITEM, texts=["a dog"])
    hashes = {
        items_sha256(items, [None] * len(items))
        for items in ([ITEM], [ITEM, ITEM], [ITEM, other], [other, ITEM])
    }
    assert len(hashes) == 4


def test_runs_have_the_hash_of_their_images(tmp_path):
    class Drawn(Toys):
        """Items of one image, `first` and those after it."""

        first = 0

        def items(self):
            return [Item([draw_image(self.first + n)], ["0 left"], id=str(n)) for n in range(3)]

        def metrics(self, items, scores):
            return {"right": 1.0}

    class Later(Drawn):
        first = 1

    class Broken(Drawn):
        def items(self):
            return [*super().items(), Item([b""], ["0 left"])]

    runs = [evaluate(Knows(on_error="skip"), b(), resamples=2) for b in (Drawn, Drawn, Later)]
    assert runs[0].data == runs[1].data
    assert runs[0].data.sha256 == runs[2].data.sha256
    assert runs[0].data.files_sha256 != runs[2].data.files_sha256
    assert evaluate(Knows(on_error="skip"), Broken(), resamples=2).data.files_sha256 is None
