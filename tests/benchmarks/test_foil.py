"""FOIL: captions with one wrong word, with one reference or four."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.example import Example, duplicate_json_row, json_with
from helpers.benchmarks.expected_metrics import row, true_but_the_first
from helpers.benchmarks.small_files import draw, write_json
from helpers.toy import ToyEmbedding, expected
from PIL import Image

from t2v_eval.errors import BenchmarkDataError
from t2v_eval.evaluation.run import evaluate
from t2v_eval.registry import benchmarks

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")

ROWS = [  # id, foil_id, image, caption, whether it is a foil; the file mixes them
    (7, 0, 42200, "A dog on a  bed.", False),
    (7, 1, 42200, "A cat on a bed.", True),
    (9, 2, 74, "A red bus.", False),
    (9, 4, 74, "A red truck.", True),
    (9, 3, 74, "A red car.", True),
    (12, 5, 74, "A bus stop.", False),
]


def write(root: Path) -> None:
    rows = [
        {"id": i, "foil_id": f, "image_id": image, "caption": caption, "foil": wrong}
        | {"target_word": "a" if wrong else "ORIG", "foil_word": "b" if wrong else "ORIG"}
        for i, f, image, caption, wrong in ROWS
    ]
    images = [{"id": i, "file_name": f"COCO_val2014_{i:012}.jpg"} for i in (42200, 74)]
    write_json(root / "foilv1.0_test_2017.json", {"images": images, "annotations": rows})
    captions = [
        {"image_id": image, "id": 10 * image + n, "caption": caption}
        for image, own in ((42200, "A dog on a bed."), (74, "A red bus."))
        for n, caption in enumerate([own, *(f"Caption {k} of {image} ." for k in range(4))])
    ]
    write_json(root / "captions_val2014.json", {"annotations": captions})
    for seed, image in enumerate((42200, 74)):
        draw(root / "val2014" / f"COCO_val2014_{image:012}.jpg", seed)


FOIL = Example(
    write=write,
    items=3,
    images=3,
    texts=6,
    tags={},
    metric=true_but_the_first(),
    duplicate=duplicate_json_row("foilv1.0_test_2017.json", "annotations"),
    duplicate_message="row 7: the id 7 has two true captions",
    malformed=json_with(
        "foilv1.0_test_2017.json", lambda c: c["annotations"][3].update(image_id="74")
    ),
    malformed_message="foilv1.0_test_2017.json, row 4: 'image_id' is '74', not int",
)

EXAMPLES = {"foil-1-ref": FOIL, "foil-4-ref": FOIL}


def test_foil(tmp_path):
    write(tmp_path)
    benchmark = benchmarks.create("foil-4-ref", root=tmp_path)
    items = benchmark.items()
    # The true caption of 12 has no foil, the one of 9 has two.
    assert [item.id for item in items] == ["7/1", "9/4", "9/3"]
    assert items[0].texts == ["A dog on a bed.", "A cat on a bed."]
    assert items[0].images[0].endswith("val2014/COCO_val2014_000000042200.jpg")
    assert items[1].references == [[f"Caption {k} of 74 ." for k in range(4)]]
    entry = benchmarks.create("foil-1-ref", root=tmp_path).items()
    assert [item.references for item in entry][1:] == [[["Caption 0 of 74 ."]]] * 2
    scores = [row(2, 1), row(1, 1), row(3, 1)]
    assert benchmark.metrics(items, scores) == {"accuracy": pytest.approx(2 / 3)}


def test_scorers_with_and_without_references_run_on_foil(tmp_path):
    write(tmp_path)
    run = evaluate(ToyEmbedding(), benchmarks.create("foil-1-ref", root=tmp_path), resamples=5)
    reference = []
    for item in run.items:
        true, wrong = (expected(Image.open(item.images[0]), text) for text in item.texts)
        reference.append(true > wrong)
    assert run.metrics["accuracy"].value == pytest.approx(np.mean(reference))


@pytest.mark.parametrize(
    ("file", "row", "change", "message"),
    [
        ("foilv1.0_test_2017", 0, {"id": 9}, "row 3: the id 9 has two true captions"),
        ("foilv1.0_test_2017", 0, {"id": 8}, "row 2: there is no true caption of the i"),
        ("foilv1.0_test_2017", 0, {"foil": "no"}, "row 1: 'foil' is 'no', not bool"),
        ("captions_val2014", 1, {"image_id": 5}, "has 4 other|has 3 other"),
        ("captions_val2014", 0, {"caption": ""}, "row 1: 'caption' is empty"),
    ],
)
def test_foil_malformed(tmp_path, file, row, change, message):
    write(tmp_path)
    json_with(f"{file}.json", lambda c: c["annotations"][row].update(change))(tmp_path)
    with pytest.raises(BenchmarkDataError, match=message):
        benchmarks.create("foil-4-ref", root=tmp_path).items()
