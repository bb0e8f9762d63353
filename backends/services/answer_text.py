"""Extract a model's answer: strip its reasoning and unwrap tags, boxes, JSON and labels.

Reasoning models write their reasoning before the answer, each family between marks of its own, the
first of which a server may drop. Some put the answer into a tag, a box or JSON, or behind
"Answer:". All of these forms are parsed; anything else is an error, never a guess.
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from t2v_eval.errors import ScoringError

_REASONING_TAGS = (
    r"think|thinking|thoughts?|reason|reasoning|analysis|reflection|rationale|scratchpad"
)
REASONING_START = re.compile(
    rf"[<◁]\|?(?!/|end)(?:\w+[:_])?(?:{_REASONING_TAGS})(?:\s[^<>]*)?\|?[>▷]|\[think(?:ing)?\]"
    r"|<\|channel\|?>|<unused94>|<ctrl94>",
    re.IGNORECASE,
)
_REASONING_END = re.compile(
    rf"[<◁]\|?(?:/|end_?(?:of_?)?)(?:\w+[:_])?(?:{_REASONING_TAGS})\s*\|?[>▷]|\[/think(?:ing)?\]"
    r"|<\|channel\|>\s*final\b(?:[^<>]*(?:<\|constrain\|>[^<>]*)?<\|message\|>)?"
    r"|<channel\|>|<unused95>|<ctrl95>",
    re.IGNORECASE,
)
# gpt-oss where a server drops the marks themselves
_UNMARKED_REASONING = re.compile(r"\A\s*analysis(?=[A-Z]).*?assistantfinal", re.DOTALL)
_CONTROL_TOKENS = re.compile(
    r"<\|(?!channel|(?:begin|end)_of_(?:box|solution))[^<>|]{1,40}\|>|<eos>|<end_of_turn>"
)

_ANSWER_TAG = r"(answer|final_?answer|final|conclusion|solution|response|output|result)"
_BOXED = r"(?:\\boxed|\\fbox|\x08oxed|\bboxed)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
_ANSWER_WRAPPERS = [
    re.compile(
        rf"[<\[]{_ANSWER_TAG}[>\]](.*?)(?:[<\[]/\1[>\]]|\Z)",
        re.DOTALL | re.IGNORECASE,
    ),
    re.compile(
        r"<(score|rating|grade|verdict|choice)>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE
    ),
    re.compile(r"(<\|begin_of_(?:box|solution)\|>)(.*?)(?:<\|end_of_\w+\|>|\Z)", re.DOTALL),
    re.compile(rf"(){_BOXED}"),
]
_CLOSING_TAG = re.compile(
    rf"[<\[]/{_ANSWER_TAG}[>\]]\s*\Z", re.IGNORECASE
)  # of one that a prompt opened
_FORMATTING = re.compile(
    r"\\(?:text\w*|math\w+|operatorname)\s*\{([^{}]*)\}|</?(?:b|strong|i|em|p|code)>"
)
_WHITESPACE = f"{string.whitespace}\u00a0\u200b\u2060\ufeff"  # some of it has no width
_ANSWER_KEYS = re.compile(
    r"(?:final[_ ]?)?(?:answer|grade|score|rating|verdict|result|choice|response)"
)
_SCALE_KEYS = re.compile("scale|range|max|total|out.?of|confiden|certain|unit", re.IGNORECASE)
_ANSWER_LABEL = re.compile(
    r"[\s*_#>`-]*(?:(?:so|thus|therefore|hence|overall|in conclusion)\b,?\s*)?(?:(?:the|my)\s+)?"
    r"(?:(?:final|correct|short|overall)\s+)?"
    r"(?:answer|response|grade|score|rating|verdict|result|choice|conclusion)"
    r"(?:\s+to\s+(?:the|this|your)\s+question)?[*_`]*\s*(?:\bis\b[\s:]*|[:=\uff1a]|\n)",
    re.IGNORECASE,
)

OPPOSITE = {"yes": "no", "no": "yes"}
_FIRST_WORD = re.compile(r"(?:[^\w¬!≠~❌✗✘✖]|_)*([^\W_]+)")
_ARTICLE = re.compile(r"[\W_]*(?:an?|the)\s+(?=\w)", re.IGNORECASE)
# Text that may follow a complete answer: nothing, or another clause.
_ANSWER_END = re.compile(
    r"[^\w?/❌✗✘✖]*\Z|[*_`\"'”’)\]}$]*\s*(?:\n|[,;:!。…]|\.(?!\s*\d)|[–—(]|-(?!\w)"
    r"|(?<=\s)(?:it|the|this|that|these|there|they|he|she|we|i)\b)",
    re.IGNORECASE,
)
# Words that take an answer back, or apologise for its absence.
_HEDGES = re.compile(
    r"\b(?:but|however|although|though|actually|except|part(?:ly|ially)|unless|maybe|perhaps"
    r"|possibly|probably|un(?:sure|certain|clear|able|known)|not (?:sure|certain|really|quite)"
    r"|can['’]?t|cannot|can not|sorry|apolog\w*|unfortunately|depends?|wait|almost|hmm+|n/?a"
    r"|refus\w*|puedo|posso|peux|siento|lamento|d[ée]sol\w*|entschuldig\w*|leider)\b"
    r"|抱歉|对不起|對不起|无法|無法|不能|申し訳|ごめん|できません|죄송"
    r"|(?:sort|kind) of|somewhat|mostly|likely|roughly|loosely|technically|more or less|if|at first"
    r"|to (?:some|an?) (?:extent|degree)|in a (?:sense|way)|confiden\w*|percent|\d\s*%"
    r"|to (?:tell|say|know|judge|determine|decide|assess|verify|confirm)\b|(?:im|not )possible"
    r"|insufficient|not enough (?:information|detail|context|evidence)",
    re.IGNORECASE,
)
# Text about the conversation, not the image: the speakers, or an image that did not arrive.
_ABOUT_CONVERSATION = re.compile(
    r"\b(?:I|we|you)\b(?! (?:can )?(?:clearly )?see\b)|\b(?:me|my|us|our|your|please|AI)\b"
    r"|\blanguage model\b|\b(?:no|any|an) (?:\w+ )?(?:image|picture|figure|photo|video|file)s?\b"
    r"|\b(?:violat\w*|polic(?:y|ies)|guidelines?|requests?)\b"
    r"|\b(?:image|picture|figure|photo|video|file)s?\b(?: \w+){0,4} (?:(?:up|down)?load(?:ed)?"
    r"|render(?:ed)?|decoded?|attached|provided|shared|included|received|missing|available|accessible|broken)\b",
    re.IGNORECASE,
)
# "No" is a word of other languages too, so that a sentence behind it has to be English.
_ENGLISH_WORDS = re.compile(
    r"\b(?:the|it|its|is|are|was|were|this|that|these|those|there|they|them|she|of|and|with|does"
    r"|shows?|not|never|yes|absolutely|definitely|indeed|certainly|clearly|correct|exactly)\b"
    r"|\W+an? \w+\W*\Z",
    re.IGNORECASE,
)
_QUOTED = re.compile('"[^"]*"|“[^”]*”')
_UNSPACED_SCRIPT = re.compile(
    "[\u3040-\u30ff\u3400-\u9fff]{5}"
)  # a sentence in a script without spaces
_NEGATION = re.compile(
    r"\b(?:not|never|none|nothing|neither|nor|without|lack\w*|absent|missing|fail\w*|wrong|false"
    r"|incorrect|inaccurate|untrue|instead)\b|n['’]t\b",
    re.IGNORECASE,
)
_AGREEMENT = re.compile(
    r"\b(?:correct|accurate|true|exact|exactly|perfect|perfectly)\b", re.IGNORECASE
)
MAX_TOKENS_HINT = "pass a larger `max_tokens=`"
MAX_ANSWER_CHARS = 20_000  # without reasoning


def strip_reasoning(text: str, more: str = MAX_TOKENS_HINT) -> str:
    r"""Return the text behind the reasoning, without control tokens.

    Args:
        text: the text of the model.
        more: the remedy that the error names.

    Raises:
        ScoringError: the reasoning has no end.

    >>> strip_reasoning("<think>\nIs it there? Yes.\n</think>\n\nNo<|im_end|>")
    'No'
    >>> strip_reasoning("<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>No")
    'No'
    """
    text = _UNMARKED_REASONING.sub("", text, count=1)
    ends = [mark.end() for mark in _REASONING_END.finditer(text)]
    text = text[ends[-1] :] if ends else text
    if REASONING_START.search(text):
        raise ScoringError(f"thinks without an end and gives no answer; {more}")
    if len(text) < MAX_ANSWER_CHARS:
        text = _unwrap(text, whole=True)
    text = _CONTROL_TOKENS.sub("", text).strip(_WHITESPACE)
    return text.removesuffix("</s>").strip(_WHITESPACE)


def outside_reasoning(text: str, more: str = MAX_TOKENS_HINT) -> str:
    """Return a text in which every thought is blank, so that each character keeps its place.

    Args:
        text: the text of the model.
        more: the remedy that the error names.

    Raises:
        ScoringError: a thought has no end.

    >>> outside_reasoning("A <think>Is it?</think> B").split()
    ['A', 'B']
    """
    ends = {mark.start(): mark.end() for mark in _REASONING_END.finditer(text)}
    starts = {mark.start() for mark in REASONING_START.finditer(text)} - ends.keys()
    unmarked = _UNMARKED_REASONING.match(text)
    thoughts = [(0, unmarked.end())] if unmarked else []
    open_at: list[int] = []
    for place in sorted({*starts, *ends}):
        if place in starts:
            open_at.append(place)
        else:  # a server may have dropped the start of a thought
            thoughts.append((open_at.pop() if open_at else 0, ends[place]))
    if open_at:
        raise ScoringError(f"thinks without an end and gives no answer; {more}")
    for start, end in thoughts:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def extract_answer(text: str) -> str:
    r"""Return the answer in a text's tag, box, JSON or label; without one, the text itself.

    Args:
        text: the text of the model.

    Raises:
        ScoringError: the text is reasoning without an end, or too long.

    >>> for text in (r"It does. $\boxed{\text{Yes}}$", '{"answer": "Yes"}', "**Answer:** Yes"):
    ...     extract_answer(text)
    'Yes'
    'Yes'
    'Yes'
    """
    text = strip_reasoning(text)
    if len(text) >= MAX_ANSWER_CHARS:
        raise ScoringError("is longer than any answer")
    text = _CLOSING_TAG.sub("", _unwrap(text))
    text = _FORMATTING.sub(lambda match: match[1] or "", text).strip()
    if text.startswith("```") and text.endswith("```"):
        text = text.strip("`").partition("\n")[2].strip() or text
    if text.startswith("{"):
        return _answer_from_json(text)
    lines = [line for line in text.split("\n") if _ANSWER_LABEL.match(line)]
    last = text.rpartition("\n")[2]
    if lines == [last]:
        text = last
    if (label := _ANSWER_LABEL.match(text)) is not None:
        text = text[label.end() :]
    return text.strip("$*_` \n\t")


def _unwrap(text: str, whole: bool = False) -> str:
    """Return the content of a tag or box; with `whole`, only if there is no text outside it."""
    for pattern in _ANSWER_WRAPPERS:
        matches = list(pattern.finditer(text))
        inside = {match[2].strip() for match in matches}
        if len(inside) != 1 or (
            whole and _CONTROL_TOKENS.sub("", pattern.sub("", text)).strip("$ \n")
        ):
            continue
        behind = text[matches[-1].end() :]
        text = inside.pop()
        if re.search(r"[^\W_]", _CLOSING_TAG.sub("", _CONTROL_TOKENS.sub("", behind))):
            text += f"\n{behind}"  # which may take it back
        if pattern is _ANSWER_WRAPPERS[-1]:
            text = _FORMATTING.sub(lambda match: match[1] or "", text)
    return text


def reject_duplicate_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict, for `json.loads`.

    Args:
        pairs: keys and values of the object.

    Raises:
        ValueError: a key has two different values.

    >>> reject_duplicate_keys([("a", 1), ("a", 1)])
    {'a': 1}
    """
    fields = dict(pairs)
    if len(fields) < len(pairs) and any(fields[name] != value for name, value in pairs):
        raise ValueError("an object holds a name twice")
    return fields


