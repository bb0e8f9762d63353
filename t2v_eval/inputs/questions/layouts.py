"""The layouts of files of questions: ours, and those of the authors of question sets.

`t2v-eval` is JSON Lines: an object with `text`, `id` and `question`, and, where they are not the
defaults, `item` (the text's name; default: the text), `choices` (yes and no), `answer` (yes),
`parents`, `type`, `weight` and `tag`. `tifa` is TIFA's JSON list, `dsg` DSG's CSV, which
DPG-Bench shares, `dpg-bench-script` the same without the first row, which DPG-Bench's script skips,
`geneval2` GenEval 2's JSON Lines, and `oneig` a file of OneIG-Bench's scripts/alignment/Q_D, whose
texts are read from the CSV files at the root of its repository.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from t2v_eval.errors import InputError, TableError
from t2v_eval.inputs.questions.answers import YES_NO
from t2v_eval.inputs.questions.question import Problem, Question
from t2v_eval.inputs.tables import read_table
from t2v_eval.utils.text_file import parse_json

Rows = Sequence[Mapping[str, Any]]


class Entry(NamedTuple):
    """A question, the row of the file that it was read from, and what is odd about it there.

    >>> Entry(1, Question("1", "1", "a red cube", "Is the cube red?")).problems
    ()
    """

    row: int
    question: Question
    problems: tuple[Problem, ...] = ()


class Layout(NamedTuple):
    """How a layout is recognised, by the columns of its first row, read and written.

    >>> LAYOUTS["dsg"].columns
    ('item_id', 'text', 'proposition_id', 'dependency', 'question_natural_language')
    """

    columns: tuple[str, ...]
    suffixes: tuple[str, ...]
    read: Callable[[Path, Rows], Iterator[Entry]]
    rows: Callable[[str, Iterable[Question]], list[dict[str, Any]]]


def _read_ours(path: Path, rows: Rows) -> Iterator[Entry]:
    for number, row in enumerate(rows, 1):
        field = _Fields(path, number, row)
        text, weight = field.text("text", ""), row.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise TableError(f"{path}, row {number}: 'weight' is {weight!r}, not a number")
        yield Entry(
            number,
            Question(
                item=field.text("item", text),
                id=field.text("id"),
                text=text,
                question=field.text("question"),
                choices=field.texts("choices", YES_NO),
                answer=field.text("answer", YES_NO[0]),
                parents=field.texts("parents"),
                type=field.text("type", ""),
                weight=float(weight),
                tag=field.text("tag", ""),
            ),
        )


def _our_rows(_: str, questions: Iterable[Question]) -> list[dict[str, Any]]:
    return [
        {
            "item": q.item,
            "text": q.text,
            "id": q.id,
            "question": q.question,
            "choices": list(q.choices),
            "answer": q.answer,
            "parents": list(q.parents),
            "type": q.type,
            "weight": q.weight,
            "tag": q.tag,
        }
        for q in questions
    ]


def _read_tifa(path: Path, rows: Rows) -> Iterator[Entry]:
    counts: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        field = _Fields(path, number, row)
        item = field.text("id")
        counts[item] = counts.get(item, 0) + 1
        yield Entry(
            number,
            Question(
                item=item,
                id=str(counts[item]),
                text=field.text("caption"),
                question=field.text("question"),
                choices=field.texts("choices"),
                answer=field.text("answer"),
                type=field.text("element_type", ""),
                tag=item.rpartition("_")[0],
            ),
        )


def _tifa_rows(_: str, questions: Iterable[Question]) -> list[dict[str, Any]]:
    return [
        {
            "id": q.item,
            "caption": q.text,
            "question": q.question,
            "choices": list(q.choices),
            "answer": q.answer,
            "element_type": q.type,
            "element": "",
        }
        for q in questions
    ]


def _read_dsg(path: Path, rows: Rows) -> Iterator[Entry]:
    read = [_dsg_entry(_Fields(path, number, row)) for number, row in enumerate(rows, 1)]
    unparsable = {entry.question.item for entry in read if entry.problems}
    for row, question, problems in read:
        # One dependency that is no number makes DSG's code ignore all dependencies of the text.
        parents = () if question.item in unparsable else question.parents
        yield Entry(row, replace(question, parents=parents), problems)


def _dsg_entry(field: _Fields) -> Entry:
    # pandas writes the numbers of a column with gaps as 1.0, and DSG's code reads them so.
    item, key = field.text("item_id"), field.text("proposition_id").removesuffix(".0")
    listed = [part.strip() for part in field.text("dependency", "0").split(",")]
    wrong = [part for part in listed if not part.removeprefix("-").isdecimal()]
    problems: tuple[Problem, ...] = ()
    if wrong:
        message = f"the dependency {', '.join(listed)!r} holds {wrong[0]!r}, which is no number"
        problems = (Problem(field.number, item, key, "unparsable-dependency", message),)
    # As DPG-Bench's script; DSG's categories say the same of all its questions.
    category = field.text("tuple", "").partition("(")[0].strip()
    broad, detailed = field.text("category_broad", ""), field.text("category_detailed", "")
    question = Question(
        item=item,
        id=key,
        text=field.text("text"),
        question=field.text("question_natural_language"),
        parents=tuple(part for part in listed if part != "0"),
        type=category or " - ".join(filter(None, (broad, detailed))),
        tag=next((tag for prefix, tag in _DSG_TAGS.items() if item.startswith(prefix)), ""),
    )
    return Entry(field.number, question, problems)


def _dsg_rows(name: str, questions: Iterable[Question]) -> list[dict[str, Any]]:
    rows = []
    for q in questions:
        if q.choices != YES_NO or q.answer != YES_NO[0]:
            raise InputError(
                f"{name}: question {q.id!r} of {q.item!r} expects {q.answer!r} of "
                f"{', '.join(q.choices) or 'any answer'}, and a file of DSG holds only questions "
                "to be answered with yes; write a .jsonl file"
            )
        broad, _, detailed = q.type.partition(" - ")
        rows.append(
            {
                "item_id": q.item,
                "text": q.text,
                "keywords": "",
                "proposition_id": q.id,
                "dependency": ",".join(q.parents) or "0",
                "category_broad": broad,
                "category_detailed": detailed,
                "tuple": q.type,
                "question_natural_language": q.question,
            }
        )
    return rows


def _read_dpg_script(path: Path, rows: Rows) -> Iterator[Entry]:
    """Read DPG-Bench's file as its script does, without the first question of the first prompt."""
    yield from list(_read_dsg(path, rows))[1:]


