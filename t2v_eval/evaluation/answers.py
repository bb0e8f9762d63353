"""Score texts by answers that exist already, with the rules of `stats.question_rules`; no model.

The means by type of question are those of TIFA's accuracy by element and of DPG-Bench's L1 and L2
categories (`main` in dpg_bench/compute_dpg_bench.py of TencentQQGYLab/ELLA).
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from t2v_eval.errors import InputError, TableError
from t2v_eval.inputs.questions.answers import MATCHES, Choose, answer_value
from t2v_eval.inputs.questions.question import Question, Questions
from t2v_eval.inputs.tables import read_table
from t2v_eval.stats.bootstrap import Interval, bootstrap_interval
from t2v_eval.stats.question_rules import (
    DEPENDENCIES,
    RULES,
    Verdict,
    means_by_label,
    score_questions,
)
from t2v_eval.utils.text_file import parse_json, read_text

Rows = Sequence[Mapping[str, Any]]

ALL = "all"
"""The name of the mean over all texts."""
ALL_IMAGES = "all images"
"""The name of the mean over all images of a text, where it has several."""
UNANSWERED = "none of its questions has an answer"

_ITEM, _ID = ("item", "item_id", "text"), ("id", "question_id", "proposition_id")
_OF_REPORT = ("text", "scorer", "detail")  # columns of scores.csv of a report
_IMAGE = ("image", "generator", "t2i_model")  # columns that tell images of a text apart
_DPG_LINE = re.compile(
    r"(?P<image>.+?), (?P<part>\((?:\d+, ){3}\d+\)), (?P<question>.*\?|[^?]+), (?P<answer>.*)"
)


class ScoredText(NamedTuple):
    """The score of an image with a text, or the reason why there is none.

    `image` names the image of the text, by the columns that tell images apart; `values` are those
    of the questions before dependencies.

    >>> ScoredText("cube", "a.png", None, "question '2' has no answer").score is None
    True
    """

    item: str
    image: str
    score: float | None
    reason: str = ""
    values: Mapping[str, float] = {}
    zeroed_by: Mapping[str, str] = {}


@dataclass
class AnswerScores:
    """The scores of texts by their answers, and what was odd about the answers.

    `unread` counts answers that are empty or none of the choices: `match='exact'` took them for
    wrong, and `match='nearest'` for the nearest choice.

    >>> questions = Questions([Question("1", "1", "a cube", "Is there a cube?")])
    >>> score_answers([{"item": "1", "id": "1", "answer": "yes"}], questions, "tifa").texts[0].score
    1.0
    """

    questions: Questions
    texts: list[ScoredText] = field(default_factory=list)
    unread: int = 0

    def means(
        self, resamples: int = 1000, seed: int = 0
    ) -> dict[tuple[str, str], tuple[Interval, int, int]]:
        """Return the mean score of each name of images and tag of texts.

        Where there are several images, the first is `ALL_IMAGES`: the mean over texts of the mean
        of a text's images, without texts of which an image has answers but no score.

        Returns:
            By image and tag (`ALL` for all texts): the mean, 0 to 1, with a 95 % bootstrap interval
            over texts, the number of scores, and that of texts without one.

        >>> questions = Questions([Question("1", "1", "a cube", "Is there a cube?")])
        >>> scores = score_answers([{"item": "1", "id": "1", "answer": "yes"}], questions, "tifa")
        >>> scores.means()["", "all"][0].value
        1.0
        """
        listed: dict[tuple[str, str], list[float]] = {}
        for image, item, value in (*self._of_all_images(), *self._of_each_image()):
            for name in filter(None, (ALL, self.questions.items[item][0].tag)):
                listed.setdefault((image, name), []).append(value)
        means = {}
        for key, values in listed.items():
            scores = np.array([v for v in values if v == v], dtype=np.float64)
            interval = _mean_interval(scores, resamples, seed)
            means[key] = (interval, len(scores), len(values) - len(scores))
        return means

    def _of_each_image(self) -> Iterator[tuple[str, str, float]]:
        for text in self.texts:
            yield text.image, text.item, float("nan") if text.score is None else text.score

    def _of_all_images(self) -> Iterator[tuple[str, str, float]]:
        if len({text.image for text in self.texts}) < 2:
            return
        for item in self.questions.items:
            of_item = [t.score for t in self.texts if t.item == item and t.reason != UNANSWERED]
            scores = [float("nan") if score is None else score for score in of_item]
            if scores:
                yield ALL_IMAGES, item, sum(scores) / len(scores)

    def by_type(self, broad: bool = False, last: bool = False) -> dict[str, float]:
        """Return the mean value of the questions of each type, without dependencies.

        Args:
            broad: whether types count as one that are the same before their first dash, such as
                ``attribute - color`` and ``attribute - size``.
            last: whether the last image of each text counts alone, as in DPG-Bench's script.

        >>> question = Question("1", "1", "a cube", "Is there a cube?", type="object")
        >>> answers = [{"item": "1", "id": "1", "answer": "yes"}]
        >>> score_answers(answers, Questions([question]), "tifa").by_type()
        {'object': 1.0}
        """
        types = {
            (q.item, q.id): q.type.partition("-")[0].strip() if broad else q.type
            for q in self.questions
            if q.type
        }
        texts = {t.item: t for t in self.texts if t.values}.values() if last else self.texts
        pairs = [
            (value, types[text.item, key])
            for text in texts
            for key, value in text.values.items()
            if (text.item, key) in types
        ]
        return means_by_label((value for value, _ in pairs), (label for _, label in pairs))

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each text and image, for a table.

        >>> questions = Questions([Question("1", "1", "a cube", "Is there a cube?")])
        >>> score_answers([{"item": "1", "id": "1", "answer": "no"}], questions, "tifa").rows()
        [{'item': '1', 'image': '', 'text': 'a cube', 'tag': '', 'score': 0.0, 'error': ''}]
        """
        first = {item: listed[0] for item, listed in self.questions.items.items()}
        return [
            {
                "item": text.item,
                "image": text.image,
                "text": first[text.item].text,
                "tag": first[text.item].tag,
                "score": text.score,
                "error": text.reason,
            }
            for text in self.texts
        ]


