"""Cards of vision-language models: classes that are run once, and layouts of authors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.clip_goldens import exact_pixels
from helpers.models.geometry import observed_geometry
from helpers.models.plain_vlm import QUESTION, first_token_of_yes, of_images
from helpers.models.tiny_vlm import TEXT, TINY, llava, save_tiny
from helpers.models.tiny_vlm_more import CARDED, OTHERS
from helpers.toy import draw_image
from safetensors.torch import save_file
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, MissingPackageError
from t2v_eval.inputs.template import get_template, wrapper, wrappers
from t2v_eval.registry import models

GOLDENS = Path(__file__).parents[2] / "goldens" / "vqa"
TEXTS = ["cat", "the tall lighthouse stands next to the calm river " * 3, "two dogs", ""]
CARDS = {name: card for name, card in models.cards.items() if card.entry == "HfVlm"}


@pytest.fixture(scope="module")
def images():
    return [draw_image(seed, size) for seed, size in enumerate([(40, 90), (80, 30)])]


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return save_tiny(tmp_path_factory, TINY["qwen2_vl"])


def load(checkpoint, **options):
    return t2v_eval.load(f"hf-vlm:{checkpoint}", device="cpu", **options)


def asked_plainly(folder, images, texts) -> list[list[float]]:
    score = first_token_of_yes(folder)
    return [[score(of_images([image]), text) for text in texts] for image in images]


@pytest.mark.parametrize("kind", [*CARDED, *OTHERS])
def test_a_class_that_was_run_scores_as_by_itself(kind, images, tmp_path):
    """Where no card names it too: what a model may share is found when it is loaded."""
    (CARDED | OTHERS)[kind](tmp_path)
    expected = asked_plainly(tmp_path, images, TEXTS)
    scorer = load(tmp_path, rule="first-token")
    np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-5, atol=1e-9)
    whole, apart = load(tmp_path), load(tmp_path, share=False)
    np.testing.assert_allclose(whole(images, TEXTS), apart(images, TEXTS), rtol=1e-5, atol=1e-9)
    assert len(np.unique(expected)) == 8


NAMED = {"smolvlm": "smolvlm2-256m", "molmo2": "molmo2-4b", "qwen3_omni": "qwen3-omni-30b-a3b"}
NAMED |= {"gemma4": "gemma-4-31b-it", "gemma4_unified": "gemma-4-12b-it"}


@pytest.mark.parametrize("kind", CARDED)
def test_its_card_scores_as_pairs_by_themselves(kind, images, tmp_path):
    """With what a card that says "architecture" shares without trying it."""
    CARDED[kind](tmp_path)
    card, apart = (
        t2v_eval.load(NAMED[kind], checkpoint=tmp_path, device="cpu", share=share)
        for share in (True, False)
    )
    assert card.card.verified.startswith("architecture")
    assert observed_geometry(card) == card.card.geometry
    np.testing.assert_allclose(card(images, TEXTS), apart(images, TEXTS), rtol=1e-5, atol=1e-9)
    assert card.sharing_mode == "prefix shared, packed"
    pairs = card.score_pairs(images, TEXTS[:2])
    np.testing.assert_allclose(pairs, apart.score_pairs(images, TEXTS[:2]), rtol=1e-5, atol=1e-9)
    alike = [draw_image(seed, (56, 56)) for seed in range(3)]
    alone = [apart.generate(image, "What is this?", max_new_tokens=6)[0] for image in alike]
    assert card.generate(alike, "What is this?", max_new_tokens=6) == alone


@exact_pixels
@pytest.mark.parametrize("name", ["internvl2.5-1b", "internvl2-8b", "internvl2-4b"])
def test_internvl_in_the_layout_of_its_authors(name):
    """On Qwen2, InternLM2 and Phi-3, against what their own code answers."""
    golden = json.loads((GOLDENS / "internvl" / name / "cases.json").read_text(encoding="utf-8"))
    scorer = t2v_eval.load(name, checkpoint=GOLDENS / "internvl" / name, device="cpu")
    images = [draw_image(seed, tuple(size)) for seed, size in golden["pictures"]]
    scores = scorer(images, golden["texts"])
    np.testing.assert_allclose(scores, golden["scores"], rtol=1e-4, atol=1e-9)
    with pytest.raises(InputError, match="takes no device_map"):
        t2v_eval.load(name, checkpoint=GOLDENS / "internvl" / name, device_map="auto")


def first_of_yes(model, processor, prompt: str, image) -> float:
    inputs = processor(text=[prompt], images=[[image]], return_tensors="pt")
    inputs.pop("labels", None)
    yes = processor.tokenizer("Yes", add_special_tokens=False).input_ids[0]
    with torch.no_grad():
        return float(model(**inputs).logits[0, -1].softmax(-1)[yes])


def prompts(name: str, mark: str) -> list[str]:
    card = models.card(name)
    question = get_template(card.args["template"]).question
    around = wrapper(card.args["chat"]).replace("<image>", mark)
    return [around.replace("{}", question.replace("{}", text)) for text in TEXTS]


@pytest.fixture
def llava16(tmp_path):
    """LLaVA-1.5's golden weights as LLaVA-1.6 is published: with a tower that was tuned."""
    original = GOLDENS / "llava15" / "checkpoint" / "llava-1.5-tiny-hf"
    folder, tower = tmp_path / "llava", tmp_path / "clip"
    folder.mkdir(), tower.mkdir()
    config = json.loads((original / "config.json").read_text())
    flat = config["text_config"] | {"vocab_size": 700, "pad_token_id": 0, "rope_theta": 10000.0}
    flat |= {
        "model_type": "llava_llama",
        "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_vision_tower": str(tower),
        "unfreeze_mm_vision_tower": True,
    }
    (folder / "config.json").write_text(json.dumps(flat))
    (tower / "config.json").write_text(json.dumps(config["vision_config"]))
    shutil.copy(original / "preprocessor_config.json", tower)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(original / name, folder)
    result = {"model.image_newline": torch.ones(flat["hidden_size"])}
    model = AutoModelForImageTextToText.from_pretrained(original)
    for name, tensor in model.state_dict().items():
        name = name.replace("model.vision_tower.", "model.vision_tower.vision_tower.vision_model.")
        name = name.replace("language_model.", "").replace("multi_modal_", "mm_")
        name = name.replace("linear_1", "0").replace("linear_2", "2")
        result[name] = tensor[:700].clone() if len(tensor) == 764 else tensor
    save_file(result, folder / "model.safetensors")
    return original, folder


