"""Which prompts of a set a name may stand for: the name of an image, or of its folder."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

SHORTEST = 20  # characters of a prompt that a cut name keeps at least

_OWN = r"(?:seed|sample|image|img|num|s|n|v)"
# A single character in front, as a prompt's own full stop stays: "a cat._000001".
_BEHIND = re.compile(rf"(?:[ _.-](?:{_OWN}[ _-]?)?[0-9]+| ?\([0-9]+\))$", re.IGNORECASE)
NUMBERED = re.compile(
    r"(?:(?:prompt|image|img|sample|item|index|idx|id)[ _-]?)?0*([0-9]+)"
    rf"(?:[ _.-](?:{_OWN}[ _-]?)?[0-9]+| ?\([0-9]+\))*",
    re.IGNORECASE,
)
_IN_FRONT = re.compile(r"0*([0-9]+)[ _.-]+(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of a set."""

    id: str
    text: str
    tags: tuple[str, ...] = ()


class AmbiguousError(Exception):
    """A name stands for several prompts; the message goes on from the name."""


class Names:
    """Finds the prompts of names.

    Args:
        prompts: of the set, in their order.
    """

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts
        # Numbers that a set gives its prompts itself come before their places in it.
        own = all(prompt.id.isdecimal() for prompt in prompts)
        self._numbers = {int(p.id) if own else n: n for n, p in enumerate(prompts)}
        self._ids = _index((n, prompt.id) for n, prompt in enumerate(prompts))
        self._id_slugs = _index((n, slug(prompt.id)) for n, prompt in enumerate(prompts))
        texts = [(n, normal(prompt.text)) for n, prompt in enumerate(prompts)]
        self._exact = _index(texts)
        self._same = _index((n, _prompt(text)) for n, text in texts)
        self._tagged: dict[str, tuple[list[int], Names]] = {}
        self._forms = [
            (form, _index((n, form(text)) for n, text in texts))
            for form in (as_file_name, underscored, slug, plain_slug, letters)
        ]

    def find(self, name: str, prompt_first: bool = True) -> tuple[str, list[int]] | None:
        """The rule by which a name stands for prompts, and which; None where it does for none.

        Raises:
            AmbiguousError: it may stand for several prompts that are not the same.
        """
        number = self._number(name)
        if NUMBERED.fullmatch(name):
            text = self._numeric_text(name)
            if text and (prompt_first or number is None):
                return "by prompt", text
            if number is not None:
                return "by number", [number]
        names = list(_without_own_numbers(name))
        if exact := self._exactly(names):
            return "by prompt", exact
        if ids := next((self._id_slugs[s] for s in map(slug, names) if s in self._id_slugs), None):
            return "by id", ids
        for form, index in self._forms:
            for own in names:
                if (key := form(own)) and key in index:
                    return "by the letters of the prompt", self._one(index[key], name)
        return self._behind_number(name) or self._cut(names, name)

    def by_text(self, text: str, exact: bool = True) -> list[int]:
        """The prompts that are this text; those that are it to the letter alone, if there are."""
        there = self._exact.get(normal(text), []) if exact else []
        return there or self._same.get(_prompt(text), [])

    def by_id(self, name: str) -> list[int]:
        """The prompt of an id."""
        return self._ids.get(name, [])

    def find_tagged(self, name: str, tag: str) -> tuple[str, list[int]] | None:
        """As `find`, among the prompts with a tag, which are numbered by themselves."""
        if tag not in self._tagged:
            numbers = [n for n, prompt in enumerate(self.prompts) if tag in prompt.tags]
            self._tagged[tag] = numbers, Names([self.prompts[n] for n in numbers])
        numbers, names = self._tagged[tag]
        rule_and_places = names.find(name)
        if rule_and_places is None:
            return None
        rule, places = rule_and_places
        return rule, [numbers[place] for place in places]

    def exactly(self, name: str) -> list[int] | None:
        """The prompts that a name is, to the letter, without a number of its own behind."""
        return self._exactly(_without_own_numbers(name))

    def prompts_first(self, names: Iterable[str]) -> bool:
        """Whether names that are a number and a prompt are prompts, as other names tell."""
        numbers = False
        for name in names:
            if not NUMBERED.fullmatch(name):
                try:
                    if self.find(name) is not None:
                        return True
                except AmbiguousError:
                    return True
            elif not self._numeric_text(name):
                numbers = numbers or self._number(name) is not None
            elif self._number(name) is None:
                return True
        return not numbers

    def _number(self, name: str) -> int | None:
        found = NUMBERED.fullmatch(name)
        return self._numbers.get(int(found[1])) if found else None

    def _exactly(self, names: Iterable[str]) -> list[int] | None:
        """The prompts that one of some names is, to the letter."""
        return next((self._exact[name] for name in names if name in self._exact), None)

    def _numeric_text(self, name: str) -> list[int] | None:
        """The prompts that a name is which looks like a number, nothing of it left away."""
        return self.exactly(name) or dict(self._forms)[slug].get(slug(name))

    def _behind_number(self, name: str) -> tuple[str, list[int]] | None:
        """A number and a prompt, which may be cut, in one name."""
        found = _IN_FRONT.fullmatch(name)
        if found is None:
            return None
        rests = list(_without_own_numbers(found[2]))
        number = self._numbers.get(int(found[1]))
        if number is not None:
            text = letters(self.prompts[number].text)
            if any(len(key := letters(rest)) > 2 and text.startswith(key) for rest in rests):
                return "by number and prompt", [number]
        for form, index in self._forms:
            for rest in rests:
                if (key := form(rest)) and key in index:
                    return "by the letters of the prompt", self._one(index[key], name)
        return None

    def _cut(self, names: Iterable[str], name: str) -> tuple[str, list[int]] | None:
        """The beginning of a prompt."""
        index = self._forms[-1][1]
        for own in names:
            key = letters(own)
            if len(own) >= SHORTEST and key:
                longer = [n for text, of in index.items() if text.startswith(key) for n in of]
                if longer:
                    return "by the beginning of the prompt", self._one(sorted(longer), name)
        return None

    def _one(self, numbers: list[int], name: str) -> list[int]:
        """The numbers of prompts that are all the same."""
        first = self.prompts[numbers[0]]
        for n in numbers[1:]:
            if not same(first.text, self.prompts[n].text):
                raise AmbiguousError(
                    f"may be of {first.text!r} ({first.id}) or of {self.prompts[n].text!r} "
                    f"({self.prompts[n].id}): {name!r} stands for both. Call images by their "
                    "prompts' numbers"
                )
        return numbers


