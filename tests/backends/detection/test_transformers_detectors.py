"""Detectors of transformers: small random checkpoints against the library's own post-processing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.models.detectors import LABELS, MAKERS, make_detector
from helpers.toy import draw_image
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForObjectDetection,
    AutoModelForUniversalSegmentation,
    AutoModelForZeroShotObjectDetection,
    AutoProcessor,
)

from t2v_eval.backends.detection.detector import check_classes, match_class
from t2v_eval.backends.detection.transformers_detectors import Prepared, load_detector
from t2v_eval.errors import CheckpointError, InputError

CPU = torch.device("cpu")
CLASSES = ["person", "bicycle", "cat", "dog", "computer mouse", "dining table", "tv"]  # LABELS


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("detectors")
    return {kind: make_detector(kind, root / kind) for kind in MAKERS}


@pytest.fixture(scope="module")
def detectors(folders):
    return {kind: load_detector(f, "", CPU, torch.float32) for kind, f in folders.items()}


@pytest.fixture(scope="module")
def images():
    return [draw_image(n, size) for n, size in enumerate([(40, 30), (64, 64), (40, 30), (17, 50)])]


def detect(detector, images, classes, minimum=0.0):
    with torch.inference_mode():
        prepared = [detector.prepare(image) for image in images]
        return detector.detect(prepared, classes, minimum)


def rows(detections):
    """Boxes and confidences in an order of their own, since ties may come in any."""
    return np.array(sorted(d.box for d in detections)).reshape(-1, 5)


def clipped(result, image, label=None):
    chosen = torch.ones_like(result["scores"], dtype=bool)
    if label is not None:
        chosen = result["labels"] == LABELS.index(label)
    boxes = result["boxes"][chosen].clamp(min=0)
    boxes = boxes.minimum(torch.tensor([*image.size, *image.size]))
    rows = torch.cat([boxes, result["scores"][chosen, None]], 1)
    rows = rows[(rows[:, 0] < rows[:, 2]) & (rows[:, 1] < rows[:, 3])]
    return np.array(sorted(rows.tolist())).reshape(-1, 5)


@pytest.mark.parametrize("kind", ["detr", "rt-detr"])
def test_boxes_of_a_closed_set_are_those_of_the_library(kind, folders, detectors, images):
    network = AutoModelForObjectDetection.from_pretrained(folders[kind]).eval()
    processor = AutoImageProcessor.from_pretrained(folders[kind], backend="pil")
    total = 0
    for image, found in zip(images, detect(detectors[kind], images, [CLASSES] * 4), strict=True):
        with torch.inference_mode():
            outputs = network(**processor(image, return_tensors="pt"))
        (expected,) = processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=[image.size[::-1]]
        )
        for name, label in zip(CLASSES, LABELS, strict=True):
            np.testing.assert_allclose(
                rows(found[name]), clipped(expected, image, label), atol=1e-4
            )
            total += len(found[name])
    assert total > 4


@pytest.mark.parametrize("kind", ["owlv2", "grounding-dino"])
def test_boxes_of_a_name_are_those_of_the_library_asked_for_it_alone(
    kind, folders, detectors, images
):
    network = AutoModelForZeroShotObjectDetection.from_pretrained(folders[kind]).eval()
    processor = AutoProcessor.from_pretrained(folders[kind])
    processor.image_processor = AutoImageProcessor.from_pretrained(folders[kind], backend="pil")
    options = {"text_threshold": 0.0} if kind == "grounding-dino" else {}
    found = detect(detectors[kind], images, [["dog"], ["dog", "cat"], ["cat"], ["dog"]], 0.1)
    for image, of_classes in zip(images, found, strict=True):
        for name, detections in of_classes.items():
            text = f"{name}." if kind == "grounding-dino" else [f"a photo of a {name}"]
            inputs = processor(images=image, text=[text], return_tensors="pt")
            with torch.inference_mode():
                outputs = network(**inputs)
            if kind == "grounding-dino":
                options["input_ids"] = inputs.input_ids
            (expected,) = processor.post_process_grounded_object_detection(
                outputs, threshold=0.1, target_sizes=[image.size[::-1]], **options
            )
            np.testing.assert_allclose(rows(detections), clipped(expected, image), atol=1e-4)
            assert len(detections) > 1
    assert [list(of_classes) for of_classes in found] == [["dog"], ["dog", "cat"], ["cat"], ["dog"]]


def test_masks_are_those_of_the_library_where_it_does_not_rescale(folders, detectors):
    """Its method scales masks to 384 x 384, which an image of that size leaves as they are."""
    image = draw_image(3, (384, 384))
    network = AutoModelForUniversalSegmentation.from_pretrained(folders["mask2former"]).eval()
    processor = AutoImageProcessor.from_pretrained(
        folders["mask2former"], backend="pil", size={"height": 384, "width": 384}
    )
    inputs = processor(image, return_tensors="pt")
    with torch.inference_mode():
        outputs = network(**inputs)
    detector = detectors["mask2former"]
    prepared = Prepared((384, 384), {name: value[0] for name, value in inputs.items()})
    with torch.inference_mode():
        (found,) = detector.detect([prepared], [list(LABELS)], 0.05)
    (expected,) = processor.post_process_instance_segmentation(
        outputs, threshold=0.05, target_sizes=[(384, 384)], return_binary_maps=True
    )
    theirs = {
        (LABELS[info["label_id"]], round(info["score"], 4)): mask.bool().numpy()
        for info, mask in zip(expected["segments_info"], expected["segmentation"], strict=True)
    }
    ours = {(name, round(d[4], 4)): d for name, listed in found.items() for d in listed}
    assert len(theirs) > 2
    # The library looks at as many of the most probable pairs of mask and class as it has masks.
    assert theirs.keys() <= ours.keys()
    for key, mask in theirs.items():
        np.testing.assert_array_equal(ours[key].mask, mask)
        y, x = np.nonzero(mask)
        assert ours[key].box[:4] == (x.min(), y.min(), x.max() + 1, y.max() + 1)


def test_masks_are_freed_of_padding_and_scaled_to_the_image(detectors):
    """A network that sees one dog in the left half of an input whose lower half is padding."""
    logits = torch.full((1, 1, 16, 16), -20.0)
    logits[..., :8] = 20.0
    classes = torch.full((1, 1, len(LABELS) + 1), -9.0)
    classes[0, 0, LABELS.index("dog")] = 9.0
    detector = detectors["mask2former"]
    answers = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=logits)
    stub = type(detector).__new__(type(detector))
    stub.__dict__ = {**detector.__dict__, "run": lambda images: answers}
    valid = torch.zeros(32, 32, dtype=torch.int64)
    valid[:16] = 1
    image = Prepared((100, 200), {"pixel_values": torch.zeros(3, 32, 32), "pixel_mask": valid})
    ((dog,),) = [found["dog"] for found in stub.detect([image], [["dog"]], 0.3)]
    assert dog.mask.shape == (100, 200)
    assert dog.mask[:, :95].all() and not dog.mask[:, 105:].any()
    assert dog.box[:2] == (0, 0) and dog.box[3] == 100 and dog.box[4] > 0.99


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_found_of_a_class_depends_on_nothing_else_of_the_call(kind, detectors, images):
    detector = detectors[kind]
    together = detect(detector, images, [CLASSES, ["dog"], ["mouse", "dog"], CLASSES])
    count = 0
    for image, several in zip(images, together, strict=True):
        for name, found in several.items():
            (alone,) = detect(detector, [image], [[name]])
            np.testing.assert_allclose(rows(found), rows(alone[name]), rtol=1e-5, atol=1e-4)
            count += len(found)
    assert count > 4


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (300, 200)])
def test_boxes_lie_in_images_of_any_size(kind, size, detectors):
    (detections,) = detect(detectors[kind], [Image.new("RGB", size)], [["dog", "cat"]])
    for detection in (*detections["dog"], *detections["cat"]):
        left, top, right, bottom, confidence = detection
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        assert 0 < confidence <= 1
        assert detection.mask is None or detection.mask.shape == size[::-1]


def test_names_of_classes_are_matched_however_they_are_spelled():
    assert match_class("dining table", LABELS) == "diningtable"
    assert match_class("Computer Mouse", LABELS) == "mouse"
    assert match_class("tv", ["TV"]) == "TV" and match_class("tv", LABELS) == "tvmonitor"
    assert match_class("sofa", ["couch", "bed"]) == "couch" and match_class("kite", LABELS) is None


def test_a_class_that_a_closed_set_lacks_is_an_error_with_the_nearest(detectors):
    with pytest.raises(InputError, match=r"7 classes, and not 'bicycles' \(near: bicycle\) and 1"):
        check_classes(detectors["detr"], ["bicycles", "unicorn", "dog"])
    check_classes(detectors["owlv2"], ["unicorn"])


def test_a_checkpoint_of_another_kind_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match="type 'clip', no detector: use OWL-ViT"):
        load_detector(tmp_path, "", CPU, torch.float32)


def test_a_detector_without_a_processor_names_what_is_missing(folders, tmp_path):
    for file in folders["detr"].iterdir():
        if "preprocessor" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match="image processor of transformers"):
        load_detector(tmp_path, "", CPU, torch.float32)
