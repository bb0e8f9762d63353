"""Readers: transcribe the text in an image, all of it and as it is spelled.

A reader is a scorer whose cells are an image and an instruction, and whose details are what was
read (`t2v_eval.scoring.replies`). So its store keeps each reading, and the batches, limits and
costs of a service apply to readings as to any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from typing_extensions import override

from t2v_eval.api import load
from t2v_eval.errors import InputError, ScoringError, T2VError, UnsupportedError
from t2v_eval.inputs.media import Media
from t2v_eval.registry import models
from t2v_eval.scoring.plan import Block, Cells, Text, caption_text
from t2v_eval.scoring.replies import EMPTY, Reply, read_reply, reply_chunk
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer

from ..services.answer_text import strip_reasoning
from ..services.grade import WrittenText
from ..services.scorer import ServiceScorer
from .got_ocr import GotOcr

MAX_TOKENS = 1024  # length of a reading, as in LongText-Bench's script
IMAGES_TOGETHER = 64  # images that are read in one call, and stored after it
NETWORKS = {"got-ocr2": GotOcr}  # that read images and are no scorers
# The instruction for a general model, in our own words.
INSTRUCTION = (
    "Transcribe all text in this image. Reply with the text alone, spelled as it is in the image. "
    "If there is no text, reply: No text recognized"
)
# The form in which readers of documents write, which is no text in an image.
_FENCE = re.compile(r"```[\w-]*\n(.*?)\n?```", re.DOTALL)
_LINE_TAGS = re.compile(
    r"</?(?:table|thead|tbody|tr|td|th|br|p|div|h[1-6]|ul|ol|li)(?:\s[^<>]*)?/?>", re.IGNORECASE
)
_WORD_TAGS = re.compile(r"</?(?:b|i|u|em|strong|span|center|sub|sup)(?:\s[^<>]*)?>", re.IGNORECASE)
_NO_TEXT = "no text recognized"  # as instructions ask for; LongText-Bench's script removes it too
# The beginning of a reply in which a model refuses, which is no text in an image.
_REFUSALS = (
    r"(?:(?:I['’]?m|I am) )?(?:so |very )?(?:sorry|afraid)[,.:!]?(?: but)?(?: that)?"
    r" (?:I|as an|this (?:request|content|image)|the (?:request|image))\b",
    r"(?:I['’]?m|I am) (?:unable|not able) to\b",
    r"I (?:cannot|can['’]?t|can not|won['’]?t|could not|couldn['’]?t) (?:\w+ )?(?:access|analy[sz]e"
    r"|assist|comply|evaluate|extract|help|identify|open|process|provide|read|see|transcribe|view)\b",
    r"As an? (?:AI|artificial intelligence|language model)\b",
    r"I (?:do not|don['’]?t) see (?:an|any|the) image\b",
    r"No image (?:was|is|has been) \w+",
    r"The image (?:failed|could not|cannot|is not|was not) ",
    r"(?:This|Your) (?:content|image|request) (?:has been|may|might|violates|was) ",
    r"(?:很?抱歉|对不起)[,，]",
    r"申し訳(?:ありません|ございません)",
    r"죄송",
    r"Lo siento, (?:pero )?no puedo\b",
    r"Es tut mir leid, (?:aber )?ich\b",
    r"Je (?:ne peux pas|suis désolée?)\b",
)
REFUSAL = re.compile(rf"[\s*_\"'“]*(?:{'|'.join(_REFUSALS)})", re.IGNORECASE)


@runtime_checkable
class WritesAbout(Protocol):
    """A scorer that also writes about images, and knows whether a reply is complete.

    >>> class Echo:
    ...     def write_about(self, images, prompts, max_new_tokens):
    ...         return [(prompt, True) for prompt in prompts]
    >>> isinstance(Echo(), WritesAbout)
    True
    """

    def write_about(
        self, images: Sequence[Media], prompts: Sequence[str], max_new_tokens: int
    ) -> list[tuple[str, bool]]:
        """Return the reply to a prompt about each image, and whether it is complete."""


class LocalReader(Scorer):
    """Read images with a model that runs here.

    Args:
        model: a scorer that is also a `WritesAbout`.
        max_tokens: largest length of a reading, in tokens.
        options: see `Scorer`.

    Raises:
        UnsupportedError: the model writes nothing about images.
        InputError: `max_tokens` is less than 1.

    >>> LocalReader(load("tiny-clip", device="cpu"))
    Traceback (most recent call last):
    t2v_eval.errors.UnsupportedError: 'tiny-clip' reads no images: name a vision-language model, \
