"""Scenes: drawn images in Winoground's form, for the embedded models and for tests.

Nothing is read or downloaded; the same arguments draw the same pixels on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from t2v_eval.errors import InputError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.inputs.questions.question import Questions

from .forms.drawn_scenes import items
from .forms.scene_questions import scene_questions
from .forms.winoground import WinogroundForm


class Scenes(WinogroundForm):
    """Two images and two captions of the same words in another order; six skills in turn.

    Args:
        n: number of items; a smaller set is the beginning of a larger one.
        seed: random seed of the items.
    """

    def __init__(self, *, n: int = 600, seed: int = 0, **options: Any) -> None:
        super().__init__(**options)
        if n < 1:
            raise InputError(f"`n={n}`: at least one item must be drawn")
        self.n, self.seed = n, seed

    @override
    def items(self) -> Sequence[Item]:
        return [
            Item(
                images=item.images,
                texts=item.texts,
                tags=(item.skill, "held-out") if item.held_out else (item.skill,),
                id=f"{self.seed}/{number}",
            )
            for number, item in enumerate(items(self.n, self.seed))
        ]

    @override
    def questions(self, rule: str = "dsg") -> Questions:
        """Return the questions of all captions, for scorers that ask them.

        >>> len(Scenes(n=2).questions().items)
        4
        """
        return Questions(scene_questions(items(self.n, self.seed)), name="scenes")
