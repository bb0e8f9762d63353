"""False alarms of `t2v-eval verify` on sound small checkpoints of all families.

    PYTHONPATH=.:tests HF_HUB_OFFLINE=1 python tests/performance/verify_sound.py

It makes every small checkpoint of tests/helpers/models in its published layout, verifies it, and
prints a line for each; the exit code is 1 if a check of one fails. It takes minutes on two cores.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from helpers.models.tiny import VARIANTS
from helpers.models.tiny_vlm import OPTIONS, TINY
from helpers.models.tiny_vlm_more import CARDED, OTHERS

from t2v_eval.api import ScorerOptions
from t2v_eval.registry import models
from t2v_eval.verification.run import verify


def checkpoints(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Make the checkpoints one after the other; yield a label, a name and arguments."""
    for number, (label, (name, make)) in enumerate(VARIANTS.items()):
        (folder / str(number)).mkdir()
        yield label, name, make(folder / str(number))
    for kind, make_vlm in (TINY | CARDED | OTHERS).items():
        (folder / kind).mkdir()
        torch.manual_seed(0)
        make_vlm(folder / kind)
        yield kind, f"hf-vlm:{folder / kind}", dict(OPTIONS.get(kind, {}))
    for name in ("tiny-clip", "tiny-negclip", "tiny-clip-flant5"):
        yield name, name, {}


def main() -> int:
    alarms, total = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for label, name, arguments in checkpoints(Path(folder)):
            options = ScorerOptions.from_keywords(device="cpu", **arguments)
            result = verify(models.card(name), options)
            alarms, total = alarms + result.failed, total + 1
            failures = [f"{c.name}: {c.text}" for c in result.checks if c.outcome == "failed"]
            print(f"{label}: {result.counts} {'; '.join(failures)}", flush=True)
    print(f"{alarms} of {total} sound checkpoints raise an alarm")
    return int(alarms > 0)


if __name__ == "__main__":
    sys.exit(main())
