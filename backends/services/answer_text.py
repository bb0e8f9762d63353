"""What a model answers, behind its thoughts and out of what it wraps an answer in.

Models that think write their thoughts before the answer, each family between marks of its own, of
which a server may drop the first. Some put the answer into a tag, a box or JSON, or behind
"Answer:". All of that is read; what is left over is never guessed at.
"""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from t2v_eval.errors import ScoringError

_THOUGHT = r"think|thinking|thoughts?|reason|reasoning|analysis|reflection|rationale|scratchpad"
OPENS = re.compile(
    rf"[<◁]\|?(?!/|end)(?:\w+[:_])?(?:{_THOUGHT})(?:\s[^<>]*)?\|?[>▷]|\[think(?:ing)?\]"
    r"|<\|channel\|?>|<unused94>|<ctrl94>",
    re.IGNORECASE,
)
_CLOSES = re.compile(
    rf"[<◁]\|?(?:/|end_?(?:of_?)?)(?:\w+[:_])?(?:{_THOUGHT})\s*\|?[>▷]|\[/think(?:ing)?\]"
    r"|<\|channel\|>\s*final\b(?:[^<>]*(?:<\|constrain\|>[^<>]*)?<\|message\|>)?"
    r"|<channel\|>|<unused95>|<ctrl95>",
    re.IGNORECASE,
)
# gpt-oss where a server drops the marks themselves
_UNMARKED = re.compile(r"\A\s*analysis(?=[A-Z]).*?assistantfinal", re.DOTALL)
_TOKENS = re.compile(
    r"<\|(?!channel|(?:begin|end)_of_(?:box|solution))[^<>|]{1,40}\|>|<eos>|<end_of_turn>"
)

_TAG = r"(answer|final_?answer|final|conclusion|solution|response|output|result)"
_BOX = r"(?:\\boxed|\\fbox|\x08oxed|\bboxed)\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
_HOLDS = [
    re.compile(
        rf"[<\[]{_TAG}[>\]](.*?)(?:[<\[]/\1[>\]]|\Z)",
        re.DOTALL | re.IGNORECASE,
    ),
    re.compile(r"(<\|begin_of_(?:box|solution)\|>)(.*?)(?:<\|end_of_\w+\|>|\Z)", re.DOTALL),
    re.compile(rf"(){_BOX}"),
]
_TAG_END = re.compile(rf"[<\[]/{_TAG}[>\]]\s*\Z", re.IGNORECASE)  # of one that a prompt opened
_FONT = re.compile(
    r"\\(?:text\w*|math\w+|operatorname)\s*\{([^{}]*)\}|</?(?:b|strong|i|em|p|code)>"
)
_BLANK = f"{string.whitespace}\u00a0\u200b\u2060\ufeff"  # some of it has no width
_KEYS = re.compile(r"(?:final[_ ]?)?(?:answer|grade|score|rating|verdict|result|choice|response)")
_SCALE = re.compile("scale|range|max|total|out.?of|confiden|certain|unit", re.IGNORECASE)
_LABEL = re.compile(
    r"[\s*_#>`-]*(?:(?:so|thus|therefore|hence|overall|in conclusion)\b,?\s*)?(?:(?:the|my)\s+)?"
    r"(?:(?:final|correct|short|overall)\s+)?"
    r"(?:answer|response|grade|score|rating|verdict|result|choice|conclusion)"
    r"(?:\s+to\s+(?:the|this|your)\s+question)?[*_`]*\s*(?:\bis\b[\s:]*|[:=\uff1a]|\n)",
    re.IGNORECASE,
)

