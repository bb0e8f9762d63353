"""The plan of a protocol: a TOML file that says what is measured, and when it is enough.

A plan names the images of a generator, the *model*, and of a *baseline*, the prompts, and what is
measured in each of four pillars: sample quality, prompt adherence, preference and failure analysis.
Its criteria are numbers, so that whether the model is signed off is decided before it is measured.
`t2v-eval plan` writes one; people edit it. Relative paths start at the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from t2v_eval.errors import InputError
from t2v_eval.protocol.tables import read_table_as
from t2v_eval.utils.arguments import check_path
from t2v_eval.utils.toml import read_toml

VERSION = 1
"""The version of plans that this version of the library reads."""

FID_IMAGES = 10_000
"""The number of images from which on FID may decide a criterion."""

MOST_RESAMPLES = 1_000_000

Pillar: TypeAlias = Literal["sample_quality", "prompt_adherence", "preference", "failure_analysis"]
PILLARS: tuple[Pillar, ...] = (
    "sample_quality",
    "prompt_adherence",
    "preference",
    "failure_analysis",
)
Kind: TypeAlias = Literal["better", "not_worse", "at_most", "at_least"]
Unit: TypeAlias = Literal["score", "sd", "share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorImages:
    """The images of a generator, as the plan names them.

    Attributes:
        name: what the report calls the generator.
        images: a folder with one image of each prompt for each seed, or one folder with several
            images of each prompt, of which each is a seed.

    >>> GeneratorImages(name="new", images=("new/seed_0", "new/seed_1")).name
    'new'
    """

    name: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much was planned, which the report compares with what there was.

    Attributes:
        effect: the difference that the protocol should show.
        effect_unit: "sd", standard deviations of the paired difference, or "score".
        power: the probability that a difference of this size is found, between 0 and 1.
        prompts: the number of prompts.
        seeds: the number of images of each prompt and generator.
        pairs: the number of blind pairs that people or judges compare.
        review: the number of outputs of a generator that people look at.

    >>> Sizes().seeds
    3
    """

    effect: float = 0.125
    effect_unit: Literal["sd", "score"] = "sd"
    power: float = 0.8
    prompts: int = 500
    seeds: int = 3
    pairs: int = 200
    review: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """Metrics of distances to the reference by the features of one network.

    Attributes:
        features: the name of a network; empty for the one that comes with the package.
        metrics: names of `evaluation.distances.metrics.METRICS`.

    >>> Distance(metrics=("kid",)).features
    ''
    """

    metrics: tuple[str, ...]
    features: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleQuality:
    """What is measured of sample quality.

    Attributes:
        reference: a folder of images, perhaps with a sub-folder for each category.
        distances: the networks and their metrics.
        by_category: whether the images of each tag of the prompts are compared on their own, too.

    >>> SampleQuality().reference
    ''
    """

    reference: str = ""
    distances: tuple[Distance, ...] = ()
    by_category: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptAdherence:
    """What is measured of prompt adherence.

    Attributes:
        scorers: names of scorers.

    >>> PromptAdherence(scorers=("clipscore",)).scorers
    ('clipscore',)
    """

    scorers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """Where preferences come from.

    Attributes:
        votes: files that people saved on a page of `t2v-eval vote`.
        keys: the key.json of each of these pages.
        battles: tables of battles, as `t2v-eval judge` writes them.
        judges: names of scorers of kind judge, which see two images at once.
        scorers: names of scorers that were trained on people's preferences.

    >>> Preference().judges
    ()
    """

    votes: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    battles: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    scorers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureAnalysis:
    """How failures are found.

    Attributes:
        review: files that raters saved on a page of `t2v-eval review`, or the folder of them.
        key: the key.json of that page; empty where it lies in the folder.
        safety: names of scorers of unsafe content.

    >>> FailureAnalysis().review
    ()
    """

    review: tuple[str, ...] = ()
    key: str = ""
    safety: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Which probes look for ways in which scores are gamed.

    Attributes:
        names: the names of probes; empty for all.
        skip: whether no probe runs.
        families: kinds of scorers that the model was trained or guided with, such as "clip".

    >>> Probes(families=("clip",)).skip
    False
    """

    names: tuple[str, ...] = ()
    skip: bool = False
    families: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A criterion of sign-off.

    Attributes:
        name: what the report calls it.
        pillar: the pillar whose figures decide it.
        kind: "better" (the model is shown to be better than the baseline), "not_worse" (it is shown
            to be worse by less than `margin`), "at_most" or "at_least" (the figure of the model is
            shown to be within `limit`).
        figure: the name of a figure of the pillar, such as a scorer; "better" without one is about
            all that the pillar has.
        margin: of "not_worse".
        unit: of `margin`: "score", the scale of the figure; "sd", standard deviations of the paired
            difference; "share", a share of the baseline's figure.
        limit: of "at_most" and "at_least", in units of the figure.
        agree: of "better" without a `figure`, how many figures must show it.
        gate: whether `t2v-eval protocol --gate` checks it.

    >>> Criterion(pillar="prompt_adherence", kind="better").agree
    3
    """

    pillar: Pillar
    kind: Kind
    name: str = ""
    figure: str = ""
    margin: float | None = None
    unit: Unit = "score"
    limit: float | None = None
    agree: int = 3
    gate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The part of the prompts on which the criteria of the gate are checked.

    Attributes:
        prompts: how many, chosen by a hash of each prompt, so that added prompts move no other.
        seed: of the choice.

    >>> Gate().prompts
    500
    """

    prompts: int = 500
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolPlan:
    """The content of a plan; `read_plan` reads it.

    Attributes:
        prompts: a file of prompts, or the name of a set of prompts.
        model: the generator that is judged.
        baseline: the generator that it is compared with.
        version: of the format.
        root: the folder of the files of a published set of prompts; empty for the default.
        alpha: the level of tests, between 0 and 1.
        resamples: the number of bootstrap resamples, 1 or more.
        seed: the random seed of resamples and samples, 0 or more.
        sizes: how much was planned.
        sample_quality, prompt_adherence, preference, failure_analysis: the pillars.
        probes: what looks for ways in which scores are gamed.
        criteria: when the model is signed off.
        gate: the part of the prompts for criteria of the gate.
        file: the file of the plan; None for one that was made in Python.

    >>> new, old = (GeneratorImages(name=name, images=(name,)) for name in ("new", "old"))
    >>> ProtocolPlan(prompts="prompts.csv", model=new, baseline=old).sizes.prompts
    500
    """

    prompts: str
    model: GeneratorImages
    baseline: GeneratorImages
    version: int = VERSION
    root: str = ""
    alpha: float = 0.05
    resamples: int = 1000
    seed: int = 0
    sizes: Sizes = field(default_factory=Sizes)
    sample_quality: SampleQuality = field(default_factory=SampleQuality)
    prompt_adherence: PromptAdherence = field(default_factory=PromptAdherence)
    preference: Preference = field(default_factory=Preference)
    failure_analysis: FailureAnalysis = field(default_factory=FailureAnalysis)
    probes: Probes = field(default_factory=Probes)
    criteria: tuple[Criterion, ...] = ()
    gate: Gate = field(default_factory=Gate)
    file: Path | None = None

    def path(self, name: str) -> str:
        """Return a path of the plan: a relative one starts at the file of the plan.

        Args:
            name: the path as the plan has it.

        >>> new, old = (GeneratorImages(name=name, images=(name,)) for name in ("new", "old"))
        >>> plan = ProtocolPlan(prompts="a.csv", model=new, baseline=old, file=Path("b/plan.toml"))
        >>> plan.path("new")
        'b/new'
        """
        path = check_path("path", name)
        if self.file is None or path.is_absolute():
            return str(path)
        return str(self.file.parent / path)

    def paths(self, names: Sequence[str]) -> list[str]:
        """Return `path` of each name.

        Args:
            names: paths as the plan has them.
        """
        return [self.path(name) for name in names]

    def scorer(self, name: str) -> str:
        """Return the name of a scorer, whose file of your own starts at the file of the plan.

        Args:
            name: the name as the plan has it, perhaps ``FILE.py:FUNCTION``.
        """
        path, colon, function = name.partition(":")
        if not (colon and path.endswith(".py")):
            return name
        return f"{self.path(path)}:{function}"

    def for_gate(self) -> ProtocolPlan:
        """Return the plan of the gate: its criteria alone, and the pillars that they need.

        Raises:
            InputError: no criterion is of the gate.
        """
        criteria = tuple(criterion for criterion in self.criteria if criterion.gate)
        if not criteria:
            raise InputError(
                f"{self.file or 'the plan'}: no criterion is of the gate; write `gate = true` "
                "under those that are"
            )
        needed = {criterion.pillar for criterion in criteria}
        empty: dict[str, Any] = {
            "sample_quality": SampleQuality(),
            "prompt_adherence": PromptAdherence(),
            "preference": Preference(),
            "failure_analysis": FailureAnalysis(),
        }
        dropped = {pillar: value for pillar, value in empty.items() if pillar not in needed}
        return replace(self, criteria=criteria, probes=Probes(skip=True), **dropped)


def read_plan(file: str | Path) -> ProtocolPlan:
    """Read a plan.

    Args:
        file: a .toml file; `t2v-eval plan` writes one.

    Raises:
        InputError: it cannot be read, a key is unknown or missing, or a value cannot be used. The
            message names the file, the key and the remedy.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "plan.toml"
    ...     _ = file.write_text('''
    ...         prompts = "prompts.csv"
    ...         model = {name = "new", images = ["new"]}
    ...         baseline = {name = "old", images = ["old"]}
    ...     ''')
    ...     read_plan(file).baseline.name
    'old'
    """
    path = check_path("file", file)
    if not path.is_file():
        why = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: {why}; `t2v-eval plan --out plan.toml` writes a plan")
    table = read_toml(path)
    if table.get("version", VERSION) != VERSION:
        raise InputError(
            f"{path}: version is {table['version']!r}, and this version of t2v-eval reads {VERSION}"
        )
    plan = read_table_as(ProtocolPlan, table, str(path), leave_out=("file",))
    plan = replace(plan, file=path)
    check_plan(plan)
    return plan


def check_plan(plan: ProtocolPlan) -> None:
    """Check what the types of a plan do not say.

    Args:
        plan: the plan.

    Raises:
        InputError: a value is out of its range, or values contradict each other.

    >>> new, old = (GeneratorImages(name=name, images=(name,)) for name in ("new", "old"))
    >>> check_plan(ProtocolPlan(prompts="prompts.csv", model=new, baseline=old))
    """
    where = str(plan.file or "the plan")
    _check_numbers(plan, where)
    _check_names(plan, where)
    for number, entry in enumerate(plan.sample_quality.distances, 1):
        if not entry.metrics:
            raise InputError(
                f"{where}: sample_quality.distances {number} has no metrics: write metrics = "
                '["kid"]'
            )
    for number, criterion in enumerate(plan.criteria, 1):
        _check_criterion(criterion, f"{where}: criteria {number}")


def _check_numbers(plan: ProtocolPlan, where: str) -> None:
    """Check that numbers are in their ranges."""
    ranges: Mapping[str, tuple[float, float, float]] = {
        "alpha": (plan.alpha, 0, 1),
        "sizes.power": (plan.sizes.power, plan.alpha, 1),
    }
    for key, (value, low, high) in ranges.items():
        if not low < value < high:
            raise InputError(
                f"{where}: {key} is {value:g}: write a number between {low:g} and {high:g}"
            )
    lowest = {
        "resamples": (plan.resamples, 1),
        "seed": (plan.seed, 0),
        "sizes.prompts": (plan.sizes.prompts, 2),
        "sizes.seeds": (plan.sizes.seeds, 1),
        "sizes.pairs": (plan.sizes.pairs, 1),
        "sizes.review": (plan.sizes.review, 1),
        "gate.prompts": (plan.gate.prompts, 2),
        "gate.seed": (plan.gate.seed, 0),
    }
    for key, (count, minimum) in lowest.items():
        if count < minimum:
            raise InputError(
                f"{where}: {key} is {count}: write a whole number of at least {minimum}"
            )
    if plan.resamples > MOST_RESAMPLES:
        raise InputError(
            f"{where}: resamples is {plan.resamples}: write at most {MOST_RESAMPLES:,}, whose "
            "limits hardly differ from those of 10,000"
        )


def _check_names(plan: ProtocolPlan, where: str) -> None:
    """Check that generators, sources and scorers are named, and each once."""
    for key, generator in (("model", plan.model), ("baseline", plan.baseline)):
        if not generator.name.strip() or not generator.images:
            raise InputError(
                f"{where}: {key} has no {'images' if generator.name.strip() else 'name'}: write "
                f'{key} = {{name = "...", images = ["FOLDER"]}}'
            )
    if plan.model.name == plan.baseline.name:
        raise InputError(
            f"{where}: model and baseline are both called {plan.model.name!r}: give them two names"
        )
    for key, names in _lists(plan):
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise InputError(
                f"{where}: {key} has {twice[0]} twice: name each once, as it always agrees with "
                "itself"
            )
    if bool(plan.preference.votes) != bool(plan.preference.keys):
        lacking = "keys" if plan.preference.votes else "votes"
        raise InputError(
            f"{where}: preference has no {lacking}: files of votes need the key.json of their page"
        )


def _lists(plan: ProtocolPlan) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the lists of a plan in which a name can stand once, with their keys."""
    yield "prompt_adherence.scorers", plan.prompt_adherence.scorers
    for key in ("votes", "keys", "battles", "judges", "scorers"):
        yield f"preference.{key}", getattr(plan.preference, key)
    yield "failure_analysis.review", plan.failure_analysis.review
    yield "failure_analysis.safety", plan.failure_analysis.safety
    distances = plan.sample_quality.distances
    metrics = [
        f"{metric} of {d.features or 'the default network'}"
        for d in distances
        for metric in d.metrics
    ]
    yield "sample_quality.distances", metrics


def _check_criterion(criterion: Criterion, where: str) -> None:
    needs = {"not_worse": "margin", "at_most": "limit", "at_least": "limit"}.get(criterion.kind)
    for key in ("margin", "limit"):
        value = getattr(criterion, key)
        if key == needs and value is None:
            raise InputError(f"{where}: {criterion.kind} needs {key}: write {key} = 0.02")
        if key != needs and value is not None:
            raise InputError(f"{where}: {criterion.kind} takes no {key}: leave it out")
    if criterion.margin is not None and criterion.margin < 0:
        raise InputError(
            f"{where}: margin is {criterion.margin:g}: write how much worse passes, 0 or more"
        )
    if criterion.agree < 1:
        raise InputError(f"{where}: agree is {criterion.agree}: write a whole number of at least 1")
    if criterion.kind != "better" and not criterion.figure:
        raise InputError(
            f"{where}: {criterion.kind} needs figure: the name of a figure of its pillar"
        )
