"""Scorers outside the library: a store keeps their scores where they say when these change."""

from __future__ import annotations

import pytest
import torch
from helpers.toy import ToyEmbedding, ToyPair, picture

import t2v_eval
from t2v_eval.errors import InputError
from t2v_eval.registry import ModelCard, Registry, models
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.store import Store

REFUSED = r"its class .*does not say when its numbers change.*version = .*identity.*--no-store"


def scorer(factor: float, **facts: object) -> type[Scorer]:
    """A class whose formula is edited between two calls of this."""

    def similarity(self, images, texts):
        return factor * super(made, self).similarity(images, texts)

    made = type("Mine", (ToyEmbedding,), {"similarity": similarity, "__module__": "mine", **facts})
    return made


def test_a_class_without_a_version_keeps_no_scores(tmp_path):
    path = tmp_path / "s.db"
    for given in (path, str(path), Store(tmp_path / "open.db")):
        with pytest.raises(InputError, match=REFUSED):
            scorer(1)(device="cpu", store=given)
    assert not path.exists()
    alone = scorer(1)(device="cpu")
    with pytest.raises(InputError, match=REFUSED):
        alone.store = path
    assert alone(picture(0), "a cat").isfinite().all(), "and without a store it scores"
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
    score = old(picture(0), "a cat")
    new = scorer(2, version="2")(device="cpu", store=tmp_path / "s.db")
    torch.testing.assert_close(new(picture(0), "a cat"), 2 * score)
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

    score = scorer(1, identity=of("x"))(device="cpu", store=tmp_path / "s.db")(picture(0), "cat")
    again = scorer(3, identity=of("3 x"))(device="cpu", store=tmp_path / "s.db")
    torch.testing.assert_close(again(picture(0), "cat"), 3 * score)


def test_registered_classes_and_embeddings_too(tmp_path, monkeypatch):
    registry = Registry("model", "t2v_eval.backends", ModelCard)
    registry.register("mine")(scorer(1))
    monkeypatch.setattr("t2v_eval.api.models", registry)
    with pytest.raises(InputError, match=f"'mine' is to keep its scores.*{REFUSED[-10:]}"):
        t2v_eval.load("mine", device="cpu", store=tmp_path / "s.db")


def test_ids_of_this_library_name_no_such_version():
    names = [card.name for card in models.cards.values() if card.demo]
    assert names
    for name in names:
        assert " version=" not in models.create(name, device="cpu").id
    assert ToyPair(device="cpu").id.count(" version=1 ") == 1
