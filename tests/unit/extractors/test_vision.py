"""DINOv2 and networks of timm give the features of their libraries."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from helpers.toy import draw_image
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from t2v_eval.errors import CheckpointError, InputError
from t2v_eval.extractors.names import load_extractor
from t2v_eval.inputs.media import open_media

SMALL = "test_vit"  # a network of timm of 0.4 million weights
IMAGES = [draw_image(number).resize((70, 50)) for number in range(3)]


def features(extractor) -> np.ndarray:
    batches = list(extractor.extract([open_media(image) for image in IMAGES]))
    assert [n for batch in batches for n in batch.numbers] == [0, 1, 2]
    return np.concatenate([batch.features for batch in batches])


def test_dinov2_is_the_class_token_of_resized_images(tmp_path):
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    network = Dinov2Model(config).eval()
    network.save_pretrained(tmp_path)
    rows = []
    for image in IMAGES:
        pixels = np.asarray(image.convert("RGB").resize((224, 224), Image.BICUBIC), np.float64)
        pixels = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        inputs = torch.tensor(pixels.transpose(2, 0, 1)[None], dtype=torch.float32)
        with torch.no_grad():
            rows.append(network(pixel_values=inputs).pooler_output[0].numpy())
    extractor = load_extractor("dinov2", checkpoint=tmp_path, device="cpu")
    assert features(extractor) == pytest.approx(np.array(rows), abs=1e-4)
    facts = extractor.facts()
    assert facts["network"] == "dinov2"
    assert len(facts["weights"]) == 16


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("timm") / "weights.pth"
    torch.save(timm.create_model(SMALL, pretrained=False).state_dict(), path)
    return path


def test_timm_networks_resize_and_normalise_as_they_were_trained(weights):
    network = timm.create_model(SMALL, pretrained=False, num_classes=0).eval()
    network.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    with torch.no_grad():
        inputs = torch.stack([transform(image.convert("RGB")) for image in IMAGES])
        expected = network(inputs).numpy()
    extractor = load_extractor(f"timm:{SMALL}", checkpoint=weights, device="cpu", batch_size=2)
    assert features(extractor) == pytest.approx(expected, abs=1e-5)


def test_weights_of_another_network_are_refused(weights):
    with pytest.raises(CheckpointError, match="does not fit"):
        load_extractor("timm:test_resnet", checkpoint=weights, device="cpu")


def test_unknown_networks_are_named():
    with pytest.raises(InputError, match="no network 'no_such'"):
        load_extractor("timm:no_such")
