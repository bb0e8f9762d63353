"""Words of captions, as the metrics of captions count them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, TypeAlias

from t2v_eval.errors import InputError, ScoringError
from t2v_eval.evaluation.captioning.java import TIMEOUT, package_folder, run_java

Tokenizer: TypeAlias = Literal["ptb", "none"]

# Each character that str.splitlines or Java takes for the end of a line.
_LINE_ENDS = re.compile("[\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029]")
# The tokens that pycocoevalcap drops.
_PUNCTUATION = frozenset("'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;".split())


def check_tokenizer(name: str) -> Tokenizer:
    """Return the name of a tokenizer.

    Raises:
        InputError: there is no such tokenizer.

    >>> check_tokenizer("ptb")
    'ptb'
    """
    if name == "ptb":
        return "ptb"
    if name == "none":
        return "none"
    raise InputError(f"`tokenizer={name!r}`: use 'ptb' or 'none'")


@dataclass(frozen=True, slots=True)
class TokenisedCaptions:
    r"""Captions whose words are separated by single blanks.

    Attributes:
        candidates: the captions to score, one for each image.
        references: the human captions of each image, one or more.

    >>> TokenisedCaptions.of(["a  cat"], [["a cat\nsits"]], "none").references
    [['a cat sits']]
    """

    candidates: Sequence[str]
    references: Sequence[Sequence[str]]

    @classmethod
    def of(
        cls,
        candidates: Sequence[str],
        references: Sequence[Sequence[str]],
        tokenizer: Tokenizer = "ptb",
        timeout: float = TIMEOUT,
    ) -> TokenisedCaptions:
        """Split captions into words.

        Args:
            candidates: the captions to score.
            references: the human captions of each, one or more.
            tokenizer: "ptb" for the Penn Treebank tokenizer of Stanford CoreNLP 3.4.1, in lower
                case and without punctuation, as pycocoevalcap has it; "none" to split at blanks
                alone, which needs no Java and gives other values than published ones.
            timeout: seconds after which Java is stopped.

        Raises:
            InputError: there is no caption, a caption has no reference, or the numbers differ.
            MissingPackageError: pycocoevalcap or Java is not installed.
            ScoringError: Java fails.
        """
        if len(candidates) != len(references):
            raise InputError(
                f"there are {len(candidates)} candidates and {len(references)} lists of "
                "references: pass a list of references for each candidate"
            )
        if not candidates:
            raise InputError("`candidates` is empty: pass at least one caption")
        for index, listed in enumerate(references):
            if isinstance(listed, str) or not listed:
                raise InputError(f"references[{index}] is {listed!r}; pass a list of captions")
        flat = [*candidates, *(caption for listed in references for caption in listed)]
        lines = [_LINE_ENDS.sub(" ", caption) for caption in flat]
        if check_tokenizer(tokenizer) == "ptb":
            lines = _ptb(lines, timeout)
        else:
            lines = [" ".join(line.split()) for line in lines]
        rest = iter(lines)
        tokenised = list(islice(rest, len(candidates)))
        return cls(tokenised, [list(islice(rest, len(listed))) for listed in references])

    def by_index(self) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
        """Return references and candidates by number, as the classes of pycocoevalcap take them."""
        return (
            {index: list(listed) for index, listed in enumerate(self.references)},
            {index: [caption] for index, caption in enumerate(self.candidates)},
        )


def _ptb(lines: Sequence[str], timeout: float) -> list[str]:
    archive = package_folder() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    tokenizer = "edu.stanford.nlp.process.PTBTokenizer"
    options = ["-preserveLines", "-lowerCase", "-encoding", "utf-8"]
    arguments = ["-cp", str(archive), tokenizer, *options]
    printed = run_java("the PTB tokenizer", arguments, "\n".join(lines) + "\n", timeout)
    if len(printed) != len(lines):
        raise ScoringError(
            f"the PTB tokenizer returned {len(printed)} lines for {len(lines)} captions"
        )
    return [" ".join(w for w in line.split(" ") if w and w not in _PUNCTUATION) for line in printed]
