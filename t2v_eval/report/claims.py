"""The first sentences of a report: what was measured, by how much and how sure it is.

Page, Markdown and terminal show the same sentences. A higher score of images is what a scorer
says of them, so that no sentence calls a generator better; people's verdicts are known only where
a card says how often they matched those of the scorer, or where people rated a part of the prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from t2v_eval.evaluation.people import People
from t2v_eval.evaluation.run import Run
from t2v_eval.evaluation.verdicts import VerdictFacts
from t2v_eval.report.format import CONSOLE, Style
from t2v_eval.report.tables import Section
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.decisions import DecisionCounts
from t2v_eval.stats.permutation import LEVEL, PValue

MAX_NAMES = 3  # that a sentence lists
MAX_SENTENCES = 6  # of one benchmark


class Claim(NamedTuple):
    """What was measured, in a sentence.

    Attributes:
        text: the sentence.
        significant: whether it says that one is higher than another, and the test supports it.
        basis: what is known of the scorer or of the measurement, for the reader to weigh it.

    >>> Claim("mine reaches tau_b 0.410 over 12 items.", significant=False).basis
    ()
    """

    text: str
    significant: bool
    basis: tuple[str, ...] = ()


class _Gap(NamedTuple):
    """The difference of two, the first minus the second, and its test."""

    first: str
    second: str
    interval: Interval
    test: PValue
    shared: int  # items that have a value of both

    def ahead(self) -> tuple[str, str, Interval]:
        """Return the names with the higher first, and its lead."""
        if not self.interval.value < 0:
            return self.first, self.second, self.interval
        return self.second, self.first, self.interval.reversed()


def claims(section: Section, style: Style = CONSOLE) -> list[Claim]:
    """Return what a section of a report measured, the most important first.

    Args:
        section: the runs on one benchmark, and their differences.
        style: the characters of numbers.

    >>> import t2v_eval
    >>> from t2v_eval.report.tables import sections
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 8}, resamples=50)
    >>> (section,) = sections(report.runs, report.labels, report.differences)
    >>> claims(section)[0].text.partition(" [")[0]
    'tiny-clip reaches group 0.375'
    """
    writer = _Writer(section, style)
    sentences = writer.of_generators() if section.has_generators else writer.of_scorers()
    return list(sentences)[:MAX_SENTENCES]


def first_sentence(section: Section, style: Style = CONSOLE) -> str:
    """Return the texts of the claims of a section as one paragraph.

    >>> import t2v_eval
    >>> from t2v_eval.report.tables import sections
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 8}, resamples=50)
    >>> (section,) = sections(report.runs, report.labels, report.differences)
    >>> first_sentence(section).endswith("over 8 items; guessing reaches 0.167.")
    True
    """
    return " ".join(claim.text for claim in claims(section, style))


def matched_people(verdicts: Sequence[VerdictFacts]) -> list[str]:
    """Return how often a scorer's verdicts matched people's, a sentence for each source.

    >>> matched_people([VerdictFacts("tifa160", "generators", share=0.5, count=10)])
    ["On tifa160, its verdicts on two generators matched people's for 5 of 10 pairs."]
    """
    sentences = []
    for verdict in verdicts:
        if verdict.decisions is not None:
            text = decided(verdict.decisions, "it")
        elif verdict.of == "generators":
            text = (
                f"its verdicts on two generators matched people's for "
                f"{verdict.share * verdict.count:.0f} of {verdict.count} pairs"
            )
        else:
            text = f"it ordered {100 * verdict.share:.1f} % of pairs of images as people did"
        note = f": {verdict.note}" if verdict.note else ""
        sentences.append(f"On {verdict.benchmark}, {text}{note}.")
    return sentences


def decided(counts: DecisionCounts, scorer: str) -> str:
    """Return how a scorer's decisions on pairs of generators compare with people's.

    >>> decided(DecisionCounts(same=2, missed=1), "clipscore")
    'of 3 pairs of generators, clipscore ordered 2 as people did and 0 the other way, and missed 1'
    """
    parts = [f"ordered {counts.same} as people did and {counts.opposite} the other way"]
    parts += [f"missed {counts.missed}"] if counts.missed else []
    if counts.claimed:
        parts.append(f"claimed a difference in {counts.claimed} where people saw none")
    if counts.neither:
        parts.append(f"saw none with them in {counts.neither}")
    joined = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])}, and {parts[-1]}"
    means = f"; the means of {counts.reordered} are in the other order" if counts.reordered else ""
    return f"of {_count(counts.pairs, 'pair')} of generators, {scorer} {joined}{means}"


class _Writer:
    """Write the sentences of one section in one style of numbers."""

    def __init__(self, section: Section, style: Style) -> None:
        self.section, self.style = section, style

    def of_generators(self) -> Iterator[Claim]:
        """Yield what each scorer says of the images of the generators."""
        directions: dict[tuple[str, str], set[bool]] = {}
        for label, run in self.section.scorers:
            gaps = _gaps_of_generators(run)
            basis = tuple(matched_people(run.scorer.verdicts)) or (
                f"{label} is an automatic scorer; how often it agrees with people is not known.",
            )
            yield from self._people(label, run.people)
            for gap in gaps if len(gaps) < 2 else ():
                claims = (*_wins(run, gap), *_noise(run, gap), *basis)
                yield self._two_generators(label, gap, claims)
            if len(gaps) >= 2:
                yield self._several_generators(label, run, gaps, basis)
            elif not gaps:
                yield self._one_generator(label, run, basis)
            for gap in gaps:
                if gap.test.significant:
                    directions.setdefault((gap.first, gap.second), set()).add(
                        gap.interval.value > 0
                    )
        for (first, second), signs in directions.items():
            if len(signs) == 2:
                yield Claim(f"The scorers contradict each other on {first} and {second}.", False)

    def _people(self, label: str, people: People | None) -> Iterator[Claim]:
        """Yield what people would say of the generators, with the scores of a scorer."""
        if people is None or not people.means:
            return
        estimates = [d.estimate for d in people.differences] or [*people.means.values()]
        scored = max(estimate.scored for estimate in estimates)
        source = (
            f"from ratings of {_count(people.prompts, 'prompt')} and scores of {scored} by {label}"
        )
        gaps = [
            _Gap(d.first, d.second, d.estimate.interval, d.test, d.estimate.rated)
            for d in people.differences
        ]
        alone = [
            f"The ratings alone give {self._interval(e.ratings_alone)}"
            + (
                ""
                if e.worth is None
                else f"; with the scores they are worth {e.worth} rated prompts"
            )
            + "."
            for e in (estimates if len(estimates) == 1 else ())
        ]
        basis = (*alone, *people.remarks)
        means = {name: mean.interval for name, mean in people.means.items()}
        if len(gaps) == 1:
            yield self._people_of_two(gaps[0], source, basis)
        elif gaps:
            top = max(means, key=lambda name: means[name].value)
            text = f"Of {len(means)} generators, people would rate {top} highest, {source} ("
            text += f"{self._interval(means[top])}): "
            yield self._ranked(text, top, gaps, basis)
        else:
            ((name, mean),) = means.items()
            yield Claim(f"People would rate {name} {self._interval(mean)}, {source}.", False, basis)

    def _people_of_two(self, gap: _Gap, source: str, basis: tuple[str, ...]) -> Claim:
        if math.isnan(gap.test.p_holm):
            text = f"What people would say of {gap.first} and {gap.second} is not known"
            return Claim(f"{text}: there are too few ratings, or all are equal.", False, basis)
        if gap.test.significant:
            higher, lower, lead = gap.ahead()
            text = f"People would rate {higher} {self._interval(lead)} points higher than {lower}"
            return Claim(f"{text}, {self._p(gap.test)}, {source}.", True, basis)
        higher, lower, lead = gap.ahead()
        text = f"Which of {higher} and {lower} people would rate higher cannot be told {source}"
        return Claim(f"{text}: {self._difference(lead, gap.test)}.", False, basis)

    def _two_generators(self, label: str, gap: _Gap, basis: tuple[str, ...]) -> Claim:
        where = f"on {label} over {_count(gap.shared, 'prompt')}"
        if math.isnan(gap.test.p_holm) or not gap.shared:
            text = f"{gap.first} and {gap.second} cannot be compared on {label}"
            return Claim(f"{text}: no prompt has scores of both.", False, basis)
        higher, lower, lead = gap.ahead()
        if gap.test.significant:
            text = f"{higher} scores higher than {lower} {where}: {self._lead(lead, gap.test)}."
            return Claim(text, True, basis)
        text = f"{higher} and {lower} cannot be told apart {where}"
        return Claim(f"{text}: {self._difference(lead, gap.test)}{_too_few(gap)}.", False, basis)

    def _several_generators(
        self, label: str, run: Run, gaps: Sequence[_Gap], basis: tuple[str, ...]
    ) -> Claim:
        names = dict.fromkeys(name for gap in gaps for name in (gap.first, gap.second))
        values = {name: run.metrics[name] for name in names if name in run.metrics}
        top = _top(values)
        if top is None:
            return Claim(f"The generators cannot be compared on {label}: it has no scores.", False)
        counts = {gap.shared for gap in gaps}
        over = (
            _count(max(counts), "prompt")
            if len(counts) == 1
            else (f"{min(counts)} to {_count(max(counts), 'prompt')}")
        )
        text = (
            f"Of {len(names)} generators, {top} has the highest mean score on {label} over {over} "
            f"({self._interval(values[top])}): "
        )
        return self._ranked(text, top, gaps, basis)

    def _one_generator(self, label: str, run: Run, basis: tuple[str, ...]) -> Claim:
        name = run.benchmark.folders[0].folder if run.benchmark.folders else "The images"
        value = run.metrics[run.benchmark.headline]
        if math.isnan(value.value):
            return Claim(f"{name} has no score on {label}: all failed.", False)
        over = _count(len(run.items), "prompt")
        text = f"{name} has the mean score {self._interval(value)} on {label} over {over}"
        return Claim(f"{text}; it says little without another to compare it with.", False, basis)

    def of_scorers(self) -> Iterator[Claim]:
        """Yield how far the scorers come on the benchmark."""
        scorers, first = self.section.scorers, self.section.first
        headline = first.benchmark.headline
        values = {label: run.metrics[headline] for label, run in scorers}
        over = f"over {_count(len(first.items), 'item')}"
        gaps = [
            _Gap(one, other, d.metrics[headline], d.tests[""][headline], len(first.items))
            for one, other, d in self.section.pairs
        ]
        top = _top(values)
        if top is None:
            yield Claim(f"No scorer reaches a value of {headline}: it is undefined {over}.", False)
        elif len(scorers) == 2 and gaps and not math.isnan(gaps[0].test.p_holm):
            claim, pair = (
                self._two_scorers(gaps[0], values, headline, over),
                self.section.pairs[0][2],
            )
            if pair.used < pair.cells:
                note = (
                    f"The difference is of the {pair.used} of {pair.cells} scores that both have."
                )
                claim = claim._replace(basis=(note,))
            yield claim
        elif gaps:
            text = (
                f"Of {len(scorers)} scorers, {top} reaches the highest {headline} {over} "
                f"({self._interval(values[top])}): "
            )
            yield self._ranked(text, top, gaps, ())
        else:
            chance = first.benchmark.chance.get(headline)
            guessing = "" if chance is None else f"; guessing reaches {self.style.number(chance)}"
            for label, value in values.items():
                count = _count(len(dict(scorers)[label].items), "item")
                yield Claim(
                    f"{label} reaches {headline} {self._interval(value)} over {count}{guessing}.",
                    False,
                )
        for label, run in scorers:
            if run.decisions:
                text = decided(DecisionCounts.of(run.decisions), label)
                yield Claim(f"{text[0].upper()}{text[1:]}.", False)

    def _two_scorers(
        self, gap: _Gap, values: Mapping[str, Interval], headline: str, over: str
    ) -> Claim:
        higher, lower, lead = gap.ahead()
        numbers = " and ".join(self.style.number(values[n].value) for n in (higher, lower))
        if gap.test.significant:
            text = f"{higher} reaches a higher {headline} than {lower} {over} ({numbers}): "
            return Claim(f"{text}{self._lead(lead, gap.test)}.", True)
        text = f"{higher} and {lower} cannot be told apart on {headline} {over} ({numbers})"
        return Claim(f"{text}: {self._difference(lead, gap.test)}{_too_few(gap)}.", False)

    def _ranked(self, start: str, top: str, gaps: Sequence[_Gap], basis: tuple[str, ...]) -> Claim:
        """Say of whom the top differs significantly, and of whom it does not."""
        below, apart = [], []
        for gap in gaps:
            if top not in gap[:2]:
                continue
            higher, lower, lead = gap.ahead()
            other = gap.second if gap.first == top else gap.first
            if gap.test.significant and higher == top:
                below.append(f"{lower} ({self._lead(lead, gap.test)})")
            else:
                apart.append(other)
        parts = []
        if below:
            parts.append(f"higher than {_listed(below)}")
        if apart:
            parts.append(f"it cannot be told apart from {_listed(apart)}")
        return Claim(f"{start}{'; '.join(parts)}.", bool(below), basis)

    def _difference(self, interval: Interval, test: PValue) -> str:
        """Return a lead that may be chance, of the name that the sentence has first."""
        return f"difference {self._lead(interval, test)}"

    def _lead(self, interval: Interval, test: PValue) -> str:
        digits = _digits(interval)
        value = self.style.number(interval.value, digits, sign="+")
        limits = ""
        if not math.isnan(interval.low):
            low, high = (self.style.number(x, digits) for x in interval[1:])
            limits = f" [{low},{self.style.space}{high}]"
        return f"{value}{limits}, {self._p(test)}"

    def _p(self, test: PValue) -> str:
        p, space = self.style.p_value(test.p_holm), self.style.space
        return f"p{space}{p if p.startswith('<') else f'={space}{p}'}"

    def _interval(self, interval: Interval) -> str:
        digits = _digits(interval)
        value = self.style.number(interval.value, digits)
        if math.isnan(interval.low):
            return value
        low, high = (self.style.number(x, digits) for x in interval[1:])
        return f"{value} [{low},{self.style.space}{high}]"


def _gaps_of_generators(run: Run) -> list[_Gap]:
    gaps = []
    for first, second in run.contrasts:
        name = f"{first} - {second}"
        # A report that was loaded has no verdicts of items.
        count = sum(name in verdict for verdict in run.verdicts) or run.benchmark.items
        if math.isnan(run.metrics[name].value):
            count = 0
        gaps.append(_Gap(first, second, run.metrics[name], run.tests[""][name], count))
    return gaps


def _wins(run: Run, gap: _Gap) -> Iterator[str]:
    """Yield on how many items each of two scores higher, where the scores of items are known."""
    name = f"{gap.first} - {gap.second}"
    values = [verdict[name] for verdict in run.verdicts if name in verdict]
    above, below = (sum(sign * value > 0 for value in values) for sign in (1, -1))
    if values:
        (more, first), (fewer, second) = sorted(
            [(above, gap.first), (below, gap.second)], key=lambda pair: -pair[0]
        )
        prompts = _count(len(values), "prompt")
        equal = len(values) - more - fewer
        ties = f"; on {equal} both score the same" if equal else ""
        yield f"{first} scores higher on {more} of {prompts}, {second} on {fewer}{ties}."


def _noise(run: Run, gap: _Gap) -> Iterator[str]:
    """Yield a remark where two are no further apart than scores that are computed again."""
    noise = run.noise_floor
    if noise.cells and abs(gap.interval.value) <= noise.mean:
        yield f"That is no more than the scorer's noise floor: {noise.describe()}."


def _top(values: Mapping[str, Interval]) -> str | None:
    """Return the name of the highest value; None where all are undefined."""
    defined = {name: i.value for name, i in values.items() if not math.isnan(i.value)}
    return max(defined, key=lambda name: defined[name]) if defined else None


def _digits(interval: Interval) -> int:
    """Return the number of decimals: as in tables, and more for a narrow interval."""
    half = (interval.high - interval.low) / 2
    if not math.isfinite(half) or half >= 0.005 or half < 1e-6:
        return 3
    return min(6, 1 + math.floor(-math.log10(half)))


def _too_few(gap: _Gap) -> str:
    """Say where no difference could be significant, as there are too few items."""
    return "; so few cannot show a difference" if 2 ** (1 - gap.shared) >= LEVEL else ""


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _listed(names: Sequence[str]) -> str:
    """Join names in words, of which only a few are listed."""
    if len(names) > MAX_NAMES + 1:
        names = [*names[:MAX_NAMES], f"{len(names) - MAX_NAMES} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
