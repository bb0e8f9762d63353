"""Scores by workers, of which some die, are those of one process, and none is computed twice.

The workers are in this process; `test_ray_workers.py` has processes of Ray.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.toy import draw_image, expected
from helpers.workers import LocalWorkers
from PIL import Image

import t2v_eval
from t2v_eval.api import ScorerOptions
from t2v_eval.cluster.pool import Pool
from t2v_eval.cluster.scorer import ClusterScorer
from t2v_eval.cluster.worker import Recipe, Worker
from t2v_eval.errors import (
    CheckpointError,
    InputError,
    MediaError,
    ScoringError,
    T2VWarning,
    UnsupportedError,
)
from t2v_eval.inputs.media import open_media
from t2v_eval.registry import models
from t2v_eval.scoring.merging import merge
from t2v_eval.scoring.plan import Block
from t2v_eval.store import Store

TEXTS = ["a cat", "two dogs", "a dog"]
MINE = """
from helpers.toy import ToyEmbedding
from helpers.toy_truncating import Short
from t2v_eval.errors import T2VWarning

class Toy(ToyEmbedding):
    version = "1"

    def preprocess(self, image):
        if image.width == 13:
            raise ValueError("13 pixels are unlucky")
        return super().preprocess(image)

class Asking(ToyEmbedding):
    version = "1"
    needs_questions = True

class Unversioned(ToyEmbedding):
    version = ""