OPPOSITE = {"yes": "no", "no": "yes"}
_WORD = re.compile(r"(?:[^\w¬!≠~❌✗✘✖]|_)*([^\W_]+)")
_ARTICLE = re.compile(r"[\W_]*(?:an?|the)\s+(?=\w)", re.IGNORECASE)
# What may follow a word that is an answer by itself: nothing, or another clause.
_NEXT = re.compile(
    r"[^\w?/❌✗✘✖]*\Z|[*_`\"'”’)\]}$]*\s*(?:\n|[,;:!。…]|\.(?!\s*\d)|[–—(]|-(?!\w)"
    r"|(?<=\s)(?:it|the|this|that|these|there|they|he|she|we|i)\b)",
    re.IGNORECASE,
)
# What takes an answer back, or excuses that there is none.
_DOUBT = re.compile(
    r"\b(?:but|however|although|though|actually|except|part(?:ly|ially)|unless|maybe|perhaps"
    r"|possibly|probably|un(?:sure|certain|clear|able|known)|not (?:sure|certain|really|quite)"
    r"|can['’]?t|cannot|can not|sorry|apolog\w*|unfortunately|depends?|wait|almost|hmm+|n/?a"
    r"|refus\w*|puedo|posso|peux|siento|lamento|d[ée]sol\w*|entschuldig\w*|leider)\b"
    r"|抱歉|对不起|對不起|无法|無法|不能|申し訳|ごめん|できません|죄송"
    r"|(?:sort|kind) of|somewhat|mostly|likely|roughly|loosely|technically|more or less|if|at first"
    r"|to (?:some|an?) (?:extent|degree)|in a (?:sense|way)|confiden\w*|percent|\d\s*%",
    re.IGNORECASE,
)
# What is about the talk and not about the image: who speaks to whom, and that no image came.
_TALK = re.compile(
    r"\b(?:I|we|you)\b(?! (?:can )?(?:clearly )?see\b)|\b(?:me|my|us|our|your|please|AI)\b"
    r"|\blanguage model\b|\b(?:no|any|an) (?:\w+ )?(?:image|picture|figure|photo|video|file)s?\b"
    r"|\b(?:image|picture|figure|photo|video|file)s?\b(?: \w+){0,4} (?:(?:up|down)?load(?:ed)?"
    r"|attached|provided|shared|included|received|missing|available|accessible|broken)\b",
    re.IGNORECASE,
)
# "No" is a word of other languages too, so that a sentence behind it has to be English.
_ENGLISH = re.compile(
    r"\b(?:the|it|its|is|are|was|were|this|that|these|those|there|they|them|she|of|and|with|does"
    r"|shows?|not|never|yes|absolutely|definitely|indeed|certainly|clearly|correct|exactly)\b"
    r"|\W+an? \w+\W*\Z",
    re.IGNORECASE,
)
_QUOTED = re.compile('"[^"]*"|“[^”]*”')
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff]{5}")  # a sentence in a script without spaces
_NEGATION = re.compile(
    r"\b(?:not|never|none|nothing|neither|nor|without|lack\w*|absent|missing|fail\w*|wrong|false"
    r"|incorrect|inaccurate|untrue|instead)\b|n['’]t\b",
    re.IGNORECASE,
)
_AGREEMENT = re.compile(
    r"\b(?:correct|accurate|true|exact|exactly|perfect|perfectly)\b", re.IGNORECASE
)
MORE = "pass a larger max_tokens="
LONG = 20_000  # characters, behind thoughts


def behind_thoughts(text: str, more: str = MORE) -> str:
    """What a model says once it has thought, without control tokens around it.

    Args:
        more: what to do about thoughts that do not end.

    Raises:
        ScoringError: its thoughts have no end.

    >>> behind_thoughts("<think>\\nIs it there? Yes.\\n</think>\\n\\nNo<|im_end|>")
    'No'
    >>> behind_thoughts("<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>No")
    'No'
    """
    text = _UNMARKED.sub("", text, count=1)
    ends = [mark.end() for mark in _CLOSES.finditer(text)]
    text = text[ends[-1] :] if ends else text
    if OPENS.search(text):
        raise ScoringError(f"thinks without an end and gives no answer; {more}")
    if len(text) < LONG:
        text = _held(text, whole=True)
    text = _TOKENS.sub("", text).strip(_BLANK)
    return text.removesuffix("</s>").strip(_BLANK)


def stated(text: str) -> str:
    """The answer that a text states, out of its tag, box, JSON or label; else the text itself.

    Raises:
        ScoringError: there is only a thought without an end.

    >>> for text in (r"It does. $\\boxed{\\text{Yes}}$", '{"answer": "Yes"}', "**Answer:** Yes"):
    ...     stated(text)
    'Yes'
    'Yes'
    'Yes'
    """
    text = behind_thoughts(text)
    if len(text) >= LONG:
        raise ScoringError("is longer than any answer")
    text = _TAG_END.sub("", _held(text))
    text = _FONT.sub(lambda found: found[1] or "", text).strip()
    if text.startswith("```") and text.endswith("```"):
        text = text.strip("`").partition("\n")[2].strip() or text
    if text.startswith("{"):
        return _of_json(text)
    lines = [line for line in text.split("\n") if _LABEL.match(line)]
    last = text.rpartition("\n")[2]
    if lines == [last]:
        text = last
    if (label := _LABEL.match(text)) is not None:
        text = text[label.end() :]
    return text.strip("$*_` \n\t")


