"""Detectors of transformers: closed sets of classes, instance segmentation, and any class by name.

Images are prepared one by one, on the Pillow backend, and only those of the same size share a
batch: padding changes what DETR and its relatives find, so that a score would depend on the other
images of a call. Detectors that read text are asked for each class alone, for the same reason, and
so that all texts of an image that name a class share its boxes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import (
    MODEL_FOR_OBJECT_DETECTION_MAPPING,
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForUniversalSegmentation,
    AutoModelForZeroShotObjectDetection,
    AutoTokenizer,
)
from typing_extensions import override

from t2v_eval.errors import CheckpointError

from ..common.pretrained import Placement, build_network, load_pretrained, read_config
from .detector import Detection, Detector, match_class

MAX_DETECTIONS = 100  # of an image, over all classes, as in the original post-processing
_LISTED = "OWL-ViT, OWLv2, Grounding DINO, Mask2Former, MaskFormer, or one of object detection"


class Prepared(NamedTuple):
    """An image as input of a network.

    Attributes:
        size: height and width of the image in pixels.
        inputs: pixel values, and where there is one the mask of padding, each of one image.

    >>> Prepared((30, 40), {"pixel_values": torch.zeros(3, 8, 8)}).size
    (30, 40)
    """

    size: tuple[int, int]
    inputs: Mapping[str, Tensor]


class _TransformersDetector(ABC):
    """A detector of transformers; subclasses write `detect_batch`.

    Args:
        network: the network.
        processor: its image processor.
        facts: what else decides what it finds, for its identity.
    """

    classes: Collection[str] | None = None

    def __init__(self, network: Any, processor: Any, facts: Mapping[str, str]) -> None:
        self.network, self.processor, self.facts = network, processor, facts

    def identity(self) -> Mapping[str, str]:
        """Return the kind of network, and where its weights are from."""
        return self.facts

    def prepare(self, image: Image.Image) -> Prepared:
        """Convert an upright RGB image to inputs of the network."""
        inputs = self.processor(images=image, return_tensors="pt")
        return Prepared((image.height, image.width), {k: v[0] for k, v in inputs.items()})

    def detect(
        self, prepared: Sequence[Prepared], classes: Sequence[Collection[str]], minimum: float
    ) -> list[Mapping[str, Sequence[Detection]]]:
        """Find objects; see `Detector.detect`."""
        results: list[Mapping[str, Sequence[Detection]]] = [{}] * len(prepared)
        by_shape: dict[Any, list[int]] = {}
        for n, image in enumerate(prepared):
            by_shape.setdefault(image.inputs["pixel_values"].shape, []).append(n)
        for numbers in by_shape.values():
            images = [prepared[n] for n in numbers]
            batch = self.detect_batch(images, [list(classes[n]) for n in numbers], minimum)
            for n, detections in zip(numbers, batch, strict=True):
                results[n] = detections
        return results

    @abstractmethod
    def detect_batch(
        self, images: Sequence[Prepared], classes: Sequence[Sequence[str]], minimum: float
    ) -> Sequence[Mapping[str, Sequence[Detection]]]:
        """Find objects in images whose inputs have one shape."""

    def run(self, images: Sequence[Prepared], **inputs: Tensor) -> Any:
        """Run the network on images whose inputs have one shape."""
        weight = next(self.network.parameters())
        stacked = {
            name: torch.stack([image.inputs[name] for image in images]) for name in images[0].inputs
        } | inputs
        moved = {
            name: value.to(weight.device, weight.dtype if value.is_floating_point() else None)
            for name, value in stacked.items()
        }
        return self.network(**moved)

    def boxes(
        self, outputs: Any, sizes: Sequence[tuple[int, int]], minimum: float
    ) -> Iterator[Any]:
        """Yield scores, labels and boxes of each image, as the image processor reads them."""
        on_cpu = SimpleNamespace(
            logits=outputs.logits.float().cpu(), pred_boxes=outputs.pred_boxes.float().cpu()
        )
        yield from self.processor.post_process_object_detection(
            on_cpu, threshold=minimum, target_sizes=torch.tensor(sizes, dtype=torch.int64)
        )


class _ClosedSetDetector(_TransformersDetector):
    """DETR, RT-DETR and their relatives: boxes of the classes in the checkpoint's config.json."""

    def __init__(self, network: Any, processor: Any, facts: Mapping[str, str]) -> None:
        super().__init__(network, processor, facts)
        self.labels: dict[int, str] = dict(network.config.id2label)
        self.classes = set(self.labels.values())

    @override
    def detect_batch(
        self, images: Sequence[Prepared], classes: Sequence[Sequence[str]], minimum: float
    ) -> Sequence[Mapping[str, Sequence[Detection]]]:
        sizes = [image.size for image in images]
        return [
            self._of_classes(names, output["labels"].tolist(), _detections(output, size))
            for names, size, output in zip(
                classes, sizes, self.boxes(self.run(images), sizes, minimum), strict=True
            )
        ]

    def _of_classes(
        self, names: Sequence[str], labels: Sequence[int], detections: Sequence[Detection]
    ) -> Mapping[str, Sequence[Detection]]:
        wanted = {name: match_class(name, self.classes or ()) for name in names}
        return {
            name: [
                d for n, d in zip(labels, detections, strict=True) if self.labels.get(n) == label
            ]
            for name, label in wanted.items()
        }


