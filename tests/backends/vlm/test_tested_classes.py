"""Classes whose sharing is not tried when they are loaded are those that tests hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.models.tiny_vlm import TINY
from helpers.models.tiny_vlm_more import CARDED
from transformers import AutoConfig

import t2v_eval
from t2v_eval.backends.vlm import hf_vlm
from t2v_eval.backends.vlm import tested_classes as _vlm_tested
from t2v_eval.registry import models

TESTS = Path(__file__).parents[2]
# Read from layouts of authors: which test holds them, of this class with this language model.
LAYOUTS = {
    ("InternVLForConditionalGeneration", "llama"): ("test_vlm_cards.py", "internvl2-8b"),
    ("InternVLForConditionalGeneration", "phi3"): ("test_vlm_cards.py", "internvl2-4b"),
    ("PooledLlavaOnevisionForConditionalGeneration", "qwen2"): (
        "test_vlm_cards.py",
        "llava-video-7b",
    ),
}


@pytest.mark.parametrize("kind", [*TINY, *CARDED])
def test_a_small_model_of_the_tests_is_in_a_card(kind, tmp_path):
    (TINY | CARDED)[kind](tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    (name,) = json.loads((tmp_path / "config.json").read_text())["architectures"]
    pair = name, config.get_text_config().model_type
    assert pair in _vlm_tested.tested_classes(), (
        f'tests compare the small model {kind!r}: write tested = ["{" ".join(pair)}"] into its '
        "card in backends/vlm/cards/, or move the function from CARDED to OTHERS"
    )


def test_what_a_card_calls_tested_is_tested():
    """Each has a small model that a test of shared work is run with."""
    result = "".join(
        (TESTS / "helpers" / "models" / f).read_text() for f in ("tiny_vlm.py", "tiny_vlm_more.py")
    )
    for name, language in _vlm_tested.tested_classes():
        if (name, language) in LAYOUTS:
            file, word = LAYOUTS[name, language]
            assert word in Path(__file__).with_name(file).read_text()
        else:
            stem = re.sub("(Model)?(ForConditionalGeneration)$", "", name)
            assert f"{stem}Config" in result, (
                f'a card says tested = ["{name} {language}"]: write a function that saves a small '
                "model of it into tests/helpers/models/tiny_vlm_more.py, and name it in CARDED"
            )
    assert len(_vlm_tested.tested_classes()) == len({*TINY, *CARDED}) + len(LAYOUTS)


def test_a_card_verified_as_an_architecture_names_a_tested_class():
    for card in models.cards.values():
        if card.module.endswith("vlm.hf_vlm") and card.verified.startswith("architecture"):
            assert card.tested, (
                f'{card.name!r} is verified as "architecture": name its class under `tested` in '
                f'{card.file}, or say verified = "unverified: ..." and why'
            )


@pytest.fixture
def tried(monkeypatch):
    """Names of scorers that tried what they may share."""
    names = []
    original = hf_vlm.HfVlm._choose_sharing_mode

    def settle(self):
        names.append(self.name)
        original(self)

    monkeypatch.setattr(hf_vlm.HfVlm, "_choose_sharing_mode", settle)
    return names


def test_words_of_a_card_decide_nothing(tried, tmp_path, monkeypatch):
    TINY["llava"](tmp_path)
    card = models.card("internvl3-8b")
    assert card.verified.startswith("architecture")
    options = {"checkpoint": tmp_path, "device": "cpu", "chat": "<|im_start|><image>{}<|im_end|>"}
    options |= {"image_settings": {}}
    t2v_eval.load("internvl3-8b", **options)
    assert tried == []
    others = _vlm_tested.tested_classes() - {("LlavaForConditionalGeneration", "llama")}
    monkeypatch.setattr(_vlm_tested, "tested_classes", lambda: others)
    scorer = t2v_eval.load("internvl3-8b", **options)  # whose card still says "architecture"
    assert tried == ["internvl3-8b"]
    assert scorer.sharing_mode == "prefix shared, packed"


def test_another_language_model_in_a_class_that_is_tested_is_tried(tried, tmp_path):
    TINY["llava"](tmp_path)
    original = json.loads((tmp_path / "config.json").read_text())
    original["text_config"]["model_type"] = "mistral"
    (tmp_path / "config.json").write_text(json.dumps(original))
    t2v_eval.load(f"hf-vlm:{tmp_path}", device="cpu")
    assert tried == [f"hf-vlm:{tmp_path}"]