def test_llava_1_6_is_read_with_its_own_tower_and_whole_images(llava16, images):
    original, folder = llava16
    card = t2v_eval.load("llava-v1.6-13b", checkpoint=folder, device="cpu")
    golden = t2v_eval.load("llava-v1.5-7b", checkpoint=original, device="cpu")
    np.testing.assert_allclose(card(images, TEXTS), golden(images, TEXTS), rtol=1e-5)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"unfreeze_mm_vision_tower": False}))
    with pytest.raises(CheckpointError, match="clip holds no weights"):
        t2v_eval.load("llava-v1.6-13b", checkpoint=folder, device="cpu")


def test_tiles_are_not_read_as_a_whole_image(tmp_path):
    TINY["llava_next"](tmp_path)
    with pytest.raises(CheckpointError, match="'llava_next', not 'llava'.*load it as 'hf-vlm:"):
        t2v_eval.load("llava-v1.6-13b", checkpoint=tmp_path, device="cpu")


def test_llava_video_in_the_layout_of_its_authors(images, tmp_path):
    native, folder, tower = (tmp_path / name for name in ("native", "llava", "siglip"))
    TINY["llava_onevision"](native)
    folder.mkdir(), tower.mkdir()
    model = LlavaOnevisionForConditionalGeneration.from_pretrained(native).eval()
    result = {"model.vision_tower.vision_tower.vision_model.head.probe": torch.ones(2)}
    for name, tensor in model.state_dict().items():
        name = name.replace("model.vision_tower.", "model.vision_tower.vision_tower.vision_model.")
        name = name.replace("language_model.", "").replace("multi_modal_", "mm_")
        result[name.replace("linear_1", "0").replace("linear_2", "2")] = tensor.contiguous()
    save_file(result, folder / "model.safetensors")
    config = model.config
    text = {"max_position_embeddings": 600, "rope_theta": 10000.0, "tie_word_embeddings": False}
    for name in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"):
        text[name] = getattr(config.text_config, name)
    for name in ("num_attention_heads", "num_key_value_heads", "rms_norm_eps"):
        text[name] = getattr(config.text_config, name)
    flat = {
        **text,
        "architectures": ["LlavaQwenForCausalLM"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad",
        "image_aspect_ratio": "anyres_max_9",
        "image_grid_pinpoints": config.image_grid_pinpoints,
        "mm_vision_tower": str(tower),
    }
    (folder / "config.json").write_text(json.dumps(flat))
    vision = config.vision_config.to_dict()
    vision |= {"num_hidden_layers": 3, "vision_use_head": True}  # one more than is read
    (tower / "config.json").write_text(json.dumps(vision))
    processor = AutoProcessor.from_pretrained(native)
    processor.tokenizer.save_pretrained(folder)
    square = LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28}, image_grid_pinpoints=config.image_grid_pinpoints
    )
    square.save_pretrained(tower)
    processor.image_processor = square
    expected = [
        [
            first_of_yes(model, processor, prompt, i)
            for prompt in prompts("llava-video-7b", "<image>")
        ]
        for i in images
    ]
    scorer = t2v_eval.load("llava-video-7b", checkpoint=folder, device="cpu")
    np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-5)
    (folder / "config.json").write_text(json.dumps(flat | {"image_aspect_ratio": "pad"}))
    with pytest.raises(CheckpointError, match="its images are 'pad'"):
        t2v_eval.load("llava-video-7b", checkpoint=folder, device="cpu")


