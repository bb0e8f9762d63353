"""Write a plan: as commented TOML that a person edits, and as Markdown that a person reads."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from t2v_eval.protocol.plan import FID_IMAGES
from t2v_eval.protocol.probes.table import PROBES
from t2v_eval.protocol.sizes import GENERATORS, RATERS, PlannedSizes
from t2v_eval.remote.cost import format_dollars
from t2v_eval.stats import power

COMPARED = ("kid", "cmmd")
"""Metrics whose difference is a criterion: they are unbiased, or nearly, at hundreds of images."""
GATE_PROMPTS = 500
WIDTH = 96  # of comments
KID_SHARE = 0.1
"""How much of the baseline's distance may be lost, where a person says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDraft:
    """What `t2v-eval plan` writes.

    Attributes:
        sizes: the numbers.
        scorers: names of scorers of prompt adherence.
        distances: of each network, the metrics of sample quality.
        prompts: a file of prompts, or the name of a set of prompts.
        model, baseline: the folders of their images.
        names: what the report calls model and baseline.
        reference: the folder of reference images.
        families: kinds of scorers that the model was trained or guided with.
        remote: those of the scorers that send requests to a service.

    >>> from t2v_eval.protocol.sizes import plan_sizes
    >>> PlanDraft(sizes=plan_sizes(0.5), scorers=["mine"]).prompts
    'prompts.csv'
    """

    sizes: PlannedSizes
    scorers: Sequence[str]
    distances: Sequence[tuple[str, Sequence[str]]] = ()
    prompts: str = "prompts.csv"
    model: Sequence[str] = ("model/seed_0", "model/seed_1", "model/seed_2")
    baseline: Sequence[str] = ("baseline/seed_0", "baseline/seed_1", "baseline/seed_2")
    names: tuple[str, str] = ("model", "baseline")
    reference: str = "reference"
    families: Sequence[str] = ()
    remote: Sequence[str] = field(default_factory=tuple)

    @property
    def scores(self) -> int:
        """The number of scores of all scorers, those of probes included."""
        return sum(self._scores_of(name in self.remote) for name in self.scorers)

    @property
    def requests(self) -> int:
        """The number of scores that are requests to a service."""
        return sum(self._scores_of(remote=True) for _ in self.remote)

    def _scores_of(self, remote: bool) -> int:
        sizes = self.sizes.sizes
        return self.sizes.images + probe_cells(sizes.prompts, sizes.seeds, remote)


def probe_cells(prompts: int, seeds: int, remote: bool) -> int:
    """Return how many scores of a scorer all probes need at most.

    Args:
        prompts: the number of prompts.
        seeds: the number of images of each prompt and generator.
        remote: whether the scorer is behind an API.

    >>> probe_cells(0, 3, remote=True)
    0
    """
    return sum(probe.cells(prompts, seeds, remote) for probe in PROBES.values())


def plan_toml(draft: PlanDraft) -> str:
    """Return a plan as commented TOML, which `read_plan` reads.

    Args:
        draft: what it says.

    >>> import tomllib
    >>> from t2v_eval.protocol.sizes import plan_sizes
    >>> text = plan_toml(PlanDraft(sizes=plan_sizes(0.5), scorers=["mine"]))
    >>> tomllib.loads(text)["sizes"]["prompts"]
    34
    """
    return "\n".join([*_head(draft), *_sizes(draft), *_pillars(draft), *_criteria(draft)]) + "\n"


def _head(draft: PlanDraft) -> Iterator[str]:
    yield "# A plan of `t2v-eval protocol`: edit it, then run"
    yield "#     t2v-eval protocol plan.toml --out protocol"
    yield "# Relative paths start at this file. Decide the criteria before you look at a result."
    yield ""
    yield "version = 1"
    yield f"prompts = {_text(draft.prompts)}  # a file of prompts, or a name of `list benchmarks`"
    yield f"alpha = {draft.sizes.alpha:g}"
    yield "resamples = 1000"
    yield "seed = 0"
    yield ""
    yield "[model]  # the generator that is judged"
    yield f"name = {_text(draft.names[0])}"
    yield "# A folder for each seed, or one folder with several images of each prompt."
    yield f"images = {_list(draft.model)}"
    yield ""
    yield "[baseline]"
    yield f"name = {_text(draft.names[1])}"
    yield f"images = {_list(draft.baseline)}"
    yield ""


def _sizes(draft: PlanDraft) -> Iterator[str]:
    planned, sizes = draft.sizes, draft.sizes.sizes
    yield "[sizes]"
    for sentence in sentences(draft):
        yield from (f"# {line}" for line in textwrap.wrap(sentence, WIDTH))
    yield f"effect = {sizes.effect!r}"
    yield f'effect_unit = "{sizes.effect_unit}"  # "sd" of the paired difference, or "score"'
    yield f"power = {sizes.power!r}"
    yield f"prompts = {sizes.prompts}  # {_detects(planned)}"
    yield f"seeds = {sizes.seeds}  # of each generator; three show how much seeds differ"
    yield f"pairs = {sizes.pairs}  # {_of_pairs(sizes.pairs, sizes.power, planned.alpha)}"
    yield f"review = {sizes.review}  # {_of_review(sizes.review)}"
    yield ""


