"""Models whose code lies beside their weights: run where it is trusted, and as it says itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.tiny_vlm import tokenizer
from helpers.toy import draw_image
from safetensors.torch import save_file

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, MediaError, UnsupportedError
from t2v_eval.inputs.media import Video, open_media
from t2v_eval.inputs.template import wrapper
from t2v_eval.scoring.generation import Writing

TEXTS = ["cat", "the tall lighthouse stands next to the calm river " * 3, "two dogs", ""]
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
MODELING_FILE = Path(__file__).parents[2] / "own_code" / "modeling.py"
STD = (0.229, 0.224, 0.225)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<im_patch>", "<|image|>", "<image>", "<s>"]
SPECIAL += ["<|frames_end|>"]


@pytest.fixture(scope="module")
def images():
    return [draw_image(seed, size) for seed, size in enumerate([(40, 90), (80, 30)])]


@pytest.fixture
def own_code(tmp_path, monkeypatch):
    """Makes checkpoints of one of the tiny models whose code is their own."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))
    spec = importlib.util.spec_from_file_location("tiny_own_code", MODELING_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def make(
        architecture: str, processor: str = "", **facts
    ) -> tuple[Path, torch.nn.Module, object]:
        folder = tmp_path / f"{architecture}_checkpoint"
        folder.mkdir()
        words = tokenizer(SPECIAL, bos_token="<s>", eos_token="<|im_end|>", pad_token="<|im_end|>")
        facts = {n: words.convert_tokens_to_ids(token) for n, token in facts.items()}
        torch.manual_seed(0)
        model = getattr(module, architecture)(module.TinyConfig(vocab_size=len(words), **facts))
        with torch.no_grad():
            for value in model.parameters():
                value.normal_(std=0.5)
        save_file(model.state_dict(), folder / "model.safetensors", {"format": "pt"})
        model.config.save_pretrained(folder)
        words.save_pretrained(folder)
        auto = {"AutoConfig": "modeling.TinyConfig"}
        for kind in ("AutoModelForCausalLM", "AutoModelForImageTextToText"):
            auto[kind] = f"modeling.{architecture}"
        if processor:
            auto["AutoProcessor"] = f"modeling.{processor}"
            message = {"processor_class": processor, "auto_map": auto}
            (folder / "processor_config.json").write_text(json.dumps(message))
        config = json.loads((folder / "config.json").read_text())
        config |= {"auto_map": auto, "architectures": [architecture]}
        (folder / "config.json").write_text(json.dumps(config))
        shutil.copy(MODELING_FILE, folder)
        return folder, model.eval(), words

    return make, module


def frames_of(seed, count):
    return [draw_image(10 * seed + n, (60, 44)) for n in range(count)]


def yes_of(logits: torch.Tensor, words, answer: str) -> float:
    return float(logits[0, -1].softmax(-1)[words(answer, add_special_tokens=False).input_ids[0]])


def check_own_code(name, folder, by_hand, images):
    """That a card scores as the code itself does, once it is trusted, and not before."""
    text_out = r"pass `trust_remote_code=True` if you trust it"
    with pytest.raises(CheckpointError, match=text_out):
        t2v_eval.load(name, checkpoint=folder, device="cpu")
    trusted = {"checkpoint": folder, "device": "cpu", "trust_remote_code": True}
    scorer = t2v_eval.load(name, **trusted)
    question = scorer.template.question
    with torch.no_grad():
        expected = [[by_hand(i, question.replace("{}", text)) for text in TEXTS] for i in images]
    scores = scorer(images, TEXTS)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-9)
    assert len(np.unique(expected)) == 8
    message = scorer.explain(images[0], TEXTS[0])[0][0]
    assert message.score == pytest.approx(expected[0][0], rel=1e-5)
    assert len(scorer.generate(images[0], "What is this?", max_new_tokens=3)) == 1
    for more in (Writing(3, temperature=1.0), Writing(3, temperature=1.0, passes=2)):
        with pytest.raises(UnsupportedError, match="writes the likeliest text alone"):
            list(scorer.write_passes([open_media(images[0])], ["What is this?"], more))
    whole = scorer(images, TEXTS, template="visualgptscore")
    assert whole.isfinite().all()
    before = scorer.id
    (folder / "modeling.py").write_text(MODELING_FILE.read_text() + "\n# another version\n")
    assert t2v_eval.load(name, **trusted).id != before


def test_molmo_s_own_code(own_code, images):
    make, module = own_code
    folder, model, words = make("MolmoForCausalLM", "MolmoProcessor")

    def by_hand(image, question):
        result = module.MolmoProcessor(words).process(text=question, images=[image])
        logits = model(**{name: value[None] for name, value in result.items()}).logits
        return yes_of(logits, words, " Yes")

    check_own_code("molmo-7b-d-0924", folder, by_hand, images)


