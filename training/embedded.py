"""Train the embedded models: ``python -m training.embedded --out DIR``.

Started again with the same arguments after an interruption, it resumes. DIR then holds a
folder for each model as shipped, ``log.json`` with the final numbers, and ``checkpoints``.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from t2v_eval.benchmarks.forms.drawn_scenes import items

from . import data
from .cards import card
from .evaluate import evaluate, scorer
from .export import save_clip, save_vqa
from .stages import Run, train_clip, train_negclip, train_tower, train_vqa
from .tokenizers import clip_tokenizer, t5_tokenizer

MODELS = ("tiny-clip-flant5", "tiny-clip", "tiny-negclip")
ITEMS, ITEMS_SEED = 600, 0  # the defaults of the benchmark


def main() -> None:
    """Train the models that the command line names, and write them, their cards and the log."""
    parser = argparse.ArgumentParser(prog="python -m training.embedded", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="models, checkpoints and log")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps-scale", type=float, default=1.0, help="0.01 for a trial run")
    parser.add_argument("--threads", type=int, default=1, help="more are slower on a busy machine")
    parser.add_argument("--compile", action="store_true", help="a third faster; needs a C compiler")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = Run(args.out / "checkpoints", args.seed, args.steps_scale, args.compile)
    run.folder.mkdir(parents=True, exist_ok=True)
    log = Log(args.out, run)

    words = data.vocabulary()
    tower, seconds = train_tower(run)
    log.tower_seconds = round(seconds)
    if "tiny-clip-flant5" in args.models:
        vqa, seconds = train_vqa(run, tower, t5_tokenizer(words))
        log.model("tiny-clip-flant5", vqa, seconds, lambda folder: save_vqa(vqa, folder))
    if not {"tiny-clip", "tiny-negclip"} & set(args.models):
        return
    tokenizer = clip_tokenizer(words)
    clip, seconds = train_clip(run, tower.tower, tokenizer)
    log.model("tiny-clip", clip, seconds, lambda folder: save_clip(clip, tokenizer, folder))
    if "tiny-negclip" in args.models:
        negclip, seconds = train_negclip(run, clip, tokenizer)
        log.model(
            "tiny-negclip", negclip, seconds, lambda folder: save_clip(negclip, tokenizer, folder)
        )


class Log:
    """Write ``log.json``: the settings of the run, and each model's size, training time and scores.

    Args:
        out: the folder of the models.
        run: the training run.
    """

    def __init__(self, out: Path, run: Run) -> None:
        self.out, self.path = out, out / "log.json"
        self.tower_seconds = 0
        self.content: dict[str, Any] = {"models": {}}
        if self.path.exists():
            self.content = json.loads(self.path.read_text(encoding="utf-8"))
        self.content |= {
            "seed": run.seed,
            "steps_scale": run.scale,
            "torch": torch.__version__.partition("+")[0],
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            "measured_on": {"benchmark": "scenes", "items": ITEMS, "seed": ITEMS_SEED},
        }

    def model(
        self, name: str, model: nn.Module, seconds: float, save: Callable[[Path], None]
    ) -> None:
        """Save the model, load it as shipped, and measure its scores.

        Args:
            name: of the model.
            model: the trained network.
            seconds: that its training took.
            save: writes it to a folder.
        """
        folder = self.out / name
        save(folder)
        results = evaluate(scorer(folder), items(ITEMS, ITEMS_SEED))
        print(name, json.dumps(results), flush=True)
        self.content["models"][name] = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": round(seconds),
            "tower_seconds": self.tower_seconds,
            "scores": results,
        }
        self.path.write_text(json.dumps(self.content, indent=2) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(card(name, self.content), encoding="utf-8")


if __name__ == "__main__":
    main()
