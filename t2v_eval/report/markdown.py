"""A report as Markdown, for a README, a pull request or a wiki."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from t2v_eval.evaluation.comparison import Difference
from t2v_eval.evaluation.run import Run
from t2v_eval.report.about import About
from t2v_eval.report.claims import claims
from t2v_eval.report.format import MARKDOWN, duration
from t2v_eval.report.tables import (
    Cell,
    ChanceCell,
    IntervalCell,
    PublishedCell,
    PValueCell,
    ScorerCell,
    Section,
    Table,
    VerdictCell,
    sections,
)
from t2v_eval.scoring.results import CellCounts
from t2v_eval.utils.printable import printable

MAX_PUBLISHED = 12  # rows of the table of published figures


def render(
    runs: Sequence[Run],
    labels: Sequence[str],
    differences: Sequence[Difference],
    about: About | None = None,
) -> str:
    """Return the claims and tables of the page as Markdown; text from users is escaped.

    Args:
        runs: the runs of the report.
        labels: what to call the scorer of each run.
        differences: differences of comparable runs, by the indices of both.
        about: title, date and command; by default of the runs and of now.

    >>> print(render([], [], []).splitlines()[0])
    # Report without runs
    """
    about = about or About.of(runs)
    parts = [
        f"# {_escape(about.title)}",
        *_facts(about),
        "A higher figure means a closer match. In brackets are 95 % confidence intervals "
        "(bootstrap over items). p is of paired permutation tests, corrected (Holm).",
    ]
    for section in sections(runs, labels, differences):
        parts += [f"## {_escape(section.name)}", *_section(section)]
    parts += ["## How the numbers were made", *_provenance(zip(labels, runs, strict=True))]
    return "\n\n".join(parts) + "\n"


def _facts(about: About) -> Iterator[str]:
    version = about.versions.get("t2v-eval")
    facts = [
        about.date,
        "" if about.seconds is None else f"took {duration(about.seconds)}",
        f"t2v-eval {version}" if version else "",
    ]
    if any(facts):
        yield _escape(", ".join(filter(None, facts)))
    if about.command_line:
        yield f"Command: {_escape(about.command_line)}"


def _section(section: Section) -> Iterator[str]:
    benchmark = section.first.benchmark
    for claim in claims(section, MARKDOWN):
        yield f"**{_escape(claim.text)}**"
        if claim.basis:
            yield _list(claim.basis)
    yield _escape(f"{benchmark.summary} ({section.items})".strip())
    yield _table(section.metrics())
    if section.meanings:
        yield _list(f"{metric}: {text}" for metric, text in section.meanings.items())
    yield from _failures(section)
    for table in section.published(MAX_PUBLISHED):
        yield from _titled(table)
    if benchmark.tags:
        yield from _titled(section.by_tag())
    if section.pairs:
        yield from _titled(section.differences())
    for table in (*section.people(), *section.contrasts(), *section.decisions()):
        yield from _titled(table)
    if benchmark.note:
        yield _escape(benchmark.note)
    remarks = [*benchmark.remarks, *section.cautions]
    if remarks:
        yield _list(remarks)


def _failures(section: Section) -> Iterator[str]:
    reasons = [
        f"{label}: {count} × {reason}"
        for label, run in section.scorers
        for reason, count in run.errors.items()
    ]
    if reasons:
        yield "Scores that failed and are left out:"
        yield _list(reasons)


def _provenance(scorers: Iterable[tuple[str, Run]]) -> Iterator[str]:
    for label, run in scorers:
        facts = {"id": run.scorer.id}
        facts |= {"question": run.scorer.question} if run.scorer.question else {}
        facts |= {"answer": run.scorer.answer} if run.scorer.answer else {}
        facts |= {k.replace("_", " "): str(v) for k, v in run.scorer.execution.items()}
        facts |= {"noise floor": run.noise_floor.describe(), "time": f"{run.seconds:.1f} s"}
        facts |= {"sha256 of texts, ratings and tags": run.data.sha256} if run.data.sha256 else {}
        images = run.data.files_sha256
        facts |= {"sha256 of images": images} if images else {}
        folders = run.benchmark.folders
        facts |= {f"recipe of {f.folder}": f.recipe_text for f in folders if f.recipe}
        facts |= run.environment
        lines = _list(f"{title}: {fact}" for title, fact in facts.items())
        yield f"**{_escape(label)} on {_escape(run.benchmark.name)}**\n\n{lines}"


def _titled(table: Table) -> Iterator[str]:
    yield f"### {_escape(table.title)}"
    if table.note:
        yield _escape(table.note)
    yield _table(table)


def _table(table: Table) -> str:
    heads = [[_escape(column) for column in table.columns], ["---"] * len(table.columns)]
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (*heads, *rows))


def _cell(cell: Cell) -> str:
    match cell:
        case ScorerCell(label, failed):
            return _escape(label) + (f" (failed on {failed})" if failed else "")
        case IntervalCell(interval, sign, published):
            beside = "" if published is None else f"; published {MARKDOWN.number(published)}"
            return MARKDOWN.interval(interval, sign) + beside
        case PValueCell(p):
            return MARKDOWN.p_value(p)
        case VerdictCell(text) | ChanceCell(text) | str(text):
            return _escape(text)
        case PublishedCell():
            return _escape(cell.text)
        case CellCounts():
            return f"{cell.used} of {cell.cells}"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_escape(line)}" for line in lines)


def _escape(text: object) -> str:
    """Return text on one line, with the characters of Markdown and HTML escaped."""
    line = printable(" ".join(str(text).split()))
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", line)
