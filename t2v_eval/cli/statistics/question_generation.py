"""``t2v-eval questions make``: let a language model write the questions of texts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t2v_eval.cli import console
from t2v_eval.cli.help.completion import model_names
from t2v_eval.cli.options import (
    AsJson,
    Batch,
    BenchmarkRoot,
    CheckpointPath,
    Columns,
    Device,
    DryRun,
    Dtype,
    Limit,
    MaxCost,
    MaxRequests,
    NoStore,
    ScorerOptionPairs,
    Seed,
    StorePath,
    Subset,
    parse_columns,
    scorer_options,
)
from t2v_eval.cli.progress import Bars
from t2v_eval.errors import InputError
from t2v_eval.registry import models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from t2v_eval.evaluation.question_generation.run import QuestionGeneration

LAYOUTS = {  # by method and the suffix of the file
    "dsg": {".jsonl": "t2v-eval", ".csv": "dsg"},
    "tifa": {".jsonl": "t2v-eval", ".json": "tifa"},
}
MAX_LISTED = 20  # reasons

Texts = Annotated[
    str,
    typer.Argument(
        help="The texts: a .txt, a table with a column prompt, or the name of a set of prompts "
        "(see `list benchmarks`).",
        metavar="PROMPTS",
    ),
]
Method = Annotated[
    Literal["dsg", "tifa"],
    typer.Option(
        "--kind",
        help="dsg: questions to be answered with yes, with dependencies, in three requests for "
        "each text; tifa: questions with choices, in one.",
    ),
]
Writer = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Model that writes them: one behind an API, or a vision-language model that runs here "
        "and has a chat template (see `list models`).",
        autocompletion=model_names,
    ),
]
QaFilter = Annotated[
    bool,
    typer.Option(
        "--filter",
        help="Leave out questions that the model, reading the text alone, does not answer as "
        "expected, and repeated ones, as TIFA does; two more requests for each question.",
    ),
]


def make(
    prompts: Texts,
    kind: Method,
    model: Writer,
    out: Annotated[
        Path,
        typer.Option(
            help="File of questions to write: .jsonl, or .csv in DSG's layout, or .json in TIFA's.",
            metavar="FILE",
        ),
    ],
    qa_filter: QaFilter = False,
    root: BenchmarkRoot = None,
    column: Columns = None,
    subset: Subset = None,
    limit: Limit = None,
    seed: Seed = 0,
    store: StorePath = None,
    no_store: NoStore = False,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    batch: Batch = False,
    device: Device = None,
    dtype: Dtype = None,
    checkpoint: CheckpointPath = None,
    option: ScorerOptionPairs = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Let a language model write questions about the images of texts, for tifa and dsg.

    Every reply is stored when it arrives, so that the same command goes on after an interruption
    and asks nothing twice. A text whose reply cannot be read, or that is refused, has no questions;
    it is counted with its reason. Where the questions of other texts are written, the exit code is
    0. --option max_tokens=4096 allows longer replies.
    """
    from t2v_eval.evaluation.options import BenchmarkOptions
    from t2v_eval.evaluation.question_generation.language_model import load_writer
    from t2v_eval.evaluation.question_generation.run import estimate_questions, generate_questions
    from t2v_eval.generators.run import prompts_of
    from t2v_eval.remote.scorer import ApiScorer
    from t2v_eval.utils.files import check_file

    layout = _layout(kind, out)
    check_file(out)
    opening = BenchmarkOptions(root=root, columns=parse_columns(column))
    _, texts = prompts_of(prompts, opening, subset or None, limit, seed)
    card = models.card(model)
    options = scorer_options(
        store=store,
        no_store=no_store,
        device=device,
        dtype=dtype,
        checkpoint=checkpoint,
        max_cost=max_cost,
        max_requests=max_requests,
        batch=batch,
        option=option,
    ).for_card(card)
    if dry_run and not card.remote:
        console.note(f"{card.name} runs locally: it sends no requests and costs nothing")
        return
    writer = load_writer(card, options)
    if dry_run and isinstance(writer, ApiScorer):
        estimate = estimate_questions(texts, kind, writer, qa_filter=qa_filter)
        console.print_estimates([({"model": card.name}, estimate)], as_json)
        return
    with console.stoppable(options.store), Bars(what="replies") as bars:
        result = generate_questions(
            texts,
            kind,
            writer,
            qa_filter=qa_filter,
            progress=lambda step: bars.add(f"{card.name}, {step}"),
        )
    console.say_usage(card.name, result.usage)
    _write(result, out, layout)
    _print(result, texts, out, as_json)
    if not result.questions:
        console.say("error: no text has questions", "red")
        raise SystemExit(1)


def _layout(kind: str, out: Path) -> str:
    layouts = LAYOUTS[kind]
    try:
        return layouts[out.suffix.lower()]
    except KeyError:
        raise InputError(
            f"--out {out}: a file of questions of --kind {kind} ends in {' or '.join(layouts)}"
        ) from None


def _write(result: QuestionGeneration, out: Path, layout: str) -> None:
    """Write the questions, and say what is odd about them."""
    from t2v_eval.inputs.questions.files import write_questions
    from t2v_eval.inputs.questions.question import find_problems

    if not result.questions:
        return
    write_questions(out, result.questions, layout)
    if problems := Counter(problem.kind for problem in find_problems(result.questions)):
        listed = ", ".join(f"{count} x {kind}" for kind, count in problems.most_common())
        console.say(f"{listed}: `t2v-eval questions check {out}` says what follows", "yellow")


def _print(result: QuestionGeneration, texts: Mapping[str, str], out: Path, as_json: bool) -> None:
    items = {question.item for question in result.questions}
    repeated = len(texts) - len(items) - len(result.failures)
    if as_json:
        facts: dict[str, Any] = {
            "questions": len(result.questions),
            "texts": len(items),
            "repeated_texts": repeated,
            "failures": dict(result.failures),
            "usage": dict(result.usage),
        }
        console.print_json(facts)
    else:
        summary = f"{len(result.questions)} questions about {len(items)} texts"
        more = f" ({repeated} repeated texts have those of the first)" if repeated else ""
        console.show(f"{summary} are in {out}{more}" if items else f"{summary}{more}")
    if not result.failures:
        return
    console.say(f"{len(result.failures)} of {len(texts)} texts have no questions:", "yellow")
    reasons = Counter(result.failures.values())
    for reason, count in reasons.most_common(MAX_LISTED):
        item = next(item for item, why in result.failures.items() if why == reason)
        console.say(f"  {count} x {reason} ({item}{' ...' if count > 1 else ''})", "yellow")
    if len(reasons) > MAX_LISTED:
        console.say(f"  and {len(reasons) - MAX_LISTED} more reasons (--json lists all)", "yellow")
