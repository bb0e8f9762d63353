"""Read grades in a text that a model wrote; what is not clearly a grade is an error.

The grade of an output is a number after a label, an element of JSON, or a phrase that stands for a
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

OPERATIONS = ("mean", "min", "product", "sqrt")
MORE_TOKENS = "pass a larger `max_new_tokens=`"
# No part of another number: ".*" before it would take the 1 of 14, and the 3 of 3-4.
NUMBER = r"(?<!\d)(?<!\d[.,/-])(?P<number>-?[0-9]+(?:\.[0-9]+)?)(?![\d.,]*\d)(?!\s*[%°])"
# What is read is the last of its line, or the last before a tag; marks may follow.
_LINE_END = r"[*_`\"'.,;)\]|\\。，；）】 \t]*+(?=[\r\n]|<[/|!a-zA-Z]|\Z)"
_SCALE = r"[ \t]*+(?:(?:/|out of)[ \t]*{top:g}(?:\.0+)?\b)?"  # may stand behind a number, as "/5"
_NUMBER_END = r"(?:(?<![0-9])|(?![\d.,]*\d))"  # what a pattern ends with is no part of a number
_LETTER = "[0-9A-Za-z\u00c0-\u058f]"  # of scripts with spaces between words
_WORD_EDGE = f"(?:(?<!{_LETTER})|(?!{_LETTER}))"
_BLANK = ("", "  ", "\n", "a 1")  # what is no label matches nothing or white space in one of them
_NAME = r"[^.\[\]$/\s][^.\[\]]*"
_PATH = re.compile(rf"({_NAME})((?:\.{_NAME})*)(?:\[(\d+)\])?")
_TAG = re.compile(r"<answer>(.*)</answer>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class Output:
    r"""A grade that a judge writes.

    Attributes:
        name: its name.
        range: its least and greatest value.
        pattern: a regular expression, in which ``{number}`` stands for the number; where the
            pattern ends with it, with what may be left out or with the number of a scale, so does
            the line or the tag. Several matches must agree. What stands before it is a label;
            without one, the pattern is the whole answer. The first group of `values` and `points`
            is read in the same way.
        json: where it is in a JSON object, such as ``score[0]`` or ``grades.style``.
        values: what phrases in the first group of `pattern`, or at `json`, mean, instead of a
            number; whole words of any case.
        none: a phrase in the place of the number which says that the grade does not apply.
        rescale: the range onto which `range` is mapped; as it is by default.
        points: whether it is the mean of a list of grades, one for each line of the text but the
            first; the list is the first group of `pattern`, or at `json`.
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
        try:
            self._check()
        except (InputError, re.error, RecursionError) as error:
            raise InputError(f"output {self.name!r}: {error}") from None

    def _check(self) -> None:
        low, high = self.range
        if not (low < high and math.isfinite(high - low)):
            raise InputError(f"range = {list(self.range)}; use [low, high]")
        if self.rescale is not None:
            first, last = self.rescale
            if first == last or not math.isfinite(last - first):
                raise InputError(f"rescale = {list(self.rescale)}; use two finite numbers")
        if outside := [value for value in self.values.values() if not low <= value <= high]:
            raise InputError(f"a value is {outside[0]:g}, and `range` is {list(self.range)}")
        if self.values and self.points:
            raise InputError("it has `values` or `points`, one of them")
        self._check_phrases()
        if bool(self.pattern) == bool(self.json):
            raise InputError("it needs `pattern` or `json`, one of them")
        if self.json and not _PATH.fullmatch(self.json):
            raise InputError(f"json = {self.json!r}; use NAME, NAME.NAME or NAME[0]")
        if self.pattern:
            self._check_pattern()

    def _check_phrases(self) -> None:
        meanings: dict[str, float | None] = {_folded(self.none): None} if self.none else {}
        for phrase, value in self.values.items():
            if meanings.setdefault(_folded(phrase), value) != value:
                raise InputError(f"the phrase {phrase!r} means several grades; case does not count")

    def _check_pattern(self) -> None:
        has_number = "{number}" in self.pattern
        if has_number == bool(self.values or self.points):
            remedy = "leave it out, as a phrase or list is read" if has_number else "write it there"
            raise InputError(
                f"pattern = {self.pattern!r} has {'a' if has_number else 'no'} place for a number, "
                f"{{number}}; {remedy}"
            )
        if re.search(r"\{number\}(?:.*\{number\}|[*+?{])", self.pattern, re.DOTALL):
            raise InputError(
                f"pattern = {self.pattern!r} has several places for a number; write {{number}} "
                "once, and alone, as in '(?:Score|Grade): {number}'"
            )
        if re.search(r"\(\?P<(?:number|none)>", self.pattern):
            raise InputError(f"pattern = {self.pattern!r} names a group as {{number}} does")
        try:
            groups = self._regex().groups
            if has_number:
                re.compile(self.pattern.partition("{number}")[0])
        except re.error as error:
            raise InputError(
                f"pattern = {self.pattern!r} is not valid, or not where it ends before {{number}}: "
                f"{error}"
            ) from None
        if not has_number and not groups:
            raise InputError(f"pattern = {self.pattern!r} has no group (...) for what is read")

    def _regex(self) -> re.Pattern[str]:
        if "{number}" not in self.pattern:
            return re.compile(self._phrase_pattern(), re.IGNORECASE)
        before, _, behind = self.pattern.partition("{number}")
        scale = _SCALE.format(top=self.range[1])
        number = NUMBER if behind else NUMBER + scale + _LINE_END
        if self.none:
            number = rf"(?:{number}|(?P<none>{re.escape(self.none)})(?!\w)(?![^\n<]*\d))"
        end = _NUMBER_END if behind else ""
        end += scale + _LINE_END if behind and _may_be_empty(behind) else ""
        end += _LINE_END if behind[-1:].isdigit() else ""
        return re.compile(f"{before}{number}{behind}{end}", re.IGNORECASE)

    def _phrase_pattern(self) -> str:
        """Return the pattern whose first group is made of whole words."""
        first, last = _first_group(self.pattern)
        group, behind = self.pattern[first:last], self.pattern[last:]
        edge = _WORD_EDGE if behind[:1] not in ("*", "+", "?", "{") else ""
        end = _LINE_END if not behind or _may_be_empty(behind) else ""
        return f"{self.pattern[:first]}{_WORD_EDGE}{group}{edge}{behind}{end}"

    def _label(self) -> re.Pattern[str] | None:
        """Return the part of the pattern before what is read; None where that is no pattern."""
        before = self.pattern.partition("{number}")[0]
        if before == self.pattern:
            before = self.pattern[: _first_group(self.pattern)[0]]
        try:
            return re.compile(before, re.IGNORECASE)
        except re.error:  # the group is within another
            return None

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
            value = self._element(fields)
        else:
            match = self._match(answer)
            number = match.groupdict().get("number")
            value = float(number) if number else self._phrase(match)
        if self.points:
            return self._mean(value, points)
        if self.none and isinstance(value, str) and _folded(value) == _folded(self.none):
            return None
        return self._scaled(self._value_of(value))

    def _match(self, answer: str) -> re.Match[str]:
        """Return the only match, or the first of several that say the same."""
        matches, places = self._places(answer)
        if not matches:
            raise ScoringError(f"states no {self.name}")
        if len(matches) < places:
            alone = "a number alone" if "{number}" in self.pattern else "a phrase of its own"
            raise ScoringError(f"states {self.name} several times, not each time as {alone}")
        if len({self._stated(match) for match in matches}) > 1:
            stated = " and ".join(dict.fromkeys(map(str, map(self._stated, matches))))
            raise ScoringError(f"states several values of {self.name}: {stated[:80]}")
        return matches[0]

    def _places(self, answer: str) -> tuple[list[re.Match[str]], int]:
        """Return all matches, and the number of places where their label stands."""
        regex, label = self._regex(), self._label()
        if label is None:
            return list(regex.finditer(answer)), 0
        if any(not match[0].strip() for text in _BLANK for match in label.finditer(text)):
            start, end = len(answer) - len(answer.lstrip()), len(answer.rstrip())
            if (whole := regex.fullmatch(answer, start, end)) is None:
                raise ScoringError(
                    f"states no {self.name}: its pattern has no label before it, so that it must "
                    "match the whole answer"
                )
            return [whole], 1
        return list(regex.finditer(answer)), len(label.findall(answer))

    def _phrase(self, match: re.Match[str]) -> str:
        return " ".join((match.groupdict().get("none") or match[1] or "").split())

    def _stated(self, match: re.Match[str]) -> str | float:
        number = match.groupdict().get("number")
        return float(number) if number else self._phrase(match).casefold()

    def _value_of(self, stated: Any) -> float:
        """Return the number that is stated, or that a phrase stands for."""
        if self.values:
            word = json.dumps(stated) if type(stated) in (bool, int) else stated
            for phrase, value in self.values.items():
                if isinstance(word, str) and _folded(word) == _folded(phrase):
                    return value
            raise ScoringError(
                f"states {str(stated)[:40]!r} as {self.name}, which is none of its values"
            )
        if isinstance(stated, bool) or not isinstance(stated, (int, float)):
            raise ScoringError(f"states {str(stated)[:40]!r} as {self.name}, which is no number")
        return stated

    def _mean(self, listed: Any, points: int) -> float:
        try:
            grades = json.loads(listed) if isinstance(listed, str) else listed
        except (ValueError, RecursionError):
            grades = None
        if not isinstance(grades, list) or any(type(grade) is not int for grade in grades):
            raise ScoringError(
                f"states {str(listed)[:40]!r} as {self.name}, which is no list of numbers"
            )
        if len(grades) != points or not points:
            raise ScoringError(f"states {len(grades)} values of {self.name} for {points} points")
        return math.fsum(self._scaled(grade) for grade in grades) / len(grades)

    def _element(self, fields: Any) -> Any:
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
        return value

    def _scaled(self, value: float) -> float:
        low, high = self.range
        if not low <= value <= high:
            stated = f"{value:g}" if isinstance(value, float) else str(value)[:40]
            raise ScoringError(
                f"states {stated} as {self.name}, which goes from {low:g} to {high:g}"
            )
        if self.rescale is None:
            return float(value)
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
            raise ScoringError(
                f"states {match['number']} as {self.name}, which is not one of the listed tokens"
            )
        self._scaled(float(match["number"]))
        grades = range(math.ceil(self.range[0]), math.floor(self.range[1]) + 1)
        weights = {grade: digit.probabilities.get(str(grade), 0.0) for grade in grades}
        total = math.fsum(weights.values())
        if not total > 0:
            raise ScoringError(f"has no valid probabilities of the grades of {self.name}")
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
        raise ScoringError(
            f"is no JSON object alone: {error}; ask for JSON and no other text"
        ) from None
    if not isinstance(fields, dict):
        raise ScoringError("is no JSON object")
    _check_lengths(fields, outputs)
    return fields


