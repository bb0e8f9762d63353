"""Measures of text in images against the functions of their authors, and edit distances."""

import functools
import json
import random

import pytest

from t2v_eval.errors import InputError
from t2v_eval.stats.text_rendering.edit_distance import edit_distance
from t2v_eval.stats.text_rendering.measures import (
    MEASURES,
    cased_units,
    oneig_text_score,
    recall_units,
    spaced_words,
)


@pytest.mark.parametrize("measure", MEASURES)
def test_each_measure_is_that_of_its_authors(measure, goldens):
    cases = json.loads((goldens / "text_rendering.json").read_text())["cases"]
    scores = [MEASURES[measure].score(case["wanted"], case["read"]) for case in cases]
    assert scores == pytest.approx([case[measure] for case in cases], abs=1e-12)
    assert len({round(score, 3) for score in scores}) > 1


def test_an_edit_distance_is_the_least_number_of_edits():
    @functools.cache
    def least(first, second):
        if not first or not second:
            return len(first) + len(second)
        return min(
            least(first[1:], second) + 1,
            least(first, second[1:]) + 1,
            least(first[1:], second[1:]) + (first[0] != second[0]),
        )

    draw = random.Random(0)
    texts = ["".join(draw.choices("ab每", k=draw.randint(0, 7))) for _ in range(60)]
    for first, second in zip(texts, reversed(texts), strict=True):
        assert edit_distance(first, second) == least(first, second)


def drawn(count):
    """Texts and what might be read of them, Chinese ones and what readers add among them."""
    draw = random.Random(3)
    pairs = []
    for n in range(count):
        letters = "新鲜欢迎a1" if n % 5 == 4 else "abcDeéç01"
        words = [
            "".join(draw.choices(letters, k=draw.randint(1, 4))) for _ in range(draw.randint(1, 7))
        ]
        read = [w if draw.random() < 0.7 else w[::-1] for w in words if draw.random() < 0.9]
        ends = ["", "", "!", "\nNo text recognized.", " addCriterion", " Привет ßü"]
        end = draw.choice(ends)
        pairs.append((", ".join(words), draw.choice([" ", "\n", ", "]).join(read) + end))
    return pairs


def test_the_text_score_of_500_images_is_that_of_its_authors(goldens):
    authors = json.loads((goldens / "text_rendering.json").read_text())["oneig"]
    pairs = drawn(500)
    scores = {
        measure: [MEASURES[measure].score([text], read) for text, read in pairs]
        for measure in ("edit-distance", "exact", "cased-word-recall")
    }
    assert [-d for d in scores["edit-distance"]] == authors["distances"]
    assert scores["exact"] == [float(d == 0) for d in authors["distances"]]
    counts = [len(cased_units([text])) for text, _ in pairs]
    assert counts == authors["counts"]
    matches = [r * n for r, n in zip(scores["cased-word-recall"], counts, strict=True)]
    assert matches == pytest.approx(authors["matches"])
    for longest, score in authors["text_scores"].items():
        figures = -sum(scores["edit-distance"]) / 500, sum(scores["exact"]) / 500
        words = sum(matches) / sum(counts)
        assert oneig_text_score(*figures, words, float(longest)) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize("measure", ["word-recall", "cased-word-recall", "exact", "edit-distance"])
def test_a_text_without_a_letter_that_counts_has_no_score(measure):
    """The authors' scripts divide by zero, or find every empty reading exact."""
    with pytest.raises(InputError, match=r"'Привет!' has no Latin.*`measure='ned'`"):
        MEASURES[measure].score(["Привет!"], "Привет")
    assert MEASURES["word-accuracy"].score(["Привет"], "привет") == 1


@pytest.mark.parametrize("measure", ["word-accuracy", "ned", "ocr-reward"])
@pytest.mark.parametrize("targets", [[], [" "]])
def test_blank_texts_have_no_score(measure, targets):
    with pytest.raises(InputError, match="blank"):
        MEASURES[measure].score(targets, "OPEN")


def test_published_figures_weigh_images_by_these_units():
    assert recall_units(["Café's, open!", "24/7"]) == ["cafés", "open", "247"]
    assert recall_units(["营业！AI", "Bar"]) == ["营", "业", "A", "I", "B", "a", "r"]
    assert spaced_words(["Café's, open!"]) == ["café's,", "open!"]
