"""Write the model card beside each model's weights, with the measured scores."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

DESCRIPTIONS = {
    "tiny-clip": (
        "A CLIP dual encoder trained as CLIP is: images with their captions, symmetric InfoNCE, "
        "the rest of the batch as negatives."
    ),
    "tiny-negclip": (
        "`tiny-clip` trained on with hard negatives, as NegCLIP is: a batch also holds, for each "
        "image and caption, the image of the same words in another order."
    ),
    "tiny-clip-flant5": (
        "VQAScore in the architecture and the hub layout of CLIP-FlanT5: CLIP vision tower, "
        "`mlp2x_gelu` projector, T5. It was trained on questions and answers about images, the "
        "swapped captions among them, and on captions."
    ),
}

CARD = """---
license: apache-2.0
---
# {name}

{what}

{parameters:,} parameters, float16, trained from scratch by `training/embedded.py`: seed {seed},
{minutes} minutes on one CPU core after {tower} for the vision tower that it starts from.

**For** demonstrations, tests and other projects' CI: it is small, fast and needs no download.
**Not for** photographs, generated images or any image other than the drawn scenes of this
library (48 x 48 pixels, five shapes, six colours, two sizes): its scores of those mean nothing.

## Measured

Group accuracy in per cent on the benchmark `scenes` ({items} items of seed {items_seed}, which
training never saw) with 95 % bootstrap intervals; guessing gets 16.7. "held-out" are items that
name a combination of colour and shape that training never showed.

| items | group accuracy | interval | n |
|---|---|---|---|
{rows}

What the captions of training look like decides these numbers: other models trained on other
captions of the same images come out in another order. They say how this model does on this
benchmark, not which family of scorers is better.
"""


def card(name: str, log: Mapping[str, Any]) -> str:
    """Write the model card of an embedded model.

    Args:
        name: of the model.
        log: content of log.json.

    Returns:
        Markdown with the front matter of the hub.

    >>> import json
    >>> from pathlib import Path
    >>> log = json.loads(Path(__file__).with_name("log.json").read_text(encoding="utf-8"))
    >>> card("tiny-clip", log).splitlines()[3]
    '# tiny-clip'
    """
    entry = log["models"][name]
    rows = "\n".join(
        f"| {part} | {score['group']} | {score['low']} to {score['high']} | {score['items']} |"
        for part, score in entry["scores"].items()
    )
    return CARD.format(
        name=name,
        what=fill(DESCRIPTIONS[name], 98),
        parameters=entry["parameters"],
        seed=log["seed"],
        minutes=round(entry["seconds"] / 60),
        tower=round(entry["tower_seconds"] / 60),
        items=log["measured_on"]["items"],
        items_seed=log["measured_on"]["seed"],
        rows=rows,
    )
