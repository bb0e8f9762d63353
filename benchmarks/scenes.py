"""Scenes: drawn images in Winoground's form, for the embedded models and for tests.

Nothing is read or downloaded; the same arguments draw the same pixels on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from t2v_eval.errors import InputError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.inputs.questions.question import Questions
from t2v_eval.protocol.demo import DrawnImages

from .forms.drawn_generators import DrawnGenerator, draw_images, draw_prompts, draw_reference
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

    def draw_generators(
        self, folder: Path, names: tuple[str, str], *, prompts: int, seeds: int, equal: bool
    ) -> DrawnImages:
        """Draw the images of two generators, and reference images, for a protocol to try.

        The baseline draws three of five scenes as their prompts say, in pale colours. The model
        draws four of five, in colours that are less pale.

        Args:
            folder: where to write NAME/seed_0/000.png and so on, and reference/SKILL/000.png.
            names: of the model and of the baseline.
            prompts: the number of prompts.
            seeds: the number of images of each prompt and generator.
            equal: whether the model is drawn as the baseline is.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     drawn = Scenes().draw_generators(
        ...         Path(folder), ("new", "old"), prompts=6, seeds=1, equal=False
        ...     )
        >>> len(drawn.prompts), len(drawn.correct["new"][0])
        (6, 6)
        """
        model, baseline = names
        claims = draw_prompts(prompts, self.seed)
        accuracy, saturation = (0.6, 0.5) if equal else (0.8, 0.85)
        generators = (
            DrawnGenerator(model, accuracy, saturation),
            DrawnGenerator(baseline, accuracy=0.6, saturation=0.5),
        )
        correct = {
            generator.name: draw_images(
                generator, claims, seeds, self.seed, folder / generator.name
            )
            for generator in generators
        }
        draw_reference(claims, self.seed, folder / "reference")
        texts = [str(claim) for _, claim, _ in claims]
        return DrawnImages(texts, [skill for skill, _, _ in claims], correct)