def test_tarsier_in_the_layout_of_its_authors(qwen, images, tmp_path):
    model = Qwen2VLForConditionalGeneration.from_pretrained(qwen).eval()
    result = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("model.visual.", "vision_tower.")
        name = name.replace("model.language_model.", "language_model.model.")
        name = name.replace("lm_head", "language_model.lm_head")
        result[name] = tensor.contiguous()
    save_file(result, tmp_path / "model.safetensors")
    text, vision = model.config.text_config.to_dict(), model.config.vision_config.to_dict()
    text["rope_theta"] = text["rope_parameters"]["rope_theta"]
    text["rope_scaling"] = {"type": "mrope", "mrope_section": [1, 1, 2]}
    text |= {"model_type": "qwen2_vl", "auto_map": {"AutoConfig": "theirs.Config"}}
    flat = {"architectures": ["TarsierForConditionalGeneration"], "model_type": "llava"}
    flat |= {"text_config": {k: v for k, v in text.items() if k != "rope_parameters"}}
    flat |= {"vision_config": vision | {"model_type": "qwen2_vl"}, "projection_head": None}
    (tmp_path / "config.json").write_text(json.dumps(flat))
    processor = AutoProcessor.from_pretrained(qwen)
    processor.tokenizer.save_pretrained(tmp_path)
    limits = {"shortest_edge": 3136, "longest_edge": 460800}
    processor.image_processor = Qwen2VLImageProcessorPil(size=limits, patch_size=14)
    expected = [
        [first_of_yes(model, processor, p, i) for p in prompts("tarsier2-7b", "<|image_pad|>")]
        for i in images
    ]
    scorer = t2v_eval.load("tarsier2-7b", checkpoint=tmp_path, device="cpu")
    np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-5)
    flat["projection_head"] = "MLP"
    (tmp_path / "config.json").write_text(json.dumps(flat))
    with pytest.raises(CheckpointError, match="is no Tarsier2"):
        t2v_eval.load("tarsier2-7b", checkpoint=tmp_path, device="cpu")


@pytest.mark.parametrize("name", CARDS)
def test_every_card_names_what_there_is(name):
    card = CARDS[name]
    for key in ("chat", "system"):
        assert card.args.get(key, "llava-v1") in wrappers()
    assert "<image>" in wrapper(card.args.get("chat", "<image>"))
    assert card.license and card.summary and card.verified


def test_a_wrapper_is_named_or_written_and_decides_the_id(qwen, images):
    around = wrapper("qwen2-vl")
    named, generated = load(qwen, chat="qwen2-vl"), load(qwen, chat=around)
    assert named.id == generated.id
    assert repr(around) in named.id
    plain = load(qwen)  # whose chat template says nearly the same
    assert plain.id != named.id
    np.testing.assert_allclose(named(images, TEXTS), generated(images, TEXTS), rtol=1e-6)
    other = load(qwen, chat=around.replace("<image>", "<image> "))
    assert not np.allclose(other(images, TEXTS), named(images, TEXTS))
    with pytest.raises(InputError, match="must hold <image>.*list templates"):
        load(qwen, chat="qwen2_vl")
    with pytest.raises(InputError, match="must hold <image>"):
        load(qwen, chat="<image> {} {}")


def test_a_chat_template_of_the_tokenizer_is_used(images, tmp_path):
    llava(tmp_path)
    expected = load(tmp_path)(images, TEXTS)
    of_processor = tmp_path / "chat_template.jinja"
    of_tokenizer = tmp_path / "tokenizer_config.json"
    original, message = of_processor.read_text(), json.loads(of_tokenizer.read_text())
    of_processor.unlink()

    def tell(template):
        of_tokenizer.write_text(json.dumps({**message, "chat_template": template}))

    tell(original)
    np.testing.assert_array_equal(load(tmp_path)(images, TEXTS), expected)
    tell("<|im_start|>{{ messages[0].content | trim }}<|im_end|>")  # which knows of no images
    with pytest.raises(CheckpointError, match="must hold both once, the image first"):
        load(tmp_path)
    tell("<|im_start|>{{ messages[0].content + 'here' }}<|im_end|>")
    with pytest.raises(CheckpointError, match="does not take an image .* pass `chat="):
        load(tmp_path)