def _check_lengths(fields: Mapping[str, Any], outputs: Sequence[Output]) -> None:
    """Check that a list has as many grades as outputs read from it, lest an index shift."""
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


def _first_group(pattern: str) -> tuple[int, int]:
    """Return where the first group (...) of a pattern begins and ends; 0 and 0 without one."""
    first, depth, class_start = -1, 0, -1
    for match in re.finditer(r"\\.|[\[\]()]", pattern, re.DOTALL):
        mark, place = match[0], match.start()
        if class_start >= 0:
            if mark == "]" and pattern[class_start + 1 : place] not in ("", "^"):
                class_start = -1
        elif mark == "[":
            class_start = place
        elif mark == "(":
            is_group = pattern[place + 1 : place + 2] != "?" or pattern.startswith("(?P<", place)
            if first < 0 and is_group:
                first, depth = place, 0
            depth += 1
        elif mark == ")":
            depth -= 1
            if first >= 0 and not depth:
                return first, match.end()
    return 0, 0


def _may_be_empty(pattern: str) -> bool:
    """Return whether a part of a pattern, such as ``( points)?``, may be left out."""
    try:
        return any(match.start() == match.end() < 3 for match in re.finditer(pattern, "a 1"))
    except re.error:  # no pattern of its own
        return False