def _answer_from_json(text: str) -> str:
    """Return the only answer in a JSON object, or "{", which matches no answer."""
    try:
        fields = json.loads(text, object_pairs_hook=reject_duplicate_keys)
    except (ValueError, RecursionError):
        return "{"
    answers = [value for name, value in fields.items() if _ANSWER_KEYS.fullmatch(name.casefold())]
    others = {
        name: value for name, value in fields.items() if not _ANSWER_KEYS.fullmatch(name.casefold())
    }
    if len(answers) != 1 or not isinstance(answers[0], (str, int, float)):
        return "{"
    if any(
        not isinstance(value, str) or _SCALE_KEYS.search(name) for name, value in others.items()
    ):
        return "{"  # another number may be the scale or the confidence
    if isinstance(answers[0], bool):
        return "yes" if answers[0] else "no"
    return str(answers[0])


def match_answer(text: str, answer: str, truncated: bool = False) -> float:
    """Return 1.0 if a text gives the answer, 0.0 if it gives another one.

    A text gives an answer as a single word, or as the first word of a sentence that does not take
    it back. If yes or no is expected, only yes and no are answers. If another word is expected, a
    single different word is another answer; a sentence that begins with one is an error.

    Args:
        text: the text of the model.
        answer: the expected answer, one word.
        truncated: whether the text may go on; more than a word may then be taken back.

    Raises:
        ScoringError: the text gives neither.

    >>> [match_answer(text, "Yes") for text in ("**Yes**, it does.", "No")]
    [1.0, 0.0]
    >>> match_answer("A dog.", "cat")
    0.0
    """
    expected = answer.strip().casefold()
    stated = unicodedata.normalize("NFKC", extract_answer(text)).strip()
    if not stated:
        raise ScoringError("is empty")
    if expected not in ("yes", "no", "a", "an", "the"):
        stated = _ARTICLE.sub("", stated, count=1) if _ARTICLE.match(stated) else stated
    first = _FIRST_WORD.match(stated)
    word, rest = (first[1].casefold(), stated[first.end() :]) if first is not None else ("", stated)
    rest = _QUOTED.sub('""', rest)
    clear = _ANSWER_END.match(rest) is not None and _about_image(rest)
    quoted = repr(text.strip()[:40])
    answers = (expected, OPPOSITE.get(expected))
    if truncated and clear and word in answers and re.search(r"[^\W_]", rest):
        raise ScoringError(f"is a sentence without an end: {quoted}; {MAX_TOKENS_HINT}")
    if expected in OPPOSITE:
        clear = clear and not re.search(rf"\b{OPPOSITE.get(word, 'yes')}\b", rest, re.IGNORECASE)
        if not clear or word not in OPPOSITE or _contradicts(word, rest):
            raise ScoringError(f"says neither yes nor no: {quoted}")
        return float(word == expected)
    if clear and word == expected:
        return 1.0
    alone = re.search(r"[^\W_]", rest) is None and not _UNSPACED_SCRIPT.search(word)
    if not word or word == expected or not alone or _HEDGES.search(word):
        raise ScoringError(f"is no single word: {quoted}")
    return 0.0


