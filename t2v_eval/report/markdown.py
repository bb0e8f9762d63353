"""A report as Markdown, for a README, a pull request or a wiki."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from t2v_eval.evaluation.benchmark import Run
from t2v_eval.evaluation.comparison import BOTH, Difference, by_benchmark
from t2v_eval.report.format import MARKDOWN, verdict
from t2v_eval.stats.bootstrap import Interval
from t2v_eval.stats.permutation import PValue
from t2v_eval.utils.printable import printable

Labelled = Sequence[tuple[str, Run]]


def render(runs: Sequence[Run], labels: Sequence[str], differences: Sequence[Difference]) -> str:
    """Return the tables of the page as Markdown; text from users is escaped.

    Args:
        labels: what to call the scorer of each run.
        differences: of the runs that can be compared, by their indices.
    """
    parts = [
        "# t2v-eval report",
        "Higher is better everywhere. In brackets are 95 % confidence intervals (bootstrap over "
        "items).",
    ]
    for name, indices in by_benchmark(runs).items():
        scorers = [(labels[n], runs[n]) for n in indices]
        pairs = [d for d in differences if d.first in indices]
        parts += [f"## {_escape(name)}", *_benchmark(scorers, pairs, labels)]
    parts += ["## How the numbers were made", *_provenance(zip(labels, runs, strict=True))]
    return "\n\n".join(parts) + "\n"


def _benchmark(
    scorers: Labelled, pairs: Sequence[Difference], labels: Sequence[str]
) -> Iterator[str]:
    first = scorers[0][1]
    total = first.benchmark["items_of_all"]
    of_total = f" of {total}" if total > len(first.items) else ""
    yield _escape(f"{first.benchmark['summary']} ({len(first.items)}{of_total} items)".strip())
    yield _metrics_table(scorers)
    yield from _meanings(scorers)
    yield from _failures(scorers)
    if first.benchmark["tags"]:
        yield from _by_tag(scorers)
    if pairs:
        yield from _differences(first, pairs, labels)
    for label, run in scorers:
        for one, other in run.contrasts:
            name = f"{one} - {other}"
            yield f"### {_escape(name)} by {_escape(label)}"
            yield _table(["items", one, other, name, "p", "verdict"], _contrast(run, one, other))
    yield from _notes(scorers)


def _metrics_table(scorers: Labelled) -> str:
    first = scorers[0][1]
    metrics = list(first.metrics)
    rows = [
        [
            _escape(label) + _failed(run),
            *(_with_published(run, metric) for metric in metrics),
            f"{run.counts['used']} of {run.counts['cells']}",
        ]
        for label, run in scorers
    ]
    rows += _chance(first.benchmark["chance"], metrics)
    return _table(["scorer", *metrics, "scores used"], rows)


def _meanings(scorers: Labelled) -> Iterator[str]:
    meanings = {m: text for m, text in scorers[0][1].benchmark["meanings"].items() if text}
    if meanings:
        yield "\n".join(
            f"- {_escape(metric)}: {_escape(text)}" for metric, text in meanings.items()
        )
    sources = [
        figure["source"] for _, run in scorers for figure in run.benchmark["published"].values()
    ]
    for source in dict.fromkeys(filter(None, sources)):
        yield f"Published: {_escape(source)}."


def _failures(scorers: Labelled) -> Iterator[str]:
    reasons = [(label, reason, n) for label, run in scorers for reason, n in run.errors.items()]
    if reasons:
        yield "Scores that failed and are left out:"
        yield "\n".join(
            f"- {_escape(label)}: {n} × {_escape(reason)}" for label, reason, n in reasons
        )


def _by_tag(scorers: Labelled) -> Iterator[str]:
    first = scorers[0][1]
    headline = first.benchmark["headline"]
    tags: Mapping[str, int] = first.benchmark["tags"]
    yield f"### {_escape(headline)} by tag"
    yield _table(
        ["tag", "items", *(label for label, _ in scorers)],
        [
            [
                _escape(tag),
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


def _differences(first: Run, pairs: Sequence[Difference], labels: Sequence[str]) -> Iterator[str]:
    headline = first.benchmark["headline"]
    yield "### Differences between scorers"
    yield (
        f"The first minus the second, on the same items. p is of a paired permutation test on "
        f"{_escape(headline)}, corrected for all pairs (Holm)."
    )
    has_missing = any(pair.used < pair.cells for pair in pairs)
    if has_missing:
        yield BOTH
    columns = ["first − second", *first.metrics, "p", f"on {headline}"]
    rows = []
    for pair in pairs:
        names = labels[pair.first], labels[pair.second]
        rows.append(
            [
                " − ".join(map(_escape, names)),
                *(_interval(interval, "+") for interval in pair.metrics.values()),
                *_tested(pair.tests[""][headline], pair.metrics[headline], *names),
                *[f"{pair.used} of {pair.cells}"] * has_missing,
            ]
        )
    yield _table([*columns, *["scores of both"] * has_missing], rows)


def _contrast(run: Run, first: str, second: str) -> Iterator[list[str]]:
    name = f"{first} - {second}"
    for tag, tests in run.tests.items():
        metrics = run.by_tag[tag] if tag else run.metrics
        yield [
            _escape(tag or "all"),
            _interval(metrics[first]),
            _interval(metrics[second]),
            _interval(metrics[name], "+"),
            *_tested(tests[name], metrics[name], first, second),
        ]


def _notes(scorers: Labelled) -> Iterator[str]:
    first = scorers[0][1]
    if first.benchmark["note"]:
        yield _escape(first.benchmark["note"])
    cautions = dict.fromkeys(
        (label, caution) for label, run in scorers for caution in run.scorer["cautions"]
    )
    remarks = [_escape(remark) for remark in first.benchmark["remarks"]]
    remarks += [f"{_escape(label)}: {_escape(caution)}" for label, caution in cautions]
    if remarks:
        yield "\n".join(f"- {remark}" for remark in remarks)


def _provenance(scorers: Iterable[tuple[str, Run]]) -> Iterator[str]:
    for label, run in scorers:
        facts = {"id": run.scorer["id"], "question": run.scorer["question"]}
        facts |= {"answer": run.scorer["answer"]} if run.scorer["answer"] else {}
        facts |= {k.replace("_", " "): v for k, v in run.scorer.get("execution", {}).items()}
        facts |= {"time": f"{run.seconds:.1f} s", **run.environment}
        lines = "\n".join(f"- {_escape(title)}: {_escape(fact)}" for title, fact in facts.items())
        yield f"**{_escape(label)} on {_escape(run.benchmark['name'])}**\n\n{lines}"


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
    return MARKDOWN.interval(interval, sign)


def _tested(test: PValue, difference: Interval, first: str, second: str) -> list[str]:
    """Return the cells of p and of the verdict."""
    return [MARKDOWN.p_value(test.p_holm), _escape(verdict(test, difference, first, second))]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [[_escape(column) for column in columns], ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: object) -> str:
    """Return text on one line, with the characters of Markdown and HTML escaped."""
    line = printable(" ".join(str(text).split()))
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", line)