def _pillars(draft: PlanDraft) -> Iterator[str]:
    yield "[sample_quality]"
    yield "# Images that both should look like; sub-folders named as tags are compared by tag."
    yield f"reference = {_text(draft.reference)}"
    yield "by_category = true"
    yield "distances = ["
    for features, metrics in draft.distances:
        yield f"    {{ features = {_text(features)}, metrics = {_list(metrics)} }},"
    yield "]"
    yield ""
    yield "[prompt_adherence]"
    yield "# Three of different kinds: a claim needs three that agree."
    yield f"scorers = {_list(draft.scorers)}"
    yield ""
    yield "[preference]"
    yield "# People: `t2v-eval vote` writes their page; name what they saved, and its key.json."
    yield "votes = []"
    yield "keys = []"
    yield "battles = []  # tables of `t2v-eval judge`, or of others"
    yield "judges = []   # scorers of kind judge"
    yield "scorers = []  # scorers that were trained on people's preferences"
    yield ""
    yield "[failure_analysis]"
    yield "# `t2v-eval review` writes a page of outputs chosen at random; name what raters saved."
    yield "review = []"
    yield "safety = []   # scorers of unsafe content; they flag, and sign nothing off"
    yield ""
    yield "[probes]"
    yield "# Kinds of scorers that the model was trained or guided with, such as clip."
    yield f"families = {_list(draft.families)}"
    yield ""
    yield "[gate]"
    yield "# The prompts of `t2v-eval protocol --gate`, chosen by a hash of each prompt."
    yield f"prompts = {min(GATE_PROMPTS, draft.sizes.sizes.prompts)}"
    yield ""


def _criteria(draft: PlanDraft) -> Iterator[str]:
    sizes = draft.sizes.sizes
    yield "# The model is signed off if all criteria are met. What cannot be told is not met."
    yield "# A criterion of the gate is checked by `t2v-eval protocol --gate`, too."
    yield from _criterion(
        "three scorers agree that prompt adherence is better",
        "prompt_adherence",
        "better",
        ["agree = 3"],
    )
    of_gate = min(GATE_PROMPTS, sizes.prompts)
    detectable = power.paired_effect(of_gate, 1.0, sizes.power, draft.sizes.alpha)
    margin = (
        f"margin = {_rounded_up(detectable)}  # what {of_gate:,} prompts can show",
        'unit = "sd"',
        "gate = true",
    )
    for scorer in draft.scorers:
        name = f"prompt adherence by {scorer} is not worse"
        lines = [f"figure = {_text(scorer)}", *margin]
        yield from _criterion(name, "prompt_adherence", "not_worse", lines)
    for figure in compared_figures(draft):
        name = f"{figure} is not worse by a tenth of the baseline's"
        lines = [
            f"figure = {_text(figure)}",
            f"margin = {KID_SHARE}",
            'unit = "share"',
            "gate = true",
        ]
        yield from _criterion(name, "sample_quality", "not_worse", lines)
    reach = power.share_reach(sizes.pairs)
    lines = [
        'figure = "votes"',
        f"margin = {_rounded_up(reach)}  # what {sizes.pairs:,} pairs can show",
    ]
    yield from _criterion("people do not prefer the baseline", "preference", "not_worse", lines)
    limit = power.rate_limit(sizes.review)
    lines = [
        'figure = "unsafe"',
        f"limit = {_rounded_up(limit)}  # none of {sizes.review:,} outputs",
    ]
    yield from _criterion("unsafe outputs are rare", "failure_analysis", "at_most", lines)


def compared_figures(draft: PlanDraft) -> list[str]:
    """Return the figures of sample quality that are criteria: of FID, only with enough images.

    Args:
        draft: the plan.
    """
    images = draft.sizes.images // GENERATORS
    names = (*COMPARED, "fid") if images >= FID_IMAGES else COMPARED
    return [
        f"{metric} ({features})"
        for features, metrics in draft.distances
        for metric in metrics
        if metric in names
    ]


def _criterion(name: str, pillar: str, kind: str, lines: Sequence[str]) -> Iterator[str]:
    yield ""
    yield "[[criteria]]"
    yield f"name = {_text(name)}"
    yield f'pillar = "{pillar}"'
    yield f'kind = "{kind}"'
    yield from lines


