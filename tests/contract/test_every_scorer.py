"""What every scorer keeps, whatever its model: the same tests over all cards."""

from __future__ import annotations

import copy
from functools import cached_property

import numpy as np
import pytest
import torch
from helpers.models.geometry import OBSERVABLE, observed_geometry
from helpers.models.tiny import QUESTIONED, VARIANTS, Small
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.errors import MediaError, UnsupportedError
from t2v_eval.registry import models
from t2v_eval.scoring.plan import Block, Plan

# Entries of cards that are not here, and where in tests/backends their contract is tested.
ELSEWHERE = {
    "openai_scorer": "asks a service: test_openai_api.py, test_grade.py, test_pairwise.py",
    "compatible_scorer": "asks a service: test_openai_servers.py, test_faults.py",
    "gemini_scorer": "asks a service: test_gemini.py",
    "HttpScorer": "asks a server: tests/backends/remote/test_http_scorer.py",
    "NudeNet": "needs the extra nudenet: tests/backends/safety/test_nudenet.py",
    "load_clip_edit": "takes edits: tests/backends/edits/test_clip_edit.py",
    "load_written_scorer": "asks a model that writes: tests/backends/written",
    "load_judge_file": "asks a model that writes: tests/backends/written",
    "EditReward": "takes edits: tests/backends/edits/test_edit_reward.py",
    "from_file": "runs a file of a user: tests/backends/own/test_python_file.py",
    "load_text_scorer": "reads text, which small models have no end of: "
    "tests/backends/text_rendering/test_text_scorer.py",
}
SIZES = [(12, 10), (90, 40), (33, 64), (64, 64), (20, 75)]
TEXTS = [
    "a cat",
    "",
    "the tall lighthouse stands next to the calm river at night",
    "Two dogs, 3 apples & a boat!",
    "cat " * 90,
]
PAIRS = {
    "clip-iqa": ["quality", "happy", "a|b", "Sharp photo.|A very blurry photo of it.", "new"],
    "dsg": QUESTIONED,
    "detect-compose": QUESTIONED,
    "detect-compose, any class": QUESTIONED,
}
# Variants whose small checkpoint is of another kind than the published one of their card.
OTHERWISE_PREPARED = {
    "open_clip, squashing": "crop",
    "hf-clip, SigLIP": "stretch",
    "hf-clip, SigLIP 2": "aspect",
    "detect-compose": "aspect",
    "detect-compose, any class": "pad",
}
REFERENCES = ["a small cat", "two dogs in the park with a boat"]
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Small:
    return Small(tmp_path_factory.mktemp("small"))


