"""Match the runs and items of two reports, and refuse what cannot be compared."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError
from t2v_eval.evaluation.comparison import title
from t2v_eval.evaluation.run import Run
from t2v_eval.evaluation.selection import first_few
from t2v_eval.report.report import Report

V = TypeVar("V")
Shared: TypeAlias = Sequence[tuple[int, int]]
"""The indices of each shared item in the new run and in its baseline."""


class Pair(NamedTuple):
    """A run of the new report with its baseline, and the labels of their scorers.

    >>> Pair._fields
    ('new', 'baseline', 'new_label', 'baseline_label')
    """

    new: Run
    baseline: Run
    new_label: str
    baseline_label: str

    def refuse(self, why: str) -> NoReturn:
        """Raise an error that begins with the names of the scorer and the benchmark.

        Raises:
            InputError: always.
        """
        raise InputError(f"{self.new_label} on {title(self.new)}: {why}")


def matched_runs(new: Report, baseline: Report, notes: list[str]) -> Iterator[Pair]:
    """Yield the runs of the same benchmark and scorer.

    Args:
        new: the new report.
        baseline: the report to compare with.
        notes: gets a sentence about what only one report has.

    Raises:
        InputError: the reports share no run.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5)
    >>> [pair.new_label for pair in matched_runs(report, report, [])]
    ['tiny-clip']
    """
    runs, base_runs = _by_benchmark(new), _by_benchmark(baseline)
    if not runs or not base_runs:
        raise InputError(f"the {'baseline' if runs else 'new report'} has no runs")
    for name, base_name in matched(runs, base_runs, "benchmark", notes):
        mine, other = runs[name], base_runs[base_name]
        for label, base_label in matched(mine, other, f"scorer on {name}", notes):
            yield Pair(mine[label], other[base_label], label, base_label)


def _by_benchmark(report: Report) -> dict[str, dict[str, Run]]:
    runs: dict[str, dict[str, Run]] = {}
    for run, label in zip(report.runs, report.labels, strict=True):
        runs.setdefault(title(run), {})[label] = run
    return runs


def matched(
    new: Mapping[str, V], baseline: Mapping[str, V], what: str, notes: list[str]
) -> list[tuple[str, str]]:
    """Return the names of both that belong together: equal ones, or the only ones.

    Args:
        new: what the new report has, by name.
        baseline: what the baseline has.
        what: what it is, for messages.
        notes: gets a sentence about what only one of them has.

    Raises:
        InputError: there are none.

    >>> matched({"v2": 0}, {"v1": 0}, "generator", [])
    [('v2', 'v1')]
    """
    shared = [name for name in new if name in baseline]
    if not shared and len(new) == len(baseline) == 1:
        return [(next(iter(new)), next(iter(baseline)))]
    if not shared:
        raise InputError(
            f"the reports share no {what}: the new one has {_names(new)}, the baseline "
            f"{_names(baseline)}; evaluate both alike"
        )
    for side, names in (("new report", new), ("baseline", baseline)):
        if alone := [name for name in names if name not in shared]:
            notes.append(f"not compared, only in the {side}: {what} {_names(alone)}")
    return [(name, name) for name in shared]


def _names(names: Mapping[str, object] | Sequence[str]) -> str:
    return first_few([repr(name) for name in names])


def shared_items(pair: Pair, notes: list[str] | None) -> Shared:
    """Return the indices of each item in both runs, in the order of the new one.

    Items are known by their texts; by their id too where texts occur twice.

    Args:
        pair: the runs.
        notes: gets a sentence about items that only the new report has; None to refuse them.

    Raises:
        InputError: a run has no items, or items differ.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5)
    >>> shared_items(next(matched_runs(report, report, [])), None)
    [(0, 0), (1, 1)]
    """
    for run, which in ((pair.new, "new report"), (pair.baseline, "baseline")):
        if not run.items:
            pair.refuse(
                f"the {which} has no scores.csv beside its report.json, so that its items are not "
                "known; keep the whole folder"
            )
    keys, base_keys = _item_keys(pair.new, pair.baseline)
    place = {key: m for m, key in enumerate(base_keys)}
    key_set = set(keys)
    missing = [m for m, key in enumerate(base_keys) if key not in key_set]
    extra = [n for n, key in enumerate(keys) if key not in place]
    only_new = f"{len(extra)} of {len(keys)} items"
    if extra:
        only_new += f", first {item_name(pair.new, extra[0])}"
    if missing or (extra and notes is None):
        parts = [
            f"{len(missing)} of {len(base_keys)} items of the baseline are not in the new report, "
            f"first {item_name(pair.baseline, missing[0])}"
        ] if missing else []  # fmt: skip
        parts += [f"only the new report has {only_new}"] if extra else []
        pair.refuse(f"the items differ: {'; '.join(parts)}; {_same_items(pair)}")
    if extra and notes is not None:
        notes.append(f"not compared, only in the new report: {only_new} of {title(pair.new)}")
    return [(n, place[key]) for n, key in enumerate(keys) if key in place]


def _same_items(pair: Pair) -> str:
    """Return how to evaluate both reports on the same items."""
    samples = pair.new.benchmark.sample, pair.baseline.benchmark.sample
    if samples[0] == samples[1]:
        return "evaluate both on the same items"
    new, baseline = (
        f"limit {sample.limit} and seed {sample.seed}" if sample else "no limit"
        for sample in samples
    )
    return (
        f"the new report has {new}, the baseline {baseline}: evaluate both with the same limit and "
        "seed"
    )


def _item_keys(new: Run, baseline: Run) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    texts = [[tuple(item.texts) for item in run.items] for run in (new, baseline)]
    if all(len(set(keys)) == len(keys) for keys in texts):
        return texts[0], texts[1]
    first, second = (
        [(item.id or str(n), *item.texts) for n, item in enumerate(run.items)]
        for run in (new, baseline)
    )
    return first, second


def item_name(run: Run, n: int) -> str:
    """Return the id of an item with the beginning of its first text, for messages.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5)
    >>> item_name(report.runs[0], 0)
    "0/0 ('a green ring and a blue triangle')"
    """
    item = run.items[n]
    text = item.texts[0] if item.texts else ""
    return f"{item.id or n!s} ({text[:60]!r})"


def check_same_data(pair: Pair, items: Shared) -> None:
    """Check that two runs of scorers have items in one order, equal ratings, images and failures.

    Raises:
        InputError: they differ.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5)
    >>> pair = next(matched_runs(report, report, []))
    >>> check_same_data(pair, shared_items(pair, None))
    """
    if moved := [n for n, m in items if n != m]:
        pair.refuse(
            f"{len(moved)} items have another place, first {item_name(pair.new, moved[0])}, so "
            "that resamples differ; evaluate both on the same table"
        )
    has_hash = pair.new.data.sha256 is not None
    same_data = has_hash and pair.new.data.sha256 == pair.baseline.data.sha256
    if not same_data and (other := [n for n, _ in items if not _same_ratings(pair, n)]):
        pair.refuse(
            f"{len(other)} of {len(items)} items have other ratings or numbers of images, first "
            f"{item_name(pair.new, other[0])}; evaluate both on the same table"
        )
    for what, key in (
        ("texts, tags, groups or ratings", "sha256"),
        ("image files", "files_sha256"),
    ):
        hashes = [getattr(run.data, key) for run in (pair.new, pair.baseline)]
        if None not in hashes and hashes[0] != hashes[1]:
            pair.refuse(
                f"the {what} differ: their SHA-256 is {hashes[0][:12]}... in the new report and "
                f"{hashes[1][:12]}... in the baseline; evaluate both on the same data"
            )
    failed, base_failed = (
        {
            (n, *place)
            for n, scores in enumerate(run.scores)
            if np.isnan(scores).any()
            for place in np.argwhere(np.isnan(scores)).tolist()
        }
        for run in (pair.new, pair.baseline)
    )
    check_failed(pair, items, failed, base_failed)


def check_failed(
    pair: Pair, items: Shared, failed: set[tuple[int, ...]], base_failed: set[tuple[int, ...]]
) -> None:
    """Check that the same scores failed in both runs.

    Args:
        pair: the runs.
        items: the shared items.
        failed: the failed cells of the new run; the first number of each is a place in `items`.
        base_failed: the same of the baseline.

    Raises:
        InputError: they differ.

    >>> import t2v_eval
    >>> report = t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 2}, resamples=5)
    >>> pair = next(matched_runs(report, report, []))
    >>> check_failed(pair, shared_items(pair, None), {(0, 1)}, {(0, 1)})
    """
    new, baseline = failed - base_failed, base_failed - failed
    if new or baseline:
        first = items[min(new or baseline)[0]][0]
        pair.refuse(
            f"{len(new)} scores failed only in the new report and {len(baseline)} only in the "
            f"baseline, first of item {item_name(pair.new, first)}; run the same evaluation again, "
            "which retries failed scores"
        )


def _same_ratings(pair: Pair, n: int) -> bool:
    first, second = (_ratings(run, n) for run in (pair.new, pair.baseline))
    return first.shape == second.shape and np.array_equal(first, second, equal_nan=True)


def _ratings(run: Run, n: int) -> NDArray[np.float64]:
    """Return the rating of each image, that of its unit, with each text; NaN where unrated."""
    ratings = np.full((len(run.items[n].images), len(run.items[n].texts)), np.nan)
    human = run.human[n]
    if human is not None:
        for unit, values in zip(run.rated_units[n], human, strict=True):
            ratings[list(unit)] = values
    return ratings


def id_difference(new: str, baseline: str) -> str:
    """Return where two ids of scorers differ: in their names, or else key by key.

    >>> id_difference("clip dtype=float32 version=2", "clip dtype=float32 version=1")
    'version=2 in the new report and version=1 in the baseline'
    >>> id_difference("clip dtype=float32", "vqa chat='USER: {}' dtype=float32")
    'clip in the new report and vqa in the baseline'
    """
    (name, *mine), (base_name, *other) = map(_id_parts, (new, baseline))
    if name != base_name:
        return f"{name} in the new report and {base_name} in the baseline"
    of_new, of_baseline = (
        {part.partition("=")[0]: part for part in parts} for parts in (mine, other)
    )
    return first_few(
        [
            f"{of_new.get(key, f'no {key}')} in the new report and "
            f"{of_baseline.get(key, f'no {key}')} in the baseline"
            for key in {**of_new, **of_baseline}
            if of_new.get(key) != of_baseline.get(key)
        ]
    )


def _id_parts(scorer_id: str) -> list[str]:
    """Return the name in an id and each key with its value, both of which may hold spaces."""
    parts: list[str] = []
    for word in _ID_WORD.findall(scorer_id):
        if not parts or _ID_KEY.match(word):
            parts.append(word)
        else:
            parts[-1] += f" {word}"
    return parts


_ID_KEY = re.compile(r"\w+=")
_ID_WORD = re.compile(
    r"""\w+='(?:\\.|[^'\\])*'(?!\S) | \w+="(?:\\.|[^"\\])*"(?!\S) | \S+""", re.VERBOSE
)
