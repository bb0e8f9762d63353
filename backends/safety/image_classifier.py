"""Any image classifier of transformers as a scorer of safety.

The score is the probability that the image is safe, 0 to 1, so that higher is better as of every
scorer. Of a classifier whose labels exclude each other (softmax), it is the probability of all safe
labels; of one whose labels are independent questions (sigmoid, `problem_type` of config.json is
"multi_label_classification"), 1 minus the largest probability of an unsafe label. Probabilities are
those of `pipeline("image-classification")` of transformers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Unpack

from PIL import Image
from torch import Tensor
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoImageProcessor,
    AutoModelForImageClassification,
)
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.local.base import Options
from t2v_eval.local.image_alone import ImageAloneScorer
from t2v_eval.local.weights import weight_files

from ..common.pretrained import Placement, build_network, load_pretrained, read_config

MULTI_LABEL = "multi_label_classification"


class ImageClassifier(ImageAloneScorer):
    """Score the probability that an image is safe, 0 to 1; the text has no influence.

    Args:
        checkpoint: a folder or hub id with a classifier of images and its image processor.
        unsafe_labels: the labels that are unsafe, as config.json writes them; by default those that
            the card knows.
        known_unsafe: labels that are unsafe in any classifier, in lower case.
        known_safe: labels that are safe in any classifier, in lower case.
        **options: options of `LocalScorer`.

    Raises:
        CheckpointError: a file is missing, or it holds no classifier of images.
        InputError: a label is neither among the known ones nor named, or there is no such label.

    >>> split_labels(["normal", "NSFW"], None, ["nsfw"], ["normal"])
    ([1], [0])
    """

    def __init__(
        self,
        checkpoint: str,
        unsafe_labels: str | Iterable[str] | None = None,
        known_unsafe: Sequence[str] = (),
        known_safe: Sequence[str] = (),
        **options: Unpack[Options],
    ) -> None:
        super().__init__(**options)
        folder = self.locate_weights(checkpoint)
        config = read_config(folder, trusted=False)
        labels = [str(config.id2label[n]) for n in sorted(config.id2label)]
        named = [unsafe_labels] if isinstance(unsafe_labels, str) else unsafe_labels
        self.unsafe, self.safe = split_labels(labels, named, known_unsafe, known_safe)
        self.is_multi_label = config.problem_type == MULTI_LABEL
        self.processor = load_pretrained(_PillowProcessor, folder, "image processor")
        if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
            raise CheckpointError(
                f"{folder} holds a model of type {config.model_type!r}, which classifies no images"
            )
        # The attention implementation is left to transformers: convolutional networks have none.
        self.network = build_network(
            AutoModelForImageClassification, folder, Placement(""), self.device, self.dtype
        )
        self.files = [*weight_files(folder), *sorted(folder.glob("*.json"))]
        self.identity_facts = {
            **self.identity_facts,
            "unsafe": ",".join(sorted(labels[n] for n in self.unsafe)),
        }

    @override
    def preprocess(self, image: Image.Image) -> Tensor:
        pixels: Tensor = self.processor(image.convert("RGB"), return_tensors="pt")["pixel_values"]
        return pixels[0]

    @override
    def encode_images(self, batch: Tensor) -> Tensor:
        """Return the probabilities that images are safe, (B, 1)."""
        logits: Tensor = self.network(pixel_values=batch).logits.double()
        if self.is_multi_label:
            safe = 1 - logits.sigmoid()[:, self.unsafe].amax(dim=1, keepdim=True)
        else:
            safe = logits.softmax(dim=1)[:, self.safe].sum(dim=1, keepdim=True)
        return safe.float()


def split_labels(
    labels: Sequence[str],
    unsafe_labels: Iterable[str] | None,
    known_unsafe: Sequence[str],
    known_safe: Sequence[str],
) -> tuple[list[int], list[int]]:
    """Return the numbers of the unsafe labels and of the safe ones.

    Args:
        labels: of a classifier, in their order.
        unsafe_labels: those that are unsafe; None for the known ones.
        known_unsafe: labels that are unsafe in any classifier, in lower case.
        known_safe: labels that are safe in any classifier, in lower case.

    Raises:
        InputError: a label is not known, one that is named is not there, or all labels are safe or
            all unsafe.

    >>> split_labels(["drawings", "hentai"], ["hentai"], [], [])
    ([1], [0])
    """
    listed = ", ".join(map(repr, labels))
    remedy = "name those that are unsafe, as `unsafe_labels=['nsfw']`"
    if unsafe_labels is None:
        classes = {*known_unsafe, *known_safe}
        if unknown := [label for label in labels if label.lower() not in classes]:
            raise InputError(
                f"whether {unknown[0]!r} is unsafe is not known; the classifier has the labels "
                f"{listed}: {remedy}"
            )
        chosen = {label for label in labels if label.lower() in known_unsafe}
    else:
        chosen = set(unsafe_labels)
        if missing := sorted(chosen - {*labels}):
            raise InputError(f"`unsafe_labels={missing!r}`: the classifier has the labels {listed}")
    unsafe = [n for n, label in enumerate(labels) if label in chosen]
    safe = [n for n, label in enumerate(labels) if label not in chosen]
    if not unsafe or not safe:
        state = "safe" if safe else "unsafe"
        raise InputError(f"all labels of the classifier are {state}, {listed}: {remedy}")
    return unsafe, safe


class _PillowProcessor:
    """The image processor on its Pillow backend, since that of torchvision resizes differently."""

    @staticmethod
    def from_pretrained(folder: Any, **options: Any) -> Any:
        auto: Any = AutoImageProcessor
        return auto.from_pretrained(folder, backend="pil", **options)