def test_mplug_owl3_s_own_code(own_code, images):
    make, module = own_code
    folder, model, words = make("mPLUGOwl3Model")

    def by_hand(seen, question):
        moving = isinstance(seen, list)
        content = f"<|video|>\n{question}" if moving else f"<|image|>\n{question}"
        text_out = [{"role": "user", "content": content}, {"role": "assistant", "content": ""}]
        arguments = {"videos": [seen]} if moving else {"images": [seen]}
        return yes_of(
            model(**module.Owl3Processor(words)(text_out, **arguments)).logits, words, "Yes"
        )

    check_own_code("mplug-owl3-7b", folder, by_hand, images)
    videos = [frames_of(1, 2), frames_of(2, 5), frames_of(3, 40)]
    scores = check_videos("mplug-owl3-7b", folder, videos, fps=2.0)
    # Every second frame, and of twenty of these the middles of sixteen parts.
    middles = [2 * n for n in (0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16, 18, 19)]
    for row, frames, requested in zip(scores, videos, ([0], [0, 2, 4], middles), strict=True):
        with torch.no_grad():
            media_inputs = [frames[n] for n in requested]
            expected = [by_hand(media_inputs, QUESTION.replace("{}", text)) for text in TEXTS]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-9)


def test_xcomposer_s_own_code(own_code, images):
    make, module = own_code
    folder, model, words = make("InternLMXComposer2ForCausalLM")

    def by_hand(image, question):
        text = wrapper("xcomposer-2.5").replace("{}", question)
        before, after = (
            words(part, return_tensors="pt").input_ids for part in text.split("<image>")
        )
        features = model.look(module.colours(image.resize((24, 24))))[None]
        embedded = torch.cat([model.words(before), 2 * features, model.words(after)], 1)
        return yes_of(model.read(embedded).logits, words, "Yes")

    check_own_code("internlmxcomposer25-7b", folder, by_hand, images)


def test_internvideo2_s_own_code(own_code, images):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

    make, _ = own_code
    folder, model, words = make("InternVideo2_VideoChat2")
    prepare = Compose(
        [
            Resize(224, interpolation=InterpolationMode.BICUBIC),
            CenterCrop(224),
            Normalize((0.485, 0.456, 0.406), STD),
        ]
    )

    def by_hand(seen, question):
        frames = np.stack(
            [np.asarray(item) for item in (seen if isinstance(seen, list) else [seen])]
        )
        pixels = prepare(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)
        text = "<Video>|</Video>[/INST] [INST] " + question + " [/INST]"
        before, after = (
            words(part, return_tensors="pt").input_ids for part in f"[INST] {text}".split("|", 1)
        )
        colour = (model.queries + model.lm.look(model.colour(pixels)))[None]
        embedded = torch.cat([model.lm.words(before), colour, model.lm.words(after)], 1)
        return yes_of(model.lm.read(embedded).logits, words, "Yes")

    check_own_code("internvideo2-chat-8b", folder, by_hand, images)
    videos = [frames_of(1, 1), frames_of(2, 3), frames_of(3, 8), frames_of(4, 30)]
    scores = check_videos("internvideo2-chat-8b", folder, videos, fps=2.0)
    for row, frames in zip(scores, videos, strict=True):
        part = (len(frames) - 1) / 8
        middles = [frames[int(part / 2) + int(np.round(part * k))] for k in range(8)]
        # Of just eight, t2v_metrics shows one twice and the last never.
        media_inputs = frames if len(frames) == 8 else middles
        with torch.no_grad():
            expected = [by_hand(media_inputs, QUESTION.replace("{}", text)) for text in TEXTS]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-9)


def test_internvideo2_s_own_code_in_high_definition(own_code, images):
    """As t2v_metrics prepares a video: two squares of it beside each other, and then the whole."""
    make, _ = own_code
    folder, model, words = make("InternVideo2_VideoChat2")
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), STD))

    def by_hand(seen, question):
        frames = np.stack(
            [np.asarray(item) for item in (seen if isinstance(seen, list) else [seen])]
        )
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
        large = torch.nn.functional.interpolate(pixels, (224, 448), mode="bicubic")
        large = (large / 255 - mean) / std
        whole = torch.nn.functional.interpolate(large, (224, 224), mode="bicubic")
        views = [large[..., :224], large[..., 224:], whole]
        texts = ["[INST] <Video>", "</Video><Video>", "</Video><Video>"]
        parts = []
        for text, view in zip(texts, views, strict=True):
            parts.append(model.lm.words(words(text, return_tensors="pt").input_ids))
            parts.append((model.queries + model.lm.look(model.colour(view)))[None])
        tokens = f"</Video>[/INST] [INST] {question} [/INST]"
        parts.append(model.lm.words(words(tokens, return_tensors="pt").input_ids))
        return yes_of(model.lm.read(torch.cat(parts, 1)).logits, words, "Yes")

    name = "internvideo2-chat-8b-hd"
    check_own_code(name, folder, by_hand, images)
    videos = [frames_of(1, 8), frames_of(2, 17)]
    scores = check_videos(name, folder, videos, fps=2.0)
    for row, frames, requested in zip(scores, videos, (range(8), range(1, 17, 2)), strict=True):
        with torch.no_grad():
            media_inputs = [frames[n] for n in requested]
            expected = [by_hand(media_inputs, QUESTION.replace("{}", text)) for text in TEXTS]
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-9)
    trusted = {"checkpoint": folder, "device": "cpu", "trust_remote_code": True}
    for wrong in ({"tiles": 4}, {"grid": 3}, {"grid": [2, 0]}, {"grid": [1, 2], "tiles": 4}):
        with pytest.raises(InputError, match=r"use grid=\[columns, rows\], two whole numbers"):
            t2v_eval.load(name, image_settings=wrong, **trusted)


