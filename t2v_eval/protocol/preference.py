"""Preference: which of two images of a prompt people, judges or preference scorers choose.

Each source keeps its name: votes are of people, a judge is a model that sees two images, and of a
preference scorer the higher score wins. A share of wins counts a tie as half a win.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from t2v_eval.errors import InputError
from t2v_eval.evaluation.benchmark import Item
from t2v_eval.evaluation.ratings.battle_table import read_battles
from t2v_eval.evaluation.ratings.judging import Comparison, Pair, judge_pairs, pairs_of
from t2v_eval.evaluation.ratings.rating import rate_battles
from t2v_eval.evaluation.ratings.results import BattleRatings, RatingOptions
from t2v_eval.protocol.figures import UNKNOWN, Figure, PillarResult, Source
from t2v_eval.protocol.generated import ProtocolImages
from t2v_eval.protocol.plan import ProtocolPlan
from t2v_eval.scoring.results import Progress
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import sign_flip
from t2v_eval.stats.ratings.battles import OUTCOMES, Battle
from t2v_eval.votes.key import read_key
from t2v_eval.votes.reading import battles_of, read_answers

Kind: TypeAlias = Literal["votes", "battles", "judge", "scorer"]

MISSING = (
    "ask people with `t2v-eval vote`, and name the files that they save, and key.json, under "
    "[preference] in the plan; or name judges or scorers that were trained on people's preferences"
)
MEASURES: Mapping[Kind, str] = {
    "votes": "share of blind pairs that people prefer it in, a tie as half",
    "battles": "share of the battles of a table that it wins, a tie as half",
    "judge": "share of pairs that a model as a judge prefers it in, a tie as half",
    "scorer": "share of pairs in which a preference scorer gives it the higher score",
}
GAMED_BY: Mapping[Kind, str] = {
    "votes": "polish and saturation, which people prefer whatever the prompt; few or hasty voters",
    "battles": "whatever the judges of the table prefer; which battles are in it",
    "judge": "the side that an image is shown on; longer or more detailed content; text in images",
    "scorer": "training or guiding the generator with this scorer; saturation, contrast and polish",
}


@dataclass(frozen=True, slots=True)
class Battlefield:
    """The battles of one source.

    Attributes:
        name: of the source.
        kind: what it is.
        made_by: the id of the scorer, or who judged.
        battles: between model and baseline.
        files: what they were read from.
        notes: what must be known of them.

    >>> Battlefield("votes", "votes", "3 people", [Battle("new", "old", "tie")]).kind
    'votes'
    """

    name: str
    kind: Kind
    made_by: str
    battles: Sequence[Battle]
    files: Sequence[str] = ()
    notes: Sequence[str] = ()


def read_sources(plan: ProtocolPlan, images: ProtocolImages) -> list[Battlefield]:
    """Read the votes and tables of battles of a plan.

    Args:
        plan: the plan.
        images: the images of both generators.

    Raises:
        InputError: a file cannot be read, or has no battle of model and baseline.
    """
    sources = []
    preference = plan.preference
    if preference.votes:
        files = plan.paths(preference.votes)
        keys = [read_key(key, "vote") for key in plan.paths(preference.keys)]
        people = read_answers(files, keys)
        between = _between(battles_of(people), images, ", ".join(files))
        by = f"{len(people)} {'person' if len(people) == 1 else 'people'}"
        sources.append(replace(between, name="votes", kind="votes", made_by=by, files=files))
    for file in plan.paths(preference.battles):
        table = read_battles(file)
        between = _between(table.battles, images, file)
        judges = sorted({battle.judge for battle in table.battles if battle.judge})
        by = ", ".join(judges) or "judges that the table does not name"
        notes = [*table.warnings, *between.notes]
        sources.append(
            replace(between, name=Path(file).name, made_by=by, files=[file], notes=notes)
        )
    return sources


def _between(battles: Sequence[Battle], images: ProtocolImages, where: str) -> Battlefield:
    """Return the battles of model and baseline, under the names of the plan.

    Raises:
        InputError: there is none.
    """
    of_both = []
    others: dict[str, None] = {}
    for battle in battles:
        first = images.generator_of(battle.model_a, battle.image_a)
        second = images.generator_of(battle.model_b, battle.image_b)
        if first and second and first != second:
            of_both.append(battle._replace(model_a=first, model_b=second))
        else:
            others |= dict.fromkeys((battle.model_a, battle.model_b))
    if not of_both:
        model, baseline = (generator.name for generator in images.generators)
        raise InputError(
            f"{where} has no battle between {model!r} and {baseline!r}; it names "
            f"{', '.join(map(repr, others))}: write these names, or folders, in the plan"
        )
    left_out = len(battles) - len(of_both)
    notes = [f"{left_out} of {len(battles)} battles are between others and are left out"]
    return Battlefield("", "battles", "", of_both, notes=notes * (left_out > 0))


def pairs_of_images(images: ProtocolImages) -> tuple[list[Item], list[Pair]]:
    """Return the pairs of images that a judge compares: of each prompt, those of equal seeds.

    Args:
        images: the images of both generators.

    >>> from t2v_eval.protocol.generated import GeneratedImages
    >>> sides = [GeneratedImages(name, {0: [Path(name) / "0.png"]}) for name in ("new", "old")]
    >>> images = ProtocolImages(None, [Item([], ["a cat"])], *sides, of_all=1)
    >>> [(pair.model_a, pair.model_b) for pair in pairs_of_images(images)[1]]
    [('new', 'old')]
    """
    items = []
    for n, item in enumerate(images.items):
        paths, labels = [], []
        for k, generator in enumerate(images.generators):
            paths += [str(generator.images[seed][n]) for seed in sorted(generator.images)]
            labels += [k] * generator.seeds
        items.append(replace(item, images=paths, labels={"folder": labels}))
    return items, pairs_of(items, [generator.name for generator in images.generators])


def judge_images(
    scorer: Scorer,
    images: ProtocolImages,
    name: str,
    kind: Kind,
    progress: Progress | None = None,
) -> Battlefield:
    """Let a judge or a preference scorer compare the images of both generators.

    Args:
        scorer: a loaded scorer.
        images: the images of both generators.
        name: what the plan calls the scorer.
        kind: "judge" or "scorer".
        progress: called with the counts as they grow.

    Raises:
        ScoringError: a comparison failed, with ``on_error="raise"``.
    """
    items, pairs = pairs_of_images(images)
    comparisons = judge_pairs(scorer, items, pairs, progress)
    return Battlefield(
        name,
        kind,
        scorer.id,
        [comparison.battle for comparison in comparisons if not comparison.error],
        [str(folder) for generator in images.generators for folder in generator.folders],
        list(_failures(comparisons)),
    )


def _failures(comparisons: Sequence[Comparison]) -> list[str]:
    errors = [comparison.error for comparison in comparisons if comparison.error]
    if not errors:
        return []
    return [f"{len(errors)} of {len(comparisons)} comparisons failed and are left out: {errors[0]}"]


def measure_preference(
    plan: ProtocolPlan,
    images: ProtocolImages,
    sources: Sequence[Battlefield],
    command: str,
    failed: Sequence[str] = (),
) -> PillarResult:
    """Compute the shares of wins of both generators by each source.

    Args:
        plan: the plan.
        images: the images of both generators.
        sources: the battles of each source.
        command: the command of the report.
        failed: why sources have no battles.
    """
    if not sources:
        missing = "" if failed else MISSING
        return PillarResult("preference", missing=missing, failed=failed)
    names = [generator.name for generator in images.generators]
    figures = [_figure(plan, source, names, command) for source in sources]
    warnings = [f"{source.name}: {note}" for source in sources for note in source.notes]
    return PillarResult("preference", figures, failed=failed, warnings=warnings)


def _figure(plan: ProtocolPlan, source: Battlefield, names: Sequence[str], command: str) -> Figure:
    name, kind = source.name, source.kind
    origin = Source(
        command=command,
        made_by=source.made_by,
        n=len(source.battles),
        unit="pairs",
        files=source.files,
    )
    if not source.battles:
        measures = MEASURES[kind]
        return Figure(name=name, measures=measures, model=UNKNOWN, baseline=UNKNOWN, source=origin)
    ratings, notes = _rate(plan, source.battles)
    rates = [ratings.models[generator].win_rate for generator in names]
    return Figure(
        name=name,
        measures=MEASURES[kind],
        model=rates[0],
        baseline=rates[1],
        difference=Interval(*(value - 0.5 for value in rates[0])),
        p=sign_flip(_shares(source.battles, names[0]) - 0.5, seed=plan.seed),
        gamed_by=GAMED_BY[kind],
        notes=[*notes, _rated(ratings, names)],
        source=origin,
    )


def _rate(plan: ProtocolPlan, battles: Sequence[Battle]) -> tuple[BattleRatings, list[str]]:
    """Rate both generators; with a prior where one of them won every battle."""
    options = RatingOptions(resamples=plan.resamples, seed=plan.seed)
    try:
        ratings = rate_battles(battles, options)
    except InputError:
        ratings = rate_battles(battles, replace(options, prior="normal"))
    return ratings, list(ratings.warnings)


def _rated(ratings: BattleRatings, names: Sequence[str]) -> str:
    texts = []
    for name in names:
        value, low, high = ratings.models[name].bradley_terry
        limits = "" if math.isnan(low) else f" [{low:.0f}, {high:.0f}]"
        texts.append(f"{name} {value:.0f}{limits}")
    units = f"{ratings.units:,} {ratings.unit}{'s' * (ratings.units != 1)}"
    return f"Bradley-Terry ratings: {', '.join(texts)} points over {units}"


def _shares(battles: Sequence[Battle], model: str) -> np.ndarray:
    """Return the share of wins of a model in each prompt; a battle without prompt is its own."""
    shares: dict[object, list[float]] = {}
    for n, battle in enumerate(battles):
        first = OUTCOMES[battle.winner]
        won = first if battle.model_a == model else 1 - first
        shares.setdefault(battle.prompt or n, []).append(won)
    return np.array([np.mean(values) for values in shares.values()])
