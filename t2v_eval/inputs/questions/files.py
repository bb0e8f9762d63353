"""Read and write files of questions in any layout of `layouts`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from t2v_eval.errors import InputError, TableError, UnknownNameError
from t2v_eval.inputs.questions.layouts import LAYOUTS, Entry, Layout
from t2v_eval.inputs.questions.question import Question, Questions
from t2v_eval.inputs.tables import read_table, write_table
from t2v_eval.utils.files import write_text


def read_questions(path: str | Path, layout: str | None = None) -> Questions:
    """Read the questions of texts.

    Args:
        path: a file in one of the layouts of `t2v_eval.inputs.questions.layouts`.
        layout: its name; default: the first whose columns the file has.

    Returns:
        The questions with their `problems`, which are no errors; `TREATMENTS` says what each rule
        makes of them.

    Raises:
        TableError: the file cannot be read, has none of the layouts, or holds questions that cannot
            be used; the message names row, question and remedy.
        UnknownNameError: there is no such layout.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "questions.jsonl"
    ...     _ = path.write_text('{"text": "a red cube", "id": "1", "question": "Is it red?"}')
    ...     read_questions(path)[0].answer
    'yes'
    """
    path = Path(path).expanduser()
    entries = read_entries(path, layout)
    problems = [problem for entry in entries for problem in entry.problems]
    try:
        return Questions(
            (entry.question for entry in entries),
            problems,
            [entry.row for entry in entries],
            str(path),
        )
    except InputError as error:
        raise TableError(str(error)) from None


def read_entries(path: str | Path, layout: str | None = None) -> list[Entry]:
    """Read questions with the rows that they come from, without checking them.

    Args:
        path: as for `read_questions`.
        layout: as for `read_questions`.

    Raises:
        TableError: the file cannot be read, has none of the layouts, or a value of the wrong type.
        UnknownNameError: there is no such layout.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "questions.jsonl"
    ...     _ = path.write_text('{"text": "a red cube", "id": "1", "question": "Is it red?"}')
    ...     read_entries(path)[0].row
    1
    """
    path = Path(path).expanduser()
    layouts = dict(LAYOUTS) if layout is None else {layout: _layout(layout)}
    rows = read_table(path)
    suitable = [entry for entry in layouts.values() if set(entry.columns) <= set(rows[0])]
    if not suitable:
        expected = "\n".join(
            f"{name}: {', '.join(candidate.columns)}" for name, candidate in layouts.items()
        )
        raise TableError(
            f"{path}: a file of questions has the columns of a layout, and this one has "
            f"{', '.join(rows[0])}:\n{expected}"
        )
    for number, row in enumerate(rows, 1):
        if missing := [column for column in suitable[0].columns if row.get(column) is None]:
            raise TableError(f"{path}, row {number}: there is no {missing[0]!r}")
    return list(suitable[0].read(path, rows))


def write_questions(
    path: str | Path, questions: Iterable[Question], layout: str = "t2v-eval"
) -> None:
    """Write questions, whole or not at all.

    The layouts of others hold less: TIFA's and GenEval 2's no dependencies and weights, DSG's no
    choices, OneIG's no texts.

    Args:
        path: the file, with a suffix of the layout.
        questions: the questions, in order.
        layout: the name of the layout.

    Raises:
        InputError: a suffix of another layout, or questions that the layout cannot hold.
        UnknownNameError: there is no such layout.
        OutputError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "questions.csv"
    ...     write_questions(path, [Question("1", "1", "a cube", "Is it?")], layout="dsg")
    ...     read_questions(path)[0].question
    'Is it?'
    """
    path = Path(path).expanduser()
    of_layout = _layout(layout)
    if path.suffix.lower() not in of_layout.suffixes:
        raise InputError(
            f"{path}: a file with `layout={layout!r}` ends in {' or '.join(of_layout.suffixes)}"
        )
    rows = of_layout.rows(str(path), questions)
    if path.suffix.lower() != ".json":
        write_table(path, rows)
    elif layout == "oneig":
        content = {row.pop("id"): row for row in rows}
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    else:
        write_text(path, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def _layout(name: str) -> Layout:
    try:
        return LAYOUTS[name]
    except KeyError:
        raise UnknownNameError.nearest(
            "layout of questions", name, LAYOUTS, f"The layouts are {', '.join(LAYOUTS)}."
        ) from None