def sentences(draft: PlanDraft) -> list[str]:
    """Return what a plan shows and costs, in sentences.

    Args:
        draft: the plan.

    >>> from t2v_eval.protocol.sizes import plan_sizes
    >>> sentences(PlanDraft(sizes=plan_sizes(0.125), scorers=["mine"]))[0][:60]
    'An effect of 0.125 standard deviations of the paired differe'
    """
    planned, sizes = draft.sizes, draft.sizes.sizes
    unit = "standard deviations of the paired difference" if sizes.effect_unit == "sd" else "points"
    needed = "more than a billion" if planned.needed is None else f"{planned.needed:,}"
    lines = [
        f"An effect of {sizes.effect:g} {unit} needs {needed} prompts (paired t test, two-sided at "
        f"{planned.alpha:g}, power {sizes.power:g})."
    ]
    if not planned.within_budget:
        lines.append(
            f"The budget of {planned.prices.budget:g} US dollars pays {sizes.prompts:,} prompts, "
            f"which {_detects(planned)}."
        )
    if planned.deviations:
        spread = ", ".join(f"{name} {sd:.3g}" for name, sd in planned.deviations.items())
        lines.append(f"Standard deviations of paired differences in the pilot: {spread}.")
    images = (
        f"{planned.images:,} images ({sizes.prompts:,} prompts, {sizes.seeds} seeds, 2 generators)"
    )
    if planned.prices.seconds_per_image:
        images += f", {planned.gpu_hours:,.2f} GPU hours to generate"
    lines.append(f"It takes {images}.")
    lines.append(
        f"It takes {draft.scores:,} scores with those of probes, {draft.requests:,} of them by "
        "services; people "
        f"judge {sizes.pairs:,} pairs, and look at {GENERATORS * RATERS * sizes.review:,} outputs "
        f"({sizes.review} of each generator, {RATERS} raters)."
    )
    if planned.us_dollars:
        lines.append(
            f"Generating and scoring cost {format_dollars(planned.us_dollars)} US dollars, as far "
            "as prices are known."
        )
    return lines


def plan_markdown(draft: PlanDraft) -> str:
    """Return a plan as Markdown.

    Args:
        draft: what it says.
    """
    sizes, rows = draft.sizes.sizes, pillar_rows(draft)
    lines = ["# Plan of a protocol", "", *(f"- {line}" for line in sentences(draft)), ""]
    lines += ["| pillar | measured by | size | what the size shows |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines += [
        "",
        "## What sizes show",
        "",
        *_table(sizes.power, draft.sizes.alpha),
        "",
        "## Criteria",
        "",
    ]
    lines += [f"- {name}" for name in criterion_names(draft)]
    return "\n".join(lines) + "\n"


def pillar_rows(draft: PlanDraft) -> list[tuple[str, str, str, str]]:
    """Return of each pillar what measures it, how much, and what that shows.

    Args:
        draft: the plan.
    """
    sizes, alpha = draft.sizes.sizes, draft.sizes.alpha
    networks = "; ".join(f"{', '.join(m)} ({f or 'the default'})" for f, m in draft.distances)
    return [
        ("Sample quality", f"{networks}; FID decides from {FID_IMAGES:,} images on",
         f"{draft.sizes.images // GENERATORS:,} images of each", "KID and CMMD with intervals"),
        ("Prompt adherence", ", ".join(draft.scorers),
         f"{sizes.prompts:,} prompts, {sizes.seeds} seeds", _detects(draft.sizes)),
        ("Preference", "votes of people, judges, preference scorers",
         f"{sizes.pairs:,} blind pairs", _of_pairs(sizes.pairs, sizes.power, alpha)),
        ("Failure analysis", "outputs at random, flagged by two raters",
         f"{sizes.review:,} outputs of each", _of_review(sizes.review)),
    ]  # fmt: skip


def criterion_names(draft: PlanDraft) -> list[str]:
    """Return what the criteria of a plan demand.

    Args:
        draft: the plan.
    """
    return [
        line[8:-1].replace('\\"', '"') for line in _criteria(draft) if line.startswith("name = ")
    ]


def _table(chance: float, alpha: float) -> Iterator[str]:
    """Yield a Markdown table of what usual sizes show."""
    yield "| n | outputs, none flagged | blind pairs | paired prompts |"
    yield "| --- | --- | --- | --- |"
    for n in (50, 200, 500, 2000, 10_000):
        effect = power.paired_effect(n, 1.0, chance, alpha)
        yield (
            f"| {n:,} | rate below {100 * power.rate_limit(n):.2g} % "
            f"| {_of_pairs(n, chance, alpha)} | {effect:.3f} sd |"
        )


def _detects(planned: PlannedSizes) -> str:
    return f"detect {planned.detectable:.3g} standard deviations"


def _of_pairs(n: int, chance: float, alpha: float) -> str:
    share = power.share_effect(n, chance, alpha)
    detects = f"detect {100 * share:.1f} %" if share <= 1 else "detect no share"
    return f"± {100 * power.share_reach(n):.1f} points, {detects}"


def _of_review(n: int) -> str:
    return f"none flagged of {n:,}: the rate is below {100 * power.rate_limit(n):.2g} %"


def _rounded_up(value: float) -> str:
    """Return a number with four decimals, not below it: a limit that is just reached is met."""
    return f"{math.ceil(value * 10_000) / 10_000:.4f}"


def _text(text: str) -> str:
    """Return a text as a TOML string."""
    return json.dumps(text, ensure_ascii=False)


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(map(_text, texts)) + "]"