def test_a_model_without_a_chat_template_is_asked_by_a_wrapper(images, tmp_path):
    TINY["llava"](tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="pass `chat="):
        load(tmp_path)
    scorer = load(tmp_path, chat="<|im_start|><image>\n{}<|im_end|>", rule="first-token")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    processor = AutoProcessor.from_pretrained(tmp_path)
    prompt_tokens = f"<|im_start|><image>\n{QUESTION}<|im_end|>"
    expected = [
        [first_of_yes(model, processor, prompt_tokens.replace("{}", text), i) for text in TEXTS]
        for i in images
    ]
    np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-5)


def test_llama_guard_is_asked_as_llama(images, tmp_path):
    TINY["mllama"](tmp_path)
    options = {"checkpoint": tmp_path, "device": "cpu"}
    guard = t2v_eval.load("llama-guard-3-11b-vision", **options)
    llama = t2v_eval.load("llama-3.2-11b-vision-instruct", **options)
    np.testing.assert_allclose(guard(images, TEXTS), llama(images, TEXTS), rtol=1e-5)
    assert "<|start_header_id|>user" in guard.id


def test_base_models_of_llama_go_on_with_a_text(images, tmp_path):
    """They have no chat template; Meta's format has the image after the first token."""
    TINY["mllama"](tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    model = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    processor = AutoProcessor.from_pretrained(tmp_path)
    question = get_template("vqascore-image").question
    yes = processor.tokenizer("Yes", add_special_tokens=False).input_ids[0]

    @torch.no_grad()
    def score(image, text: str) -> float:
        text_out = f"<|begin_of_text|><|image|>{question.replace('{}', text)}\n"
        inputs = processor(image, text_out, return_tensors="pt", add_special_tokens=False)
        return float(model(**inputs).logits[0, -1].softmax(-1)[yes])

    expected = [[score(image, text) for text in TEXTS] for image in images]
    for name in ("llama-3.2-11b-vision", "llama-3.2-90b-vision"):
        scorer = t2v_eval.load(name, checkpoint=tmp_path, device="cpu")
        np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-4)
    with pytest.raises(CheckpointError, match="has no chat template"):
        t2v_eval.load("llama-3.2-11b-vision-instruct", checkpoint=tmp_path, device="cpu")


def test_settings_of_the_image_processor(qwen, images):
    card = t2v_eval.load("qwen2-vl-7b", checkpoint=qwen, device="cpu")
    assert "image_settings={'pixels': [3136, 12845056]}" in card.id
    small, large = (
        {"size": {"shortest_edge": 784, "longest_edge": pixels}} for pixels in (1568, 12544)
    )
    few, many = load(qwen, image_settings=small), load(qwen, image_settings=large)
    assert few.id != many.id
    sizes = [len(scorer.preprocess(images[0]).row["pixel_values"]) for scorer in (few, many)]
    assert sizes == [8, 12]  # of 28 x 56 and 28 x 84 pixels, in patches of 14
    assert not np.allclose(few(images, TEXTS), many(images, TEXTS))
    custom = t2v_eval.load("qwen2-vl-7b", checkpoint=qwen, device="cpu", image_settings=small)
    assert len(custom.preprocess(images[0]).row["pixel_values"]) == 8
    with pytest.raises(InputError, match="Qwen2VLImageProcessor of this model has no tiles; it"):
        load(qwen, image_settings={"tiles": 4})


def test_a_window_that_config_lists_for_no_layer_is_that_of_all(images, tmp_path):
    """As Mistral, Mixtral and Phi-3 say it; it is shorter here than what texts begin with."""
    window = {"model_type": "mistral", "sliding_window": 9}
    llava(tmp_path, text={**TEXT, **window})
    packed, apart = load(tmp_path, share="packed"), load(tmp_path, share=False)
    assert packed.sharing_mode == "prefix shared, packed"
    np.testing.assert_allclose(packed(images, TEXTS), apart(images, TEXTS), rtol=1e-5)


def test_a_text_that_is_the_answer_is_scored_whole(qwen, images):
    first, whole = load(qwen, rule="first-token"), load(qwen, rule="answer")
    scores = first(images, TEXTS, template="visualgptscore")
    np.testing.assert_allclose(scores, whole(images, TEXTS, template="visualgptscore"), rtol=1e-6)
    assert not np.allclose(first(images, TEXTS), whole(images, TEXTS))
    message = first.with_template(template="visualgptscore").explain(images[0], "two dogs")
    assert len(message[0][0].tokens) > 2


def test_what_a_processor_needs_is_named(tmp_path, monkeypatch):
    CARDED["smolvlm"](tmp_path)
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(MissingPackageError, match="'num2words': pip install num2words"):
        load(tmp_path)
