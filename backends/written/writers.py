"""The texts of a judge: written by a model that runs here or by a service, and kept in the store.

A cell is what a judge is asked about an image: its text is the whole question, its detail the texts
that the model wrote, and its value 1. Grades are read from the texts whenever they are
needed, so that another way to read them needs no model.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from t2v_eval.api import load
from t2v_eval.errors import InputError
from t2v_eval.inputs.media import Media, Roles
from t2v_eval.registry import models
from t2v_eval.scoring.generation import Digit, Writing, Written
from t2v_eval.scoring.plan import Cells, Text, caption_text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer


class LocalWriter(Scorer):
    """Write about images with a model that runs here.

    Args:
        model: a scorer that is also a `t2v_eval.scoring.generation.Writer`.
        writing: how texts are written.
        options: see `Scorer`.

    Raises:
        InputError: the model does not write.

    >>> import t2v_eval
    >>> LocalWriter(t2v_eval.load("tiny-clip", device="cpu"), Writing(8))
    Traceback (most recent call last):
    t2v_eval.errors.InputError: `vlm='tiny-clip'` writes no texts about images; use a \
vision-language model (`hf-vlm:...`), or one behind an API
    """

    def __init__(self, model: Scorer, writing: Writing, **options: Any) -> None:
        if not hasattr(model, "write_passes"):
            raise InputError(
                f"`vlm={getattr(model, 'name', model)!r}` writes no texts about images; use a "
                "vision-language model (`hf-vlm:...`), or one behind an API"
            )
        super().__init__(card=replace(model.card, expects_size=None), **options)
        self.model_of_texts, self.writing = model, writing

    @override
    def to(self, device: Any) -> LocalWriter:
        self.model_of_texts.to(device)
        return self

    @override
    def identity(self) -> dict[str, str]:
        facts = {"writing": repr(tuple(self.writing)), "model": f"[{self.model_of_texts.id}]"}
        return {**facts, **super().identity()}

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        model: Any = self.model_of_texts.with_template()  # a copy: `on_error` is that of a caller
        model.on_error = self.on_error
        media = [images[i] for i in cells[:, 0].tolist()]
        prompts = [caption_text(texts[j]) for j in cells[:, 1].tolist()]
        for numbers, result in model.write_passes(media, prompts, self.writing):
            where = np.array(numbers)
            if isinstance(result, str):
                yield ScoreChunk(where, None, result)
                continue
            details = [json.dumps(fields_of(passes), ensure_ascii=False) for passes in result]
            yield ScoreChunk(where, torch.ones(len(where), dtype=torch.float32), None, details)


def fields_of(passes: Sequence[Written]) -> dict[str, Any]:
    """Return texts as the fields of a detail.

    >>> fields_of([Written("Score: 4")])
    {'written': [{'text': 'Score: 4'}]}
    """
    listed = []
    for text in passes:
        fields: dict[str, Any] = {"text": text.text}
        if text.truncated:
            fields["truncated"] = True
        if text.digits is not None:
            fields["digits"] = [[d.start, d.token, dict(d.probabilities)] for d in text.digits]
        listed.append(fields)
    return {"written": listed}


def texts_in(detail: str | None) -> list[Written]:
    """Return the texts of a detail that a writer stored.

    >>> texts_in('{"written": [{"text": "Score: 4", "truncated": true}]}')
    [Written(text='Score: 4', truncated=True, digits=None)]
    """
    fields: Mapping[str, Any] = json.loads(detail or "{}")
    return [
        Written(
            entry["text"],
            entry.get("truncated", False),
            [Digit(*digit) for digit in entry["digits"]] if "digits" in entry else None,
        )
        for entry in fields.get("written", ())
    ]


def models_in(details: Iterable[str | None]) -> str:
    """Return the names of the models that wrote the texts of details, where services name them.

    >>> models_in(['{"written": [], "model": "m-2026-01-01"}', None])
    'm-2026-01-01'
    """
    named = {json.loads(detail or "{}").get("model", "") for detail in details}
    return ", ".join(sorted(named - {""}))


def load_writer(vlm: str | Scorer, writing: Writing, options: dict[str, Any]) -> Scorer:
    """Load the model that writes.

    Args:
        vlm: the name of a scorer that generates text, or a loaded one that runs here.
        writing: how texts are written.
        options: of the scorer, as for `load`.

    Raises:
        InputError: the scorer does not write, or an option is for the judge to set.

    >>> load_writer("gpt-4o", Writing(512), {"api_key": "k"}).question.params.max_tokens
    512
    """
    if not isinstance(vlm, str):
        return LocalWriter(vlm, writing, **options)
    card = models.card(vlm)
    if card.entry in ("load_written_scorer", "load_judge_file"):
        raise InputError(f"`vlm={vlm!r}` is a judge itself; name the model that writes")
    if card.remote:
        question = {
            "question": "written",
            "max_tokens": writing.max_new_tokens,
            "temperature": writing.temperature,
            "passes": writing.passes,
            "grades": writing.grades,
            "top_p": writing.top_p,
            "top_k": writing.top_k,
        }
        if owned := sorted(question.keys() & options.keys()):
            hint = "; pass `max_new_tokens=`" if owned[0] == "max_tokens" else ""
            raise InputError(f"`{owned[0]}=` is set by the judge that `vlm` writes for{hint}")
        return models.build(replace(card, args={**card.args, **question}), **options)  # type: ignore[no-any-return]
    shared = {k: options[k] for k in ("image_mode", "on_error", "allow_urls") if k in options}
    return LocalWriter(load(vlm, **options), writing, **shared)


def for_roles(writer: Scorer, roles: Roles) -> Scorer:
    """Return a copy of a writer that takes images with these roles.

    >>> from t2v_eval.inputs.media import EDIT
    >>> writer = load_writer("gpt-4o", Writing(512), {"api_key": "k"})
    >>> for_roles(writer, EDIT).image_roles, writer.image_roles
    (('source', 'result'), ())
    """
    other = writer.with_template()
    other.image_roles = roles
    return other
