"""Scorers outside the library: a store keeps their scores where they say when these change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, ToyPair, draw_image

import t2v_eval
from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, ScoringError
from t2v_eval.registry import Registry, models
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.store import Store

REFUSED = r"its class .*does not say when its numbers change.*version = .*identity.*`store=None`"


def scorer(factor: float, **facts: object) -> type[Scorer]:
    """A class whose formula is edited between two calls of this."""

    def similarity(self, images, texts):
        return factor * super(subclass, self).similarity(images, texts)

    subclass = type(
        "Mine", (ToyEmbedding,), {"similarity": similarity, "__module__": "mine", **facts}
    )
    return subclass


def test_a_class_without_a_version_keeps_no_scores(tmp_path):
    path = tmp_path / "s.db"
    for store in (path, str(path), Store(tmp_path / "open.db")):
        with pytest.raises(InputError, match=REFUSED):
            scorer(1)(device="cpu", store=store)
    assert not path.exists()
    alone = scorer(1)(device="cpu")
    with pytest.raises(InputError, match=REFUSED):
        alone.store = path
    assert alone(draw_image(0), "a cat").isfinite().all(), "and without a store it scores"
    for empty in ("", None):
        with pytest.raises(InputError, match=REFUSED):
            scorer(1, version=empty)(device="cpu", store=path)


def test_a_base_that_names_a_version_does_not_speak_for_what_is_derived(tmp_path):
    base = scorer(1, version="1")
    assert base(device="cpu", store=tmp_path / "s.db").id.count("version=") == 1
    derived = type("Derived", (base,), {"__module__": "mine"})
    with pytest.raises(InputError, match=REFUSED):
        derived(device="cpu", store=tmp_path / "s.db")


def test_another_version_is_another_id(tmp_path):
    old = scorer(1, version="1")(device="cpu", store=tmp_path / "s.db")
    score = old(draw_image(0), "a cat")
    new = scorer(2, version="2")(device="cpu", store=tmp_path / "s.db")
    torch.testing.assert_close(new(draw_image(0), "a cat"), 2 * score)
    assert "version=1" in old.id and "version=2" in new.id
    assert "version=7" in scorer(1, version=7)(device="cpu").id


def test_a_new_version_of_a_base_is_another_id():
    ids = []
    for version in "12":
        base = scorer(1, version=version)
        ids.append(type("Derived", (base,), {"version": "1", "__module__": "mine"})().id)
    assert ids[0] != ids[1]


def test_an_identity_of_its_own_is_enough(tmp_path):
    def of(formula: str):
        return lambda self: {"formula": formula}

    score = scorer(1, identity=of("x"))(device="cpu", store=tmp_path / "s.db")(draw_image(0), "cat")
    again = scorer(3, identity=of("3 x"))(device="cpu", store=tmp_path / "s.db")
    torch.testing.assert_close(again(draw_image(0), "cat"), 3 * score)


BAD_IDENTITIES = {
    "a list": (["weights"], "not a dict of texts"),
    "nothing": (None, "not a dict of texts"),
    "a number as key": ({1: "x"}, "not a dict of texts"),
    "an object": ({"net": object()}, "'net': <object .*, which JSON cannot hold"),
    "NaN": ({"scale": float("nan")}, "'scale': nan, which JSON cannot hold"),
    "a set": ({"layers": {1, 2}}, "JSON cannot hold"),
    "half a character": ({"label": "\ud83d"}, "'label'.*lone surrogate"),
    "half a character as key": ({"\udcff": "x"}, "lone surrogate"),
    "deep inside": ({"a": {"b": ["\ud83d"]}}, "lone surrogate"),
}


@pytest.mark.parametrize("case", BAD_IDENTITIES)
def test_an_identity_that_cannot_be_an_id_is_refused(case, tmp_path):
    facts, reason = BAD_IDENTITIES[case]
    own = scorer(1, identity=lambda self: facts)
    with pytest.raises(InputError, match=f"identity\\(\\) of its class Mine .*{reason}"):
        own(device="cpu", store=tmp_path / "s.db")(draw_image(0), "a cat")
    assert own(device="cpu")(draw_image(0), "a cat").isfinite().all(), "and without a store scores"


def test_an_empty_identity_keeps_no_scores(tmp_path):
    """Its id would be the name alone, so that scores of any weights would be given out."""
    own = scorer(1, identity=lambda self: {})(device="cpu", store=tmp_path / "s.db")
    with pytest.raises(InputError, match="is empty, so scores of other weights.*`store=None`"):
        own(draw_image(0), "a cat")
    assert scorer(1, identity={})(device="cpu")(draw_image(0), "a cat").isfinite().all()


@pytest.mark.parametrize("version", ["\ud83d", {}, b"1", float("nan"), True, np.zeros(2), object()])
def test_a_version_is_a_text_or_a_number(version, tmp_path):
    with pytest.raises(InputError, match="the version of its class Mine is .*version = "):
        scorer(1, version=version)(device="cpu", store=tmp_path / "s.db")
    for valid in (0, 1, 1.5, "2026-01"):
        own = scorer(1, version=valid)(device="cpu", store=tmp_path / "s.db")
        assert own(draw_image(0), "a cat").isfinite().all() and f"version={valid}" in own.id


def test_a_name_of_any_bytes_is_an_id(tmp_path):
    """A family's name may hold a path, whose bytes need not be UTF-8."""
    card = ModelCard("mine:\udcff", "Mine", "mine")
    own = scorer(1, version="1")(device="cpu", store=tmp_path / "s.db", card=card)
    assert own(draw_image(0), "a cat").isfinite().all()
    assert own.id.startswith(r"mine:\udcff ")