class _InstanceSegmenter(_ClosedSetDetector):
    """Mask2Former and MaskFormer: masks, the boxes around them, and confidences as in MMDetection.

    A confidence is the probability of the class times the mean probability of the mask's pixels,
    masks are enlarged to the size of the input, freed of padding, and then scaled to the image
    (Cheng et al. 2022; `MaskFormerFusionHead` of MMDetection 2). The method of transformers scales
    them to 384 x 384 instead, whatever the input.
    """

    @override
    def detect_batch(
        self, images: Sequence[Prepared], classes: Sequence[Sequence[str]], minimum: float
    ) -> Sequence[Mapping[str, Sequence[Detection]]]:
        outputs = self.run(images)
        results = []
        for image, names, logits, masks in zip(
            images,
            classes,
            outputs.class_queries_logits.float(),
            outputs.masks_queries_logits.float(),
            strict=True,
        ):
            labels, detections = self._instances(image, logits, masks, minimum)
            results.append(self._of_classes(names, labels, detections))
        return results

    def _instances(
        self, image: Prepared, logits: Tensor, masks: Tensor, minimum: float
    ) -> tuple[list[int], list[Detection]]:
        probabilities = logits.softmax(-1)[:, :-1]
        count = min(MAX_DETECTIONS, probabilities.numel())
        scores, index = probabilities.flatten().topk(count)
        index = index[scores > minimum]  # a mask can only make it less
        query, label = index // probabilities.shape[1], index % probabilities.shape[1]
        labels, detections = [], []
        for n in range(len(index)):
            mask = _image_mask(masks[query[n]], image)
            inside = mask > 0
            area = inside.sum()
            confidence = scores[n] * (mask.sigmoid() * inside).sum() / (area + 1e-6)
            if area == 0 or confidence <= minimum:
                continue
            rows, columns = (inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0])
            left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
            box = (float(left), float(top), float(right), float(bottom), float(confidence))
            labels.append(int(label[n]))
            detections.append(Detection(box, inside.cpu().numpy()))
        return labels, detections


class _QueryDetector(_TransformersDetector):
    """OWL-ViT and OWLv2: boxes of each query's own confidence, "a photo of a dog".

    Args:
        network: the network.
        processor: its image processor.
        tokenizer: its tokenizer.
        facts: what else decides what it finds, for its identity.
    """

    def __init__(
        self, network: Any, processor: Any, tokenizer: Any, facts: Mapping[str, str]
    ) -> None:
        super().__init__(network, processor, facts)
        self.tokenizer = tokenizer
        self.context: int = network.config.text_config.max_position_embeddings

    @override
    def detect_batch(
        self, images: Sequence[Prepared], classes: Sequence[Sequence[str]], minimum: float
    ) -> Sequence[Mapping[str, Sequence[Detection]]]:
        # All images of a batch are asked for the classes of all: their texts cost little beside
        # an image, and each class has logits of its own.
        names = list(dict.fromkeys(name for listed in classes for name in listed))
        tokens = self.tokenizer(
            [f"a photo of a {name}" for name in names],
            padding="max_length",
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        )
        texts = {
            name: tokens[name].repeat(len(images), 1) for name in ("input_ids", "attention_mask")
        }
        outputs = self.run(images, **texts)
        sizes = [image.size for image in images]
        results: list[dict[str, Sequence[Detection]]] = [{} for _ in images]
        for n, name in enumerate(names):
            # `post_process_object_detection` gives a box only to its most probable class, which
            # depends on the other classes; so it reads one class at a time.
            alone = SimpleNamespace(
                logits=outputs.logits[..., n : n + 1], pred_boxes=outputs.pred_boxes
            )
            for result, size, output in zip(
                results, sizes, self.boxes(alone, sizes, minimum), strict=True
            ):
                result[name] = _detections(output, size)
        return [
            {name: result[name] for name in listed}
            for result, listed in zip(results, classes, strict=True)
        ]


class _PhraseDetector(_TransformersDetector):
    """Grounding DINO: the boxes of a phrase, "dog.", with the largest probability of its tokens.

    An image and a class are one input, since the phrases of a longer text influence each other.

    Args:
        network: the network.
        processor: its image processor.
        tokenizer: its tokenizer.
        facts: what else decides what it finds, for its identity.
    """

    def __init__(
        self, network: Any, processor: Any, tokenizer: Any, facts: Mapping[str, str]
    ) -> None:
        super().__init__(network, processor, facts)
        self.tokenizer = tokenizer

    @override
    def detect_batch(
        self, images: Sequence[Prepared], classes: Sequence[Sequence[str]], minimum: float
    ) -> Sequence[Mapping[str, Sequence[Detection]]]:
        pairs = [(n, name) for n, listed in enumerate(classes) for name in listed]
        results: list[dict[str, Sequence[Detection]]] = [{} for _ in images]
        size = max(1, len(images))
        for start in range(0, len(pairs), size):  # no more inputs at a time than images
            part = pairs[start : start + size]
            tokens = self.tokenizer(
                [f"{name.lower()}." for _, name in part],
                padding=True,
                truncation=True,
                max_length=self.network.config.max_text_len,
                return_tensors="pt",
            )
            outputs = self.run([images[n] for n, _ in part], **tokens)
            sizes = [images[n].size for n, _ in part]
            for (n, name), image_size, output in zip(
                part, sizes, self.boxes(outputs, sizes, minimum), strict=True
            ):
                results[n][name] = _detections(output, image_size)
        return results