def _folded(phrase: str) -> str:
    return " ".join(phrase.casefold().split())


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def join(rule: Any, grades: Mapping[str, float | None]) -> float:
    """Combine grades into one score.

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
    operation, parts = _operation(rule)
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
    operations = rule.keys() - {"weights"} if isinstance(rule, Mapping) else set()
    if len(operations) != 1 or not operations <= {*OPERATIONS}:
        raise InputError(
            f"score = {rule!r}: use the name of an output, or a table with {', '.join(OPERATIONS)}"
        )
    (operation, parts), weights = _operation(rule), rule.get("weights")
    if operation == "sqrt" and weights is None:
        return names_in(parts)
    if not isinstance(parts, list) or not parts:
        raise InputError(f"score = {rule!r}: {operation} needs a list of outputs")
    if weights is not None and (
        operation != "mean"
        or not isinstance(weights, list)
        or len(weights) != len(parts)
        or not all(type(weight) in (int, float) and 0 < weight < 1e9 for weight in weights)
    ):
        raise InputError(
            f"score = {rule!r}: weights are a list of numbers above 0, one for each of a mean"
        )
    return set().union(*map(names_in, parts))


def names_of_roots(rule: Any) -> set[str]:
    """Return the names of the grades under a square root of a rule.

    Args:
        rule: a rule that `names_in` accepts.

    >>> names_of_roots({"mean": ["a", {"sqrt": "b"}]})
    {'b'}
    """
    if isinstance(rule, str):
        return set()
    operation, parts = _operation(rule)
    return names_in(parts) if operation == "sqrt" else set().union(*map(names_of_roots, parts))


def _operation(rule: Mapping[str, Any]) -> tuple[str, Any]:
    return next((name, parts) for name, parts in rule.items() if name != "weights")
