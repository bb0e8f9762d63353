"""How sensitive scores and rankings are to the prompt template."""

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
    """The scores of the same images and texts under several templates.

    Attributes:
        scores: by template, shape (M, N): M images with N texts.
        used: the number of cells with a score under every template; the figures below are of these.
        spread: the standard deviation of a cell's score over templates, averaged over cells.
        order: Kendall's tau-b between the cells' scores under two templates, -1 to 1.
        same_best: the share of texts whose best image is the same under all templates; NaN for a
            single image.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> images = [Image.new("RGB", (48, 48), colour) for colour in ("red", "blue")]
    >>> prefixes = [Template("{}"), Template("a photo of {}")]
    >>> list(template_sensitivity(scorer, images, ["a red square"], prefixes).scores)
    ['{} | ', 'a photo of {} | ']
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
        lines.append(f"texts whose best image is the same under all: {self.same_best:.1%}")
        return "\n".join(lines)


def template_sensitivity(
    scorer: Scorer,
    images: MediaLike | Iterable[MediaLike],
    texts: str | Iterable[str],
    templates: Sequence[str | Template],
) -> Sensitivity:
    """Score every image with every text under each template, and compare the scores.

    Args:
        scorer: a scorer whose prompts have a template.
        images: M images or videos.
        texts: N texts.
        templates: two or more, by name or as `Template`. The result names a template without a
            name by its question and answer.

    Raises:
        InputError: fewer than two templates, or one twice.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> images = [Image.new("RGB", (48, 48), colour) for colour in ("red", "blue")]
    >>> prefixes = [Template("{}"), Template("a photo of {}")]
    >>> template_sensitivity(scorer, images, ["a red square"], prefixes).used
    2
    """
    resolved = [scorer.named_template(t) if isinstance(t, str) else t for t in templates]
    named = {t.name or f"{t.question} | {t.answer}": t for t in resolved}
    if len(named) < 2 or len(named) < len(resolved):
        raise InputError(
            f"templates must be two or more different ones, not {[*named]}; "
            "`t2v-eval list templates` lists those with a name"
        )
    media, captions = as_list(images), check_texts(texts)
    scores = {
        name: scorer.forward(
            media, captions, question_template=template.question, answer_template=template.answer
        )
        for name, template in named.items()
    }
    return _compare(scores)


def _compare(scores: Mapping[str, Tensor]) -> Sensitivity:
    """Compare scores of shape (M, N) under each template."""
    stacked = torch.stack([*scores.values()]).double()  # (templates, M, N)
    defined = stacked.isfinite().all(dim=0)
    comparable = defined.sum(dim=0) > 1  # texts with two images or more
    best = stacked.masked_fill(~defined, -torch.inf)[:, :, comparable].argmax(dim=1)
    return Sensitivity(
        scores=scores,
        used=int(defined.sum()),
        spread=float(stacked[:, defined].std(dim=0, correction=0).mean()),
        order={
            (a, b): kendall_tau_b(scores[a][defined].numpy(), scores[b][defined].numpy())
            for a, b in combinations(scores, 2)
        },
        same_best=float((best == best[0]).all(dim=0).double().mean()),
    )
