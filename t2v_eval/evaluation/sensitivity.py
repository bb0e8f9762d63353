"""How much the scores of a scorer, and the order they give, hang on how the question is put."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from t2v_eval.errors import InputError
from t2v_eval.inputs.media import MediaLike, as_list, check_texts
from t2v_eval.inputs.template import Template
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.metrics import kendall_tau_b


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What several templates make of the same pictures and texts.

    `scores` are (M, N), one for each template; `used` is how many cells have a score under each,
    and all else is of these. `spread` is how far apart the templates score a cell: the standard
    deviation over templates, in the mean of cells; `order` is Kendall's tau-b of cells under two
    templates; `same_best` is the share of texts for which all templates prefer the same picture
    (NaN for a single picture).
    """

    scores: Mapping[str, Tensor]
    used: int
    spread: float
    order: Mapping[tuple[str, str], float]
    same_best: float

    def __str__(self) -> str:
        width = max(map(len, self.scores))
        lines = [f"{name:{width}}  mean {s.nanmean():.4f}" for name, s in self.scores.items()]
        cells = next(iter(self.scores.values())).numel()
        if self.used < cells:
            lines.append(f"{self.used} of {cells} cells have a score under every template")
        lines.append(f"spread of a score over templates {self.spread:.4f}")
        lines += [f"order under {a} and {b}: tau-b {tau:.3f}" for (a, b), tau in self.order.items()]
        lines.append(f"texts whose best picture is the same under all: {self.same_best:.1%}")
        return "\n".join(lines)


def template_sensitivity(
    scorer: Scorer,
    images: MediaLike | Iterable[MediaLike],
    texts: str | Iterable[str],
    templates: Sequence[str | Template],
) -> Sensitivity:
    """Score every picture against every text under each template.

    Args:
        templates: two or more, by name or as `Template`; those without a name are called by their
            question and answer.

    Raises:
        InputError: fewer than two templates, or one twice.
    """
    asked = [scorer.named_template(t) if isinstance(t, str) else t for t in templates]
    named = {one.name or f"{one.question} | {one.answer}": one for one in asked}
    if len(named) < 2 or len(named) < len(asked):
        raise InputError(
            f"templates must be two or more different ones, not {[*named]}; "
            "`t2v-eval list templates` lists those with a name"
        )
    pictures, captions = as_list(images), check_texts(texts)
    scores = {
        name: scorer.forward(
            pictures, captions, question_template=template.question, answer_template=template.answer
        )
        for name, template in named.items()
    }
    together = torch.stack([*scores.values()]).double()
    good = together.isfinite().all(dim=0)
    rivals = good.sum(dim=0) > 1
    best = together.masked_fill(~good, -torch.inf)[:, :, rivals].argmax(dim=1)
    return Sensitivity(
        scores=scores,
        used=int(good.sum()),
        spread=float(together[:, good].std(dim=0, correction=0).mean()),
        order={
            (a, b): kendall_tau_b(scores[a][good].numpy(), scores[b][good].numpy())
            for a, b in combinations(scores, 2)
        },
        same_best=float((best == best[0]).all(dim=0).double().mean()),
    )
