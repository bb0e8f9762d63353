"""Ask a language model for texts: behind an API, or here, through the same store as scores.

A prompt is a text, and the place of its image is taken by `NO_IMAGE`, so that the request pool, the
limits of cost, batches and the store hold for prompts as for scores. The reply is the detail of the
cell; its value says whether the reply is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from typing_extensions import override

from t2v_eval.api import ScorerOptions
from t2v_eval.cards import ModelCard
from t2v_eval.errors import InputError, T2VError, UnsupportedError
from t2v_eval.inputs.media import NO_IMAGE, Media
from t2v_eval.remote.cost import Estimate
from t2v_eval.remote.scorer import ApiScorer
from t2v_eval.scoring.plan import Block, Cells, Text, caption_text
from t2v_eval.scoring.replies import Reply, read_reply, reply_chunk
from t2v_eval.scoring.results import Progress, ScoreChunk
from t2v_eval.scoring.scorer import Scorer
from t2v_eval.store import text_key

MAX_TOKENS = 2048  # of a reply


class Replies(NamedTuple):
    """The reply to each prompt, and what a service reports that they used.

    >>> Replies({"Is it?": Reply("yes")}).usage
    {}
    """

    by_prompt: Mapping[str, Reply]
    usage: Mapping[str, float] = {}


class TextModel(Protocol):
    """A scorer whose model also writes about a text alone.

    >>> class Echo:
    ...     def write_text(self, prompt, max_new_tokens):
    ...         return prompt, True
    >>> model: TextModel = Echo()
    """

    def write_text(self, prompt: str, max_new_tokens: int) -> tuple[str, bool]:
        """Return the reply to a prompt, decoded greedily, and whether it is whole."""


class LocalWriter(Scorer):
    """Write texts with a model that runs here.

    Args:
        model: a scorer that is a `TextModel` too.
        max_tokens: length of a text.
        options: see `Scorer`.

    Raises:
        UnsupportedError: the model writes no text without an image.
        InputError: `max_tokens` is no number of tokens.

    >>> import t2v_eval
    >>> LocalWriter(t2v_eval.load("tiny-clip", device="cpu"))
    Traceback (most recent call last):
    t2v_eval.errors.UnsupportedError: 'tiny-clip' writes no text without an image; models behind \
an API do, and models here that are asked by their chat template
    """

    def __init__(self, model: Scorer, max_tokens: int = MAX_TOKENS, **options: Any) -> None:
        if not hasattr(model, "write_text"):
            raise UnsupportedError(
                f"{model.name!r} writes no text without an image; models behind an API do, and "
                "models here that are asked by their chat template"
            )
        if type(max_tokens) is not int or max_tokens < 1:
            raise InputError(f"`max_tokens={max_tokens!r}`: pass a whole number of at least 1")
        super().__init__(card=replace(model.card, expects_size=None), **options)
        self.writer, self.max_tokens = model, max_tokens
        self._model: TextModel = model

    @override
    def identity(self) -> dict[str, str]:
        facts = {"max_tokens": str(self.max_tokens), "writer": f"[{self.writer.id}]"}
        return {**facts, **super().identity()}

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        for position, column in enumerate(cells[:, 1].tolist()):
            prompt = caption_text(texts[column])
            try:
                text, whole = self._model.write_text(prompt, self.max_tokens)
            except T2VError as error:
                yield ScoreChunk(np.array([position]), None, str(error))
                continue
            yield reply_chunk(position, text, whole, self.max_tokens)


def load_writer(card: ModelCard, options: ScorerOptions) -> Scorer:
    """Load a model that writes texts; prompts that fail are counted and never stop the others.

    Args:
        card: the card of a scorer that generates text.
        options: its options; `max_tokens` among the specific ones is the length of a reply.

    Raises:
        T2VError: as `t2v_eval.load` raises.

    >>> from t2v_eval.registry import models
    >>> options = ScorerOptions(specific={"api_key": "k", "max_tokens": 99})
    >>> load_writer(models.card("gpt-4o"), options).template.question
    '{}'
    """
    options = replace(options, on_error="skip")
    if card.remote:
        return options.load(replace(card, args={**card.args, "question": "text"}))
    specific = dict(options.specific)
    max_tokens = specific.pop("max_tokens", MAX_TOKENS)
    model = replace(options, store=None, specific=specific).load(card)
    return LocalWriter(model, max_tokens, store=options.store, on_error="skip")


def ask(writer: Scorer, prompts: Sequence[str], progress: Progress | bool | None = None) -> Replies:
    """Ask for a reply to each prompt; those in the store are not asked again.

    Args:
        writer: what `load_writer` returned.
        prompts: the prompts.
        progress: called with the counts as they grow; or whether to show a bar, by default in a
            terminal or a notebook.

    Raises:
        ServiceError: the service answers no prompt at all.

    >>> class Echo(Scorer):
    ...     def score_cells(self, images, texts, cells):
    ...         for n, (_, j) in enumerate(cells.tolist()):
    ...             yield reply_chunk(n, texts[j].upper(), whole=True, max_tokens=9)
    >>> ask(Echo(), ["a cube"]).by_prompt["a cube"].text
    'A CUBE'
    """
    result = writer.evaluate_blocks([Block([NO_IMAGE], prompts)], progress)
    replies = {}
    for column, prompt in enumerate(prompts):
        cell = 0, 0, column
        failure = result.failures.get(cell)
        replies[prompt] = Reply(problem=failure) if failure else _read(result.details.get(cell))
    return Replies(replies, result.usage)


def estimate_replies(
    writer: ApiScorer[Any], prompts: Mapping[str, str]
) -> tuple[Replies, Estimate]:
    """Return stored replies, or else typical ones, and the requests for the others; send nothing.

    Args:
        writer: what `load_writer` returned for a model behind an API.
        prompts: the typical reply to each prompt.

    >>> from t2v_eval.registry import models
    >>> writer = load_writer(models.card("gpt-4o"), ScorerOptions(specific={"api_key": "k"}))
    >>> replies, estimate = estimate_replies(writer, {"Is it a cube?": "yes"})
    >>> replies.by_prompt["Is it a cube?"].text, estimate.requests
    ('yes', 1)
    """
    replies = {prompt: Reply(typical) for prompt, typical in prompts.items()}
    if writer.store is not None:
        keys = {(NO_IMAGE.key, text_key(prompt)): prompt for prompt in prompts}
        stored = writer.store.get_details(writer.id, list(keys))
        replies |= {keys[key]: _read(detail) for key, detail in stored.items()}
    return Replies(replies), writer.estimate([Block([NO_IMAGE], list(prompts))])


def _read(detail: str | None) -> Reply:
    reply = read_reply(detail)
    return reply._replace(problem=reply.problem and f"the reply {reply.problem}")


AskAll = Callable[[Mapping[str, str]], Replies]
"""Returns the replies to prompts, from the typical reply to each."""
