"""Read grades in a text that a model wrote; what is not clearly a grade is an error.

The grade of an output is a number behind a label, an element of JSON, or a phrase that stands for a
number. It is read outside the reasoning of a text alone, so that no number of a thought is a grade.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from t2v_eval.errors import InputError, ScoringError
from t2v_eval.scoring.generation import Digit, Written

from ..services.answer_text import outside_reasoning, reject_duplicate_keys

MORE_TOKENS = "pass a larger `max_new_tokens=`"
NUMBER = r"(?P<number>-?[0-9]+(?:\.[0-9]+)?)(?![\d.,]*\d)(?!\s*[%°])"
# A number is the last of its line, or the last before a tag; marks may follow, and "/5" of a scale.
_LINE_END = r"[ \t]*(?:(?:/|out of)[ \t]*{top:g}(?:\.0+)?\b)?[*_`\"'.,;)\]|\\ \t]*(?=\n|<|\Z)"
_PATH = re.compile(r"([A-Za-z_][\w ]*)((?:\.[A-Za-z_][\w ]*)*)(?:\[(\d+)\])?")
_TAG = re.compile(r"<answer>(.*)</answer>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)


@dataclass(frozen=True)
class Output:
    r"""A grade that a judge writes.

    Attributes:
        name: its name.
        range: its least and greatest value.
        pattern: a regular expression, in which ``{number}`` stands for the number; where the
            pattern ends with it, so does the line or the tag. Several matches must agree.
        json: where it is in a JSON object, such as ``score[0]`` or ``grades.style``.
        values: what phrases in the first group of `pattern` mean, instead of a number.
        none: a phrase in the place of the number which says that the grade does not apply.
        rescale: the range onto which `range` is mapped; as it is by default.
        points: whether it is the mean of a list of grades, one for each line of the text but the
            first.
        alone: whether a list of one grade, such as ``score[0]``, may be the grade itself.

    >>> output = Output("style", (1, 5), pattern=r"Style Score \(1-5\):\s*{number}")
    >>> output.read("Style Score (1-5): 2.8")
    2.8
    """

    name: str
    range: tuple[float, float]
    pattern: str = ""
    json: str = ""
    values: Mapping[str, float] = field(default_factory=dict)
    none: str = ""
    rescale: tuple[float, float] | None = None
    points: bool = False
    alone: bool = False

    def __post_init__(self) -> None:
        low, high = self.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"output {self.name!r}: range = {list(self.range)}; use [low, high]")
        if bool(self.pattern) == bool(self.json):
            raise InputError(f"output {self.name!r} needs `pattern` or `json`, one of them")
        if self.json and not _PATH.fullmatch(self.json):
            raise InputError(f"output {self.name!r}: json = {self.json!r}; use NAME or NAME[0]")
        try:
            self._regex()
        except re.error as error:
            raise InputError(
                f"output {self.name!r}: pattern = {self.pattern!r} is not valid: {error}"
            ) from None
        if self.pattern and not (self.values or self.points or "{number}" in self.pattern):
            raise InputError(
                f"output {self.name!r}: pattern = {self.pattern!r} has no place for a number; "
                "write {number} there"
            )

    def _regex(self) -> re.Pattern[str]:
        number, pattern = NUMBER, self.pattern
        if pattern.endswith("{number}"):
            number += _LINE_END.format(top=self.range[1])
        if self.none:
            number = rf"(?:{number}|(?P<none>{re.escape(self.none)})\b)"
        return re.compile(pattern.replace("{number}", number), re.IGNORECASE)

    def read(self, answer: str, fields: Any = None, points: int = 0) -> float | None:
        """Return the grade in an answer, rescaled; None where it does not apply.

        Args:
            answer: the text outside its reasoning.
            fields: the JSON of the answer, where `json` is used.
            points: the number of points of the text, where `points` is used.

        Raises:
            ScoringError: there is no grade, or not clearly this one.
        """
        if self.json:
            return self._scaled(self._element(fields))
        match = self._match(answer)
        if self.points:
            return self._mean(match[1], points)
        if self.none and match["none"]:
            return None
        return self._scaled(self._grade(match))

    def _match(self, answer: str) -> re.Match[str]:
        """Return the only match, or the first of several that say the same."""
        matches = list(self._regex().finditer(answer))
        if not matches:
            raise ScoringError(f"states no {self.name}")
        label = self.pattern.partition("{number}")[0]
        if "{number}" in self.pattern and len(matches) < len(self._labels(label, answer)):
            raise ScoringError(f"states {self.name} several times, not each time as a number alone")
        if len({self._stated(match) for match in matches}) > 1:
            stated = " and ".join(dict.fromkeys(map(str, map(self._stated, matches))))
            raise ScoringError(f"states several values of {self.name}: {stated[:80]}")
        return matches[0]

    def _labels(self, label: str, answer: str) -> list[str]:
        return re.findall(f"(?:{label})", answer, re.IGNORECASE)

    def _stated(self, match: re.Match[str]) -> str | float:
        groups = match.groupdict()
        if groups.get("number") is None:
            return groups.get("none") or " ".join(match[1].casefold().split())
        return float(groups["number"])

    def _grade(self, match: re.Match[str]) -> float:
        if not self.values:
            return float(match["number"])
        phrase = " ".join(match[1].casefold().split())
        for known, value in self.values.items():
            if phrase == known.casefold():
                return value
        raise ScoringError(f"states {match[1][:40]!r} as {self.name}, which is none of its values")

    def _mean(self, listed: str, points: int) -> float:
        try:
            grades = json.loads(listed)
        except (ValueError, RecursionError):
            grades = None
        if not isinstance(grades, list) or any(type(grade) is not int for grade in grades):
            raise ScoringError(
                f"states {listed[:40]!r} as {self.name}, which is no list of numbers"
            )
        if len(grades) != points or not points:
            raise ScoringError(f"states {len(grades)} values of {self.name} for {points} points")
        return math.fsum(self._scaled(grade) for grade in grades) / len(grades)

    def _element(self, fields: Any) -> float:
        name, deeper, index = _PATH.fullmatch(self.json).groups()  # type: ignore[union-attr]
        value = fields
        for key in (name, *filter(None, deeper.split("."))):
            if not isinstance(value, Mapping) or key not in value:
                raise ScoringError(f"states no {self.name}: its JSON has no {self.json}")
            value = value[key]
        if index is not None and not (self.alone and isinstance(value, (int, float))):
            if not isinstance(value, list) or int(index) >= len(value):
                raise ScoringError(f"states no {self.name}: its JSON has no {self.json}")
            value = value[int(index)]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ScoringError(f"states {str(value)[:40]!r} as {self.name}, which is no number")
        return float(value)

    def _scaled(self, value: float) -> float:
        low, high = self.range
        if not low <= value <= high:
            raise ScoringError(
                f"states {value:g} as {self.name}, which goes from {low:g} to {high:g}"
            )
        if self.rescale is None:
            return value
        first, last = self.rescale
        return first + (value - low) / (high - low) * (last - first)

    def expected(self, answer: str, digits: Sequence[Digit]) -> float:
        """Return the mean of the grades of the range, weighted by their probabilities.

        Args:
            answer: the text outside its reasoning.
            digits: the digits of the text with their probabilities.

        Raises:
            ScoringError: the number is no token of one digit.
        """
        match = self._match(answer)
        start = match.start("number")
        digit = next((d for d in digits if d.start == start and d.token == match["number"]), None)
        if digit is None:
            raise ScoringError(f"states {match['number']} as {self.name}, which is not one token")
        self._scaled(float(match["number"]))
        grades = range(math.ceil(self.range[0]), math.floor(self.range[1]) + 1)
        weights = {grade: digit.probabilities.get(str(grade), 0.0) for grade in grades}
        total = math.fsum(weights.values())
        if not total > 0:
            raise ScoringError(f"has no probability of a grade of {self.name}")
        return self._scaled(math.fsum(g * w for g, w in weights.items()) / total)


def read_outputs(
    written: Written, outputs: Sequence[Output], points: int = 0, expected: bool = False
) -> dict[str, float | None]:
    """Read all grades of a text.

    Args:
        written: the text.
        outputs: the grades that it should state.
        points: the number of points of the text that is judged; see `Output.points`.
        expected: whether a grade is the expected one by the probabilities of its token.

    Returns:
        The grades by name; None where one does not apply.

    Raises:
        ScoringError: the text is cut or empty, thinks without an end, or a grade is missing,
            contradicts another or is out of its range.

    >>> output = Output("style", (1, 5), pattern="Style:{number}")
    >>> read_outputs(Written("<think>Style:1</think> Style:4"), [output])
    {'style': 4.0}
    """
    if written.truncated:
        raise ScoringError(f"is cut at its longest length; {MORE_TOKENS}")
    answer = outside_reasoning(written.text, MORE_TOKENS)
    if not answer.strip():
        raise ScoringError("is empty" if not written.text.strip() else "is reasoning alone")
    if expected:
        return {output.name: output.expected(answer, written.digits or ()) for output in outputs}
    fields = _json(answer, outputs) if any(output.json for output in outputs) else None
    return {output.name: output.read(answer, fields, points) for output in outputs}


def _json(answer: str, outputs: Sequence[Output]) -> Any:
    """Return the JSON object that an answer consists of, perhaps within a fence."""
    text = answer.strip()
    tagged = _TAG.fullmatch(text)
    text = tagged[1].strip() if tagged else text
    fenced = _FENCE.fullmatch(text)
    try:
        fields = json.loads(
            fenced[1] if fenced else text,
            object_pairs_hook=reject_duplicate_keys,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError) as error:
        raise ScoringError(f"is no JSON object alone: {error}") from None
    if not isinstance(fields, dict):
        raise ScoringError("is no JSON object")
    _check_lengths(fields, outputs)
    return fields


def _check_lengths(fields: Mapping[str, Any], outputs: Sequence[Output]) -> None:
    """Check that a list has as many grades as outputs read it, or another would be taken."""
    lists: dict[str, int] = {}
    for output in outputs:
        if output.json.endswith("]"):
            name, _, index = output.json[:-1].rpartition("[")
            lists[name] = max(lists.get(name, 0), int(index) + 1)
    for name, count in lists.items():
        value: Any = fields
        for key in name.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, list) and len(value) != count:
            raise ScoringError(f"states {len(value)} grades in {name}, and {count} are asked")


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def join(rule: Any, grades: Mapping[str, float | None]) -> float:
    """Join grades to one score.

    Args:
        rule: the name of a grade; or a table with one of "mean", "min", "product" of a list of
            rules, or "sqrt" of a rule; a mean may have "weights".
        grades: the grades by name; those that do not apply are left out of means and minima.

    Raises:
        ScoringError: no grade applies.

    >>> rule = {"sqrt": {"product": [{"min": ["success", "overediting"]}, "quality"]}}
    >>> join(rule, {"success": 9.0, "overediting": 4.0, "quality": 9.0})
    6.0
    """
    value = _join(rule, grades)
    if value is None:
        raise ScoringError("states no grade that applies")
    return value


def _join(rule: Any, grades: Mapping[str, float | None]) -> float | None:
    if isinstance(rule, str):
        return grades[rule]
    operation, parts = next(iter(rule.items()))
    if operation == "sqrt":
        inner = _join(parts, grades)
        return None if inner is None else math.sqrt(inner)
    weights = rule.get("weights", [1.0] * len(parts))
    pairs = [(_join(part, grades), weight) for part, weight in zip(parts, weights, strict=True)]
    values = [value for value, _ in pairs if value is not None]
    if not values or (operation == "product" and len(values) < len(parts)):
        return None
    if operation == "mean":
        weighted = math.fsum(value * weight for value, weight in pairs if value is not None)
        return weighted / math.fsum(weight for value, weight in pairs if value is not None)
    return min(values) if operation == "min" else math.prod(values)


def names_in(rule: Any) -> set[str]:
    """Return the names of the grades that a rule joins.

    Raises:
        InputError: it is not a rule.

    >>> sorted(names_in({"mean": ["a", {"sqrt": "b"}]}))
    ['a', 'b']
    """
    if isinstance(rule, str):
        return {rule}
    operations = ("mean", "min", "product", "sqrt")
    operation = next(iter(rule), "") if isinstance(rule, Mapping) else ""
    if operation not in operations or rule.keys() - {operation, "weights"}:
        raise InputError(
            f"score = {rule!r}: use the name of an output, or a table with {', '.join(operations)}"
        )
    parts, weights = rule[operation], rule.get("weights")
    if operation == "sqrt":
        return names_in(parts)
    if not isinstance(parts, list) or not parts:
        raise InputError(f"score = {rule!r}: {operation} needs a list of outputs")
    if weights is not None and (
        operation != "mean"
        or len(weights) != len(parts)
        or not all(type(weight) in (int, float) and weight > 0 for weight in weights)
    ):
        raise InputError(f"score = {rule!r}: weights are numbers above 0, one for each of a mean")
    return set().union(*map(names_in, parts))
