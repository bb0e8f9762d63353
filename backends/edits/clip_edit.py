"""Edits by the embeddings of a dual encoder: the direction of the change, and what stays.

Direction: Gal et al. 2021, "StyleGAN-NADA: CLIP-Guided Domain Adaptation of Image Generators",
equation 2. Both measures as metrics/clip_similarity.py in timothybrooks/instruct-pix2pix.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from t2v_eval.api import load
from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.media import EDIT, ImageGroup, Media
from t2v_eval.local.batching import Failure
from t2v_eval.local.dual_encoder import EmbeddingScorer, unit
from t2v_eval.local.similarity import embed_one_by_one
from t2v_eval.scoring.plan import Cells, Text, by_image, caption_text
from t2v_eval.scoring.results import ScoreChunk
from t2v_eval.scoring.scorer import Scorer

from ..common.composed import takes_any_option

EDITS_TOGETHER = 64  # edits that are encoded before their scores are stored
ARROW = " -> "  # between the captions before and after an edit
ENCODER = "openai:ViT-L-14"


class ClipEdit(Scorer):
    """Score edits by embeddings of their images and captions; the base of both measures.

    Args:
        clip: the dual encoder.
        options: see `Scorer`.

    Raises:
        InputError: `clip` is not a dual encoder.

    >>> ClipEdit.image_roles
    ('source', 'result')
    """

    image_roles = EDIT

    def __init__(self, clip: Scorer, **options: Any) -> None:
        super().__init__(**options)
        if not isinstance(clip, EmbeddingScorer):
            raise InputError(
                f"`clip={clip.name!r}` has no embeddings; use a scorer of kind 'clip' "
                "(`t2v-eval list models --kind clip`)"
            )
        self.clip = clip

    @abstractmethod
    def measure(self, source: Tensor, result: Tensor, captions: Tensor) -> Tensor:
        """Score edits.

        Args:
            source: (B, D) embeddings of length 1 of the images before, in float64.
            result: (B, D) of the images after.
            captions: (B, 2, D) of the captions before and after; (B, 0, D) where texts are not
                used.

        Returns:
            (B,) scores.
        """

    @override
    def check_template(self) -> None:
        super().check_template()
        self.clip.check_template()

    @override
    def to(self, device: Any) -> ClipEdit:
        self.clip.to(device)
        return self

    @override
    def identity(self) -> dict[str, str]:
        return {"clip": f"[{self.clip.id}]", **super().identity()}

    @override
    def score_cells(
        self, images: Sequence[Media], texts: Sequence[Text], cells: Cells
    ) -> Iterator[ScoreChunk]:
        self.clip.store, self.clip.on_error = self.store, "skip"
        pairs: dict[int, tuple[str, ...]] = {}
        for j in np.unique(cells[:, 1]).tolist():
            try:
                pairs[j] = self._captions(caption_text(texts[j]))
            except InputError as error:
                yield ScoreChunk(np.flatnonzero(cells[:, 1] == j), None, str(error))
        remaining = np.flatnonzero(np.isin(cells[:, 1], [*pairs]))
        rows, spans = by_image(cells[remaining])
        for first in range(0, len(rows), EDITS_TOGETHER):
            part = slice(first, first + EDITS_TOGETHER)
            media = {i: images[i] for i in rows[part]}
            positions = remaining[np.concatenate(spans[part])]
            yield from self._score_edits(media, pairs, cells, positions)

    def _score_edits(
        self,
        images: dict[int, Media],
        pairs: dict[int, tuple[str, ...]],
        cells: Cells,
        positions: np.ndarray[Any, np.dtype[np.int64]],
    ) -> Iterator[ScoreChunk]:
        """Yield the scores of the cells at `positions`, whose edits are `images`."""
        groups = {i: media for i, media in images.items() if isinstance(media, ImageGroup)}
        captions = sorted({text for j in cells[positions, 1].tolist() for text in pairs[j]})
        with self.clip.exclusive_call(len(captions)):
            embedded, failed = self._embed_images([m for g in groups.values() for m in g.images])
            texts, failed_texts = self._embed_texts(captions)
        scored: list[int] = []
        for position in positions.tolist():
            i, j = cells[position].tolist()
            if i not in groups:
                yield ScoreChunk(np.array([position]), None, _why_broken(images[i]))
                continue
            reasons = [failed[m.key] for m in groups[i].images if m.key in failed]
            reasons += [failed_texts[text] for text in pairs[j] if text in failed_texts]
            if reasons:
                yield ScoreChunk(np.array([position]), None, reasons[0])
            else:
                scored.append(position)
        if scored:
            edits = [[embedded[m.key] for m in groups[i].images] for i in cells[scored, 0].tolist()]
            source, result = (unit(torch.stack([e[k] for e in edits])) for k in (0, 1))
            rows = [[texts[text] for text in pairs[j]] for j in cells[scored, 1].tolist()]
            described = (
                torch.stack([torch.stack(row) for row in rows]) if rows[0] else source[:, :0]
            )
            values = self.measure(source, result, unit(described))
            yield ScoreChunk(np.array(scored), values)

    def _embed_images(self, images: Sequence[Media]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return (D,) embeddings by key, and the reasons of images that failed."""
        unique = list({media.key: media for media in images}.values())
        rows: dict[str, Tensor] = {}
        failed: dict[str, str] = {}
        for numbers, embeddings, reasons in self.clip.embed_images(unique):
            encoded = zip(numbers, embeddings.cpu().double(), strict=True)
            rows |= {unique[n].key: row for n, row in encoded}
            failed |= {unique[n].key: reason for n, reason in reasons.items()}
        if any(row.ndim != 1 for row in rows.values()):
            raise InputError(
                f"`clip={self.clip.name!r}` has several embeddings for each image; an edit needs "
                "one"
            )
        return rows, failed

    def _embed_texts(self, captions: Sequence[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return (D,) embeddings by caption, and the reasons of captions that failed."""
        if not captions:
            return {}, {}

        def reason(caption: str, failure: Failure) -> str:
            return f"{self.clip.name} failed on {caption}: {failure.error}"

        def embed(texts: Sequence[Text]) -> Tensor:
            return self.clip.embed_texts([caption_text(text) for text in texts])

        embeddings, failed = embed_one_by_one(embed, captions, reason)
        rows = dict(zip(captions, embeddings, strict=True))
        return rows, {captions[n]: text for n, text in failed.items()}

    def _captions(self, text: str) -> tuple[str, ...]:
        return split_captions(text)


def _why_broken(media: Media) -> str:
    """Return why an edit could not be opened, which takes the place of both images."""
    try:
        media.load()
    except MediaError as error:
        return str(error)
    raise AssertionError(f"{media.name} is an image, not an edit")


class ClipDirectional(ClipEdit):
    """Score whether the image changes as its caption does: the cosine of both changes, -1 to 1.

    The text holds the captions before and after, as ``a cat -> a dog``. The score is 0 where the
    images or the captions are equal.

    Args:
        clip: as `ClipEdit`.
        options: see `Scorer`.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> red, blue = (Image.new("RGB", (48, 48), colour) for colour in ("red", "blue"))
    >>> scorer = ClipDirectional(t2v_eval.load("tiny-clip", device="cpu"))
    >>> edits = [t2v_eval.Edit(red, blue), t2v_eval.Edit(red, red)]
    >>> scorer(edits, "a red circle -> a blue circle").flatten().tolist()[1]
    0.0
    """

    @override
    def measure(self, source: Tensor, result: Tensor, captions: Tensor) -> Tensor:
        changes = captions[:, 1] - captions[:, 0]
        return torch.cosine_similarity(result - source, changes)


class ClipPreservation(ClipEdit):
    """Score how much of the image stays: the cosine of both images, -1 to 1; texts are not used.

    It is highest where nothing was edited: use it beside a measure of the change.

    Args:
        clip: as `ClipEdit`.
        options: see `Scorer`.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> red = Image.new("RGB", (48, 48), "red")
    >>> scorer = ClipPreservation(t2v_eval.load("tiny-clip", device="cpu"))
    >>> round(float(scorer(t2v_eval.Edit(red, red))), 6)
    1.0
    """

    uses_text = False

    @override
    def measure(self, source: Tensor, result: Tensor, captions: Tensor) -> Tensor:
        return (source * result).sum(1)

    @override
    def _captions(self, text: str) -> tuple[str, ...]:
        return ()


MEASURES = {"direction": ClipDirectional, "preservation": ClipPreservation}


def load_clip_edit(
    measure: str,
    clip: str | Scorer = ENCODER,
    card: Any = None,
    question_template: str | None = None,
    answer_template: str | None = None,
    template: str | None = None,
    store: Any = None,
    **of_clip: Any,
) -> Scorer:
    """Load the dual encoder, and compose it with a measure of edits.

    Args:
        measure: a name in `MEASURES`, from the card.
        clip: the name of a dual encoder, or a loaded one.
        card: the card of the scorer.
        question_template: applied to both captions.
        answer_template: refused.
        template: the name of a template for both captions.
        store: as for `load`; it also keeps the embeddings.
        of_clip: options of the dual encoder, as for `load`.

    Raises:
        InputError: `clip` is not a dual encoder, or is loaded and options are given for it.

    >>> load_clip_edit("direction", "tiny-clip", device="cpu").clip.name
    'tiny-clip'
    """
    shared = {n: of_clip[n] for n in ("image_mode", "on_error", "allow_urls") if n in of_clip}
    if isinstance(clip, str):
        templates: dict[str, Any] = {
            "question_template": question_template,
            "answer_template": answer_template,
            "template": template,
        }
        named = {name: value for name, value in templates.items() if value is not None}
        clip = load(clip, **of_clip, **named)
    elif others := of_clip.keys() - shared.keys():
        raise InputError(
            f"`{min(others)}=` is an option of a scorer that is named; `clip=` is loaded"
        )
    return MEASURES[measure](clip, card=card, store=store, **shared)


load_clip_edit.takes = takes_any_option  # type: ignore[attr-defined]


def split_captions(text: str) -> tuple[str, str]:
    """Return the captions before and after an edit.

    Raises:
        InputError: the text does not contain both captions.

    >>> split_captions("a cat on a mat -> a dog on a mat")
    ('a cat on a mat', 'a dog on a mat')
    """
    before, arrow, after = (part.strip() for part in text.partition(ARROW))
    if not (before and arrow and after) or ARROW in after:
        raise InputError(
            f"{text[:60]!r} is not the caption before and the caption after the edit: write both "
            'with an arrow between them, as "a cat -> a dog"; an instruction alone says neither'
        )
    return before, after