def _read_geneval2(path: Path, rows: Rows) -> Iterator[Entry]:
    for number, row in enumerate(rows, 1):
        field = _Fields(path, number, row)
        text, pairs = field.text("prompt"), row["vqa_list"]
        skills = row.get("skills") or [""] * len(pairs)
        if len(skills) != len(pairs):
            raise TableError(
                f"{path}, row {number}: there are {len(pairs)} questions and {len(skills)} skills"
            )
        for index, (pair, skill) in enumerate(zip(pairs, skills, strict=True), 1):
            if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_text, pair))):
                raise TableError(f"{path}, row {number}: {pair!r} is no question and answer")
            wording, answer = pair
            choices = _YES_NO_CAPITAL if answer in _YES_NO_CAPITAL else ()
            tag = f"{row['atom_count']} atoms" if "atom_count" in row else ""
            question = Question(
                text, str(index), text, wording, choices, answer, (), skill, 1.0, tag
            )
            yield Entry(number, question)


def _geneval2_rows(_: str, questions: Iterable[Question]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for q in questions:
        row = rows.setdefault(q.item, {"prompt": q.text})
        atoms = q.tag.removesuffix(" atoms")
        if atoms.isdecimal():
            row["atom_count"] = int(atoms)
        row.setdefault("vqa_list", []).append([q.question, q.answer])
        row.setdefault("skills", []).append(q.type)
    return list(rows.values())


def _read_oneig(path: Path, rows: Rows) -> Iterator[Entry]:
    texts = _oneig_texts(path)
    for number, row in enumerate(rows, 1):
        questions, dependencies = (
            _oneig_object(row[key], f"{path}, row {number}, {key}")
            for key in ("question", "dependency")
        )
        item = f"{path.stem}_{row['id']}"
        for key, wording in questions.items():
            listed = dependencies.get(key, [])
            if not isinstance(listed, list):
                raise TableError(
                    f"{path}, row {number}: the dependency of {key!r} is {listed!r}, not a list"
                )
            question = Question(
                item=item,
                id=str(key),
                text=texts.get(str(row["id"]), ""),
                question=str(wording),
                choices=_YES_NO_CAPITAL,
                answer=_YES_NO_CAPITAL[0],
                parents=tuple(str(parent) for parent in listed if parent != 0),
                tag=path.stem,
            )
            yield Entry(number, question)


def _oneig_object(value: Any, place: str) -> dict[str, Any]:
    """Return a JSON object that may be written as a text."""
    content = parse_json(value, place) if isinstance(value, str) else value
    if not isinstance(content, dict):
        raise TableError(f"{place} is {content!r}, not an object")
    return content


def _oneig_texts(path: Path) -> dict[str, str]:
    """Return the prompts of a file of OneIG-Bench by id, where its repository is around it."""
    stem, _, chinese = path.stem.partition("_zh")
    name = "OneIG-Bench-ZH.csv" if chinese or path.stem.endswith("_zh") else "OneIG-Bench.csv"
    for folder in list(path.resolve().parents)[:4]:
        if (folder / name).is_file():
            rows = read_table(folder / name, ["category", "id"])
            return {
                row["id"]: row.get("prompt_en") or row.get("prompt_cn") or ""
                for row in rows
                if row["category"] == _ONEIG_CATEGORIES.get(stem)
            }
    return {}


def _oneig_rows(_: str, questions: Iterable[Question]) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for q in questions:
        row = rows.setdefault(q.item, {"id": q.item.removeprefix(f"{q.tag}_")})
        row.setdefault("question", {})[q.id] = q.question
        row.setdefault("dependency", {})[q.id] = [int(p) for p in q.parents] or [0]
    return [
        {key: value if key == "id" else json.dumps(value) for key, value in row.items()}
        for row in rows.values()
    ]


class _Fields:
    """The values of a row, checked."""

    def __init__(self, path: Path, number: int, row: Mapping[str, Any]) -> None:
        self.path, self.number, self.row = path, number, row

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text or a number as text; a missing one is an error without `default`."""
        value = self.row.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return str(value)
        raise TableError(f"{self.path}, row {self.number}: {name!r} is {value!r}, not a text")

    def texts(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Return a list of texts or numbers as texts."""
        value = self.row.get(name)
        if value is None:
            return default
        if not isinstance(value, list) or not all(map(_is_text_or_number, value)):
            raise TableError(
                f"{self.path}, row {self.number}: {name!r} is {value!r}, not a list of texts"
            )
        return tuple(map(str, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_number(value: object) -> bool:
    return isinstance(value, (str, int)) and not isinstance(value, bool)


_YES_NO_CAPITAL = ("Yes", "No")
# The sources of DSG-1k's prompts, whose figures the authors print (dsg/data_utils.py).
_DSG_TAGS = {
    "tifa160_": "tifa",
    "stanford": "paragraph",
    "localized": "paragraph",
    "countbench": "count",
    "vrd": "relation",
    "diffusion": "real_user",
    "midjourney": "real_user",
    "posescript": "pose",
    "whoops": "defying",
    "drawtext": "text",
}
_ONEIG_CATEGORIES = {
    "anime": "Anime_Stylization",
    "human": "Portrait",
    "object": "General_Object",
    "multilingualism": "Multilingualism",
}
_DSG_COLUMNS = ("item_id", "text", "proposition_id", "dependency", "question_natural_language")

LAYOUTS: Mapping[str, Layout] = {
    "dsg": Layout(_DSG_COLUMNS, (".csv", ".tsv"), _read_dsg, _dsg_rows),
    "dpg-bench-script": Layout(_DSG_COLUMNS, (".csv", ".tsv"), _read_dpg_script, _dsg_rows),
    "tifa": Layout(
        ("id", "caption", "question", "choices", "answer"), (".json",), _read_tifa, _tifa_rows
    ),
    "geneval2": Layout(("prompt", "vqa_list"), (".jsonl",), _read_geneval2, _geneval2_rows),
    "oneig": Layout(("id", "question", "dependency"), (".json",), _read_oneig, _oneig_rows),
    "t2v-eval": Layout(("id", "question"), (".jsonl", ".json"), _read_ours, _our_rows),
}
"""The layouts by name; the first whose columns a file has is that of the file."""