def normal(text: str) -> str:
    """The text in composed characters, as file systems may hand out others, without ends."""
    return unicodedata.normalize("NFC", text).strip()


def same(one: str, other: str) -> bool:
    """Whether two prompts are one: but for case, spaces and a full stop at the end."""
    return _prompt(one) == _prompt(other)


def underscored(text: str) -> str:
    """A prompt with "_" for spaces, and all else of it."""
    return re.sub(r"[\s_]+", "_", normal(text).casefold()).strip("_")


def slug(text: str) -> str:
    """Letters and digits of any script, with "_" for what is between them."""
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFKC", text).casefold()).strip("_")


def plain_slug(text: str) -> str:
    """The same of a-z and 0-9 alone; accents are left away."""
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def letters(text: str) -> str:
    """Letters and digits alone, for names that leave away what is between them."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def as_file_name(text: str) -> str:
    """A prompt as a file can be called: what is no part of a name is "_", no space at the end."""
    text = unicodedata.normalize("NFC", text).strip(" .")
    return re.sub(r"[/\\:*?\"<>|\x00-\x1f]", "_", text)


def _prompt(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(". ")


def _without_own_numbers(name: str) -> Iterator[str]:
    """A name as it is, unquoted if it is so as in URLs, and without numbers of its own behind."""
    name = normal(name)
    plain = normal(unquote(name.replace("+", " "))) if "%" in name else name
    for start in dict.fromkeys((name, plain)):
        own = start
        for _ in range(3):
            yield own
            shorter = _BEHIND.sub("", own)
            if shorter in (own, ""):
                break
            own = shorter


def _index(pairs: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = defaultdict(list)
    for n, key in pairs:
        if key:
            found[key].append(n)
    return dict(found)
