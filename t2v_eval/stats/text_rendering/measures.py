"""How much of the texts that an image should show was read in it: the rules of published scripts.

Each rule is a function of the target texts and of what was read, 0 to 1, higher is better. None
looks at where a text stands, and only `exact` and `ocr-reward` mind other text.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from t2v_eval.errors import InputError

from .edit_distance import edit_distance

_LATIN = "a-zA-Z0-9àâäéèêëîïôöùûüçÀÂÄÉÈÊËÎÏÔÖÙÛÜÇ"
_CHINESE = "\u4e00-\u9fa5"
_LETTER = re.compile(f"[{_CHINESE}{_LATIN}]")
_OTHER = re.compile(f"[^{_CHINESE}{_LATIN}\\s]")
_HAN = re.compile("[\u4e00-\u9fff]")
_ROUNDING = 1e-5  # that CVTG-2K's script adds to a length, which may be 0


class Measure(NamedTuple):
    """A rule, and what it means.

    Attributes:
        score: a function of the target texts and of what was read.
        meaning: its letters, words and case in a sentence.
        source: the script that it follows.

    >>> MEASURES["word-accuracy"].score(["Open Daily"], "open all day")
    0.5
    """

    score: Callable[[Sequence[str], str], float]
    meaning: str
    source: str


def recall_units(targets: Iterable[str]) -> list[str]:
    """Return what `word_recall` counts of texts: Chinese characters, or else words.

    Args:
        targets: the texts that an image should show.

    Returns:
        Where a text has a Chinese character, the single Chinese and Latin letters and digits of all
        texts as they are; else their words in lower case. Punctuation, and letters of other
        scripts, are left out.

    >>> recall_units(["Open, Daily!", "7 AM"]), recall_units(["营业 7AM"])
    (['open', 'daily', '7', 'am'], ['营', '业', '7', 'A', 'M'])
    """
    text = " ".join(targets)
    return _units(text, is_chinese=_is_chinese(text))


def word_recall(targets: Sequence[str], reading: str) -> float:
    """Return the share of target words, or Chinese characters, that were read, in any order.

    A word counts as often as it is a target. Source: summary_scores.py of LongText-Bench, whose
    `--mode zh` is taken where a target text has a Chinese character.

    Args:
        targets: the texts that the image should show.
        reading: the text that was read.

    Raises:
        InputError: the texts have no Latin or Chinese letter and no digit.

    >>> word_recall(["Fresh, fresh brews"], "FRESH BREWS every day")
    0.6666666666666666
    """
    text = " ".join(targets)
    is_chinese = _is_chinese(text)
    return _recall(_units(text, is_chinese), _units(reading, is_chinese), targets)


def cased_units(targets: Iterable[str]) -> list[str]:
    """Return what `cased_word_recall` counts of texts: words, or of Chinese all characters.

    Args:
        targets: the texts that an image should show.

    >>> cased_units(["Open, Daily!", "7 AM"]), cased_units(["营业 7AM"])
    (['Open', 'Daily', '7', 'AM'], ['营', '业', '7', 'A', 'M'])
    """
    text = _oneig(" ".join(targets))
    return list(text) if _HAN.search(text) else text.split()


def cased_word_recall(targets: Sequence[str], reading: str) -> float:
    """Return the share of target words as `word_recall` does, but by their case.

    Source: calculate_char_match_ratio in text_utils.py of OneIG-Bench.

    Args:
        targets: the texts that the image should show.
        reading: the text that was read; with a Chinese character in it, it has no spaces.

    Raises:
        InputError: the texts have no Latin or Chinese letter and no digit.

    >>> cased_word_recall(["Fresh brews"], "FRESH brews")
    0.5
    """
    units, read = cased_units(targets), _oneig_reading(reading)
    is_chinese = _HAN.search("".join(units))
    return _recall(units, list(read) if is_chinese else read.split(), targets)


def exact(targets: Sequence[str], reading: str) -> float:
    """Return 1 where the target texts, in their order, are all that was read, else 0.

    Punctuation and the number of spaces do not matter, case does. Source: the completion rate of
    text_score.py of OneIG-Bench.

    Args:
        targets: the texts that the image should show.
        reading: the text that was read.

    Raises:
        InputError: the texts have no Latin or Chinese letter and no digit.

    >>> exact(["Fresh brews", "Daily"], "Fresh brews, Daily!"), exact(["Daily"], "Open daily")
    (1.0, 0.0)
    """
    text = _oneig(" ".join(targets))
    _check_countable(text, targets)
    return float(text == _oneig_reading(reading))


def distance(targets: Sequence[str], reading: str) -> float:
    """Return minus the edit distance from what was read to the target texts, in their order.

    Punctuation and the number of spaces do not matter, case does. Source: ED of text_score.py of
    OneIG-Bench, without the sign.

    Args:
        targets: the texts that the image should show.
        reading: the text that was read.

    Raises:
        InputError: the texts have no Latin or Chinese letter and no digit.

    >>> distance(["Fresh brews", "Daily"], "Fresh brew, Daily!")
    -1.0
    """
    text = _oneig(" ".join(targets))
    _check_countable(text, targets)
    return -float(edit_distance(_oneig_reading(reading), text))


def oneig_text_score(
    distance: float, completion: float, words: float, longest: float = 100.0
) -> float:
    """Return the text score of OneIG-Bench, from the figures of all images; 1 is best, 0 worst.

    Source: text_score.py of OneIG-Bench.

    Args:
        distance: the mean edit distance (ED).
        completion: the share of images whose texts are exact (CR).
        words: the share of all words that were read (WAC).
        longest: the distance that counts as the worst: 100 of English texts, 50 of Chinese ones.

    >>> oneig_text_score(distance=20.0, completion=0.5, words=0.8)
    0.98
    """
    return 1 - min(longest, distance) * (1 - completion) * (1 - words) / longest


def spaced_words(texts: Iterable[str]) -> list[str]:
    """Return the words between spaces in lower case, with their punctuation.

    >>> spaced_words(["Open Daily!", "7 AM"])
    ['open', 'daily!', '7', 'am']
    """
    return [word for text in texts for word in text.lower().split()]


def word_accuracy(targets: Sequence[str], reading: str) -> float:
    """Return the share of target words that are among the words read, exactly but for case.

    A word may be read once and be twice in the targets. Source: unified_metrics_eval.py of CVTG-2K.

    Args:
        targets: the texts that the image should show.
        reading: the text that was read.

    Raises:
        InputError: the texts are blank.

    >>> word_accuracy(["Fresh, fresh brews"], "FRESH BREWS every day")
    0.6666666666666666
    """
    words, read = _target_words(targets), set(spaced_words([reading]))
    return sum(word in read for word in words) / len(words)


def ned(targets: Sequence[str], reading: str) -> float:
    """Return the mean similarity of target words with the closest words read; 1 is equal.

    The similarity is 1 - d / (l + 0.00001) with the edit distance d and the length l of the longer
    word; the closest word is that of `difflib.get_close_matches`. Source: unified_metrics_eval.py
    of CVTG-2K, where it is called NED.

    Args:
        targets: the texts that the image should show.
        reading: the text that was read.

    Raises:
        InputError: the texts are blank.

    >>> round(ned(["Fresh brews"], "fresh brew today"), 4)
    0.9
    """
    words, read = _target_words(targets), spaced_words([reading]) or [""]
    similarities = []
    for word in words:
        closest = difflib.get_close_matches(word, read, n=1, cutoff=0)[0]
        longer = max(len(word), len(closest)) + _ROUNDING
        similarities.append(1 - edit_distance(word, closest) / longer)
    return sum(similarities) / len(similarities)


def ocr_reward(targets: Sequence[str], reading: str) -> float:
    """Return 1 where the first text is within what was read, else 1 - d / length, at least 0.

    d is the edit distance to all that was read. Spaces, lines and case do not matter. Source:
    flow_grpo/ocr.py, which takes the first quoted text of a prompt.

    Args:
        targets: the texts that the image should show.
        reading: the text that was read.

    Raises:
        InputError: the first text is blank.

    >>> ocr_reward(["New York"], "NEWYORK skyline"), ocr_reward(["Cat"], "cut")
    (1.0, 0.6666666666666667)
    """
    first = targets[0] if targets else ""
    text, read = ("".join(part.split()).lower() for part in (first, reading))
    if not text:
        raise InputError(f"the target text {targets!r} is blank")
    if text in read:
        return 1.0
    # A longer text is at least as far away as its surplus; longer than this it scores 0 anyway.
    distance = len(text) if len(read) >= 2 * len(text) else edit_distance(read, text)
    return 1 - min(distance, len(text)) / len(text)


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "word-recall": Measure(
            word_recall,
            "share of target words that are read, without case and punctuation; of Chinese, of "
            "characters",
            "LongText-Bench (X-Omni), textbench/summary_scores.py",
        ),
        "cased-word-recall": Measure(
            cased_word_recall,
            "as word-recall, but with case",
            "OneIG-Bench, scripts/text/text_utils.py (WAC)",
        ),
        "word-accuracy": Measure(
            word_accuracy,
            "share of target words between spaces that are read, without case, with punctuation",
            "CVTG-2K (TextCrafter), unified_metrics_eval.py (Word Accuracy)",
        ),
        "ned": Measure(
            ned,
            "mean over target words of 1 - normalised edit distance to the closest word read",
            "CVTG-2K (TextCrafter), unified_metrics_eval.py (NED)",
        ),
        "exact": Measure(
            exact,
            "1 where the target texts are all that is read, with case, without punctuation",
            "OneIG-Bench, scripts/text/text_score.py (CR)",
        ),
        "edit-distance": Measure(
            distance,
            "minus the edit distance to the target texts, with case, without punctuation",
            "OneIG-Bench, scripts/text/text_score.py (ED)",
        ),
        "ocr-reward": Measure(
            ocr_reward,
            "1 where the first text is read, else 1 - edit distance / length, without case and "
            "spaces",
            "flow_grpo, flow_grpo/ocr.py",
        ),
    }
)
"""The rules by their names."""


def _units(text: str, is_chinese: bool) -> list[str]:
    return _LETTER.findall(text) if is_chinese else _OTHER.sub("", text).lower().split()


def _is_chinese(text: str) -> bool:
    return re.search(f"[{_CHINESE}]", text) is not None


def _oneig(text: str) -> str:
    """Return a text without punctuation; a Chinese one has no spaces, another single ones."""
    letters = _OTHER.sub("", text)
    return "".join(_LETTER.findall(letters)) if _HAN.search(letters) else " ".join(letters.split())


def _oneig_reading(text: str) -> str:
    """Return what was read as `_oneig` does, without what its reader adds to an image's text."""
    for added in ("addCriterion", "No text recognized."):
        text = text.replace(added, "")
    return _oneig(text)


def _recall(units: Sequence[str], read: Sequence[str], targets: Sequence[str]) -> float:
    _check_countable("".join(units), targets)
    return (Counter(units) & Counter(read)).total() / len(units)


def _check_countable(counted: str, targets: Sequence[str]) -> None:
    if not counted:
        raise InputError(
            f"the target text {' '.join(targets)[:60]!r} has no Latin or Chinese letter and no "
            "digit, which alone count; use `measure='ned'` or `measure='word-accuracy'`"
        )


def _target_words(targets: Sequence[str]) -> list[str]:
    words = spaced_words(targets)
    if not words:
        raise InputError(f"the target text {[*targets]!r} is blank")
    return words