def read_answers(path: str | Path) -> list[dict[str, Any]]:
    """Read answers: a table, ``scores.csv`` of a report, or a file of TIFA's or DPG-Bench's code.

    A table has the columns `item` (or `item_id`, or `text`), `id` (or `question_id`; otherwise
    `question`) and `answer`, or `probability`, that of the expected answer. The columns `image`,
    `generator` and `t2i_model` tell the images of a text apart. DPG-Bench's script writes
    ..._detail.txt, whose images are the parts of a grid.

    Raises:
        TableError: the file cannot be read, or lacks a column.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "answers.csv"
    ...     _ = path.write_text("item,id,answer;cube,1,yes".replace(";", chr(10)))
    ...     read_answers(path)
    [{'item': 'cube', 'id': '1', 'answer': 'yes'}]
    """
    path = Path(path).expanduser()
    if path.suffix.lower() == ".json" and path.is_file():
        content = parse_json(read_text(path), path)
        details = content.get("question_details") if isinstance(content, dict) else None
        if isinstance(details, dict):
            return list(_tifa_answers(path, details))
    if path.suffix.lower() == ".txt":
        return list(_dpg_answers(path))
    rows = read_table(path)
    if rows and set(_OF_REPORT) <= set(rows[0]):
        return list(_report_answers(path, rows))
    _column(rows, _ITEM, path)
    _column(rows, (*_ID, "question"), path)
    _column(rows, ("answer", "probability"), path)
    return rows


