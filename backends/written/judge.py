"""A judge as a card defines it: its questions, the grades that it writes, and their score."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from t2v_eval.errors import InputError
from t2v_eval.inputs.media import EDIT, EDIT_PAIR, PAIR, ImageGroup, Media, Roles, roles_of
from t2v_eval.scoring.generation import IMAGE_PLACE, Writing

from ..common.authors_text import AuthorsText
from .reading import Output, names_in, names_of_roots

Wording: TypeAlias = Literal["authors", "ours"]
MOST_GRADES = 20  # tokens with probabilities that services list at most
GROUPS = (PAIR, EDIT, EDIT_PAIR)  # roles of images that are judged together
TEXTS = ("", "text", "caption", "points")  # placeholders of a question for the text
WRITING = ("max_new_tokens", "temperature", "top_p", "top_k", "passes")  # how a model writes
_PLACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")
_KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "list": (list, tuple),
    "table": (Mapping,),
    "text or table": (str, Mapping),
    "number": (int, float),
    "whole number": (int,),
    "true or false": (bool,),
}
_KIND_OF_TYPE = {
    "str": "text",
    "bool": "true or false",
    "tuple": "list",
    "Sequence": "list",
    "Mapping": "table",
}


def _kinds_of(record: type) -> dict[str, str]:
    return {
        f.name: _KIND_OF_TYPE[str(f.type).partition("[")[0]]
        for f in fields(record)
        if f.name != "name"
    }


# The keys of each table of a judge, and the kinds of their values.
_KEYS = {
    "judge": {
        "images": "list",
        "questions": "list",
        "score": "text or table",
        "max_new_tokens": "whole number",
        "temperature": "number",
        "top_p": "number",
        "top_k": "whole number",
        "passes": "whole number",
        "expected": "true or false",
    },
    "question": {"text": "text", "authors": "table", "images": "list", "outputs": "table"},
    "output": _kinds_of(Output),
    "authors": _kinds_of(AuthorsText),
    "file": {
        "judge": "table",
        "vlm": "text",
        "local": "table",
        "system": "text",
        "kind": "text",
        "range": "text",
        "summary": "text",
        "license": "text",
    },
}


# What is written where another kind of value is easily taken for right.
_EXAMPLES = {
    ("file", "range"): ', such as "0 to 10"',
    ("output", "range"): ", such as [0, 10]",
    ("judge", "questions"): ": begin each question with [[judge.questions]]",
}


@dataclass(frozen=True)
class Question:
    """One question of a judge.

    Attributes:
        text: the question, with the places of images; ``{}`` or ``{text}`` is the text that is
            judged, ``{caption}`` its first line and ``{points}`` its other lines.
        images: the numbers of the images of the input that are shown, in order.
        outputs: the grades in its answer.

    >>> question = Question("Does it show {}?", (0,), ())
    >>> question.fill("a {red} cat"), question.uses_text
    ('Does it show a {red} cat?', True)
    """

    text: str
    images: tuple[int, ...]
    outputs: tuple[Output, ...]

    def fill(self, text: str) -> str:
        """Return the question about a text."""
        caption, _, points = text.partition("\n")
        parts = {"": text, "text": text, "caption": caption, "points": points}

        def place(match: re.Match[str]) -> str:
            return match[0][0] if match[1] is None else parts[match[1]]

        return _PLACES.sub(place, self.text)

    @property
    def uses_text(self) -> bool:
        """Whether it contains the text that is judged."""
        return any(match[1] is not None for match in _PLACES.finditer(self.text))

    def select(self, media: Media) -> Media:
        """Select the image, or the group of images, of an input that the question shows."""
        if not isinstance(media, ImageGroup):
            return media
        if broken := [image for image in media.images if image.is_broken]:
            return broken[0]  # so that no question about the others is asked in vain
        if self.images == tuple(range(len(media.images))):
            return media
        chosen = [media.images[n] for n in self.images]
        roles = [roles_of(media)[n] for n in self.images]
        return chosen[0] if len(chosen) == 1 else ImageGroup.of(**dict(zip(roles, chosen)))  # noqa: B905


@dataclass(frozen=True)
class Judge:
    """Questions of a judge, how its answers are read, and how grades are combined.

    Attributes:
        roles: the roles of the images of an input; empty for a single image.
        questions: its questions.
        score: how grades are combined; see `join`.
        writing: how the model writes.
        expected: whether a grade is the expected value by the probabilities of its token.

    >>> table = {"score": "style", "questions": [
    ...     {"text": "Grade {} in style.", "outputs": {"style": {"pattern": "Style:{number}",
    ...                                                          "range": [1, 5]}}}]}
    >>> Judge.from_table(table, "mine.toml").questions[0].outputs[0].range
    (1.0, 5.0)
    """

    roles: Roles
    questions: tuple[Question, ...]
    score: Any
    writing: Writing
    expected: bool

    @classmethod
    def from_table(cls, table: Any, name: str, wording: Wording = "ours") -> Judge:
        """Read the judge of a card.

        Args:
            table: the table `judge` of a card.
            name: the name of the scorer, for messages and for the file of its authors' question.
            wording: "authors" for their own question, where the card names it; "ours" for ours.

        Raises:
            InputError: a key or value is invalid; the message names it.
            BenchmarkDataError: the file with the authors' question is missing.
        """
        try:
            check_keys("judge", table)
            images = tuple(_texts(table.get("images", ["image"]), "images"))
            questions = tuple(
                _question(entry, images, name, wording) for entry in table["questions"]
            )
            judge = cls(
                images if len(images) > 1 else (),
                questions,
                table["score"],
                _writing(table),
                bool(table.get("expected", False)),
            )
            judge.check()
        except KeyError as error:
            raise InputError(f"the judge {name!r} lacks {error.args[0]!r}") from None
        except (InputError, TypeError, ValueError, RecursionError) as error:
            raise InputError(f"the judge {name!r}: {error}") from None
        return judge

    @property
    def outputs(self) -> tuple[Output, ...]:
        """All grades of all questions."""
        return tuple(output for question in self.questions for output in question.outputs)

    @property
    def uses_text(self) -> bool:
        """Whether a question contains the text that is judged."""
        return any(question.uses_text for question in self.questions)

    @property
    def has_points(self) -> bool:
        """Whether an output grades the lines of a text."""
        return any(output.points for output in self.outputs)

    def lacks_points(self, text: str) -> bool:
        """Whether an output grades the lines of a text, and this text has none."""
        return self.has_points and not count_points(text)

    @property
    def reading(self) -> str:
        """How answers are read, for the id of the scorer; it does not affect what is written."""
        return repr((self.outputs, self.score, self.expected))

    def check(self) -> None:
        """Check that outputs have one name each, and that the score and `expected` fit them.

        Raises:
            InputError: a name occurs twice, or `score` or `expected` does not fit.
        """
        names = [output.name for output in self.outputs]
        if len(set(names)) < len(names) or not names:
            raise InputError(f"outputs are {names}; name each once")
        if unknown := names_in(self.score) - set(names):
            raise InputError(f"`score` names {min(unknown)!r}; outputs are {', '.join(names)}")
        if self.roles not in ((), *GROUPS):
            allowed = " or ".join(str([*roles]) for roles in GROUPS)
            raise InputError(f"images = {list(self.roles)}: use {allowed}")
        limits = {output.name: sorted(output.rescale or output.range) for output in self.outputs}
        for name in names_of_roots(self.score):
            if limits[name][0] < 0:
                raise InputError(
                    f"`score` has a sqrt of {name!r}, which may be {limits[name][0]:g}"
                )
        for name in names_in(self.score) if self.roles in (PAIR, EDIT_PAIR) else ():
            if not 0 <= limits[name][0] < limits[name][1] <= 1:
                raise InputError(
                    "the score of two images is 1 where the first is better and 0 where the second "
                    f"is, and output {name!r} goes from {limits[name][0]:g} to "
                    f"{limits[name][1]:g}: set its rescale = [0, 1], or [1, 0] where its lowest "
                    "grade says that the first is better"
                )
        if self.expected:
            for output in self.outputs:
                low, high = output.range
                if "{number}" not in output.pattern or output.none or not _are_digits(low, high):
                    raise InputError(
                        f"`expected = true` needs a number of one digit after a pattern; output "
                        f"{output.name!r} has none"
                    )


def count_points(text: str) -> int:
    r"""Return the number of points of a text: its lines but the first, without blank ones.

    >>> count_points("a cat\nit is red\n\nit sits")
    2
    """
    return len([line for line in text.split("\n")[1:] if line.strip()])


def authors_questions(table: Mapping[str, Any]) -> list[AuthorsText]:
    """Return the sources of the authors' questions that a judge names.

    Args:
        table: the table `judge` of a card.

    >>> authors_questions({"questions": [{"text": "Grade it."}]})
    []
    """
    named = [entry["authors"] for entry in table.get("questions", ()) if "authors" in entry]
    for source in named:
        check_keys("authors", source)
    return [AuthorsText(**source) for source in named]


def _question(
    table: Mapping[str, Any], images: Sequence[str], name: str, wording: Wording
) -> Question:
    check_keys("question", table)
    text = table["text"]
    if wording == "authors" and "authors" in table:
        check_keys("authors", table["authors"])
        text = AuthorsText(**table["authors"]).read(name)
    roles = _texts(table.get("images", list(images)), "images")
    if unknown := set(roles) - set(images):
        raise InputError(f"a question shows the image {min(unknown)!r}; images are {list(images)}")
    if not text.strip():
        raise InputError("the text of a question is empty")
    if lone := re.search(r"[{}].{0,20}", _PLACES.sub("", text)):
        raise InputError(
            f"the question has a lone brace at {lone[0]!r}; write {{{{ and }}}} for it"
        )
    text, roles = _place_images(text, roles)
    for place in _PLACES.finditer(text):
        if place[1] not in (None, *TEXTS):
            if place[1] in {role for group in GROUPS for role in group}:
                raise InputError(
                    f"the question places {place[0]}, and images are {list(images)}: name them in "
                    f"`judge`, as images = {[*EDIT]}"
                )
            raise InputError(
                f"the question has the unknown placeholder {place[0]!r}; use {{text}}, {{caption}} "
                f"or {{points}}, {{{'}, {'.join(roles)}}} for an image, and {{{{ }}}} for literal "
                "braces"
            )
    outputs = tuple(_output(name, entry) for name, entry in table["outputs"].items())
    return Question(text, tuple(images.index(role) for role in roles), outputs)


def _place_images(text: str, roles: list[str]) -> tuple[str, list[str]]:
    """Mark the places of images in a question; return it, and the roles in the order of places.

    Images without places come first.

    Raises:
        InputError: some images have a place and others do not, or one has several.
    """
    placed = [place[1] for place in _PLACES.finditer(text) if place[1] in roles]
    if not placed:
        return IMAGE_PLACE * len(roles) + text, roles
    if sorted(placed) != sorted(roles):
        raise InputError(
            f"a question places the images {placed} and shows {list(roles)}; place each of them "
            "once, or none"
        )

    def mark(place: re.Match[str]) -> str:
        return IMAGE_PLACE if place[1] in roles else place[0]

    return _PLACES.sub(mark, text), placed


def _output(name: str, table: Mapping[str, Any]) -> Output:
    check_keys("output", table)
    options = {"range": table["range"], **table}
    for key in {"range", "rescale"} & table.keys():
        options[key] = tuple(_number(key, value) for value in table[key])
        if len(options[key]) != 2:
            raise InputError(f"{key} = {table[key]!r} of the output {name!r}: use [low, high]")
    if "values" in table:
        options["values"] = {text: _number(text, v) for text, v in table["values"].items()}
    return Output(name, **options)


def _are_digits(low: float, high: float) -> bool:
    return low % 1 == 0 == high % 1 and 0 <= low < high <= 9


def _number(key: str, value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise InputError(f"{key} has {value!r} in the place of a number")
    return float(value)


def _writing(table: Mapping[str, Any]) -> Writing:
    tokens, passes = table.get("max_new_tokens", 512), table.get("passes", 1)
    temperature = table.get("temperature", 0.0)
    for key, value in (("max_new_tokens", tokens), ("passes", passes)):
        if type(value) is not int or value < 1:
            raise InputError(f"{key} = {value!r}: use a whole number of 1 or more")
    if type(temperature) not in (int, float) or not 0 <= temperature <= 2:
        raise InputError(f"temperature = {temperature!r}: use a number from 0 to 2")
    top_p, top_k = table.get("top_p", 1.0), table.get("top_k", 0)
    if type(top_p) not in (int, float) or not 0 < top_p <= 1:
        raise InputError(f"top_p = {top_p!r}: use a number above 0, up to 1")
    if type(top_k) is not int or top_k < 0:
        raise InputError(f"top_k = {top_k!r}: use a whole number, 0 for all tokens")
    if not temperature and (passes > 1 or top_p < 1 or top_k):
        raise InputError("`passes` above 1, `top_p` and `top_k` need a `temperature` above 0")
    grades = MOST_GRADES if table.get("expected") else 0
    return Writing(tokens, float(temperature), passes, grades, float(top_p), top_k)


def _texts(values: Any, key: str) -> list[str]:
    if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
        raise InputError(f"{key} = {values!r}: use a list of texts")
    return values


def check_keys(what: str, table: Any) -> None:
    """Check that a table has only known keys, with values of the right kinds.

    Args:
        what: "judge", "question", "output", "authors", or "file" for a user's own file.
        table: the table.

    Raises:
        InputError: a key is unknown, or its value is of another kind.

    >>> check_keys("question", {"text": 5})
    Traceback (most recent call last):
    t2v_eval.errors.InputError: text = 5 of the question must be a text
    """
    if not isinstance(table, Mapping):
        raise InputError(f"the {what} must be a table, not {table!r}")
    keys = _KEYS[what]
    if unknown := table.keys() - keys.keys():
        raise InputError(
            f"the {what} has the unknown key {min(unknown)!r}; keys are {', '.join(keys)}"
        )
    for key, value in table.items():
        kind = keys[key]
        if not isinstance(value, _KINDS[kind]) or isinstance(value, bool) > (bool in _KINDS[kind]):
            example = _EXAMPLES.get((what, key), "")
            raise InputError(
                f"{key} = {reprlib.repr(value)} of the {what} must be a {kind}{example}"
            )
