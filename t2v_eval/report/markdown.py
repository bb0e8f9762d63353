"""A report as Markdown, for a README, a pull request or a wiki."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from t2v_eval.evaluation.benchmark import Run
from t2v_eval.evaluation.comparison import BOTH, Difference, by_benchmark
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import PValue
from t2v_eval.utils.printable import printable


def render(runs: Sequence[Run], labels: Sequence[str], differences: Sequence[Difference]) -> str:
    """The tables of the page; whatever users supply is shown as it is, never as Markdown."""
    parts = [
        "# t2v-eval report",
        "Higher is better everywhere. In brackets are 95 % intervals (bootstrap over items).",
    ]
    for name, indices in by_benchmark(runs).items():
        own = [(labels[n], runs[n]) for n in indices]
        pairs = [d for d in differences if d.first in indices]
        parts += [f"## {_plain(name)}", *_benchmark(own, pairs, labels)]
    parts += ["## How the numbers were made", *_made(zip(labels, runs, strict=True))]
    return "\n\n".join(parts) + "\n"


def _benchmark(
    scorers: Sequence[tuple[str, Run]], pairs: Sequence[Difference], labels: Sequence[str]
) -> Iterator[str]:
    first = scorers[0][1]
    headline = first.benchmark["headline"]
    metrics = list(first.metrics)
    total = first.benchmark["items_of_all"]
    of = f" of {total}" if total > len(first.items) else ""
    yield _plain(f"{first.benchmark['summary']} ({len(first.items)}{of} items)".strip())
    yield _table(
        ["scorer", *metrics, "scores used"],
        [
            [
                _plain(label) + _failed(run),
                *(_with_published(run, metric) for metric in metrics),
                f"{run.counts['used']} of {run.counts['cells']}",
            ]
            for label, run in scorers
        ]
        + _chance(first.benchmark["chance"], metrics),
    )
    meanings = {m: said for m, said in first.benchmark["meanings"].items() if said}
    if meanings:
        yield "\n".join(f"- {_plain(metric)}: {_plain(said)}" for metric, said in meanings.items())
    sources = [one["source"] for _, run in scorers for one in run.benchmark["published"].values()]
    for source in dict.fromkeys(filter(None, sources)):
        yield f"Published: {_plain(source)}."
    reasons = [(label, of, n) for label, run in scorers for of, n in run.errors.items()]
    if reasons:
        yield "Scores that failed and are left out:"
        yield "\n".join(f"- {_plain(label)}: {n} × {_plain(of)}" for label, of, n in reasons)
    tags: Mapping[str, int] = first.benchmark["tags"]
    if tags:
        yield f"### {_plain(headline)} by tag"
        yield _table(
            ["tag", "items", *(label for label, _ in scorers)],
            [
                [
                    _plain(tag),
                    str(count),
                    *(
                        _interval(run.by_tag[tag][headline])
                        if headline in run.by_tag.get(tag, {})
                        else ""
                        for _, run in scorers
                    ),
                ]
                for tag, count in tags.items()
            ],
        )
    if pairs:
        yield "### Differences between scorers"
        yield (
            f"The first minus the second, on the same items. p is of a paired permutation test on "
            f"{_plain(headline)}, corrected for all pairs (Holm)."
        )
        lacking = any(d.used < d.cells for d in pairs)
        if lacking:
            yield BOTH
        yield _table(
            ["first − second", *metrics, "p", f"on {headline}", *["scores of both"] * lacking],
            [
                [
                    f"{_plain(labels[d.first])} − {_plain(labels[d.second])}",
                    *(_interval(one, "+") for one in d.metrics.values()),
                    *_verdict(
                        d.tests[""][headline],
                        d.metrics[headline],
                        labels[d.first],
                        labels[d.second],
                    ),
                    *[f"{d.used} of {d.cells}"] * lacking,
                ]
                for d in pairs
            ],
        )
    for label, run in scorers:
        for one, other in run.contrasts:
            name = f"{one} - {other}"
            yield f"### {_plain(name)} by {_plain(label)}"
            yield _table(["items", one, other, name, "p", "verdict"], _contrast(run, one, other))
    if first.benchmark["note"]:
        yield _plain(first.benchmark["note"])
    remarks = [_plain(remark) for remark in first.benchmark["remarks"]]
    cautions = dict.fromkeys((label, of) for label, run in scorers for of in run.scorer["cautions"])
    remarks += [f"{_plain(label)}: {_plain(caution)}" for label, caution in cautions]
    if remarks:
        yield "\n".join(f"- {remark}" for remark in remarks)


def _contrast(run: Run, first: str, second: str) -> Iterator[list[str]]:
    name = f"{first} - {second}"
    for tag, tests in run.tests.items():
        of = run.by_tag[tag] if tag else run.metrics
        figures = [_interval(of[first]), _interval(of[second]), _interval(of[name], "+")]
        yield [_plain(tag or "all"), *figures, *_verdict(tests[name], of[name], first, second)]


def _made(scorers: Iterable[tuple[str, Run]]) -> Iterator[str]:
    for label, run in scorers:
        facts = {"id": run.scorer["id"], "question": run.scorer["question"]}
        facts |= {"answer": run.scorer["answer"]} if run.scorer["answer"] else {}
        facts |= {k.replace("_", " "): v for k, v in run.scorer.get("execution", {}).items()}
        facts |= {"time": f"{run.seconds:.1f} s", **run.environment}
        listed = "\n".join(f"- {_plain(what)}: {_plain(fact)}" for what, fact in facts.items())
        yield f"**{_plain(label)} on {_plain(run.benchmark['name'])}**\n\n{listed}"


def _chance(chance: Mapping[str, float], metrics: Sequence[str]) -> list[list[str]]:
    if not chance:
        return []
    return [["guessing", *(f"{chance[m]:.3f}" if m in chance else "" for m in metrics), ""]]


def _failed(run: Run) -> str:
    return f" (failed on {run.counts['failed']})" if run.counts["failed"] else ""


def _with_published(run: Run, metric: str) -> str:
    published = run.benchmark["published"].get(metric)
    beside = f"; published {published['value']:.3f}" if published else ""
    return _interval(run.metrics[metric]) + beside


def _interval(interval: Interval, sign: str = "") -> str:
    if interval.value != interval.value:
        return "–"
    value, low, high = (f"{x:{sign}.3f}" for x in interval)
    return value if interval.low != interval.low else f"{value} [{low}, {high}]"  # too few to say


def _verdict(test: PValue, difference: Interval, first: str, second: str) -> list[str]:
    p = test.p_holm
    shown = "–" if p != p else "< 0.001" if p < 0.001 else f"{p:.3f}"
    if not test.significant:
        return [shown, "cannot be told apart"]
    return [shown, f"{_plain(first if difference.value > 0 else second)} is better"]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [[_plain(column) for column in columns], ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: object) -> str:
    """Text in which nothing is Markdown or HTML, on one line."""
    line = printable(" ".join(str(text).split()))
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", line)
