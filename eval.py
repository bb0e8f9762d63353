"""One model on every benchmark whose files are in a folder, with the flags of t2v_metrics' eval.py.

    python eval.py --model clip-flant5-xxl --root_dir ./datasets

`t2v-eval eval` does more. Benchmarks whose files are not there are named and left out; one that
fails is named, and the others go on. Scores are kept between runs, so that the same command goes on
where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from t2v_eval.cli import console
from t2v_eval.cli.options import default_store, given
from t2v_eval.errors import InputError, MissingDataError, T2VError
from t2v_eval.evaluation.benchmark import Benchmark, Item, evaluate
from t2v_eval.registry import benchmarks, models
from t2v_eval.report.report import Report, open_benchmark, open_scorer
from t2v_eval.utils.files import check_folder
from t2v_eval.utils.printable import printable


class Flags(argparse.ArgumentParser):
    """Flags whose errors show what was typed as it is."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = Flags(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root_dir", default="./datasets", help="folder of the benchmarks' files")
    parser.add_argument("--cache_dir", help="where files of the Hugging Face hub are kept")
    parser.add_argument("--device", help="for example cuda; default: the best there is")
    parser.add_argument("--batch_size", type=int, default=16, help="where batch sizes start")
    parser.add_argument("--model", default=models.default("vqa"), help="default: %(default)s")
    parser.add_argument("--model_path", help="other weights of the same model")
    parser.add_argument("--question", help="question template")
    parser.add_argument("--answer", help="answer template")
    parser.add_argument(
        "--seed", type=int, default=0, help="which resamples; scores have no chance"
    )
    parser.add_argument("--benchmark", nargs="+", help="names; default: all that are there")
    parser.add_argument("--out", type=Path, help="folder for the report: page, Markdown, JSON, CSV")
    parser.add_argument("--store", type=Path, default=default_store(), help="the score store")
    parser.add_argument("--no_store", action="store_true", help="keep no scores between runs")
    return parser.parse_args(given)


def main(argv: Sequence[str] | None = None) -> None:
    """The whole run. The exit code is 2 where a benchmark failed, else as ``t2v-eval eval``'s."""
    sys.excepthook = console.say_unexpected
    with console.guarded():
        asked = arguments(argv)
        failed = _run(asked, None if asked.no_store else asked.store)
    if failed:
        console.say(f"failed: {', '.join(failed)}; the others are above", "red")
        raise SystemExit(2)


def _run(asked: argparse.Namespace, store: Path | None) -> list[str]:
    """Print what each benchmark says of the model; the names of those that failed."""
    models.card(asked.model)
    if asked.out is not None:
        check_folder(asked.out)
    found, failed = _read(asked.benchmark, Path(asked.root_dir).expanduser())
    options = given(
        device=asked.device,
        batch_size=asked.batch_size,
        cache_dir=asked.cache_dir,
        checkpoint=asked.model_path,
        question_template=asked.question,
        answer_template=asked.answer,
    )
    if not found:
        return failed
    runs = []
    with console.stoppable(store):
        scorer = open_scorer(asked.model, store, options)
        for benchmark, items in found:
            try:
                with console.Bars() as bars:
                    progress = bars.of(f"{asked.model} on {benchmark.name}")
                    runs.append(
                        evaluate(scorer, benchmark, items=items, progress=progress, seed=asked.seed)
                    )
            except Exception as error:
                console.say(f"{benchmark.name}: {error}", "red")
                if not isinstance(error, T2VError):
                    console.say(traceback.format_exc())
                failed.append(benchmark.name)
            else:  # at once, since a run over all of them takes days
                console.print_report(Report(runs[-1:]))
    if runs and asked.out is not None:
        console.show(f"\nThe page with all of it: {Report(runs).write(asked.out).resolve()}")
    return failed


def _read(
    names: Sequence[str] | None, root: Path
) -> tuple[list[tuple[Benchmark, Sequence[Item]]], list[str]]:
    """Those of the benchmarks whose files are there, and the names of those with bad files."""
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; --root_dir names that of the benchmarks")
    found: list[tuple[Benchmark, Sequence[Item]]] = []
    missing, bad = [], []
    for name in names or benchmarks.names():
        card = benchmarks.card(name)
        if not names and (card.demo or card.kind == "prompts"):  # drawn, or of somebody's pictures
            continue
        benchmark = open_benchmark(name, root)
        try:
            found.append((benchmark, benchmark.selected()))
        except T2VError as error:
            lost = isinstance(error, MissingDataError) and not names
            if not lost or benchmark.root != root:  # or a folder that lacks some of its files
                console.say(f"{name}: {error}", "yellow" if lost else "red")
            (missing if lost else bad).append(name)
    remedy = "`t2v-eval data NAME` says what each needs"
    if not found and not bad:
        raise MissingDataError(f"{root} holds the files of none of {', '.join(missing)}; {remedy}")
    if missing:
        console.say(f"left out, not in {root}: {', '.join(missing)}; {remedy}", "yellow")
    return found, bad


if __name__ == "__main__":
    main()