def check_videos(name, folder, videos, fps):
    """Scores of videos, after what holds of all models that are shown them."""
    trusted = {"checkpoint": folder, "device": "cpu", "trust_remote_code": True}
    scorer = t2v_eval.load(name, **trusted)
    media = [Video.of(frames, fps=fps) for frames in videos]
    scores = scorer(media, TEXTS)
    assert len(scores.unique()) == len(videos) * len(TEXTS)
    backwards = scorer(Video.of(videos[-1][::-1], fps=fps), "cat")
    assert float(backwards) != float(scores[-1, 0])
    assert len(scorer.generate(media[0], "What is this?", max_new_tokens=3)) == 1
    message = scorer.explain(media[-1], TEXTS[0])[0][0]
    assert message.score == pytest.approx(float(scores[-1, 0]), rel=1e-5)
    few = t2v_eval.load(name, frames=2, **trusted)
    assert few.id != scorer.id and few(media[-1], "cat").isfinite().all()
    return scores


@pytest.mark.parametrize(
    ("name", "architecture", "processor", "reason"),
    [
        ("molmo-7b-d-0924", "MolmoForCausalLM", "MolmoProcessor", "questions about one image"),
        ("internlmxcomposer25-7b", "InternLMXComposer2ForCausalLM", "", "into one image"),
    ],
)
def test_own_code_that_is_shown_images_alone(own_code, name, architecture, processor, reason):
    make, _ = own_code
    folder, *_ = make(architecture, processor)
    trusted = {"checkpoint": folder, "device": "cpu", "trust_remote_code": True}
    scorer = t2v_eval.load(name, **trusted)
    with pytest.raises(MediaError, match=f"is a video, and this model takes none: .*{reason}"):
        scorer(Video.of(frames_of(1, 2)), "cat")
    with pytest.raises(InputError, match=f"`frames=4`: this model takes no videos: .*{reason}"):
        t2v_eval.load(name, frames=4, **trusted)
    with pytest.raises(InputError, match="`image_settings={'grid': .*this model has none"):
        t2v_eval.load(name, image_settings={"grid": [2, 1]}, **trusted)


def test_own_code_of_transformers_own_kind(own_code, images):
    """With AutoModelForImageTextToText, AutoProcessor and a chat template, under any name."""
    make, _ = own_code
    folder, model, words = make(
        "PlainForConditionalGeneration", "PlainProcessor", image_token_id="<image>"
    )
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{% for c in m.content %}"
        "{% if c.type == 'image' %}<image>{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>"
        "{% endfor %}"
    )
    with pytest.raises(CheckpointError, match="pass `trust_remote_code=True` if you trust it"):
        t2v_eval.load(f"hf-vlm:{folder}")
    scorer = t2v_eval.load(
        f"hf-vlm:{folder}", trust_remote_code=True, rule="first-token", device="cpu"
    )

    def by_hand(image, text):
        tokens = f"<|im_start|><image>{QUESTION.replace('{}', text)}<|im_end|>"
        ids = words(tokens.replace("<image>", "<image>" * 4), return_tensors="pt").input_ids
        colour = np.asarray(image.resize((2, 2)), np.float32).reshape(1, 4, 3) / 255
        logits = model(ids, pixel_values=torch.from_numpy(colour)).logits
        return yes_of(logits, words, "Yes")

    with torch.no_grad():
        expected = [[by_hand(image, text) for text in TEXTS] for image in images]
    np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-5)


def test_own_code_that_fails_on_videos_still_scores_images(own_code, images):
    make, _ = own_code
    folder, *_ = make("mPLUGOwl3Model")
    trusted = {"checkpoint": folder, "device": "cpu", "trust_remote_code": True}
    expected = t2v_eval.load("mplug-owl3-7b", **trusted)(images, TEXTS)
    code = MODELING_FILE.read_text().replace(
        "assert images is None", "raise ValueError('no videos')"
    )
    (folder / "modeling.py").write_text(code)
    scorer = t2v_eval.load("mplug-owl3-7b", **trusted)
    np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-6)
    with pytest.raises(MediaError, match="takes none: several images at once fail: no videos"):
        scorer(Video.of(frames_of(1, 2)), "cat")


def test_own_code_that_does_not_run_is_said(own_code):
    make, _ = own_code
    folder, *_ = make("mPLUGOwl3Model")
    (folder / "modeling.py").write_text("from transformers import Removed\n")
    with pytest.raises(CheckpointError, match="does not run with transformers 5.*Removed"):
        t2v_eval.load("mplug-owl3-7b", checkpoint=folder, trust_remote_code=True)