def _about_image(rest: str) -> bool:
    """Tell whether the text after an answer is empty, or a sentence that does not change it."""
    if _HEDGES.search(rest) or _ABOUT_CONVERSATION.search(rest):
        return False
    return re.search(r"[^\W_]", rest) is None or _ENGLISH_WORDS.search(rest) is not None


def _contradicts(word: str, rest: str) -> bool:
    """Tell whether a sentence denies the yes, or confirms in spite of the no, that it follows."""
    denies = _NEGATION.search(rest) is not None
    return denies if word == "yes" else not denies and _AGREEMENT.search(rest) is not None


def answer_share(
    samples: Iterable[str | tuple[str, bool] | ScoringError], answer: str
) -> tuple[float, int]:
    """Return the share of the answer among the valid samples, and the number of invalid ones.

    Args:
        samples: sampled texts, or (text, truncated), or the error of a sample.
        answer: the expected answer, one word.

    Returns:
        The share, from 0 to 1, and how many samples were left out.

    Raises:
        ScoringError: fewer than half of the samples are valid.

    >>> answer_share(["Yes.", "yes, it does", "No", "**Yes**", "I cannot tell"], "Yes")
    (0.75, 1)
    """
    values, reasons = [], []
    for sample in samples:
        try:
            if isinstance(sample, ScoringError):
                raise sample
            text, truncated = (sample, False) if isinstance(sample, str) else sample
            values.append(match_answer(text, answer, truncated))
        except ScoringError as error:
            reasons.append(str(error))
    if len(values) < len(reasons) or not values:
        total = len(values) + len(reasons)
        first = reasons[0] if reasons else "is empty"
        more = f"; where a model thinks first, {MAX_TOKENS_HINT}" if first == "is empty" else ""
        raise ScoringError(
            f"{len(reasons)} of {total} sampled answers cannot be read; the first: {first}{more}"
        )
    return sum(values) / len(values), len(reasons)
