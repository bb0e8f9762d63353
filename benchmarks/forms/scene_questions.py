"""Questions about drawn scenes, made from what their captions claim.

A caption of `drawn_scenes` is two phrases and perhaps a relation between them, which is a graph as
DSG's: one question for each phrase, and one for the relation that depends on both. Their true
answers follow from the description of a scene, without a model.
"""

from __future__ import annotations

from collections.abc import Sequence

from t2v_eval.inputs.questions.question import Question

from .drawn_scenes import RELATIONS, Claim, Scene, SceneItem

FORM = 'Does this figure show "{}"?'


def claim_questions(claim: Claim) -> list[Question]:
    """Return the questions of a caption; all expect yes.

    >>> from t2v_eval.benchmarks.forms.drawn_scenes import Phrase
    >>> claim = Claim(Phrase("a", "red", "cross"), "above", Phrase("a", "blue", "ring"))
    >>> [question.id for question in claim_questions(claim)]
    ['first', 'second', 'relation']
    """
    text = str(claim)
    questions = [
        Question(text, name, text, FORM.format(phrase), type="phrase")
        for name, phrase in (("first", claim.first), ("second", claim.second))
    ]
    if claim.joint in RELATIONS:
        parents = ("first", "second")
        wording = FORM.format(text)
        questions.append(
            Question(text, "relation", text, wording, parents=parents, type="relation")
        )
    return questions


def scene_questions(items: Sequence[SceneItem]) -> list[Question]:
    """Return the questions of all captions of some items, each caption once.

    >>> from t2v_eval.benchmarks.forms.drawn_scenes import items
    >>> len({question.text for question in scene_questions(items(3))})
    6
    """
    claims = {str(claim): claim for item in items for claim in item.claims}
    return [question for claim in claims.values() for question in claim_questions(claim)]


def true_answers(claim: Claim, scene: Scene) -> dict[str, bool]:
    """Return which questions of a caption are right to be answered with yes.

    >>> from t2v_eval.benchmarks.forms.drawn_scenes import Phrase
    >>> claim = Claim(Phrase("a", "red", "cross"), "and", Phrase("no", "blue", "ring"))
    >>> true_answers(claim, ())
    {'first': False, 'second': True}
    """
    answers = {"first": claim.first.holds(scene), "second": claim.second.holds(scene)}
    if claim.joint in RELATIONS:
        answers["relation"] = claim.holds(scene)
    return answers