def score_answers(
    rows: Rows,
    questions: Questions,
    rule: str,
    *,
    match: str = "normalised",
    choose: Choose | None = None,
    dependency: str = "direct",
    where: Mapping[str, str] | None = None,
    unanswered: str = "missing",
) -> AnswerScores:
    """Score each image of each text by the answers to its questions.

    Args:
        rows: the answers, as `read_answers` returns them.
        questions: the questions.
        rule: a name of `stats.question_rules.RULES`. Where the rows have a `probability`, it is the
            value of the question; otherwise 1 or 0, by `answer_value`.
        match: how answers are compared; see `inputs.questions.answers.answer_value`.
        choose: as there, for `match="nearest"`.
        dependency: how far a wrong answer reaches under `dsg`.
        where: globs that columns must match: those of the answers; `item_id`, or `item`, also
            restricts the texts that are expected.
        unanswered: the score of a text none of whose questions was answered: `missing`, or `zero`,
            as in DSG's scripts.

    Returns:
        For every image, the score of each text of `questions`, or the reason why there is none: a
        question without an answer, an answer that is none, or a parent without an answer.

    Raises:
        InputError: an option that there is not, an answer to no question, or a question answered
            twice for an image.

    >>> questions = Questions([Question("1", "1", "a cube", "Is there a cube?")])
    >>> rows = [{"item": "1", "id": "1", "answer": "perhaps"}]
    >>> score_answers(rows, questions, "dsg").texts[0].reason
    "question '1': the answer 'perhaps' is none of yes, no"
    """
    for name, value, choices in (
        ("rule", rule, RULES),
        ("match", match, MATCHES),
        ("dependency", dependency, DEPENDENCIES),
        ("unanswered", unanswered, ("missing", "zero")),
    ):
        if value not in choices:
            raise InputError(f"`{name}={value!r}` is none of {', '.join(choices)}")
    if match == "nearest" and choose is None:
        raise InputError("`match='nearest'` needs `choose=`, as `SentenceEncoder(...).nearest`")
    item_column = _column(rows, _ITEM)
    conditions = dict(where or {})
    selected = [row for row in rows if _matches(row, conditions)]
    if not selected:
        raise InputError(f"no answer has {' and '.join(f'{k} {v}' for k, v in conditions.items())}")
    of_items = [conditions[name] for name in _ITEM if name in conditions]
    expected = {
        item: listed
        for item, listed in questions.items.items()
        if all(fnmatch.fnmatchcase(item, glob) for glob in of_items)
    }
    answered = _by_image(selected, item_column, questions)
    scores = AnswerScores(questions)
    for image, of_item in answered.items():
        for item, listed in expected.items():
            rows_of = of_item.get(item, {})
            text = _score_text(listed, rows_of, rule, match, choose, dependency)
            if not rows_of:
                text = (0.0 if unanswered == "zero" else None, UNANSWERED, {}, {})
            scores.texts.append(ScoredText(item, image, *text))
            if match != "normalised":
                scores.unread += sum(_is_unread(q, rows_of.get(q.id)) for q in listed)
    return scores


def _mean_interval(scores: NDArray[np.float64], resamples: int, seed: int) -> Interval:
    if not len(scores):
        return Interval(float("nan"), float("nan"), float("nan"))
    intervals = bootstrap_interval(
        lambda units: {"mean": float(scores[units].mean())},
        len(scores),
        resamples=resamples,
        seed=seed,
    )
    return intervals["mean"]


def _score_text(
    questions: Sequence[Question],
    rows: Mapping[str, Mapping[str, Any]],
    rule: str,
    match: str,
    choose: Choose | None,
    dependency: str,
) -> tuple[float | None, str, dict[str, float], dict[str, str]]:
    """Return the score, or the reason why there is none, the values, and what zeroed them."""
    values: dict[str, float] = {}
    for question in questions:
        if question.id not in rows:
            return None, f"question {question.id!r} has no answer", {}, {}
        try:
            values[question.id] = _value(question, rows[question.id], match, choose)
        except InputError as error:
            return None, f"question {question.id!r}: {error}", {}, {}
    try:
        verdict: Verdict[str] = score_questions(
            rule,
            values,
            {q.id: q.parents for q in questions},
            {q.id: q.weight for q in questions},
            dependency,
        )
    except InputError as error:
        return None, str(error), {}, {}
    return verdict.score, "", values, verdict.zeroed_by


def _value(
    question: Question, row: Mapping[str, Any], match: str, choose: Choose | None = None
) -> float:
    if reason := row.get("error"):
        raise InputError(str(reason))
    probability = row.get("probability")
    if probability is None or probability == "":
        answer = row.get("answer")
        text = "" if answer is None else str(answer)
        return answer_value(text, question.answer, question.choices, match, choose)
    try:
        value = float(probability)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value <= 1:
        raise InputError(f"the probability {probability!r} is not between 0 and 1")
    return value


def _is_unread(question: Question, row: Mapping[str, Any] | None) -> bool:
    """Return whether an answer, taken for wrong or right as it is, is none when normalised."""
    try:
        return bool(row) and _value(question, row or {}, "normalised") < 0
    except InputError:
        return True


