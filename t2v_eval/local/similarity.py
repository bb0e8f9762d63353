"""What a dual encoder can compare besides pictures with texts: see `SimilarityMixin`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor
from torch.nn.functional import normalize

from t2v_eval.errors import InputError, MediaError, StoreError, UnsupportedError
from t2v_eval.inputs.media import Media, MediaLike, as_list, check_texts, open_media
from t2v_eval.local.batching import Failure, try_run
from t2v_eval.scoring.plan import Text, caption_text
from t2v_eval.scoring.scorer import Scorer


class SimilarityMixin(Scorer):
    """Pictures with pictures, texts with texts, and changes of pictures with changes of texts."""

    @abstractmethod
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        """Embeddings (M, ...) and (N, ...), float64 -> scores (M, N)."""

    def checked_similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        """`similarity`, where embeddings from the store may be of another encoder."""
        try:
            return self.similarity(images, texts)
        except (RuntimeError, ValueError) as error:
            if images.shape[1:] == texts.shape[1:]:
                raise
            raise self._do_not_fit([images[0], texts[0]], error) from error

    def stack_embeddings(self, rows: Sequence[Tensor]) -> Tensor:
        """Embeddings together, some of which may come from the store."""
        try:
            return torch.stack(list(rows))
        except RuntimeError as error:
            raise self._do_not_fit(rows, error) from error

    def _do_not_fit(self, rows: Sequence[Tensor], error: Exception) -> Exception:
        if self.store is None:
            return error
        shapes = " and ".join(map(str, sorted({tuple(row.shape) for row in rows})))
        return StoreError(
            f"the store {self.store.path}: embeddings of {self.name!r} have the shapes {shapes}, "
            "which do not go together: some were changed or are of another encoder. Delete them "
            f"(`t2v-eval store prune '{self.name}'`), or choose another --store path"
        )

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embeddings (N, ...) of texts, to which the template is yet to be applied."""

    @abstractmethod
    def embed_images(
        self, media: Sequence[Media]
    ) -> Iterator[tuple[list[int], Tensor, dict[int, str]]]:
        """Yield (positions in `media`, their embeddings, why others failed)."""

    def image_similarity(
        self, images_a: MediaLike | Iterable[MediaLike], images_b: MediaLike | Iterable[MediaLike]
    ) -> Tensor:
        """Score pictures against pictures, by the formula that scores them against texts.

        Returns:
            (M, N) float32 tensor on the CPU; with ``on_error="skip"``, NaN where a picture failed.
        """
        with self._embedding_call():
            a, b = self._embed_image_lists(images_a=images_a, images_b=images_b)
        return self.similarity(a, b).float()

    def text_similarity(
        self, texts_a: str | Iterable[str], texts_b: str | Iterable[str], **template: str | None
    ) -> Tensor:
        """Score texts against texts, by the formula that scores pictures against them.

        Args:
            template: `question_template` or `template` for this call.

        Returns:
            (M, N) float32 tensor on the CPU.
        """
        bound = self.with_call_templates(template)
        first, second = check_texts(texts_a, "texts_a"), check_texts(texts_b, "texts_b")
        with bound._embedding_call({*first, *second}):
            a, b = bound._embed_text_lists(first, second)
        return bound.similarity(a, b).float()

    def directional_similarity(
        self,
        images_before: MediaLike | Iterable[MediaLike],
        images_after: MediaLike | Iterable[MediaLike],
        texts_before: str | Iterable[str],
        texts_after: str | Iterable[str],
        **template: str | None,
    ) -> Tensor:
        """Cosine of how pictures changed and how their descriptions did: was an edit as told?

        The change is the difference of two embeddings of length 1. Where nothing changed it is 0.

        Args:
            images_before, images_after, texts_before, texts_after: B of each, aligned.
            template: `question_template` or `template` for this call.

        Returns:
            (B,) float32 tensor on the CPU; with ``on_error="skip"``, NaN where a picture failed.

        Raises:
            InputError: not as many of each.
            UnsupportedError: a model that has several embeddings for a picture.
        """
        bound = self.with_call_templates(template)
        images = [as_list(images_before, "images_before"), as_list(images_after, "images_after")]
        texts = [check_texts(texts_before, "texts_before"), check_texts(texts_after, "texts_after")]
        counts = [len(images[0]), len(images[1]), len(texts[0]), len(texts[1])]
        if len(set(counts)) > 1:
            raise InputError(
                "directional_similarity got {} images before and {} after, {} texts before and {} "
                "after; pass as many of each".format(*counts)
            )
        with bound._embedding_call({*texts[0], *texts[1]}):
            # Together, so that what is the same before and after has the same embedding.
            made = [
                *bound._embed_image_lists(images_before=images[0], images_after=images[1]),
                *bound._embed_text_lists(*texts),
            ]
        if any(embeddings.ndim != 2 for embeddings in made):
            raise UnsupportedError(
                f"{self.name!r} has several embeddings for a picture, so a change of it is no "
                "direction; models of kind 'clip' have one"
            )
        before, after, said, wanted = (normalize(embeddings, dim=-1) for embeddings in made)
        return torch.cosine_similarity(after - before, wanted - said).float()

    @contextmanager
    def _embedding_call(self, texts: Collection[str] = ()) -> Iterator[None]:
        """Hold the scorer while it embeds; warn at the end of texts that were truncated."""
        self.check_template()
        with self.exclusive_call(len(texts)), torch.inference_mode():
            yield

    def _embed_image_lists(self, **lists: MediaLike | Iterable[MediaLike]) -> list[Tensor]:
        """Embeddings (M, ...) of each list, float64 on the CPU; NaN where a picture was skipped.

        What is given twice is encoded once.

        Raises:
            MediaError: not one can be read.
        """
        opened = {what: self._open(as_list(images, what), what) for what, images in lists.items()}
        unique = list({one.key: one for media in opened.values() for one in media}.values())
        known: dict[str, Tensor] = {}
        reasons: dict[int, str] = {}
        for numbers, embeddings, failed in self.embed_images(unique):
            known |= {unique[n].key: e for n, e in zip(numbers, embeddings, strict=True)}
            reasons |= failed
        if not known:
            raise MediaError(next(iter(reasons.values())))
        lost = torch.full_like(next(iter(known.values())), torch.nan)
        return [
            torch.stack([known.get(one.key, lost) for one in media]).cpu().double()
            for media in opened.values()
        ]

    def _open(self, images: Sequence[MediaLike], what: str) -> list[Media]:
        media = []
        for index, image in enumerate(images):
            name = f"{what}[{index}]"
            try:
                media.append(open_media(image, name, self.allow_urls))
            except MediaError as error:
                if self.on_error == "raise":
                    raise
                media.append(Media.broken(name, error))
        return media

    def _embed_text_lists(self, *lists: Sequence[str]) -> list[Tensor]:
        """Embeddings (N, ...) of each list, float64 on the CPU."""
        unique = {text: n for n, text in enumerate(dict.fromkeys(chain(*lists)))}
        made = self.embed_texts(list(unique)).cpu().double()
        return [made[[unique[text] for text in texts]] for texts in lists]


def embed_one_by_one(
    embed: Callable[[Sequence[Text]], Tensor],
    texts: Sequence[Text],
    reason: Callable[[str, Failure], str],
) -> tuple[Tensor, dict[int, str]]:
    """Embeddings of texts in float64, zeros where one failed, and the reasons of those.

    Args:
        embed: embeds texts together; where that fails, it is asked for one after the other.
        reason: says why a text failed, or raises it.
    """
    together = try_run(embed, texts)
    if not isinstance(together, Failure):
        return together.cpu().double(), {}
    rows: dict[int, Tensor] = {}
    failed: dict[int, str] = {}
    for n, text in enumerate(texts):
        alone = try_run(embed, [text])
        if isinstance(alone, Failure):
            failed[n] = reason(repr(caption_text(text)[:60]), alone)
        else:
            rows[n] = alone[0].cpu().double()
    nothing = (
        torch.zeros_like(next(iter(rows.values()))) if rows else torch.empty(0, dtype=torch.float32)
    )
    return torch.stack([rows.get(n, nothing) for n in range(len(texts))]), failed
