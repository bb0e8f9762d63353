"""Score images by the text that is read in them against the text that they should show.

Sources of the measures: `t2v_eval.stats.text_rendering.measures`. Any scorer that writes about
images reads, here or behind an API, once for each image; its store keeps the readings, so that
another measure, or other texts, need no model.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from typing_extensions import override

from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, UnsupportedError
from t2v_eval.inputs.media import Media
from t2v_eval.inputs.target_texts import TargetTexts, quoted, read_target_texts
from t2v_eval.remote.cost import Estimate
from t2v_eval.remote.scorer import estimate, shared_limits
from t2v_eval.scoring.generation import Explanation
from t2v_eval.scoring.plan import Block, Cells, Text, by_image, caption_text
from t2v_eval.scoring.replies import Reply
from t2v_eval.scoring.results import Progress, ScoreChunk, ScoringResult
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.stats.text_rendering.measures import MEASURES
from t2v_eval.utils.arguments import check_choice

from ..common.composed import takes_any_option
from .readers import (
    IMAGES_TOGETHER,
    INSTRUCTION,
    MAX_TOKENS,
    as_reader,
    load_reader,
    read_images,
)

QUOTES, TEXT = "quotes", "text"  # which part of a prompt should be written


@dataclass(frozen=True, slots=True)
class TextExplanation(Explanation):
    """The score of an image, with the text that was read and the target texts.

    >>> print(TextExplanation(0.5, "a sign 'OPEN DAILY'", (), "OPEN", ("OPEN DAILY",)))
    0.5000
    a sign 'OPEN DAILY'
      read: 'OPEN'
      target: 'OPEN DAILY'
    """

    read: str = ""
    targets: tuple[str, ...] = ()
    problem: str = ""

    def __str__(self) -> str:
        lines = [f"{self.score:.4f}", self.prompt, f"  read: {self.read!r}"]
        lines.append(f"  target: {', '.join(map(repr, self.targets))}")
        return "\n".join([*lines, *([f"  {self.problem}"] if self.problem else [])])


class TextRenderingScorer(Scorer):
    """Score how well the text in an image is the text that it should show; 0 to 1.

    Args:
        reader: as `load_reader` or `as_reader` returns it.
        measure: a name in `MEASURES`.
        target: the texts to write: "quotes" of the prompt, the "text" of the prompt itself, or a
            file or `TargetTexts` with the texts of each prompt. By default those of the benchmark,
            or else the quotes.
        instruction: the prompt to the reader.
        options: see `Scorer`.

    Raises:
        InputError: an option has a wrong value, or a template is given.
        TableError: the file of target texts is malformed.

    >>> from PIL import Image
    >>> from t2v_eval.local.function import from_function
    >>> reads = from_function(lambda images, prompts: ["Open now"] * len(images), "mine")
    >>> scorer = TextRenderingScorer(as_reader(reads), "word-recall")
    >>> scorer(Image.new("RGB", (8, 8)), ["a sign that says 'OPEN DAILY'", "the word 'now'"])
    tensor([[0.5000, 1.0000]])
    """

    def __init__(
        self,
        reader: Scorer,
        measure: str = "word-recall",
        target: str | os.PathLike[str] | TargetTexts | None = None,
        instruction: str = INSTRUCTION,
        **options: Any,
    ) -> None:
        check_choice("measure", measure, tuple(MEASURES))
        if not isinstance(instruction, str) or not instruction.strip():
            raise InputError(f"`instruction={instruction!r}`: pass what the reader is asked")
        card = options.pop("card", None) or ModelCard(
            "text-rendering", type(self).__name__, __name__
        )
        self.reader, self.measure, self.instruction = reader, measure, instruction
        super().__init__(card=card, **options)
        if target is not None and not isinstance(target, TargetTexts):
            target = target if target in (QUOTES, TEXT) else _target_file(target)
        self.target = target
        self._usage: dict[str, float] = {}
        self.check_template()

    @property
    def needs_target_texts(self) -> bool:
        """Whether target texts are taken from the benchmark, as `target` is not set."""
        return self.target is None

    def with_target_texts(self, target: TargetTexts | None) -> Self:
        """Return a copy with the target texts of a benchmark and the same reader.

        Args:
            target: the texts; None for the quotes of prompts.
        """
        other = self.with_template()
        other.target = target
        return other

    @override
    def check_template(self) -> None:
        """Refuse templates.

        Raises:
            InputError: a template is given.
        """
        if (self.template.question, self.template.answer) != ("{}", ""):
            raise InputError(
                f"{self.name!r} asks no question about a text, and reads what should be written "
                "in it as it is: leave templates out; `instruction=` is what the reader is asked"
            )

    @override
    def to(self, device: Any) -> Self:
        self.reader.to(device)
        return self

    @override
    def check_versioned(self) -> None:
        self.reader.check_versioned()

    @override
    def identity(self) -> dict[str, str]:
        target = self.target.hash if isinstance(self.target, TargetTexts) else self.target or QUOTES
        return {
            "measure": self.measure,
            "target": str(target),
            "instruction": repr(self.instruction),
            "reader": f"[{self.reader.id}]",
            **super().identity(),
        }

    def targets(self, text: str) -> tuple[str, ...]:
        """Return the target texts of a prompt.

        Args:
            text: the prompt.

        Raises:
            InputError: it has no target text.
        """
        if isinstance(self.target, TargetTexts):
            return self.target.of_prompt(text)
        targets = (text,) if self.target == TEXT else quoted(text)
        if not any(part.strip() for part in targets):
            raise InputError(
                f"what an image of {text[:60]!r} should show is not known: it has no text in "
                "quotation marks; use `target='text'` where a text is itself what should be "
                "written, or name a file with `target=FILE`"
            )
        return targets

    @override
    def evaluate_blocks(
        self, blocks: Sequence[Block], progress: Progress | bool | None = None
    ) -> ScoringResult:
        """Score as `Scorer.evaluate_blocks` does; `usage` is that of the readings.

        Raises:
            InputError: unless errors are skipped, before any image is read: a prompt has no target
                text, or none that the measure counts.
        """
        if self.on_error == "raise":
            for text in dict.fromkeys(text for block in blocks for text in block.texts):
                self._score(text, Reply())
        self._usage = {}
        with shared_limits(self.reader):
            return replace(super().evaluate_blocks(blocks, progress), usage=self._usage)

    def estimate(self, blocks: Sequence[Block]) -> Estimate:
        """Estimate the requests of a reader behind an API.

        Args:
            blocks: the images and texts to score.

        Raises:
            UnsupportedError: the reader runs here.
        """
        self._share_options()
        if self.on_error == "skip":  # what has no target text is not read
            blocks = [b for b in blocks if not all(self._why_unscorable(text) for text in b.texts)]
        return estimate(self.reader, [Block(block.images, [self.instruction]) for block in blocks])

    def _share_options(self) -> None:
        self.reader.store, self.reader.on_error = self.store, self.on_error

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        reasons = [self._why_unscorable(caption_text(text)) for text in texts]
        unscorable = np.array([bool(reasons[j]) for j in cells[:, 1].tolist()], bool)
        for j in np.unique(cells[unscorable, 1]).tolist():
            yield ScoreChunk(np.flatnonzero(cells[:, 1] == j), None, reasons[j])
        remaining = np.flatnonzero(~unscorable)
        rows, places = by_image(cells[remaining])
        spans = [remaining[part] for part in places]
        for first in range(0, len(rows), IMAGES_TOGETHER):
            part = slice(first, first + IMAGES_TOGETHER)
            replies = self._read([images[row] for row in rows[part]])
            for span, reply in zip(spans[part], replies, strict=True):
                for position in span.tolist():
                    text = caption_text(texts[cells[position, 1]])
                    yield self._chunk(position, text, reply)

    def _read(self, media: Sequence[Media]) -> list[Reply]:
        self._share_options()
        replies, usage = read_images(self.reader, media, self.instruction)
        for name, value in usage.items():
            self._usage[name] = self._usage.get(name, 0) + value
        return replies

    def _why_unscorable(self, text: str) -> str:
        """Return why a text has no score, whatever is read; "" where it may have one."""
        try:
            self._score(text, Reply())
        except InputError as error:
            return str(error)
        return ""

    def _chunk(self, position: int, text: str, reply: Reply) -> ScoreChunk:
        where = np.array([position])
        score, targets = self._score(text, reply)
        detail = [_detail(reply, targets)]
        if reply.problem:
            return ScoreChunk(where, None, reply.problem, detail)
        return ScoreChunk(where, torch.tensor([score], dtype=torch.float32), None, detail)

    def _score(self, text: str, reply: Reply) -> tuple[float, tuple[str, ...]]:
        targets = self.targets(text)
        composed = [unicodedata.normalize("NFC", part) for part in (*targets, reply.text)]
        return MEASURES[self.measure].score(composed[:-1], composed[-1]), targets

    @override
    def explain_image(self, image: Media, texts: Sequence[str], top: int) -> list[Explanation]:
        self._usage = {}
        (reply,) = self._read([image])
        explained: list[Explanation] = []
        for text in texts:
            score, targets = self._score(text, reply)
            value = float("nan") if reply.problem else score
            explained.append(TextExplanation(value, text, (), reply.text, targets, reply.problem))
        return explained

    @override
    def generate_texts(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> Sequence[str | None]:
        raise UnsupportedError(
            f"{self.name!r} generates no text; `scorer.explain(images, texts)` says what was read"
        )


def _target_file(target: str | os.PathLike[str]) -> TargetTexts:
    if not Path(target).suffix and not Path(target).exists():
        raise InputError(f"`target={target}`: use {QUOTES!r}, {TEXT!r} or the path of a table")
    return read_target_texts(target)


def _detail(reply: Reply, targets: Sequence[str] = ()) -> str:
    return json.dumps({"read": reply.text, "targets": list(targets)}, ensure_ascii=False)


def load_text_scorer(
    reader: str | Scorer | None = None,
    measure: str = "word-recall",
    target: str | os.PathLike[str] | TargetTexts | None = None,
    instruction: str = INSTRUCTION,
    max_tokens: int = MAX_TOKENS,
    card: Any = None,
    question_template: str | None = None,
    answer_template: str | None = None,
    template: str | None = None,
    store: Any = None,
    **of_reader: Any,
) -> Scorer:
    """Load a reader, and compose it with a measure.

    Args:
        reader: the name of a reader, see `load_reader`, or a loaded scorer.
        measure: as for `TextRenderingScorer`.
        target: as for `TextRenderingScorer`.
        instruction: the prompt to the reader.
        max_tokens: largest length of a reading, in tokens; a longer one is missing.
        card: the card of the scorer.
        question_template: refused, as the other templates.
        answer_template: refused.
        template: refused.
        store: as for `load`; it also keeps the readings.
        of_reader: options of the reader, as for `load`.

    Raises:
        InputError: no reader is named, or an option is unknown or has a wrong value.

    >>> load_text_scorer()
    Traceback (most recent call last):
    t2v_eval.errors.InputError: what reads the images? name it with `reader=`: a vision-language \
model, as 'qwen2.5-vl-7b', a model behind an API, or a function of your own, as 'FILE.py:FUNCTION'
    """
    if reader is None:
        raise InputError(
            "what reads the images? name it with `reader=`: a vision-language model, as "
            "'qwen2.5-vl-7b', a model behind an API, or a function of your own, as "
            "'FILE.py:FUNCTION'"
        )
    shared = {
        name: of_reader[name]
        for name in ("image_mode", "on_error", "allow_urls")
        if name in of_reader
    }
    if isinstance(reader, str):
        for_loading = {name: v for name, v in of_reader.items() if name != "on_error"}
        loaded = load_reader(reader, max_tokens, **for_loading)
    elif others := of_reader.keys() - shared.keys():
        raise InputError(
            f"`{min(others)}=` is an option of a reader that is named; `reader=` is loaded"
        )
    else:
        loaded = as_reader(reader, max_tokens)
    return TextRenderingScorer(
        loaded,
        measure,
        target,
        instruction,
        card=card,
        question_template=question_template,
        answer_template=answer_template,
        template=template,
        store=store,
        **shared,
    )


load_text_scorer.takes = takes_any_option  # type: ignore[attr-defined]
