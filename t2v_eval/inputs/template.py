"""Question and answer templates by name, from `templates/*.toml`.

A VQA scorer asks `question` and scores `answer`; a CLIP-like scorer embeds the filled `question`,
such as CLIPScore's prefix "A photo depicts ", and has no answer. A wrapper is the text around a
question that a model was tuned on; the same files have them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources

from t2v_eval.errors import InputError, TemplateError, UnknownNameError
from t2v_eval.utils.toml import read_toml

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A question and an answer about a text.

    ``{}``, ``{0}`` or ``{text}`` mark where the text goes, any number of times; ``{{`` and ``}}``
    are literal braces. Braces in the text itself stay.

    >>> Template("Is it {}?", "Yes").fill("a {red} cat")
    ('Is it a {red} cat?', 'Yes')

    Raises:
        TemplateError: another placeholder, named in the message.
    """

    question: str
    answer: str = ""
    name: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for what, pattern in (("question", self.question), ("answer", self.answer)):
            if not isinstance(pattern, str):
                raise TemplateError(
                    f"the {what} template is {type(pattern).__name__}, not a string"
                )
            for field in _FIELD.finditer(pattern):
                if field[1] not in (None, "", "0", "text"):
                    raise TemplateError(
                        f"the {what} template {pattern!r} has the unknown placeholder "
                        f"{field[0]!r}; "
                        "use {} (or {0} or {text}) for the text, and {{ }} for literal braces"
                    )

    def fill(self, text: str) -> tuple[str, str]:
        """Return the question and the answer about `text`."""
        return _fill(self.question, text), _fill(self.answer, text)

    @property
    def uses_text(self) -> bool:
        """Whether the text plays any part: without it every text gets the same score."""
        return _holds_text(self.question) or self.answers_with_text

    @property
    def answers_with_text(self) -> bool:
        """Whether the text is the answer, or part of it, as in VisualGPTScore."""
        return _holds_text(self.answer)

    def override(self, question: str | None = None, answer: str | None = None) -> Template:
        """Return this template with another question, answer, or both."""
        if question is None and answer is None:
            return self
        return replace(
            self,
            name="",
            source="",
            question=self.question if question is None else question,
            answer=self.answer if answer is None else answer,
        )


@dataclass(frozen=True, slots=True)
class Wrapper:
    """The text around a question that a model was tuned on.

    ``<image>`` and then ``{}`` mark the places of the image and of the question; a system message
    has neither.

    >>> Wrapper("mine", "USER: <image> {} ASSISTANT:", "my paper").option_name
    'chat'
    """

    name: str
    text: str
    source: str

    @property
    def option_name(self) -> str:
        """The option of a scorer that takes the wrapper."""
        return "chat" if "<image>" in self.text else "system"


def _holds_text(pattern: str) -> bool:
    return any(field[1] is not None for field in _FIELD.finditer(pattern))


def _fill(pattern: str, text: str) -> str:
    def replacement(field: re.Match[str]) -> str:
        return text if field[1] is not None else field[0][0]

    return _FIELD.sub(replacement, pattern)


@cache
def _tables() -> dict[str, dict[str, str]]:
    files = resources.files("t2v_eval.templates").iterdir()
    named = sorted((file for file in files if file.name.endswith(".toml")), key=lambda f: f.name)
    return {name: fields for file in named for name, fields in read_toml(file).items()}


@cache
def templates() -> dict[str, Template]:
    """Return all named templates of the TOML files in `templates/`.

    >>> "plain" in templates()
    True
    """
    tables = {name: fields for name, fields in _tables().items() if "question" in fields}
    return {name: Template(name=name, **fields) for name, fields in tables.items()}


@cache
def wrappers() -> dict[str, Wrapper]:
    """Return all named wrappers of the same files.

    >>> all("wrapper" not in name for name in wrappers())
    True
    """
    tables = {name: fields for name, fields in _tables().items() if "wrapper" in fields}
    return {name: Wrapper(name, f["wrapper"], f["source"]) for name, f in tables.items()}


def wrapper(name_or_text: str) -> str:
    """Return the text of the wrapper of this name, or else the argument itself.

    >>> wrapper("Q: <image> {} A:")
    'Q: <image> {} A:'
    """
    named = wrappers().get(name_or_text)
    return named.text if named else name_or_text


def get_template(name: str) -> Template:
    """Return the template called `name`.

    Raises:
        UnknownNameError: no template has this name; the message has similar names, or the
            option that takes a wrapper of this name.

    >>> get_template("plain").fill("a cat")
    ('a cat', '')
    """
    try:
        return templates()[name]
    except KeyError:
        if other := wrappers().get(name):
            raise UnknownNameError(
                f"{name!r} is a wrapper, what stands around a question, and no template: pass it "
                f"as `{other.option_name}={name!r}`"
            ) from None
        raise UnknownNameError.nearest(
            "template", name, templates(), "`t2v-eval list templates` lists them."
        ) from None


def split_wrapper(chat: str) -> tuple[str, str, str]:
    r"""Split a wrapper into the parts before the image, between it and the question, and after.

    >>> split_wrapper("USER: <image>\n{} ASSISTANT:")
    ('USER: ', '\n', ' ASSISTANT:')

    Raises:
        InputError: it has no place for the image or the question, or several.
    """
    parts = re.fullmatch(r"(.*)<image>(.*)\{\}(.*)", chat, re.DOTALL)
    if parts is None or chat.count("<image>") > 1 or chat.count("{}") > 1:
        raise InputError(
            f"`chat={chat!r}` must hold <image> and then {{}}, once each, or be the name of a "
            "wrapper; `t2v-eval list templates` lists them"
        )
    return parts[1], parts[2], parts[3]
