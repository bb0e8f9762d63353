"""An example of each command, at the end of its --help."""

from __future__ import annotations

import inspect
import re

EXAMPLES = {
    "agree": "t2v-eval agree rated.csv --human rating --scores clipscore --scores vqascore",
    "caption": "t2v-eval caption captions.json photos/ --out scores.json",
    "compare": "t2v-eval compare -m clipscore -m clip-flant5-xl -b winoground --out report",
    "data": "t2v-eval data drawbench --fetch",
    "demo": "t2v-eval demo --out report",
    "eval": "t2v-eval eval -m clip-flant5-xl -b prompts.csv --images flux/ --images sdxl/ "
    "--out report",
    "export": "t2v-eval store export --scorer clipscore --out scores.csv",
    "gate": "t2v-eval gate report --baseline released --margin 0.01",
    "list": "t2v-eval list models 'clip*'",
    "prefer": "t2v-eval prefer a.png b.png 'a cat on a mat' --model gemini-2.5-flash-preference",
    "prune": "t2v-eval store prune clipscore --failed",
    "run": "t2v-eval run experiment.toml",
    "score": "t2v-eval score photos/ --text 'a dog on a horse' --model clipscore",
    "stats": "t2v-eval store stats",
}


def help_of(docstring: str | None) -> str | None:
    r"""Return a docstring whose paragraphs are lines, so that a terminal of any width folds them.

    >>> help_of("Score images.\n\nThe columns\n    are copied.")
    'Score images.\n\nThe columns are copied.'
    """
    if docstring is None:
        return None
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
