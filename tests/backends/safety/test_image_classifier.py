"""Classifiers of images as scorers of safety, beside the pipeline of transformers."""

import json

import numpy as np
import pytest
import torch
from helpers.models.classifiers import CLASSIFIERS, save_classifier
from helpers.toy import draw_image
from transformers import AutoImageProcessor, pipeline

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError

SIZES = [(40, 30), (33, 64), (32, 32), (200, 90)]
FIVE = ["drawings", "hentai", "neutral", "porn", "sexy"]


@pytest.fixture(scope="module")
def images():
    return [draw_image(n, size) for n, size in enumerate(SIZES)]


def by_pipeline(folder, images):
    """The probabilities of labels of each image, by transformers' own pipeline."""
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    classify = pipeline(
        "image-classification", str(folder), image_processor=processor, device="cpu"
    )
    return [
        {result["label"]: result["score"] for result in classify(image, top_k=None)}
        for image in images
    ]


def load(folder, **options):
    return t2v_eval.load(f"safety:{folder}", device="cpu", **options)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_scores_are_probabilities_of_the_pipeline(kind, images, tmp_path):
    folder = save_classifier(tmp_path, kind)
    scores = load(folder)(images)[:, 0]
    expected = [probabilities["normal"] for probabilities in by_pipeline(folder, images)]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert len(set(expected)) == len(images)


def test_probabilities_of_labels_that_exclude_each_other_are_added(images, tmp_path):
    folder = save_classifier(tmp_path, labels=FIVE)
    scorer = load(folder, unsafe_labels=["porn", "hentai", "sexy"])
    expected = [
        probabilities["drawings"] + probabilities["neutral"]
        for probabilities in by_pipeline(folder, images)
    ]
    np.testing.assert_allclose(scorer(images)[:, 0], expected, atol=1e-6)
    assert "unsafe=hentai,porn,sexy" in scorer.id


def test_the_surest_of_independent_labels_decides(images, tmp_path):
    labels = ["violence", "nudity", "indoor"]
    folder = save_classifier(tmp_path, labels=labels, problem_type="multi_label_classification")
    scores = load(folder, unsafe_labels=["violence", "nudity"])(images)[:, 0]
    probabilities = by_pipeline(folder, images)
    assert all(sum(image.values()) != pytest.approx(1) for image in probabilities)
    expected = [1 - max(image["violence"], image["nudity"]) for image in probabilities]
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_the_text_has_no_influence_and_batches_neither(images, tmp_path):
    scorer = load(save_classifier(tmp_path))
    scores = scorer(images, ["a cat", "a nude"])
    torch.testing.assert_close(scores, scorer(images).expand(-1, 2))
    alone = torch.cat([scorer(image) for image in images])
    torch.testing.assert_close(alone, scorer(images), atol=1e-6, rtol=0)
    assert not scorer.uses_text and scorer.card.kind == "safety"


@pytest.mark.parametrize("labels", [["SFW", "NSFW"], ["NSFW", "Safe"], ["unsafe", "normal", "sfw"]])
def test_known_labels_need_no_option(labels, images, tmp_path):
    folder = save_classifier(tmp_path, labels=labels)
    unsafe = next(label for label in labels if label.lower() in ("nsfw", "unsafe"))
    expected = [1 - probabilities[unsafe] for probabilities in by_pipeline(folder, images)]
    np.testing.assert_allclose(load(folder)(images)[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (FIVE, {}, "whether 'drawings' is unsafe is not known.*'porn', 'sexy': name those"),
        (["LABEL_0", "LABEL_1"], {}, "'LABEL_0', 'LABEL_1'"),
        (["normal", "sfw"], {}, "all labels of the classifier are safe"),
        (["nsfw", "unsafe"], {}, "all labels of the classifier are unsafe"),
        (FIVE, {"unsafe_labels": ["Porn"]}, r"unsafe_labels=\['Porn'\]`: the classifier has"),
        (FIVE, {"unsafe_labels": FIVE}, "all labels of the classifier are unsafe"),
        (FIVE, {"unsafe_labels": []}, "all labels of the classifier are safe"),
    ],
)
def test_labels_that_say_nothing_of_safety_are_an_error(labels, options, message, tmp_path):
    save_classifier(tmp_path, labels=labels)
    with pytest.raises(InputError, match=message):
        load(tmp_path, **options)


def test_a_label_may_be_named_alone(images, tmp_path):
    folder = save_classifier(tmp_path, labels=FIVE)
    torch.testing.assert_close(
        load(folder, unsafe_labels="porn")(images), load(folder, unsafe_labels=["porn"])(images)
    )


def test_what_is_no_classifier_is_refused(tmp_path):
    from helpers.models.clip_goldens import hf_clip_folder

    whole = save_classifier(tmp_path / "whole")
    with pytest.raises(InputError, match="LABEL_0"):
        load(hf_clip_folder(tmp_path))
    (whole / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="image processor"):
        load(whole)
    other = save_classifier(tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"hidden_size": 32}))
    with pytest.raises(CheckpointError):
        load(other)
    with pytest.raises(CheckpointError):
        load(tmp_path / "nothing")