class Subject:
    """A scorer, and texts that it understands."""

    def __init__(self, small: Small, variant: str) -> None:
        self.variant = variant
        self.scorer = small.load(variant)
        self.again = lambda **options: small.load(variant, **options)
        self.folder = small.folder / variant
        self.texts = PAIRS.get(variant, TEXTS)

    @cached_property
    def other(self):
        """The scorer loaded once more, which leaves images out that fail and keeps scores."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.again(on_error="skip", store=self.folder / "scores.db")

    def references(self, images) -> dict[str, object]:
        return {"references": [REFERENCES] * len(images)} if self.scorer.uses_references else {}

    def score(self, images, texts, scorer=None, **options) -> torch.Tensor:
        return (scorer or self.scorer)(images, texts, **self.references(images), **options)


@pytest.fixture(scope="module", params=VARIANTS)
def subject(request, small) -> Subject:
    return Subject(small, request.param)


@pytest.fixture(scope="module")
def images():
    return [draw_image(seed, SIZES[seed % len(SIZES)]) for seed in range(16)]


def near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_every_class_of_every_card_is_here_or_elsewhere():
    shipped = [c for c in models.cards.values() if c.module.startswith("t2v_eval.backends.")]
    shipped += [card for card, _ in models._families.values()]
    here = {(models.card(name).module, models.card(name).entry) for name, _ in VARIANTS.values()}
    missing = {c.entry for c in shipped if (c.module, c.entry) not in here} - ELSEWHERE.keys()
    assert not missing, (
        f"no test loads {missing}: add an entry to VARIANTS of tests/helpers/models/tiny.py, the "
        "name of a card and a function that saves a small checkpoint into a folder and returns "
        "the arguments of `load` (without one, `lambda folder: {}`)"
    )
    assert {card.kind for card in shipped} == {
        "clip",
        "preference",
        "itm",
        "aesthetic",
        "vqa",
        "judge",
        "own",
        "detection",
        "safety",
        "edit",
        "text",
    }


def test_every_card_says_its_range_and_what_it_crops():
    shipped = [c for c in models.cards.values() if c.module.startswith("t2v_eval.")]
    assert all(card.range and card.geometry for card in [*shipped, *models.families])


def test_an_image_is_cropped_padded_or_stretched_as_the_card_says(subject):
    geometry = OTHERWISE_PREPARED.get(subject.variant, subject.scorer.card.geometry)
    if geometry in OBSERVABLE:
        assert observed_geometry(subject.scorer) == geometry
    else:
        assert geometry in ("checkpoint", "scorer")


def test_shape_type_and_place(subject, images):
    scores = subject.score(images[:3], subject.texts[:2])
    assert scores.shape == (3, 2)
    assert scores.dtype == torch.float32 and scores.device.type == "cpu"
    assert torch.isfinite(scores).all() and not scores.requires_grad
    assert subject.score(images[:1], subject.texts[0]).shape == (1, 1)


def test_alone_as_in_a_batch_of_16(subject, images):
    """Texts and images of mixed lengths and sizes, each of which is once alone."""
    texts = [subject.texts[n % 5] for n in range(16)]
    options = subject.references(images)
    together = subject.scorer.score_pairs(images, texts, **options)
    alone = [subject.score([images[n]], texts[n])[0, 0] for n in range(11, 16)]
    near(torch.stack(alone), together[11:])


def test_order_does_not_matter(subject, images):
    scores = subject.score(images[:4], subject.texts)
    backwards = subject.score(images[3::-1], subject.texts[::-1]).flip(0, 1)
    near(backwards, scores)


def test_pairs_are_the_diagonal(subject, images):
    scores = subject.score(images[:5], subject.texts)
    options = subject.references(images[:5])
    near(subject.scorer.score_pairs(images[:5], subject.texts, **options), scores.diagonal())


def test_cells_scored_image_by_image_add_up(subject, images):
    scorer = subject.scorer
    references = [REFERENCES] * 5 if scorer.uses_references else None
    plan = Plan.of([Block.of(images[:5], subject.texts[:2], references)])
    values = np.full(len(plan.cells), np.nan, np.float32)
    with torch.inference_mode():
        for rows in ([0, 1], [2], [3, 4]):
            positions = np.flatnonzero(np.isin(plan.cells[:, 0], rows))
            for part in scorer.score_cells(plan.images, plan.texts, plan.cells[positions]):
                assert np.isnan(values[positions[part.positions]]).all()
                values[positions[part.positions]] = part.values.float().numpy()
    near(torch.from_numpy(plan.fold(values)[0]), subject.score(images[:5], subject.texts[:2]))


def test_an_image_that_cannot_be_read_leaves_the_others_alone(subject, images, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    inputs = [images[0], tmp_path / "broken.png", images[1], tmp_path / "gone.png"]
    with pytest.raises(MediaError, match=r"broken\.png|gone\.png"):
        subject.score(inputs, subject.texts[:2])
    scores = subject.score(inputs, subject.texts[:2], subject.other)
    assert scores.isnan().all(1).tolist() == [False, True, False, True]
    near(scores[[0, 2]], subject.score(images[:2], subject.texts[:2]))


def test_an_edit_is_refused_and_what_takes_edits_is_named(subject, images):
    edit = t2v_eval.Edit(images[0], images[1])
    for scorer in (subject.scorer, subject.other):
        with pytest.raises(UnsupportedError, match="source.* are a group of .*--kind edit"):
            subject.score([edit], subject.texts[:1], scorer)


def test_the_id_says_what_decides_the_numbers(subject):
    scorer, question = subject.scorer, subject.scorer.template.question
    assert subject.other.id == scorer.id
    assert scorer.name in scorer.id and f"question={question!r}" in scorer.id
    others = [
        scorer.with_template(question_template="So, " + question),
        subject.again(dtype="bfloat16"),
        subject.again(image_mode="original"),
    ]
    assert len({scorer.id, *(other.id for other in others)}) == 4


def test_ranks_are_those_of_the_scores(subject, images):
    options = subject.references(images[:5])
    scores = subject.score(images[:5], subject.texts[0])[:, 0]
    ranked = subject.scorer.rank(images[:5], subject.texts[0], **options)
    assert [place.score for place in ranked] == scores.sort(descending=True).values.tolist()
    assert [scores[place.index] for place in ranked] == [place.score for place in ranked]
    assert ranked[0].rank == 1


def test_what_was_stored_is_what_was_scored(subject, images):
    first = subject.score(images[:3], subject.texts[:2], subject.other)
    reading = copy.copy(subject.scorer)
    reading.store = subject.other.store
    again = subject.score(images[:3], subject.texts[:2], reading)
    assert torch.equal(first, again)
    near(first, subject.score(images[:3], subject.texts[:2]))


def test_the_table_names_cards_that_exist():
    assert {name for name, _ in VARIANTS.values()} <= set(t2v_eval.list_models())
