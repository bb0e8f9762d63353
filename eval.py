"""Run a model on every benchmark whose files are in a folder, with t2v_metrics' eval.py flags.

    python eval.py --model clip-flant5-xxl --root_dir ./datasets

`t2v-eval eval` has more options. Benchmarks whose files are missing are listed and left out; where
one fails, the others still run. Scores are kept between runs, so that the same command continues
where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from typing_extensions import override

from t2v_eval.api import ScorerOptions
from t2v_eval.cli import console
from t2v_eval.cli.options import default_store, raise_or_skip
from t2v_eval.cli.progress import Bars
from t2v_eval.errors import InputError, MissingDataError, T2VError, UnknownTagError
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.evaluation.options import BenchmarkOptions
from t2v_eval.evaluation.run import evaluate
from t2v_eval.evaluation.selection import OnMissing
from t2v_eval.registry import benchmarks, models
from t2v_eval.report.report import Report
from t2v_eval.utils.files import check_folder
from t2v_eval.utils.printable import printable


class Flags(argparse.ArgumentParser):
    """Argument parser whose errors show control characters escaped."""

    @override
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Flags(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root_dir", default="./datasets", help="folder of the benchmarks' files")
    parser.add_argument("--cache_dir", help="cache folder for files of the Hugging Face Hub")
    parser.add_argument("--device", help="for example cuda; default: a GPU if there is one")
    parser.add_argument("--batch_size", type=int, default=16, help="batch size to try first")
    parser.add_argument(
        "--model", default=models.default("vqa"), help="name of the scorer; default: %(default)s"
    )
    parser.add_argument("--model_path", help="weights to load in place of the model's own")
    parser.add_argument("--question", help="question template; {} stands for the text")
    parser.add_argument("--answer", help="answer template")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="random seed of the bootstrap; scores do not depend on it",
    )
    parser.add_argument("--benchmark", nargs="+", help="names; default: all whose files are there")
    parser.add_argument(
        "--subset",
        nargs="+",
        metavar="TAG",
        help="evaluate only items with one of these tags; without --benchmark, only benchmarks "
        "that have such items",
    )
    parser.add_argument(
        "--on-missing",
        "--on_missing",
        choices=("error", "skip"),
        default="error",
        help="'error' leaves out a benchmark that lacks an image file, 'skip' leaves out its items "
        "without one; default: %(default)s",
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write the report to: page, Markdown, JSON, CSV"
    )
    parser.add_argument(
        "--store", type=Path, default=default_store(), help="file that keeps scores"
    )
    parser.add_argument("--no_store", action="store_true", help="keep no scores between runs")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the evaluation; exit with code 2 if a benchmark failed, else as ``t2v-eval eval``."""
    sys.excepthook = console.say_unexpected
    with console.guarded():
        flags = arguments(argv)
        failed = _run(flags, None if flags.no_store else flags.store)
    if failed:
        console.say(f"failed: {', '.join(failed)}; the others are above", "red")
        raise SystemExit(2)


def _run(flags: argparse.Namespace, store: Path | None) -> list[str]:
    """Print the scorer's results on each benchmark; return the names of benchmarks that failed."""
    card = models.card(flags.model)
    if flags.out is not None:
        check_folder(flags.out)
    root = Path(flags.root_dir).expanduser()
    readable, failed = _read(flags.benchmark, root, flags.subset, raise_or_skip(flags.on_missing))
    options = ScorerOptions(
        store=store,
        device=flags.device,
        batch_size=flags.batch_size,
        checkpoint=flags.model_path,
        question_template=flags.question,
        answer_template=flags.answer,
        specific={"cache_dir": flags.cache_dir} if flags.cache_dir else {},
    )
    if not readable:
        return failed
    runs = []
    with console.stoppable(store):
        scorer = options.load(card)
        for benchmark, items in readable:
            try:
                with Bars() as bars:
                    progress = bars.add(f"{card.name} on {benchmark.name}")
                    runs.append(
                        evaluate(scorer, benchmark, items=items, progress=progress, seed=flags.seed)
                    )
            except Exception as error:
                console.say(f"{benchmark.name}: {error}", "red")
                if not isinstance(error, T2VError):
                    console.say(traceback.format_exc())
                failed.append(benchmark.name)
            else:  # printed at once, since all benchmarks together may take days
                console.print_report(Report(runs[-1:]))
    if runs and flags.out is not None:
        console.show(f"\nReport: {Report(runs).write(flags.out).resolve()}")
    return failed


def _read(
    names: Sequence[str] | None,
    root: Path,
    subset: Sequence[str] | None = None,
    on_missing: OnMissing = "raise",
) -> tuple[list[tuple[Benchmark, Sequence[Item]]], list[str]]:
    """Return the benchmarks whose files are there, and the names of those with bad files.

    Args:
        names: of benchmarks, which must all be there; None tries all that are registered.
        root: the folder of their files.
        subset: tags of the items to evaluate; None for all.
        on_missing: "raise", or "skip" to leave out items whose image files are missing.
    """
    if not root.is_dir():
        raise InputError(f"there is no folder {root}; pass the benchmarks' folder with --root_dir")
    readable: list[tuple[Benchmark, Sequence[Item]]] = []
    missing, untagged, bad = [], [], []
    for name in names or benchmarks.names():
        card = benchmarks.card(name)
        if not names and (card.demo or card.kind == "prompts"):  # drawn, or needs your images
            continue
        benchmark = BenchmarkOptions(root=root).open(card).selecting(subset, on_missing)
        try:
            readable.append((benchmark, benchmark.selected()))
        except T2VError as error:
            outcome = bad
            if not names and isinstance(error, MissingDataError):
                outcome = missing
            elif not names and isinstance(error, UnknownTagError):
                outcome = untagged
            outcome.append(name)
            if outcome is not missing or benchmark.root != root:  # some of its files are there
                console.say(f"{name}: {error}", "red" if outcome is bad else "yellow")
    remedy = "`t2v-eval data NAME` shows how to get each"
    if not readable and not bad and untagged:
        raise InputError(
            f"--subset {' '.join(subset or ())}: none of {', '.join(untagged)} has such items; "
            "name one with --benchmark to see its tags"
        )
    if not readable and not bad:
        raise MissingDataError(f"{root} holds the files of none of {', '.join(missing)}; {remedy}")
    if missing:
        console.say(f"left out, not in {root}: {', '.join(missing)}; {remedy}", "yellow")
    return readable, bad


if __name__ == "__main__":
    main()
