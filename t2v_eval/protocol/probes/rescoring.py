"""Score images of a protocol anew: with other prompts, without an image, or after an edit.

All that probes need of a scorer is computed while it is loaded, so that one model at a time is in
memory. With a store, no cell is computed twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from t2v_eval.errors import MediaError, StoreError, T2VError
from t2v_eval.inputs.media import MediaLike
from t2v_eval.protocol.generated import GeneratedImages
from t2v_eval.protocol.probes import names as probe_names
from t2v_eval.protocol.probes.image_edits import edited
from t2v_eval.protocol.probes.inputs import NewScores, ProbeImages, ProbeScorer
from t2v_eval.protocol.probes.prompt_texts import with_or_without_boosters
from t2v_eval.scoring.plan import Block
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.utils.arrays import FloatArray

GREY = 128
"""The level of an image without content."""
SIDES = ("model", "baseline")
_CELLS_AT_ONCE = 1024  # edited images that are in memory together


def rescore(
    images: ProbeImages,
    scorer: Scorer,
    scores: tuple[FloatArray, FloatArray],
    names: Sequence[str] = (),
) -> ProbeScorer:
    """Compute all new scores that probes need of a loaded scorer.

    Args:
        images: of both generators.
        scorer: the scorer; with ``on_error="skip"`` a cell that fails is left out.
        scores: of the model and of the baseline, each (seeds, P).
        names: of the probes that will run; empty for all.

    Returns:
        The scores. Where the scorer fails altogether, why it does.

    Raises:
        StoreError: scores cannot be stored.
    """
    new = {}
    for name, compute in _NEW_SCORES.items():
        needed = name == probe_names.COVARIATES or scorer.uses_text
        if needed and (not names or name in names):
            cells = _Cells(images, scorer)
            try:
                values = compute(cells)
                new[name] = NewScores(values, cells.count, dict(cells.failed))
            except StoreError:  # nothing that follows could be stored
                raise
            except T2VError as error:
                new[name] = NewScores({}, cells.count, dict(cells.failed), str(error))
    return ProbeScorer(
        scorer.name,
        scorer.id,
        scorer.uses_text,
        scorer.card.remote,
        _facts(scorer),
        scores,
        new,
    )


@dataclass(slots=True)
class _Cells:
    """Scores cells of one probe, and counts them."""

    images: ProbeImages
    scorer: Scorer
    count: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def score(self, cells: Sequence[tuple[MediaLike, str]]) -> FloatArray:
        """Score images with a text each, (C,); NaN where a cell failed."""
        if not cells:
            return np.empty(0)
        self.count += len(cells)
        blocks = [Block.of([image], [text]) for image, text in cells]
        result = self.scorer.evaluate_blocks(blocks)
        self.failed.update(result.errors)
        return np.array([float(scores[0, 0]) for scores in result.scores])

    def with_texts(self, texts: Sequence[str | None]) -> dict[str, FloatArray]:
        """Score every image with a text in place of its prompt; None leaves its images out.

        Returns:
            Scores (seeds, P) of each side.
        """
        result = {}
        for side, generator in zip(SIDES, self.images.generators, strict=True):
            scores = np.full((generator.seeds, len(texts)), np.nan)
            for row, paths in enumerate(generator.images.values()):
                chosen = [(n, text) for n, text in enumerate(texts) if text is not None]
                cells = [(paths[n], text) for n, text in chosen]
                scores[row, [n for n, _ in chosen]] = self.score(cells)
            result[side] = scores
        return result

    def after_edit(
        self, generator: GeneratedImages, edit: Callable[[Path], Image.Image]
    ) -> FloatArray:
        """Score every image of a generator with its prompt after an edit, (seeds, P)."""
        prompts = self.images.prompts
        scores = np.full((generator.seeds, len(prompts)), np.nan)
        for row, paths in enumerate(generator.images.values()):
            for start in range(0, len(prompts), _CELLS_AT_ONCE):
                numbers, cells = [], []
                for n in range(start, min(start + _CELLS_AT_ONCE, len(prompts))):
                    try:
                        cells.append((edit(paths[n]), prompts[n]))
                        numbers.append(n)
                    except MediaError as error:
                        self.failed[str(error)] += 1
                scores[row, numbers] = self.score(cells)
        return scores


def _inflated(cells: _Cells) -> dict[str, FloatArray]:
    return cells.with_texts([with_or_without_boosters(p) for p in cells.images.prompts])


def _shuffled(cells: _Cells) -> dict[str, FloatArray]:
    return cells.with_texts(cells.images.shuffled)


def _text_alone(cells: _Cells) -> dict[str, FloatArray]:
    """Score each prompt with a grey image of the size that most images of the model have."""
    sizes = cells.images.measures[0].sizes.most_common(1)
    grey = Image.new("RGB", sizes[0][0] if sizes else (512, 512), (GREY, GREY, GREY))
    return {"grey": cells.score([(grey, prompt) for prompt in cells.images.prompts])}


def _edited(cells: _Cells) -> dict[str, FloatArray]:
    """Score the images of each planned edit; of services none, as each request costs."""
    if cells.scorer.card.remote:
        return {}
    result = {}
    for statistic, plan in cells.images.edits.items():
        if plan.strength is not None:
            result[statistic] = cells.after_edit(
                cells.images.generators[plan.side],
                lambda path, name=statistic, s=plan.strength: edited(path, name, s),  # type: ignore[misc]
            )
    return result


_NEW_SCORES: Mapping[str, Callable[[_Cells], dict[str, FloatArray]]] = {
    probe_names.INFLATION: _inflated,
    probe_names.COVARIATES: _edited,
    probe_names.SHUFFLED: _shuffled,
    probe_names.TEXT_ALONE: _text_alone,
}


def _facts(scorer: Scorer) -> tuple[str, ...]:
    """Return the names by which a scorer is told to be of a family."""
    card = scorer.card
    facts = [card.name, card.kind, card.module.rpartition("backends.")[2], card.entry]
    facts += [*card.networks, *(str(value) for value in card.args.values())]
    # The id also names the scorers that a scorer is made of; hashes in it mean nothing.
    facts.append(re.sub(r"\b[0-9a-f]{16,}\b", "", scorer.encoder_id))
    return tuple(filter(None, facts))
