"""Similarities of a dual encoder besides image-text: image-image, text-text, directional."""

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
from t2v_eval.utils.torch_internals import inference


class SimilarityMixin(Scorer):
    """Image-image, text-text and directional similarity, for scorers that embed both.

    >>> import t2v_eval
    >>> from PIL import Image
    >>> scorer = t2v_eval.load("tiny-clip", device="cpu")
    >>> red, blue = (Image.new("RGB", (48, 48), colour) for colour in ("red", "blue"))
    >>> scorer.image_similarity([red, blue], [red, blue]).diagonal()
    tensor([1., 1.])
    """

    @abstractmethod
    def similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        """Score float64 embeddings against each other.

        Args:
            images: (M, ...).
            texts: (N, ...).

        Returns:
            (M, N) scores.
        """

    def checked_similarity(self, images: Tensor, texts: Tensor) -> Tensor:
        """Score as `similarity` does.

        Args:
            images: (M, ...) embeddings.
            texts: (N, ...) embeddings.

        Raises:
            StoreError: embeddings from the store are of another encoder.
        """
        try:
            scores = self.similarity(images, texts)
            if scores.shape != (len(images), len(texts)):
                raise ValueError(f"scores of the shape {tuple(scores.shape)}")
        except (RuntimeError, ValueError) as error:
            if images.shape[1:] == texts.shape[1:] and images.ndim == 2:
                raise
            raise self._do_not_fit([images[0], texts[0]], error) from error
        return scores

    def stack_embeddings(self, rows: Sequence[Tensor]) -> Tensor:
        """Stack embeddings, some of which may come from the store.

        Args:
            rows: B embeddings (...) of one shape.

        Returns:
            (B, ...).

        Raises:
            StoreError: those are of another encoder.
        """
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
            f"(`t2v-eval store prune '{self.name}'`), or choose another path with `store=`"
        )

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Apply the template to N texts and embed them.

        Args:
            texts: N texts.

        Returns:
            (N, ...) float32 embeddings.
        """

    @abstractmethod
    def embed_images(
        self, media: Sequence[Media]
    ) -> Iterator[tuple[list[int], Tensor, dict[int, str]]]:
        """Yield indices into `media`, their embeddings, and reasons of failures by index."""

    def image_similarity(
        self, images_a: MediaLike | Iterable[MediaLike], images_b: MediaLike | Iterable[MediaLike]
    ) -> Tensor:
        """Score images against images with the formula that scores them against texts.

        Args:
            images_a: M images.
            images_b: N images.

        Returns:
            (M, N) float32 tensor on the CPU; with ``on_error="skip"``, NaN where an image failed.

        Raises:
            MediaError: an image cannot be read; with ``on_error="skip"``, if none can.
        """
        with self._embedding_call():
            a, b = self._embed_image_lists(images_a=images_a, images_b=images_b)
        return self.checked_similarity(a, b).float()

    def text_similarity(
        self, texts_a: str | Iterable[str], texts_b: str | Iterable[str], **template: str | None
    ) -> Tensor:
        """Score texts against texts with the formula that scores images against them.

        Args:
            texts_a: M texts.
            texts_b: N texts.
            template: `question_template` or `template` for this call.

        Returns:
            (M, N) float32 tensor on the CPU.
        """
        bound = self.with_call_options(template)
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
        """Compute the CLIP directional similarity of edits: does the image change as the text does?

        The cosine of (after - before) of images and of texts, with embeddings scaled to length 1
        (Gal et al., StyleGAN-NADA, 2021). It is 0 where nothing changed.

        Args:
            images_before: B images.
            images_after: B images; image b is what became of image b before.
            texts_before: B texts, which describe the images before.
            texts_after: B texts, which describe the images after.
            template: `question_template` or `template` for this call.

        Returns:
            (B,) float32 tensor on the CPU, -1 to 1; with ``on_error="skip"``, NaN where an image
            failed.

        Raises:
            InputError: the numbers of images and texts differ.
            UnsupportedError: the model has several embeddings for each image.
        """
        bound = self.with_call_options(template)
        images = [as_list(images_before, "images_before"), as_list(images_after, "images_after")]
        texts = [check_texts(texts_before, "texts_before"), check_texts(texts_after, "texts_after")]
        counts = [len(images[0]), len(images[1]), len(texts[0]), len(texts[1])]
        if len(set(counts)) > 1:
            raise InputError(
                "directional_similarity got {} images before and {} after, {} texts before and {} "
                "after; pass as many of each".format(*counts)
            )
        with bound._embedding_call({*texts[0], *texts[1]}):
            # Together, so that an image or text that stays the same has the same embedding.
            embeddings = [
                *bound._embed_image_lists(images_before=images[0], images_after=images[1]),
                *bound._embed_text_lists(*texts),
            ]
        if any(rows.ndim != 2 for rows in embeddings):
            raise UnsupportedError(
                f"{self.name!r} has several embeddings for each image, so a change of them is no "
                "direction; models of kind 'clip' have one"
            )
        image_before, image_after, text_before, text_after = (
            normalize(rows, dim=-1) for rows in embeddings
        )
        return torch.cosine_similarity(image_after - image_before, text_after - text_before).float()

    @contextmanager
    def _embedding_call(self, texts: Collection[str] = ()) -> Iterator[None]:
        """Hold the scorer while it embeds; warn at the end of texts that were truncated."""
        self.check_template()
        with self.exclusive_call(len(texts)), inference():
            yield

    def _embed_image_lists(self, **lists: MediaLike | Iterable[MediaLike]) -> list[Tensor]:
        """Embed lists of images; return (M, ...) float64 embeddings of each, on the CPU.

        Images that occur twice are encoded once; NaN where an image was skipped.

        Raises:
            MediaError: no image can be read.
        """
        opened = {what: self._open(as_list(images, what), what) for what, images in lists.items()}
        unique = list({item.key: item for media in opened.values() for item in media}.values())
        by_key: dict[str, Tensor] = {}
        reasons: dict[int, str] = {}
        for numbers, embeddings, failed in self.embed_images(unique):
            by_key |= {unique[n].key: e for n, e in zip(numbers, embeddings, strict=True)}
            reasons |= failed
        if not by_key:
            raise MediaError(next(iter(reasons.values())))
        failed_row = torch.full_like(next(iter(by_key.values())), torch.nan)
        return [
            torch.stack([by_key.get(item.key, failed_row) for item in media]).cpu().double()
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
        """Embed lists of texts; return (N, ...) float64 embeddings of each, on the CPU."""
        unique = {text: n for n, text in enumerate(dict.fromkeys(chain(*lists)))}
        embeddings = self.embed_texts(list(unique)).cpu().double()
        return [embeddings[[unique[text] for text in texts]] for texts in lists]


def embed_one_by_one(
    embed: Callable[[Sequence[Text]], Tensor],
    texts: Sequence[Text],
    reason: Callable[[str, Failure], str],
) -> tuple[Tensor, dict[int, str]]:
    """Embed texts together, or one by one if that fails.

    Args:
        embed: embeds a list of texts.
        texts: N texts.
        reason: returns the reason why a text failed, or raises it.

    Returns:
        (N, ...) float64 embeddings, zeros where a text failed, and the reasons by index.

    >>> def embed(texts):
    ...     return torch.tensor([[1 / len(text)] for text in texts])
    >>> embed_one_by_one(embed, ["ab", ""], lambda text, failure: f"{text}: {failure.error}")
    (tensor([[0.5000],
            [0.0000]], dtype=torch.float64), {1: "'': division by zero"})
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
    zeros = (
        torch.zeros_like(next(iter(rows.values()))) if rows else torch.empty(0, dtype=torch.float32)
    )
    return torch.stack([rows.get(n, zeros) for n in range(len(texts))]), failed