def load_detector(folder: Path, source: str, device: torch.device, dtype: torch.dtype) -> Detector:
    """Load the detector of a checkpoint in the layout of transformers.

    Args:
        folder: holds configuration, weights, image processor and perhaps a tokenizer.
        source: where it is from, for its identity; may be empty.
        device: the device of the network.
        dtype: the dtype of its weights.

    Raises:
        CheckpointError: it cannot be loaded, or is no detector of a kind that is known here.

    >>> from tempfile import TemporaryDirectory
    >>> from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig
    >>> from transformers import DetrImageProcessor
    >>> backbone = ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic")
    >>> config = DetrConfig(
    ...     backbone_config=backbone, use_timm_backbone=False, backbone=None, d_model=8,
    ...     encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
    ...     decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, num_queries=4,
    ...     id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     DetrForObjectDetection(config).save_pretrained(folder)
    ...     _ = DetrImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    ...     detector = load_detector(Path(folder), "", torch.device("cpu"), torch.float32)
    >>> prepared = detector.prepare(Image.new("RGB", (8, 8)))
    >>> with torch.inference_mode():
    ...     objects = detector.detect([prepared], [["cat"]], minimum=0.0)
    >>> sorted(detector.classes), list(objects[0])
    (['cat', 'dog'], ['cat'])
    """
    config = read_config(folder, trusted=False)
    kind = config.model_type
    facts = {"detector": f"{kind} {source}".strip()}
    # Most of these classes have eager attention alone, but parts of them have others; with eager
    # attention throughout, BERT in Grounding DINO ignores its mask (transformers 5.24).
    placement = Placement(attn_implementation="")

    def network(auto_class: Any) -> Any:
        return build_network(auto_class, folder, placement, device, dtype)

    def processor() -> Any:
        return load_pretrained(_PilImageProcessor, folder, "image processor")

    def tokenizer() -> Any:
        return load_pretrained(AutoTokenizer, folder, "tokenizer")

    if kind in ("owlvit", "owlv2"):
        zero_shot = network(AutoModelForZeroShotObjectDetection)
        return _QueryDetector(zero_shot, processor(), tokenizer(), facts)
    if kind in ("grounding-dino", "mm-grounding-dino"):
        zero_shot = network(AutoModelForZeroShotObjectDetection)
        return _PhraseDetector(zero_shot, processor(), tokenizer(), facts)
    if kind in ("mask2former", "maskformer"):
        return _InstanceSegmenter(network(AutoModelForUniversalSegmentation), processor(), facts)
    if type(config) in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        return _ClosedSetDetector(network(AutoModelForObjectDetection), processor(), facts)
    raise CheckpointError(f"{folder} is a model of type {kind!r}, no detector: use {_LISTED}")


class _PilImageProcessor:
    """`AutoImageProcessor` on its Pillow backend, as `load_pretrained` takes it."""

    @staticmethod
    def from_pretrained(folder: Path, **options: Any) -> Any:
        auto: Any = AutoImageProcessor  # which has no types
        return auto.from_pretrained(folder, backend="pil", **options)


def _image_mask(mask: Tensor, image: Prepared) -> Tensor:
    """Scale the logits of a mask to the pixels of the image, without the padding of the input."""
    height, width = image.inputs["pixel_values"].shape[-2:]
    logits = interpolate(mask[None, None], (height, width), mode="bilinear", align_corners=False)
    valid = image.inputs.get("pixel_mask")
    if valid is not None:
        logits = logits[..., : int(valid.any(1).sum()), : int(valid.any(0).sum())]
    return interpolate(logits, image.size, mode="bilinear", align_corners=False)[0, 0]


def _detections(output: Mapping[str, Tensor], size: tuple[int, int]) -> list[Detection]:
    """Return boxes with their confidences, cut at the edges of the image.

    Those that lie outside are left out: OWLv2 looks at a square with padding beside the image.
    """
    height, width = size
    boxes = output["boxes"].double().cpu().numpy()
    boxes = np.clip(boxes, 0, [width, height, width, height])
    scores = output["scores"].double().cpu().tolist()
    return [
        Detection((left, top, right, bottom, score))
        for (left, top, right, bottom), score in zip(boxes.tolist(), scores, strict=True)
        if left < right and top < bottom
    ]
