"""Features of images that are cached between calls."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from helpers.toy import ToyPair, draw_image

from t2v_eval.local.state_cache import TensorCache, tensors, without_rest_of_batch

TEXTS = ["cat", "the tall lighthouse stands next to the calm river " * 2, "two dogs", ""]


def test_pair_scorers_keep_what_they_made_of_images():
    images = [draw_image(n) for n in range(5)]
    scorer, forgetful = ToyPair(device="cpu"), ToyPair(device="cpu", keep_bytes=0)
    for text in TEXTS:
        torch.testing.assert_close(scorer(images, text), forgetful(images, text))
    scorer([*images, draw_image(9)], TEXTS)
    assert scorer.image_calls == [5, 1]
    assert forgetful.image_calls == [5] * 4
    bound = scorer.with_template(template="plain")
    bound(images, TEXTS)
    assert bound.image_calls == [5, 1]


@dataclass
class State:
    row: dict
    made: object


def test_kept_values_are_those_used_last():
    cache = TensorCache(lambda: 100)
    for n in range(4):
        cache.put(f"{n}", torch.zeros(8))  # 32 bytes
    assert cache.get("0") is None and len(cache) == 3 and cache.bytes == 96
    assert cache.get("1") is not None
    cache.put("4", torch.zeros(16))
    assert [key for key in "01234" if cache.get(key) is not None] == ["1", "4"]
    cache.put("5", torch.zeros(99))
    assert cache.get("5") is None and len(cache) == 2
    cache.put("4", torch.zeros(4))
    assert cache.bytes == 48
    assert cache.clear() and not cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_kept_values_do_not_hold_the_batch_they_came_from():
    batch = torch.arange(12.0).view(3, 4)
    state = State({"a": batch[1], "n": 3}, [(batch[2],), torch.ones(2)])
    result = without_rest_of_batch(state)
    assert sum(t.nbytes for t in tensors(state)) == 16 + 16 + 8
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in tensors(result))
    assert result.row["n"] == 3 and torch.equal(result.made[0][0], batch[2])
    assert without_rest_of_batch(result).made[1] is result.made[1]
