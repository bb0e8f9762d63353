"""Find the prompts of a set that the name of an image or of its folder stands for."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from t2v_eval.inputs.media import MediaLike

SHORTEST = 20  # characters of a prompt that a truncated name must keep

_SAMPLE_WORD = r"(?:seed|sample|image|img|num|s|n|v)"
# Only one separator is stripped, so a prompt's own full stop stays: "a cat._000001".
_SAMPLE_SUFFIX = re.compile(
    rf"(?:[ _.-](?:{_SAMPLE_WORD}[ _-]?)?[0-9]+| ?\([0-9]+\))$", re.IGNORECASE
)
NUMBERED = re.compile(
    r"(?:(?:prompt|image|img|sample|item|index|idx|id)[ _-]?)?0*([0-9]+)"
    rf"(?:[ _.-](?:{_SAMPLE_WORD}[ _-]?)?[0-9]+| ?\([0-9]+\))*",
    re.IGNORECASE,
)
_NUMBER_PREFIX = re.compile(r"0*([0-9]+)[ _.-]+(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of a set, or an instruction with the image that it edits.

    Attributes:
        id: its name in the set.
        text: the prompt, or the instruction.
        tags: its categories.
        source: the image before the edit; None for a prompt.

    >>> Prompt("0", "a cat", tags=("animals",)).text
    'a cat'
    """

    id: str
    text: str
    tags: tuple[str, ...] = ()
    source: MediaLike | None = None


class AmbiguousError(Exception):
    """A name matches several different prompts; the message continues a sentence about the file.

    >>> names = Names([Prompt("0", "a cat!"), Prompt("1", "a cat?")])
    >>> try:
    ...     names.find("a_cat_")
    ... except AmbiguousError as error:
    ...     print(str(error)[:31])
    may be of 'a cat!' (0) or of 'a
    """


class Names:
    """Finds the prompts that names stand for.

    Args:
        prompts: the prompts of the set, in its order.

    >>> names = Names([Prompt("0", "a cat"), Prompt("1", "a dog")])
    >>> names.find("a dog_003"), names.find("00000_2")
    (('by prompt', [1]), ('by number', [0]))
    """

    def __init__(self, prompts: Sequence[Prompt]) -> None:
        self.prompts = prompts
        # Where the ids of a set are numbers, they take precedence over positions.
        self._ids_are_numbers = all(prompt.id.isdecimal() for prompt in prompts)
        self._numbers = {
            int(p.id) if self._ids_are_numbers else n: n for n, p in enumerate(prompts)
        }
        self._ids = _index((n, normalise_text(prompt.id)) for n, prompt in enumerate(prompts))
        self._id_slugs = _index((n, slug(prompt.id)) for n, prompt in enumerate(prompts))
        texts = [(n, normalise_text(prompt.text)) for n, prompt in enumerate(prompts)]
        self._exact = _index(texts)
        self._same = _index((n, _prompt(text)) for n, text in texts)
        self._tagged: dict[str, tuple[list[int], Names]] = {}
        self._forms = [(form, _index((n, form(text)) for n, text in texts)) for form in FORMS]

    def number_of(self, n: int) -> str:
        """Return the number that an image of a prompt may be named by, with five digits."""
        return f"{int(self.prompts[n].id) if self._ids_are_numbers else n:05}"

    def find(self, name: str, prompt_first: bool = True) -> tuple[str, list[int]] | None:
        """Return the matching rule and the numbers of the prompts of a name; None without a match.

        Raises:
            AmbiguousError: the name matches several different prompts.
        """
        names = list(_without_sample_numbers(name))
        if not self._ids_are_numbers and (ids := self._literal_id(names)):
            return "by id", ids
        number = self._number(name)
        if NUMBERED.fullmatch(name):
            text = self._numeric_text(name)
            if text and (prompt_first or number is None):
                return "by prompt", text
            if number is not None:
                return "by number", [number]
        if exact := self._exactly(names):
            return "by prompt", exact
        if ids := next((self._id_slugs[s] for s in map(slug, names) if s in self._id_slugs), None):
            return "by id", self._only_prompt(ids, name)
        for form, index in self._forms:
            for candidate in names:
                if (key := form(candidate)) and key in index:
                    return "by the letters of the prompt", self._only_prompt(index[key], name)
        return self._behind_number(name) or self._cut(names, name)

    def by_text(self, text: str, exact: bool = True) -> list[int]:
        """Return the prompts with this text; only the literally equal ones where there are any."""
        matches = self._exact.get(normalise_text(text), []) if exact else []
        return matches or self._same.get(_prompt(text), [])

    def by_id(self, name: str) -> list[int]:
        """Return the prompts with an id; a sample number may follow it."""
        return self._literal_id(_without_sample_numbers(name)) or []

    def find_tagged(self, name: str, tag: str) -> tuple[str, list[int]] | None:
        """Return `find` among the prompts with a tag, which are numbered from 0."""
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
        """Return the prompts literally equal to a name without its sample number."""
        return self._exactly(_without_sample_numbers(name))

    def prompts_first(self, names: Iterable[str]) -> bool:
        """Return whether names that are both a number and a prompt should be read as prompts."""
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
        match = NUMBERED.fullmatch(name)
        return self._numbers.get(int(match[1])) if match else None

    def _exactly(self, names: Iterable[str]) -> list[int] | None:
        """Return the prompts literally equal to the first name that matches."""
        return next((self._exact[name] for name in names if name in self._exact), None)

    def _literal_id(self, names: Iterable[str]) -> list[int] | None:
        """Return the prompts whose id is the first name that is an id, unless a prompt is before.

        So "img1" is an id where ids are called so, though it might be a number too.
        """
        for name in names:
            if name in self._exact:
                return None
            if name in self._ids:
                return self._ids[name]
        return None

    def _numeric_text(self, name: str) -> list[int] | None:
        """Return the prompts equal to a whole name that looks like a number."""
        return self.exactly(name) or dict(self._forms)[slug].get(slug(name))

    def _behind_number(self, name: str) -> tuple[str, list[int]] | None:
        """Match a name of a number and a prompt, which may be truncated."""
        match = _NUMBER_PREFIX.fullmatch(name)
        if match is None:
            return None
        rests = list(_without_sample_numbers(match[2]))
        number = self._numbers.get(int(match[1]))
        if number is not None:
            text = letters(self.prompts[number].text)
            if any(len(key := letters(rest)) > 2 and text.startswith(key) for rest in rests):
                return "by number and prompt", [number]
        for form, index in self._forms:
            for rest in rests:
                if (key := form(rest)) and key in index:
                    return "by the letters of the prompt", self._only_prompt(index[key], name)
        return None

    def _cut(self, names: Iterable[str], name: str) -> tuple[str, list[int]] | None:
        """Match a name that is the beginning of a prompt."""
        index = dict(self._forms)[letters]
        for candidate in names:
            key = letters(candidate)
            if len(candidate) >= SHORTEST and key:
                longer = [
                    n for text, numbers in index.items() if text.startswith(key) for n in numbers
                ]
                if longer:
                    return "by the beginning of the prompt", self._only_prompt(sorted(longer), name)
        return None

    def _only_prompt(self, numbers: list[int], name: str) -> list[int]:
        """Return the numbers if all their prompts are the same.

        Raises:
            AmbiguousError: they are not.
        """
        first = self.prompts[numbers[0]]
        for n in numbers[1:]:
            if not same(first.text, self.prompts[n].text):
                raise AmbiguousError(
                    f"may be of {first.text!r} ({first.id}) or of {self.prompts[n].text!r} "
                    f"({self.prompts[n].id}): {name!r} stands for both. Name images by their "
                    "prompts' numbers"
                )
        return numbers