def _held(text: str, whole: bool = False) -> str:
    """What stands in a tag or box; with `whole`, only where nothing stands outside."""
    for pattern in _HOLDS:
        found = list(pattern.finditer(text))
        inside = {match[2].strip() for match in found}
        if len(inside) != 1 or (whole and _TOKENS.sub("", pattern.sub("", text)).strip("$ \n")):
            continue
        behind = text[found[-1].end() :]
        text = inside.pop()
        if re.search(r"[^\W_]", _TAG_END.sub("", _TOKENS.sub("", behind))):
            text += f"\n{behind}"  # which may take it back
        if pattern is _HOLDS[-1]:
            text = _FONT.sub(lambda found: found[1] or "", text)
    return text


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; two values under one name say nothing."""
    table = dict(pairs)
    if len(table) < len(pairs) and any(table[name] != value for name, value in pairs):
        raise ValueError("an object holds a name twice")
    return table


def _of_json(text: str) -> str:
    """The only answer in a JSON object; a brace, which is none, where there is not one."""
    try:
        table = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return "{"
    answers = [value for name, value in table.items() if _KEYS.fullmatch(name.casefold())]
    beside = {name: value for name, value in table.items() if not _KEYS.fullmatch(name.casefold())}
    if len(answers) != 1 or not isinstance(answers[0], (str, int, float)):
        return "{"
    if any(not isinstance(said, str) or _SCALE.search(name) for name, said in beside.items()):
        return "{"  # another number may say out of what, or how sure
    if isinstance(answers[0], bool):
        return "yes" if answers[0] else "no"
    return str(answers[0])


def says(text: str, answer: str, cut: bool = False) -> float:
    """1 where a text gives the answer, 0 where it gives another one.

    An answer is a word by itself, or one that begins a sentence which takes nothing of it back.
    Yes and no are each other's opposite, and nothing else is an answer to what they answer. To any
    other word, a single other word is another answer; a sentence that begins otherwise is none.

    Args:
        cut: whether the text may go on, so that more than a word of it may be taken back.

    Raises:
        ScoringError: it gives neither.

    >>> says("**Yes**, it does.", "Yes"), says("No", "Yes"), says("A dog.", "cat")
    (1.0, 0.0, 0.0)
    """
    wanted = answer.strip().casefold()
    plain = unicodedata.normalize("NFKC", stated(text)).strip()
    if not plain:
        raise ScoringError("is empty")
    if wanted not in ("yes", "no", "a", "an", "the"):
        plain = _ARTICLE.sub("", plain, count=1) if _ARTICLE.match(plain) else plain
    head = _WORD.match(plain)
    word, rest = (head[1].casefold(), plain[head.end() :]) if head is not None else ("", plain)
    rest = _QUOTED.sub('""', rest)
    clear = _NEXT.match(rest) is not None and _about_image(rest)
    said = repr(text.strip()[:40])
    if cut and clear and word in (wanted, OPPOSITE.get(wanted)) and re.search(r"[^\W_]", rest):
        raise ScoringError(f"is a sentence without an end: {said}; {MORE}")
    if wanted in OPPOSITE:
        clear = clear and not re.search(rf"\b{OPPOSITE.get(word, 'yes')}\b", rest, re.IGNORECASE)
        if not clear or word not in OPPOSITE or _contradicts(word, rest):
            raise ScoringError(f"says neither yes nor no: {said}")
        return float(word == wanted)
    if clear and word == wanted:
        return 1.0
    alone = re.search(r"[^\W_]", rest) is None and not _UNSPACED.search(word)
    if not word or word == wanted or not alone or _DOUBT.search(word):
        raise ScoringError(f"is no single word: {said}")
    return 0.0


def _about_image(rest: str) -> bool:
    """Tell whether what follows an answer is nothing, or a sentence that leaves it as it is."""
    if _DOUBT.search(rest) or _TALK.search(rest):
        return False
    return re.search(r"[^\W_]", rest) is None or _ENGLISH.search(rest) is not None


def _contradicts(word: str, rest: str) -> bool:
    """Tell whether a sentence denies the yes, or confirms in spite of the no, that it follows."""
    denies = _NEGATION.search(rest) is not None
    return denies if word == "yes" else not denies and _AGREEMENT.search(rest) is not None


def share(
    samples: Iterable[str | tuple[str, bool] | ScoringError], answer: str
) -> tuple[float, int]:
    """The share of the answer among the samples that can be read, and how many cannot.

    Args:
        samples: what was written, perhaps with whether it was cut; or why nothing was.

    Raises:
        ScoringError: fewer than half of them can be read.

    >>> share(["Yes.", "yes, it does", "No", "**Yes**", "I cannot tell"], "Yes")
    (0.75, 1)
    """
    values, reasons = [], []
    for sample in samples:
        try:
            if isinstance(sample, ScoringError):
                raise sample
            written, cut = (sample, False) if isinstance(sample, str) else sample
            values.append(says(written, answer, cut))
        except ScoringError as error:
            reasons.append(str(error))
    if len(values) < len(reasons) or not values:
        total = len(values) + len(reasons)
        first = reasons[0] if reasons else "is empty"
        more = f"; where a model thinks first, {MORE}" if first == "is empty" else ""
        raise ScoringError(
            f"{len(reasons)} of {total} sampled answers cannot be read; the first: {first}{more}"
        )
    return sum(values) / len(values), len(reasons)
