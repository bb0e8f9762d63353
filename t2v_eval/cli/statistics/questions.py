"""``t2v-eval questions``: make and check a file of questions, and score existing answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from t2v_eval.cli import console
from t2v_eval.cli.flags import App
from t2v_eval.cli.help.examples import EXAMPLES
from t2v_eval.cli.options import AsJson, Resamples, Seed
from t2v_eval.cli.statistics.question_generation import make
from t2v_eval.errors import InputError
from t2v_eval.inputs.questions.answers import DEFAULT_ENCODER, Match
from t2v_eval.stats.question_rules import Dependency, Rule

MAX_LISTED = 20  # problems of a kind, and reasons
CYCLES = ("self-parent", "cycle")

questions = App(
    no_args_is_help=True,
    help="Make and check questions about the images of texts, and score texts by answers (TIFA, "
    "DSG ...).",
    epilog=f"Example: {EXAMPLES['questions.check']}",
)

questions.command()(make)

Layout = Annotated[
    str | None,
    typer.Option(
        help="Layout of the file: t2v-eval, tifa, dsg, dpg-bench-script, geneval2 or oneig. "
        "Default: the one whose columns it has.",
        metavar="NAME",
    ),
]


@questions.command()
def check(
    file: Annotated[Path, typer.Argument(help="File of questions.", metavar="FILE")],
    layout: Layout = None,
    as_json: AsJson = False,
) -> None:
    """Name everything that is odd about a file of questions, and what each rule makes of it.

    The exit code is 2 if the questions cannot be used.
    """
    from t2v_eval.inputs.questions.files import read_entries
    from t2v_eval.inputs.questions.question import ERRORS, TREATMENTS, Questions, find_problems

    entries = read_entries(file, layout)
    listed = [entry.question for entry in entries]
    problems = [problem for entry in entries for problem in entry.problems]
    problems += find_problems(listed, [entry.row for entry in entries])
    cyclic = {problem.item for problem in problems if problem.kind in CYCLES}
    longer = {problem.item for problem in problems if problem.kind == "cycle"}
    usable = not any(problem.kind in ERRORS for problem in problems)
    facts = {
        "questions": len(listed),
        "texts": len({question.item for question in listed}),
        "hash": Questions(listed).hash if usable else None,
        "texts_with_cycles": len(cyclic),
    }
    if as_json:
        console.print_json({**facts, "problems": [problem._asdict() for problem in problems]})
    else:
        counts = Counter(problem.kind for problem in problems)
        texts = Counter(kind for kind, _ in {(p.kind, p.item) for p in problems})
        treatments = {**TREATMENTS, **ERRORS}
        rows = [[n, texts[kind], kind, treatments[kind]] for kind, n in counts.most_common()]
        console.show(f"{facts['questions']} questions about {facts['texts']} texts")
        if usable:
            console.show(f"hash: {facts['hash']}")
        if rows:
            console.print_table(["count", "texts", "problem", "what follows"], rows)
        if cyclic:
            console.show(
                f"{len(cyclic)} texts have cycles: {len(longer)} of two or more questions, "
                f"{len(cyclic - longer)} only of questions that depend on themselves"
            )
        for kind in counts:
            _list([f"{p.place}: {p.message}" for p in problems if p.kind == kind], kind)
    if not usable:
        raise typer.Exit(2)


def _list(lines: Sequence[str], heading: str) -> None:
    console.show(f"{heading}:")
    for line in lines[:MAX_LISTED]:
        console.show_indented(line)
    if len(lines) > MAX_LISTED:
        console.show_indented(f"and {len(lines) - MAX_LISTED} more (--json lists all)")


@questions.command()
def score(
    answers: Annotated[
        Path,
        typer.Argument(
            help="Table with the columns item (or item_id, or text), id (or question_id, or "
            "question) and answer (or probability), and image, generator or t2i_model where a text "
            "has several images; or scores.csv of a report on a scorer that asks questions; or the "
            "JSON that TIFA's code writes; or ..._detail.txt of DPG-Bench's script.",
            metavar="ANSWERS",
        ),
    ],
    questions: Annotated[Path, typer.Option(help="File of the questions.", metavar="FILE")],
    rule: Annotated[
        Rule,
        typer.Option(
            help="tifa: mean of right answers; dsg: the same, where a wrong answer also zeroes "
            "the questions that depend on it; soft-tifa-am and soft-tifa-gm: arithmetic and "
            "geometric mean of probabilities."
        ),
    ],
    match: Annotated[
        Match,
        typer.Option(
            help="exact: every text but the expected answer is wrong, as in DSG's code; "
            "normalised: case and punctuation do not matter, and a text that is no answer is "
            "missing; nearest: a text that is none of the choices is the nearest of them, as in "
            "TIFA's code."
        ),
    ] = "normalised",
    sentence_encoder: Annotated[
        str,
        typer.Option(
            help="Model that finds the nearest choice for --match nearest: a folder, or an id of "
            "the Hugging Face hub.",
            metavar="WEIGHTS",
        ),
    ] = DEFAULT_ENCODER,
    dependency: Annotated[
        Dependency,
        typer.Option(
            help="How far a wrong answer reaches under dsg: to questions that depend on it "
            "directly, also on those (transitive), as in DPG-Bench's script (in-order), or to none."
        ),
    ] = "direct",
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="A column and a glob for its values, for example t2i_model=sd2dot1; repeat it "
            "for several. Default: all rows.",
            metavar="COLUMN=GLOB",
        ),
    ] = None,
    unanswered: Annotated[
        Literal["missing", "zero"],
        typer.Option(
            help="Score of a text none of whose questions has an answer: missing, or zero, as in "
            "DSG's scripts."
        ),
    ] = "missing",
    types_of: Annotated[
        Literal["all", "last"],
        typer.Option(
            help="Images of a text that means by type of question are of: all, or the last alone, "
            "as in DPG-Bench's script."
        ),
    ] = "all",
    layout: Layout = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Table to write, with a row for each text and image: .csv, .jsonl or .parquet. "
            "Default: none.",
            metavar="FILE",
        ),
    ] = None,
    as_json: AsJson = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
) -> None:
    """Score texts by the answers to their questions; no model runs.

    Prints the mean score of each name of images, of all texts and by their tags, with 95 %
    confidence intervals over texts. A text with a question that has no answer is missing, and
    counted with its reason.
    """
    from t2v_eval.evaluation.answers import read_answers, reasons, score_answers
    from t2v_eval.inputs.questions.files import read_questions
    from t2v_eval.inputs.tables import check_suffix, write_table
    from t2v_eval.utils.files import check_file

    if out is not None:
        check_suffix(out)
        check_file(out)
    choose = None
    if match == "nearest":
        from t2v_eval.local.sentence_encoder import SentenceEncoder

        choose = SentenceEncoder(sentence_encoder).nearest
    result = score_answers(
        read_answers(answers),
        read_questions(questions, layout),
        rule,
        match=match,
        choose=choose,
        dependency=dependency,
        where=_conditions(where),
        unanswered=unanswered,
    )
    means = result.means(resamples, seed)
    if out is not None:
        write_table(out, result.rows())
        console.note(f"{len(result.texts)} scores are in {out}")
    missing = reasons(result)
    types, broad_types = (result.by_type(broad, types_of == "last") for broad in (False, True))
    if as_json:
        console.print_json(
            {
                "rule": rule,
                "questions": result.questions.hash,
                "means": [
                    {"image": image, "tag": tag, **mean._asdict(), "texts": n, "missing": lacking}
                    for (image, tag), (mean, n, lacking) in means.items()
                ],
                "by_type": types,
                "by_broad_type": broad_types,
                "missing": dict(missing),
                "unread": result.unread,
            }
        )
    else:
        rows = [
            [image, tag, f"{mean.value:.4f} [{mean.low:.4f}, {mean.high:.4f}]", n, lacking]
            for (image, tag), (mean, n, lacking) in means.items()
        ]
        console.print_table(["images", "texts", rule, "scores", "missing"], rows)
        for means_of_types in (broad_types, types):
            # Types without broader ones are printed once.
            if means_of_types and (means_of_types is types or len(means_of_types) < len(types)):
                listed = [[name, f"{value:.4f}"] for name, value in means_of_types.items()]
                console.print_table(["type of question", "mean value"], listed)
    for reason, count in missing.most_common(MAX_LISTED):
        console.say(f"{count} missing: {reason}", "yellow")
    if result.unread:
        effect = "count as wrong" if match == "exact" else "were taken for the nearest choice"
        console.say(
            f"{result.unread} answers are empty or none of the choices, and {effect} with "
            f"`match={match!r}`",
            "yellow",
        )
    if len(missing) > MAX_LISTED:
        console.say(f"and {len(missing) - MAX_LISTED} more reasons (--out lists all)", "yellow")


def _conditions(pairs: Sequence[str] | None) -> dict[str, str]:
    conditions = {}
    for pair in pairs or ():
        column, equals, glob = pair.partition("=")
        if not (equals and column and glob):
            raise InputError(f"--where {pair!r}: write COLUMN=GLOB, for example t2i_model=sd*")
        conditions[column] = glob
    return conditions