def normalise_text(text: str) -> str:
    """Return the stripped text in NFC; file systems may return names in NFD.

    >>> normalise_text(" a cat ")
    'a cat'
    """
    return unicodedata.normalize("NFC", text).strip()


def same(first: str, second: str) -> bool:
    """Return whether two prompts are equal up to case, spaces and a full stop at the end.

    >>> same("A cat.", "a  cat"), same("a cat", "a dog")
    (True, False)
    """
    return _prompt(first) == _prompt(second)


def underscored(text: str) -> str:
    """Return the prompt in lower case with "_" for spaces.

    >>> underscored("A red cube, left")
    'a_red_cube,_left'
    """
    return re.sub(r"[\s_]+", "_", normalise_text(text).casefold()).strip("_")


def slug(text: str) -> str:
    """Return letters and digits of any script, with "_" for everything between them.

    >>> slug("Café: a red cube")
    'café_a_red_cube'
    """
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFKC", text).casefold()).strip("_")


def plain_slug(text: str) -> str:
    """Return a slug of a-z and 0-9; accents are dropped.

    >>> plain_slug("Café: a red cube")
    'cafe_a_red_cube'
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_") if _is_latin(text) else ""


def ascii_slug(text: str) -> str:
    """Return a slug of a-z and 0-9 with "_" for all else, accented letters included.

    >>> ascii_slug("Café: a red cube")
    'caf_a_red_cube'
    """
    plain = normalise_text(text).lower()
    return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") if _is_latin(text) else ""


def ascii_letters(text: str) -> str:
    """Return the letters a-z and digits alone.

    >>> ascii_letters("A red cube!")
    'aredcube'
    """
    return ascii_slug(text).replace("_", "")


def letters(text: str) -> str:
    """Return letters and digits only, for names without separators.

    >>> letters("A red cube!")
    'aredcube'
    """
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())


def _is_latin(text: str) -> bool:
    """Return whether most letters are a-z, accents aside, so that these alone identify a prompt."""
    whole = [c for c in unicodedata.normalize("NFKD", text) if c.isalnum()]
    return len(whole) <= 1.25 * sum(letter.isascii() for letter in whole)


def as_file_name(text: str) -> str:
    """Return a prompt as a file name: "_" for forbidden characters, without spaces at the ends.

    >>> as_file_name('a "red" cube?')
    'a _red_ cube_'
    """
    text = unicodedata.normalize("NFC", text).strip(" .")
    return re.sub(r"[/\\:*?\"<>|\x00-\x1f]", "_", text)


FORMS = (as_file_name, underscored, slug, plain_slug, letters, ascii_slug, ascii_letters)


def _prompt(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(". ")


def _without_sample_numbers(name: str) -> Iterator[str]:
    """Yield a name as it is, URL-decoded where it is encoded, and without its sample numbers."""
    name = normalise_text(name)
    whole = re.sub(r"%[0-9a-f]?$", "", name, flags=re.IGNORECASE)  # cut within an escape
    plain = normalise_text(unquote(whole.replace("+", " "))).rstrip("\ufffd")
    plain = plain if "%" in name else name
    for start in dict.fromkeys((name, plain)):
        shortened = start
        for _ in range(3):
            yield shortened
            shorter = _SAMPLE_SUFFIX.sub("", shortened)
            if shorter in (shortened, ""):
                break
            shortened = shorter


def _index(pairs: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    index: dict[str, list[int]] = defaultdict(list)
    for n, key in pairs:
        if key:
            index[key].append(n)
    return dict(index)
