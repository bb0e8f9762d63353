"""One model on every benchmark whose files are in a folder, with the flags of t2v_metrics' eval.py.

    python eval.py --model clip-flant5-xxl --root_dir ./datasets

`t2v-eval eval` does more. Benchmarks whose files are not there are named and left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from t2v_eval import console
from t2v_eval.arguments import default_store, given
from t2v_eval.cli import run
from t2v_eval.errors import BenchmarkDataError
from t2v_eval.registry import benchmarks, models
from t2v_eval.report import open_benchmark


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root_dir", default="./datasets", help="folder of the benchmarks' files")
    parser.add_argument("--cache_dir", help="where files of the Hugging Face hub are kept")
    parser.add_argument("--device", help="for example cuda; default: the best there is")
    parser.add_argument("--batch_size", type=int, default=16, help="where batch sizes start")
    parser.add_argument("--model", default=models.default("vqa"), help="default: %(default)s")
    parser.add_argument("--model_path", help="other weights of the same model")
    parser.add_argument("--question", help="question template")
    parser.add_argument("--answer", help="answer template")
    parser.add_argument("--benchmark", nargs="+", help="names; default: all that are there")
    parser.add_argument("--out", type=Path, help="folder for report.json, scores.csv, report.html")
    parser.add_argument("--store", type=Path, default=default_store(), help="the score store")
    parser.add_argument("--no_store", action="store_true", help="keep no scores between runs")
    return parser.parse_args(given)


def main(argv: Sequence[str] | None = None) -> None:
    """The whole run; exits as ``t2v-eval eval`` does."""
    asked = arguments(argv)
    with console.guarded():
        run(
            [asked.model],
            asked.benchmark or _present(asked.root_dir),
            asked.out,
            None if asked.no_store else asked.store,
            asked.root_dir,
            **given(
                device=asked.device,
                batch_size=asked.batch_size,
                cache_dir=asked.cache_dir,
                checkpoint=asked.model_path,
                question_template=asked.question,
                answer_template=asked.answer,
            ),
        )


def _present(root: str) -> list[str]:
    found, missing = [], []
    for name in benchmarks.names():
        try:
            open_benchmark(name, root).items()
            found.append(name)
        except BenchmarkDataError:
            missing.append(name)
    remedy = "`t2v-eval data NAME` says what each needs"
    if not found:
        raise BenchmarkDataError(
            f"{root} holds the files of none of {', '.join(missing)}; {remedy}"
        )
    if missing:
        console.say(f"left out, not in {root}: {', '.join(missing)}; {remedy}", "yellow")
    return found


if __name__ == "__main__":
    main()
