"""GenEval's checks on given boxes against the answers of its own code."""

import pytest
from helpers.question_goldens import numbered

from t2v_eval.errors import InputError
from t2v_eval.stats.detection_rules import (
    check_objects,
    intersection_over_union,
    relative_position,
    select_boxes,
)


@pytest.mark.parametrize("case", **numbered("geneval"))
def test_an_image_is_judged_as_by_its_code(case):
    metadata = case["input"]["metadata"]
    colours = {tuple(box): colour for box, colour in case["input"]["colors"]}
    boxes = select_boxes(case["input"]["detections"], metadata["tag"])
    outcome = check_objects(boxes, metadata, lambda _, box: colours[tuple(box[:4])])
    assert outcome.correct == case["result"]["correct"]
    assert len(outcome.reasons) == case["result"]["reasons"]


@pytest.mark.parametrize("case", **numbered("geneval_geometry"))
def test_positions_and_overlaps_are_those_of_its_code(case):
    a, b = case["input"]["a"], case["input"]["b"]
    assert sorted(relative_position(a, b)) == sorted(case["result"]["relations"])
    assert intersection_over_union(a, b) == pytest.approx(case["result"]["iou"], abs=1e-9)


def test_at_most_sixteen_boxes_count():
    boxes = {"dog": [[0, 0, 9, 9, 0.31 + 0.01 * n] for n in range(20)]}
    selected = select_boxes(boxes, "single_object")["dog"]
    assert [box[4] for box in selected] == sorted((box[4] for box in boxes["dog"]), reverse=True)[
        :16
    ]


def test_clauses_that_cannot_be_checked_are_errors():
    boxes = {"dog": [[0, 0, 9, 9, 0.8]]}
    with pytest.raises(InputError, match="colour_of"):
        check_objects(boxes, {"include": [{"class": "dog", "count": 1, "color": "red"}]})
    clause = {"class": "dog", "count": 1, "position": ["above", 0]}
    with pytest.raises(InputError, match="a later one"):
        check_objects(boxes, {"include": [clause]})


@pytest.mark.parametrize(("tag", "minimum"), [("colors", 0.3), ("counting", 0.9)])
def test_boxes_must_be_more_confident_than_the_threshold(tag, minimum):
    boxes = {"dog": [[0, 0, 9, 9, minimum], [0, 0, 9, 9, minimum + 1e-9]]}
    assert select_boxes(boxes, tag) == {"dog": boxes["dog"][1:]}