def _by_image(
    rows: Rows, item_column: str, questions: Questions
) -> dict[str, dict[str, dict[str, Mapping[str, Any]]]]:
    """Return the rows of each image, item and question."""
    names = [name for name in _IMAGE if name in rows[0]]
    id_column = next((name for name in _ID if name in rows[0]), "")
    ids: dict[tuple[str, str], list[str]] = {}
    for q in questions:
        ids.setdefault((q.item, q.id if id_column else q.question), []).append(q.id)
    result: dict[str, dict[str, dict[str, Mapping[str, Any]]]] = {}
    for row in rows:
        item, question = str(row[item_column]), str(row[id_column or "question"])
        if item_column == "text":
            item = questions.of_text(item)[0].item
        if (item, question) not in ids:
            raise InputError(f"{questions.name}: {item!r} has no question {question!r}")
        image = " ".join(str(row[name]) for name in names)
        of_item = result.setdefault(image, {}).setdefault(item, {})
        for key in ids[item, question]:
            if key in of_item:
                raise InputError(
                    f"question {key!r} of {item!r} is answered twice for the image {image!r}; tell "
                    f"images apart by a column {', '.join(_IMAGE)}, or select with `where`"
                )
            of_item[key] = row
    return result


def _matches(row: Mapping[str, Any], conditions: Mapping[str, str]) -> bool:
    for column, glob in conditions.items():
        if column not in row:
            raise InputError(f"the answers have no column {column!r}, only {', '.join(row)}")
        if not fnmatch.fnmatchcase(str(row[column]), glob):
            return False
    return True


def _column(rows: Rows, names: Sequence[str], path: Path | str = "the answers") -> str:
    for name in names:
        if rows and name in rows[0]:
            return name
    columns = ", ".join(rows[0]) if rows else "none"
    raise TableError(f"{path}: there is no column {' or '.join(names)}; the columns are {columns}")


def _report_answers(path: Path, rows: Rows) -> Iterator[dict[str, Any]]:
    """Yield the rows of the answers behind the scores of a report."""
    for number, row in enumerate(rows, 1):
        detail = row["detail"] or "[]"
        answers = parse_json(detail, f"{path}, row {number}, detail")
        if not isinstance(answers, list) or not all(isinstance(a, dict) for a in answers):
            raise TableError(
                f"{path}, row {number}: the detail of {row['scorer']!r} is no list of answers; use "
                "the report of a scorer that asks questions"
            )
        named = {name: row[name] for name in (*_OF_REPORT, "image", "generator") if name in row}
        del named["detail"]
        for answer in answers:
            generated = answer.get("answer")
            yield {
                **named,
                "id": str(answer.get("id")),
                "answer": generated,
                "probability": answer.get("value") if generated is None else None,
                "error": answer.get("error"),
            }


def _tifa_answers(path: Path, details: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of TIFA's result; a question that occurs twice in a text is there once."""
    for item, of_item in details.items():
        if not isinstance(of_item, dict):
            raise TableError(f"{path}: question_details of {item!r} is no object")
        for question, entry in of_item.items():
            if not isinstance(entry, dict) or "multiple_choice_vqa" not in entry:
                raise TableError(f"{path}: {question!r} of {item!r} has no 'multiple_choice_vqa'")
            answer = entry["multiple_choice_vqa"]
            yield {"item": item, "question": question, "answer": answer}


def _dpg_answers(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of the detail that DPG-Bench's script writes, a line for each answer.

    A question that occurs twice in a text has the same answer twice.
    """
    seen: set[str] = set()
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line in seen:
            continue
        seen.add(line)
        match = _DPG_LINE.fullmatch(line)
        if match is None:
            raise TableError(
                f"{path}, line {number} is {line!r}, not 'IMAGE, (LEFT, TOP, RIGHT, BOTTOM), "
                "QUESTION, ANSWER', as DPG-Bench's script writes the file ..._detail.txt"
            )
        item = PurePath(match["image"]).name.partition(".")[0]
        answer = {name: match[name] for name in ("question", "answer")}
        yield {"item": item, "image": match["part"], **answer}


def reasons(scores: AnswerScores) -> Counter[str]:
    """Count the reasons for which texts have no score.

    >>> questions = Questions([Question("1", "1", "a cube", "Is there a cube?")])
    >>> reasons(score_answers([{"item": "1", "id": "1", "answer": ""}], questions, "tifa"))
    Counter({"question '1': the answer is empty": 1})
    """
    return Counter(text.reason for text in scores.texts if text.score is None)