as `reader='qwen2.5-vl-7b'`, a model behind an API, or a function of your own, as \
`reader='FILE.py:FUNCTION'`
    """

    def __init__(self, model: Scorer, max_tokens: int = MAX_TOKENS, **options: Any) -> None:
        if not isinstance(model, WritesAbout):
            raise UnsupportedError(
                f"{model.name!r} reads no images: name a vision-language model, as "
                "`reader='qwen2.5-vl-7b'`, a model behind an API, or a function of your own, as "
                "`reader='FILE.py:FUNCTION'`"
            )
        if type(max_tokens) is not int or max_tokens < 1:
            raise InputError(f"`max_tokens={max_tokens!r}`: pass a whole number of at least 1")
        self.writer, self.max_tokens = model, max_tokens
        super().__init__(card=replace(model.card, expects_size=None), **options)

    @override
    def to(self, device: Any) -> LocalReader:
        self.writer.to(device)
        return self

    @override
    def check_versioned(self) -> None:
        self.writer.check_versioned()

    @override
    def identity(self) -> dict[str, str]:
        facts = {"max_tokens": str(self.max_tokens), "reader": f"[{self.writer.id}]"}
        return {**facts, **super().identity()}

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        for start in range(0, len(cells), IMAGES_TOGETHER):
            positions = range(len(cells))[start : start + IMAGES_TOGETHER]
            media = [images[row] for row in cells[positions, 0]]
            prompts = [caption_text(texts[column]) for column in cells[positions, 1]]
            yield from self._read(positions, media, prompts)

    def _read(
        self, positions: Sequence[int], media: Sequence[Media], prompts: Sequence[str]
    ) -> Iterator[ScoreChunk]:
        """Read some images together; where that fails, each alone."""
        model = self.writer
        assert isinstance(model, WritesAbout)
        try:
            replies = model.write_about(media, prompts, self.max_tokens)
        except T2VError as error:
            if self.on_error == "raise":
                raise
            if len(positions) == 1:
                yield ScoreChunk(np.array(positions), None, str(error))
                return
            for n, position in enumerate(positions):
                yield from self._read([position], media[n : n + 1], prompts[n : n + 1])
            return
        for position, (text, whole) in zip(positions, replies, strict=True):
            yield reply_chunk(position, text, whole, self.max_tokens)


def load_reader(name: str, max_tokens: int = MAX_TOKENS, **options: Any) -> Scorer:
    """Load a reader.

    Args:
        name: a name of `NETWORKS`, or that of a scorer which writes about images: a vision-language
            model here, a model behind an API, or a function in a file of the user's own, which is
            called with images and instructions and returns texts.
        max_tokens: largest length of a reading, in tokens.
        options: options of that scorer, as for `load`.

    Raises:
        T2VError: see `load` and `LocalReader`.

    >>> load_reader("gpt-4o", api_key="k").question.params.max_tokens
    1024
    """
    if name in NETWORKS:
        return LocalReader(NETWORKS[name](**options), max_tokens)
    card = models.card(name)
    if card.remote:
        reading = replace(card, args={**card.args, "question": "text"})
        reader: Scorer = models.build(reading, max_tokens=max_tokens, **options)
        return reader
    return LocalReader(load(name, **options), max_tokens)


def as_reader(scorer: Scorer, max_tokens: int = MAX_TOKENS) -> Scorer:
    """Return a loaded scorer as a reader.

    Args:
        scorer: a reader, or a scorer that writes about images.
        max_tokens: largest length of a reading, in tokens, unless the scorer is a reader already.

    Raises:
        UnsupportedError: the scorer writes nothing about images.

    >>> from t2v_eval.local.function import from_function
    >>> as_reader(from_function(lambda images, prompts: ["OPEN"] * len(images), "mine")).name
    'mine'
    """
    if isinstance(scorer, LocalReader):
        return scorer
    if isinstance(scorer, ServiceScorer):
        if isinstance(scorer.question, WrittenText):
            return scorer
        raise UnsupportedError(
            f"{scorer.name!r} is loaded to ask for a score: pass its name as `reader=`, or load "
            "it with `question='text'`"
        )
    return LocalReader(scorer, max_tokens)


def read_images(
    reader: Scorer, media: Sequence[Media], instruction: str
) -> tuple[list[Reply], dict[str, float]]:
    """Read each image once; stored readings are not repeated.

    Args:
        reader: as `load_reader` returns it.
        media: distinct images.
        instruction: the prompt to the reader.

    Returns:
        For each image, the text or why it is missing; and the usage that a service reports for the
        readings. A complete reply that is empty, or says that there is no text, is a reading.

    Raises:
        T2VError: as `Scorer.evaluate_blocks`.

    >>> from PIL import Image
    >>> from t2v_eval.inputs.media import open_media
    >>> from t2v_eval.local.function import from_function
    >>> reader = as_reader(from_function(lambda images, prompts: ["OPEN"] * len(images), "mine"))
    >>> read_images(reader, [open_media(Image.new("RGB", (8, 8)))], "Read.")[0]
    [Reply(text='OPEN', problem='')]
    """
    result = reader.evaluate_blocks([Block([image], [instruction]) for image in media], False)
    replies = []
    for n in range(len(media)):
        if (n, 0, 0) in result.failures:
            replies.append(Reply(problem=result.failures[n, 0, 0]))
        else:
            replies.append(_reading(result.details.get((n, 0, 0))))
    return replies, dict(result.usage)


def _reading(detail: str | None) -> Reply:
    reply = read_reply(detail)
    if reply.problem == EMPTY:
        return Reply()
    if not reply.problem:
        reply = _without_reasoning(reply.text)
    if reply.text.strip(" .\n").lower() == _NO_TEXT:
        return Reply()
    return reply._replace(problem=reply.problem and f"the reading {reply.problem}")


def _without_reasoning(text: str) -> Reply:
    """Return a reading without the reasoning before it; a refusal is none."""
    try:
        read = strip_reasoning(text, "pass more `max_tokens=`")
    except ScoringError as error:
        return Reply(text, str(error))
    if text.strip() and not read:
        return Reply(text, "is reasoning alone")
    return Reply(text, "is a refusal") if REFUSAL.match(read) else Reply(_without_form(read))


def _without_form(text: str) -> str:
    """Return a reading without the fence and the HTML tags that its reader put around the text."""
    fenced = _FENCE.fullmatch(text)
    return _WORD_TAGS.sub("", _LINE_TAGS.sub("\n", fenced[1] if fenced else text)).strip()