def test_registered_classes_and_embeddings_too(tmp_path, monkeypatch):
    registry = Registry("model", "t2v_eval.backends", ModelCard)
    registry.register("mine")(scorer(1))
    monkeypatch.setattr("t2v_eval.api.models", registry)
    with pytest.raises(InputError, match=f"'mine' has a store.*{REFUSED[-10:]}"):
        t2v_eval.load("mine", device="cpu", store=tmp_path / "s.db")


def test_ids_of_this_library_name_no_such_version():
    names = [card.name for card in models.cards.values() if card.demo]
    assert names
    for name in names:
        assert " version=" not in models.create(name, device="cpu").id
    assert ToyPair(device="cpu").id.count(" version=1 ") == 1


CHUNKS = {
    "an index beyond": (np.arange(1, 5), torch.ones(4)),
    "an index from the end": (-1 - np.arange(4), torch.ones(4)),
    "too many values": (np.arange(4), torch.ones(5)),
    "a column": (np.arange(4), torch.ones(4, 1)),
    "a cell twice": (np.array([0, 0, 1, 2]), torch.ones(4)),
    "no tensor": (np.arange(4), np.ones(4)),
    "complex": (np.arange(4), torch.ones(4, dtype=torch.complex64)),
}


@pytest.mark.parametrize("case", CHUNKS)
def test_a_chunk_that_is_none_of_these_cells_is_no_score(case):
    class Own(t2v_eval.Scorer):
        def score_cells(self, images, texts, cells):
            yield ScoreChunk(*CHUNKS[case])

    for on_error in ("raise", "skip"):
        with pytest.raises(InputError, match="score_cells"):
            Own(on_error=on_error)([draw_image(1), draw_image(2)], ["a", "b"])


def test_a_cell_of_which_nothing_is_yielded_has_failed():
    class Own(t2v_eval.Scorer):
        def score_cells(self, images, texts, cells):
            yield ScoreChunk(np.arange(3), torch.ones(3))

    with pytest.raises(ScoringError, match="score_cells yields no score of it"):
        Own()([draw_image(1), draw_image(2)], ["a", "b"])
    scores = Own(on_error="skip")([draw_image(1), draw_image(2)], ["a", "b"])
    assert scores.isnan().tolist() == [[False, False], [False, True]]
