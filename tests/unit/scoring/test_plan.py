"""The plan against a brute-force walk over the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.toy import draw_image
from hypothesis import given, settings
from hypothesis import strategies as st

from t2v_eval.errors import InputError, MediaError
from t2v_eval.scoring.plan import Block, Caption, Plan

IMAGES = [draw_image(seed) for seed in range(6)]
TEXTS = ["a", "b", "c", "d"]

blocks_of = st.lists(
    st.tuples(
        st.lists(st.integers(0, 5), min_size=1, max_size=4),
        st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=6,
)


def value(image: int, text: str) -> float:
    return image * 10 + TEXTS.index(text)


@given(blocks_of)
@settings(max_examples=60, deadline=None)
def test_folding_unique_cells_gives_every_block_back(shapes):
    plan = Plan.of([Block([IMAGES[i] for i in images], texts) for images, texts in shapes])
    number = {plan_image.key: n for n, plan_image in enumerate(plan.images)}
    keys = [Plan.of([Block([p], ["a"])]).images[0].key for p in IMAGES]
    of_row = {number[key]: i for i, key in enumerate(keys) if key in number}
    values = np.array([value(of_row[i], plan.texts[j]) for i, j in plan.cells], np.float32)
    for folded, (images, texts) in zip(plan.fold(values), shapes, strict=True):
        np.testing.assert_array_equal(folded, [[value(i, t) for t in texts] for i in images])
    expected = {(i, t) for images, texts in shapes for i in images for t in texts}
    assert len(plan.cells) == len(expected)
    assert (np.diff(plan.cells[:, 0]) >= 0).all()


def test_references_make_captions_of_their_own():
    plan = Plan.of([Block(IMAGES[:2], ["a"], [["x"], ["y", "z"]])])
    assert plan.texts == (Caption("a", ("x",)), Caption("a", ("y", "z")))
    assert plan.cells.tolist() == [[0, 0], [1, 1]]


def test_no_blocks_and_broken_images():
    with pytest.raises(InputError, match="nothing to score"):
        Plan.of([])
    with pytest.raises(MediaError, match=r"item 1, images\[0\] \(gone.png\)"):
        Plan.of([Block(IMAGES[:1], ["a"]), Block(["gone.png"], ["a"])])
    plan = Plan.of([Block(["gone.png"], ["a"])], skip_errors=True)
    with pytest.raises(MediaError, match="no such file"):
        plan.images[0].load()


def test_a_cell_is_located_wherever_it_occurs():
    first, second = draw_image(0), draw_image(1)
    plan = Plan.of([Block.of([first, second], ["a", "b"]), Block.of(second, ["b", "c", "b"])])
    shared = int(plan.grids[0][1, 1])
    alone = int(plan.grids[1][0, 1])
    assert plan.locate({shared: "no answer", alone: "refused"}) == {
        (0, 1, 1): "no answer",
        (1, 0, 0): "no answer",
        (1, 0, 2): "no answer",
        (1, 0, 1): "refused",
    }
    assert plan.locate({}) == {}