"""


@pytest.fixture
def images(tmp_path):
    """Files of ten images."""
    paths = []
    for n in range(10):
        paths.append(str(tmp_path / f"{n}.png"))
        draw_image(n).save(paths[-1])
    return paths


@pytest.fixture
def recipe(tmp_path):
    """Make the recipe of a scorer of a file."""
    (tmp_path / "mine.py").write_text(MINE)

    def make(name="Toy", **options):
        options = ScorerOptions.from_keywords(**{"device": "cpu", "batch_size": 2, **options})
        return Recipe(models.card(f"{tmp_path / 'mine.py'}:{name}"), options)

    return make


def scorer_of(recipe, workers, store=None):
    return ClusterScorer(Pool(workers), recipe, store)


def loaded_here(recipe, **options):
    return recipe.options.load(recipe.card)


def scores_by_hand(paths):
    return np.array([[expected(draw_image(n), t) for t in TEXTS] for n, _ in enumerate(paths)])


@pytest.mark.parametrize("count", [1, 2, 7])
def test_workers_score_every_cell_once(images, recipe, tmp_path, count):
    workers = LocalWorkers(count)
    scorer = scorer_of(recipe(), workers, tmp_path / "scores.sqlite")
    counts = []
    scores = scorer(images, TEXTS, progress=counts.append)
    np.testing.assert_allclose(scores, scores_by_hand(images), rtol=1e-6)
    assert torch.equal(scores, loaded_here(recipe())(images, TEXTS))
    assert len(workers.times) == 30
    assert set(workers.times.values()) == {1}
    assert counts[-1].computed == 30
    assert [c.computed for c in counts] == sorted(c.computed for c in counts)
    assert torch.equal(scorer(images, TEXTS), scores)
    assert set(workers.times.values()) == {1}, "the second call read the store"


def test_the_store_is_that_of_a_run_without_workers(images, recipe, tmp_path):
    scorer_of(recipe(batch_size=1), LocalWorkers(2), tmp_path / "2.sqlite")(images, TEXTS)
    loaded_here(recipe(batch_size=1, store=tmp_path / "1.sqlite"))(images, TEXTS)
    one, two = Store(tmp_path / "1.sqlite"), Store(tmp_path / "2.sqlite")
    assert list(one.rows()) == list(two.rows())
    assert one.stats() == two.stats()
    assert sum(stats.embeddings for stats in two.stats()) == 13
    merged = merge(one, [two.path])
    assert merged == [(0, 0, [])], "equal embeddings, too"


def test_stored_embeddings_are_sent_to_workers(images, recipe, tmp_path, monkeypatch):
    scorer_of(recipe(), LocalWorkers(2), tmp_path / "s.sqlite")(images, TEXTS)
    monkeypatch.setattr("t2v_eval.scoring.scorer.decode", None)  # no image is read again
    again = scorer_of(recipe(), LocalWorkers(2), tmp_path / "s.sqlite")(images, ["a bird"])
    by_hand = [expected(draw_image(n), "a bird") for n in range(10)]
    np.testing.assert_allclose(again[:, 0], by_hand, rtol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_workers_that_die_at_any_moment_are_replaced(images, recipe, tmp_path, seed):
    chance = random.Random(seed)
    deaths = []

    def dies(*_):
        dead = len(deaths) < 2 and chance.random() < 0.2
        deaths.extend([1] * dead)
        return dead

    workers = LocalWorkers(3, dies, chance.choice)
    scores = scorer_of(recipe(), workers, tmp_path / "s.sqlite")(images, TEXTS)
    np.testing.assert_allclose(scores, scores_by_hand(images), rtol=1e-6)
    assert workers.started == 3 + len(deaths)
    assert len(workers.times) == 30
    assert set(workers.times.values()) == {1}


def test_an_image_that_ends_workers_fails_alone(images, recipe, tmp_path):
    bad = open_media(images[4]).key
    deaths = []

    def dies(_, job, reported):
        dead = any(media.key == bad for media in getattr(job, "images", ()))
        deaths.extend([1] * dead)
        return dead

    workers = LocalWorkers(2, dies)
    scorer = scorer_of(recipe(on_error="skip", batch_size=5), workers, tmp_path / "s.sqlite")
    blocks = [Block.of(images, TEXTS)]
    result = scorer.evaluate_blocks(blocks)
    assert np.isnan(result.scores[0]).nonzero()[0].tolist() == [4, 4, 4]
    ((reason, times),) = result.errors.items()
    assert times == 3
    assert "4.png): 3 workers ended over it (killed by the test)" in reason
    assert len(deaths) == 3
    assert set(workers.times.values()) == {1}
    with pytest.raises(ScoringError, match="3 workers ended over it"):
        scorer_of(recipe(), LocalWorkers(2, dies))(images, TEXTS)


def test_workers_that_die_while_they_load_end_the_run(recipe):
    workers = LocalWorkers(2, lambda _, job, __: isinstance(job, Recipe))
    with pytest.raises(ScoringError, match="3 workers in a row ended while they loaded"):
        scorer_of(recipe(), workers)
    assert workers.started == workers.stopped


def test_workers_that_only_die_end_the_run(images, recipe):
    workers = LocalWorkers(2, lambda _, job, __: not isinstance(job, Recipe))
    scorer = scorer_of(recipe(on_error="skip"), workers)
    with pytest.raises(ScoringError, match="12 workers in a row ended before they finished"):
        scorer(images, TEXTS)
    assert workers.started == workers.stopped


def test_workers_of_other_weights_are_refused(images, recipe, monkeypatch):
    scales = itertools.count()
    options = [recipe(scale=n + 1.0).options for n in range(3)]
    monkeypatch.setattr(
        "t2v_eval.cluster.worker.Worker.load",
        lambda self, told, load=Worker.load: load(self, Recipe(told.card, options[next(scales)])),
    )
    workers = LocalWorkers(2, order=random.Random(0).choice)
    with pytest.raises(CheckpointError, match="different scorers.*scale=1.0.*scale=2.0"):
        scorer_of(recipe(), workers)(images, TEXTS)


def test_an_error_of_loading_is_that_of_loading_here(recipe):
    wrong = recipe(colour="red")
    with pytest.raises(InputError) as here:
        loaded_here(wrong)
    workers = LocalWorkers(2)
    with pytest.raises(InputError) as there:
        scorer_of(wrong, workers)
    assert str(there.value) == str(here.value)
    assert workers.started == workers.stopped


@pytest.mark.parametrize("unlucky", ["a damaged file", "13 pixels"])
def test_an_image_that_fails_is_what_it_is_without_workers(images, recipe, tmp_path, unlucky):
    if unlucky == "13 pixels":
        draw_image(3, (13, 9)).save(images[3])
    else:
        (tmp_path / "3.png").write_bytes((tmp_path / "3.png").read_bytes()[:60])
    with pytest.raises(MediaError) as here:
        loaded_here(recipe())(images, TEXTS)
    with pytest.raises(MediaError) as there:
        scorer_of(recipe(), LocalWorkers(2))(images, TEXTS)
    assert str(there.value) == str(here.value)
    blocks = [Block.of(images, TEXTS)]
    skipping = recipe(on_error="skip")
    without = loaded_here(skipping).evaluate_blocks(blocks)
    result = scorer_of(skipping, LocalWorkers(2)).evaluate_blocks(blocks)
    assert result.errors == without.errors
    assert result.counts == without.counts
    assert result.failures == without.failures


def test_an_interrupt_ends_the_workers_and_keeps_what_was_stored(images, recipe, tmp_path):
    reported = []

    def interrupt(_, job, __):
        if not isinstance(job, Recipe):
            reported.append(1)
            if len(reported) == 4:
                raise KeyboardInterrupt
        return False

    workers = LocalWorkers(2, interrupt)
    store = tmp_path / "s.sqlite"
    scorer = scorer_of(recipe(), workers, store)
    with pytest.raises(KeyboardInterrupt):
        scorer(images, TEXTS)
    assert workers.stopped == 2
    stored = {(row.image, row.text) for row in Store(store).rows()}
    assert 0 < len(stored) < 30
    scores = scorer(images, TEXTS)  # the next call starts others
    np.testing.assert_allclose(scores, scores_by_hand(images), rtol=1e-6)
    assert set(workers.times.values()) == {1}


@pytest.mark.filterwarnings("ignore:.*are longer than the model reads")
def test_scorers_take_turns_on_the_same_workers(images, recipe):
    workers = LocalWorkers(2)
    pool = Pool(workers)
    first, second = (ClusterScorer(pool, recipe(name)) for name in ("Toy", "Short"))
    assert first(images, TEXTS).shape == second(images, TEXTS).shape == (10, 3)
    assert torch.equal(first(images, TEXTS), loaded_here(recipe())(images, TEXTS))
    assert workers.started == 2


@pytest.mark.filterwarnings("ignore:.*are longer than the model reads")
def test_truncated_texts_are_reported_once_and_from_the_store(images, recipe, tmp_path):
    blocks = [Block.of(images, TEXTS)]
    scorer = scorer_of(recipe("Short"), LocalWorkers(2), tmp_path / "s.sqlite")
    results = [scorer.evaluate_blocks(blocks) for _ in range(2)]
    assert [result.truncated for result in results] == [1, 1]
    assert loaded_here(recipe("Short")).evaluate_blocks(blocks).truncated == 1


def test_a_template_of_a_call_is_that_of_the_workers(images, recipe):
    scorer = scorer_of(recipe(), LocalWorkers(2))
    scores = scorer(images, "cat", question_template="a {}")
    assert torch.equal(scores, scorer(images, "a cat"))
    assert scorer.id == loaded_here(recipe()).id
    options = recipe(question_template="a {}")
    assert torch.equal(scorer_of(options, LocalWorkers(1))(images, "cat"), scores)


def test_a_scorer_without_version_is_not_stored_and_says_so(images, recipe, tmp_path):
    with pytest.warns(T2VWarning, match="no scores are stored: .*does not say when"):
        scorer = scorer_of(recipe("Unversioned"), LocalWorkers(1), tmp_path / "s.sqlite")
    assert scorer.store is None
    assert scorer(images, TEXTS).shape == (10, 3)


def test_images_in_memory_and_of_all_kinds_are_sent(images, recipe, tmp_path):
    pixels = np.asarray(draw_image(0))
    several = [images[0], draw_image(1), (tmp_path / "2.png").read_bytes(), pixels]
    scores = scorer_of(recipe(), LocalWorkers(2))(several, TEXTS)
    assert torch.equal(scores, loaded_here(recipe())(several, TEXTS))


@pytest.mark.filterwarnings("ignore:.*has only ever seen drawn scenes")
def test_edits_are_scored_as_without_workers_and_store_the_same(images, tmp_path):
    edits = [t2v_eval.Edit(images[n], images[n + 1]) for n in range(9)]
    texts = [f"{text} -> a bird" for text in TEXTS]
    options = ScorerOptions.from_keywords(clip="tiny-clip", device="cpu", batch_size=1)
    recipe = Recipe(models.card("clip-directional"), options)
    scorer = scorer_of(recipe, LocalWorkers(2), tmp_path / "2.sqlite")
    scores = scorer(edits, texts)
    here = loaded_here(Recipe(recipe.card, replace(options, store=tmp_path / "1.sqlite")))
    torch.testing.assert_close(scores, here(edits, texts))
    one, two = Store(tmp_path / "1.sqlite"), Store(tmp_path / "2.sqlite")
    assert one.stats() == two.stats()
    assert [row.text for row in one.rows()] == [row.text for row in two.rows()]
    with pytest.raises(UnsupportedError, match="scores edits, and .* is a single image"):
        scorer(images[0], texts)


def test_what_another_scorer_answered_is_stored_too(tmp_path):
    """The readings of `text-rendering`, which another measure then takes from the store."""
    reads = ["open daily", "open"]
    images = [Image.new("RGB", (8, 8), (n, 0, 0)) for n in range(2)]

    def recipe(reader, **more):
        reader = t2v_eval.from_function(reader, "colours", version="1")
        options = ScorerOptions.from_keywords(reader=reader, target="quotes", **more)
        return Recipe(models.card("text-rendering"), options)

    def read(images, prompts):
        return [reads[image.getpixel((0, 0))[0]] for image in images]

    def never(images, prompts):
        raise AssertionError("it was read before")

    text, store = "a sign that says 'OPEN DAILY'", tmp_path / "s.sqlite"
    scores = scorer_of(recipe(read), LocalWorkers(2), store)(images, text)
    assert scores.tolist() == [[1.0], [0.5]]
    again = loaded_here(recipe(never, measure="word-accuracy", store=store))
    assert again(images, text).tolist() == [[1.0], [0.5]]
    with pytest.raises(UnsupportedError, match="takes the target texts.*`target=`"):
        bare = ScorerOptions.from_keywords(reader=t2v_eval.from_function(read, version="1"))
        scorer_of(Recipe(models.card("text-rendering"), bare), LocalWorkers(1))


def test_what_workers_do_not_do_is_refused(images, recipe):
    scorer = scorer_of(recipe(), LocalWorkers(1))
    with pytest.raises(UnsupportedError, match="compute scores alone: to generate text"):
        scorer.generate(images, "what is it?")
    with pytest.raises(UnsupportedError, match="compute scores alone: to explain scores"):
        scorer.explain(images, TEXTS)
    with pytest.raises(UnsupportedError, match="takes the questions.*`questions=`"):
        scorer_of(recipe("Asking"), LocalWorkers(1))
