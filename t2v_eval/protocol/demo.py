"""A protocol to try: two drawn generators whose difference is known, with its plan.

The model of the demo is slightly better than the baseline, and its scores are gamed in two ways:
its colours are more saturated, and a part of the prompts is inflated. With ``null``, both
generators are the same in all but their random numbers, and a protocol should claim nothing.

The votes and reviews are of simulated people, who know which images show what their prompts say;
their files are named so.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from t2v_eval.errors import UnsupportedError
from t2v_eval.inputs.tables import write_table
from t2v_eval.protocol.probes.prompt_texts import SUFFIX
from t2v_eval.registry import benchmarks, models
from t2v_eval.review.page import write_review
from t2v_eval.utils.files import check_folder, write_text
from t2v_eval.votes.key import VERSION, Key, read_key
from t2v_eval.votes.page import KEY_FILE
from t2v_eval.votes.saved import checksum
from t2v_eval.votes.tasks import PromptImages

PROMPTS, SEEDS, REVIEWED = 60, 3, 90
INFLATED_EVERY = 4  # prompts, of which one has words that promise quality
CARELESS = 0.1  # how often a simulated person overlooks a fault, or chooses at random
SUSPICIOUS = 0.03  # how often one flags a fault that is not there
RATERS = ("simulated person 1", "simulated person 2")
MODEL, BASELINE = "new", "old"


@dataclass(frozen=True, slots=True)
class DrawnImages:
    """What a set of drawn images says of itself.

    Attributes:
        prompts: the text of each.
        tags: the tag of each.
        correct: by generator, [seed][prompt]: whether the image is what its prompt says.

    >>> DrawnImages(["a red ring"], ["count"], {"new": [[True]]}).correct["new"][0]
    [True]
    """

    prompts: Sequence[str]
    tags: Sequence[str]
    correct: Mapping[str, Sequence[Sequence[bool]]]


@runtime_checkable
class DrawsGenerators(Protocol):
    """A benchmark that draws the images of two generators."""

    def draw_generators(
        self, folder: Path, names: tuple[str, str], *, prompts: int, seeds: int, equal: bool
    ) -> DrawnImages:
        """Draw NAME/seed_0 and so on of both, and the folder reference.

        Args:
            folder: where to write.
            names: of the model and of the baseline.
            prompts: the number of prompts.
            seeds: the number of images of each prompt and generator.
            equal: whether both generators are the same in all but their random numbers.
        """


def write_demo(folder: str | Path, *, null: bool = False, seed: int = 0) -> Path:
    """Draw the images of the demo, and write its plan.

    Args:
        folder: where to write; it is created if needed.
        null: whether both generators are the same, so that there is nothing to claim.
        seed: the random seed of everything that is drawn.

    Returns:
        The plan, ``plan.toml``, for `run_protocol` or `t2v-eval protocol`.

    Raises:
        OutputError: the folder cannot be written.
        UnsupportedError: no benchmark with ``demo = true`` in its card draws generators.
    """
    root = check_folder(folder)
    cards = [card for card in benchmarks.cards.values() if card.demo]
    sets = [benchmarks.create(card.name, seed=seed) for card in cards]
    drawing = next((each for each in sets if isinstance(each, DrawsGenerators)), None)
    if drawing is None:
        raise UnsupportedError(
            "the demo needs a benchmark whose card has `demo = true` and that draws generators"
        )
    names = MODEL, BASELINE
    images = drawing.draw_generators(root, names, prompts=PROMPTS, seeds=SEEDS, equal=null)
    texts = [
        text if null or n % INFLATED_EVERY else text + SUFFIX
        for n, text in enumerate(images.prompts)
    ]
    rows = zip(texts, images.tags, strict=True)
    write_table(
        root / "prompts.csv",
        [{"id": f"{n:03d}", "prompt": text, "tags": tag} for n, (text, tag) in enumerate(rows)],
    )
    rng = random.Random(f"demo/{seed}/people")
    write_table(root / "simulated-people.csv", list(_battles(images, rng)))
    _write_reviews(root / "review", root, texts, images, rng, seed)
    plan = root / "plan.toml"
    write_text(plan, _plan(seed))
    return plan


def _battles(drawn: DrawnImages, rng: random.Random) -> Iterator[dict[str, str]]:
    """Yield a battle for each prompt, seed and person."""
    numbers = range(len(drawn.prompts))
    for n, k, rater in itertools.product(numbers, range(SEEDS), RATERS):
        model, baseline = (drawn.correct[name][k][n] for name in (MODEL, BASELINE))
        winner = {1: "model_a", -1: "model_b", 0: "tie"}[int(model) - int(baseline)]
        if rng.random() < CARELESS:
            winner = rng.choice(["model_a", "model_b"])
        yield {
            "model_a": MODEL,
            "model_b": BASELINE,
            "winner": winner,
            "prompt": f"{n:03d}",
            "judge": rater,
        }


def _write_reviews(
    folder: Path,
    root: Path,
    texts: Sequence[str],
    drawn: DrawnImages,
    rng: random.Random,
    seed: int,
) -> None:
    """Write the page of a review, and what simulated people saved on it."""
    faults: dict[Path, str] = {}
    prompts = []
    for n, (text, tag) in enumerate(zip(texts, drawn.tags, strict=True)):
        images: dict[str, list[str]] = {}
        for name in (MODEL, BASELINE):
            for k in range(SEEDS):
                path = root / name / f"seed_{k}" / f"{n:03d}.png"
                images.setdefault(name, []).append(str(path))
                if not drawn.correct[name][k][n]:
                    faults[path.resolve()] = "count" if tag == "count" else "other"
        prompts.append(PromptImages(f"{n:03d}", text, images))
    page = write_review(prompts, folder, sample=REVIEWED, seed=seed)
    key = read_key(folder / KEY_FILE, "review")
    for number, rater in enumerate(RATERS):
        answers = []
        for task_id, task in key.tasks.items():
            fault = faults.get(Path(task.images[0].path).resolve(), "")
            if fault and rng.random() < CARELESS:
                fault = ""
            elif not fault and rng.random() < SUSPICIOUS:
                fault = "other"
            answers.append(_answer(key, f"{number:08x}", task_id, [fault] if fault else []))
        content = {
            "version": VERSION,
            "kind": "review",
            "page": key.page,
            "voter": f"{number:08x}",
            "name": rater,
            "answers": answers,
        }
        file = page.path.parent / f"reviews-simulated-{number + 1}.json"
        write_text(file, json.dumps(content, indent=1) + "\n")


def _answer(key: Key, voter: str, task: str, flags: list[str]) -> dict[str, object]:
    """Return an answer as the page of a review saves it."""
    signed = json.dumps([*flags, ""], ensure_ascii=False, separators=(",", ":"))
    check = checksum(key.page, voter, task, signed)
    return {"task": task, "flags": flags, "note": "", "check": check}


def _plan(seed: int) -> str:
    """Return the plan of the demo."""
    scorers = [card.name for card in models.cards.values() if card.demo]
    folders = {
        name: ", ".join(f'"{name}/seed_{k}"' for k in range(SEEDS)) for name in (MODEL, BASELINE)
    }
    return f"""# The plan of `t2v-eval protocol --demo`: drawn images, small scorers,
# simulated people.
version = 1
prompts = "prompts.csv"
seed = {seed}
model = {{name = "{MODEL}", images = [{folders[MODEL]}]}}
baseline = {{name = "{BASELINE}", images = [{folders[BASELINE]}]}}

[sizes]
effect = 0.3
prompts = {PROMPTS}
seeds = {SEEDS}
pairs = {PROMPTS * SEEDS}
review = {REVIEWED}

[sample_quality]
reference = "reference"
by_category = false
distances = [{{metrics = ["kid", "cmmd"]}}]

[prompt_adherence]
scorers = {json.dumps(scorers)}

[preference]
battles = ["simulated-people.csv"]

[failure_analysis]
review = ["review"]

[probes]
# Families of scorers that the model was trained or guided with: a drawn one has none.
families = []

[[criteria]]
name = "prompts are followed better"
pillar = "prompt_adherence"
kind = "better"
agree = {len(scorers)}

[[criteria]]
name = "people prefer it"
pillar = "preference"
kind = "better"
figure = "simulated-people.csv"
"""
