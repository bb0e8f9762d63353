"""Videos shown to checkpoints in the layouts of their authors, against what their code does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.tiny_vlm import TINY
from helpers.toy import draw_image
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

import t2v_eval
from t2v_eval.errors import CheckpointError
from t2v_eval.inputs.media import Video
from t2v_eval.inputs.video import Clip, clip

INTERNVL = Path(__file__).parents[2] / "goldens" / "vqa" / "internvl"
TEXTS = ["cat", "the tall lighthouse stands next to the calm river", ""]
QWEN = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
END = "<|im_end|>\n<|im_start|>assistant\n"
IMAGE = 'Does this image show "{}"? Answer the question with Yes or No'
VIDEO = 'Does this video show "{}"? Answer the question with Yes or No.'
FIGURE = 'Does this figure show "{}"? Please answer Yes or No.'


def frames_of(seed: int, count: int, size=(30, 40)) -> list[Image.Image]:
    return [draw_image(100 * seed + n, size) for n in range(count)]


def as_shown(frames: list[Image.Image], fps: float = 2.0) -> Clip:
    return Clip(frames, [*range(len(frames))], len(frames), fps)


def stretched(frames: list[Image.Image], side: int, mean, std) -> torch.Tensor:
    """What the authors' readers of LLaVA and InternVL make of frames, with Pillow."""
    small = [np.asarray(f.resize((side, side), Image.Resampling.BICUBIC)) for f in frames]
    pixels = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(of).view(3, 1, 1) for of in (mean, std))
    return (pixels - mean) / std


def shared_as_apart(name: str, folder: Path, media, **options) -> np.ndarray:
    whole, apart = (
        t2v_eval.load(name, checkpoint=folder, device="cpu", share=share, **options)
        for share in (True, False)
    )
    scores = apart(media, TEXTS)
    np.testing.assert_allclose(whole(media, TEXTS), scores, rtol=1e-5, atol=1e-9)
    assert len(scores.unique()) == scores.numel()
    return scores.numpy()


SIDE = 35  # five patches, which pooling by two does not divide


@pytest.fixture(scope="module")
def onevision(tmp_path_factory):
    """A small LLaVA-OneVision with an odd number of patches, and its tokenizer."""
    native = tmp_path_factory.mktemp("native")
    TINY["llava_onevision"](native)
    message = json.loads((native / "config.json").read_text())
    message["vision_config"]["image_size"] = SIDE
    message["image_grid_pinpoints"] = [[SIDE, SIDE], [SIDE, 2 * SIDE]]
    torch.manual_seed(0)
    result = LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig(**message)).eval()
    torch.nn.init.normal_(result.model.image_newline)
    return result, AutoTokenizer.from_pretrained(native)


@pytest.fixture
def llava(onevision, tmp_path):
    """Writes it in the layout of its authors, with these facts in its config.json."""

    def write(**facts) -> Path:
        model, words = onevision
        config, folder, tower = model.config, tmp_path / "llava", tmp_path / "siglip"
        folder.mkdir(), tower.mkdir()
        result = {}
        for name, tensor in model.state_dict().items():
            name = name.replace("model.vision_tower.", "model.vision_tower.vision_tower.")
            name = name.replace(
                "vision_tower.vision_tower.", "vision_tower.vision_tower.vision_model."
            )
            name = name.replace("language_model.", "").replace("multi_modal_", "mm_")
            result[name.replace("linear_1", "0").replace("linear_2", "2")] = tensor.contiguous()
        save_file(result, folder / "model.safetensors")
        names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
        names += ("num_attention_heads", "num_key_value_heads", "rms_norm_eps")
        flat = {name: getattr(config.text_config, name) for name in names}
        flat |= {"max_position_embeddings": 900, "rope_theta": 10000.0}
        flat |= {"architectures": ["LlavaQwenForCausalLM"], "tie_word_embeddings": False}
        flat |= {"mm_projector_type": "mlp2x_gelu", "mm_patch_merge_type": "spatial_unpad"}
        flat |= {"image_aspect_ratio": "anyres_max_9", "mm_vision_tower": str(tower)}
        flat |= {"image_grid_pinpoints": config.image_grid_pinpoints, **facts}
        (folder / "config.json").write_text(json.dumps(flat))
        vision = config.vision_config.to_dict()
        vision |= {"num_hidden_layers": 3, "vision_use_head": True}  # one more than is read
        (tower / "config.json").write_text(json.dumps(vision))
        half = [0.5, 0.5, 0.5]
        LlavaOnevisionImageProcessorPil(image_mean=half, image_std=half).save_pretrained(tower)
        words.save_pretrained(folder)
        return folder

    return write


def pooled(rows: torch.Tensor, how: str) -> torch.Tensor:
    """(D, 5, 5) by two; bilinear are three places a side, whose centres are 5/3 apart."""
    if how in ("average", "max"):
        parts = rows[:, :4, :4].unfold(1, 2, 2).unfold(2, 2, 2)
        return parts.mean((-1, -2)) if how == "average" else parts.amax((-1, -2))
    weights = torch.zeros(3, 5)
    for n in range(3):
        place = (n + 0.5) * 5 / 3 - 0.5
        low = int(place)
        weights[n, low] += 1 - (place - low)
        if place > low:
            weights[n, low + 1] += place - low
    return torch.einsum("ah,dhw,bw->dab", weights, rows, weights)


@torch.no_grad()
def llava_by_hand(model, words, frames, text: str, where: str, how: str) -> float:
    """As `prepare_inputs_labels_for_multimodal` of LLaVA-VL/LLaVA-NeXT, and t2v_metrics' prompt."""
    pixels = stretched(frames, SIDE, [0.5] * 3, [0.5] * 3)
    features = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
    newline, tokens = model.model.image_newline, []
    for frame in model.model.multi_modal_projector(features):
        for row in pooled(frame.T.unflatten(1, (5, 5)), how).permute(1, 2, 0):
            tokens += [*row] + ([newline] if where == "grid" else [])
        tokens += [newline] if where == "frame" else []
    tokens += [newline] if where == "one_token" else []
    times = ",".join(f"{n / 2:.2f}s" for n in range(len(frames)))
    messages = (
        f"\nThe video lasts for {len(frames) / 2:.2f} seconds, and {len(frames)} frames are "
        f"uniformly sampled from it. These frames are located at {times}.Please answer the "
        f"following questions related to this video.\n{IMAGE.replace('{}', text)}{END}"
    )
    embed = model.get_input_embeddings()
    before, after = (embed(words(part, return_tensors="pt").input_ids) for part in (QWEN, messages))
    whole = torch.cat([before, torch.stack(tokens)[None], after], 1)
    states = model.model.language_model(inputs_embeds=whole).last_hidden_state[0, -1]
    yes = words("Yes", add_special_tokens=False).input_ids[0]
    return float(model.lm_head(states).softmax(-1)[yes])


@pytest.mark.parametrize(
    ("where", "how"),
    [("grid", "bilinear"), ("frame", "average"), ("one_token", "max"), ("no_token", "bilinear")],
)
def test_llava_video_reads_a_video_as_its_authors(onevision, llava, where, how):
    folder = llava(mm_newline_position=where, mm_spatial_pool_mode=how)
    scorer = t2v_eval.load("llava-video-7b", checkpoint=folder, device="cpu")
    videos = [frames_of(seed, 3 + seed, (SIDE, SIDE)) for seed in range(2)]
    expected = [[llava_by_hand(*onevision, v, text, where, how) for text in TEXTS] for v in videos]
    scores = scorer([Video.of(frames, fps=2.0) for frames in videos], TEXTS)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert len(np.unique(expected)) == 6


def test_llava_onevision_of_its_authors_is_that_of_transformers(onevision, llava):
    """Where config.json says nothing of videos."""
    model, words = onevision
    scorer = t2v_eval.load("llava-onevision-qwen2-7b-ov", checkpoint=llava(), device="cpu")
    media_inputs = as_shown(frames_of(0, 4))
    row = scorer.prompt_builder.video_inputs(media_inputs).row
    with torch.no_grad():
        reference, actual = (
            network.get_video_features(row["pixel_values_videos"]).pooler_output
            for network in (model.model, scorer.network.model)
        )
    torch.testing.assert_close(actual, reference)
    assert (
        actual.shape[1]
        == 4 * 9 + 1
        == int((row["input_ids"] == words("<video>").input_ids[0]).sum())
    )


def test_llava_sees_frames_as_its_authors_prepare_them(llava):
    scorer = t2v_eval.load("llava-video-7b", checkpoint=llava(), device="cpu")
    for size in ((30, 40), (200, 90)):
        media_inputs = as_shown(frames_of(0, 3, size))
        result = scorer.prompt_builder.video_inputs(media_inputs).row["pixel_values_videos"][0]
        torch.testing.assert_close(
            result, stretched(media_inputs.frames, SIDE, [0.5] * 3, [0.5] * 3)
        )


def test_llava_shares_what_texts_of_a_video_have_in_common(llava):
    media = [Video.of(frames_of(seed, 2 + seed), 2.0) for seed in range(2)] + [
        draw_image(0, (40, 70))
    ]
    shared_as_apart("llava-video-7b", llava(mm_newline_position="grid"), media)


def test_what_nobody_knows_of_videos_is_named(llava):
    folder = llava(mm_newline_position="column")
    with pytest.raises(CheckpointError, match=r"mm_newline_position='column'; use grid or frame"):
        t2v_eval.load("llava-video-7b", checkpoint=folder, device="cpu")


WRAPPED = {
    "internvl2.5-1b": (
        "<|im_start|>system\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位"
        "联合开发的多模态大语言模型。<|im_end|>\n<|im_start|>user\n{}" + END
    ),
    "internvl2-8b": (
        "<|im_start|>system\n你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，"
        "英文名叫InternVL, 是一个有用无害的人工智能助手。<|im_end|><|im_start|>user\n"
        "{}<|im_end|><|im_start|>assistant\n"
    ),
    "internvl2-4b": (
        "<|system|>\n你是由上海人工智能实验室联合商汤科技开发的书生多模态大模型，英文名叫InternVL, "
        "是一个有用无害的人工智能助手。<|end|><|user|>\n{}<|end|><|assistant|>\n"
    ),
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("name", WRAPPED)
def test_internvl_reads_a_video_as_its_authors(name):
    """Frame by frame in one tile each, with `Frame1: ` and so on before them."""
    scorer = t2v_eval.load(name, checkpoint=INTERNVL / name, device="cpu")
    words = AutoTokenizer.from_pretrained(INTERNVL / name)
    frames = frames_of(0, 3, (28, 28))
    tile = f"<img>{'<IMG_CONTEXT>' * 4}</img>"
    seen = "".join(f"Frame{n}: {tile}\n" for n in (1, 2, 3))
    pixels = stretched(frames, 28, MEAN, STD)
    yes = words.encode("Yes", add_special_tokens=False)[0]
    expected = []
    media_inputs = scorer.prompt_builder.video_inputs(as_shown(frames))
    for text in TEXTS:
        query = WRAPPED[name].replace("{}", seen + FIGURE.replace("{}", text))
        ids = words(query, return_tensors="pt").input_ids
        prompt_tokens = scorer.prompt_builder.tokenize(FIGURE.replace("{}", text), "Yes")
        assert [*media_inputs.row["input_ids"][0].tolist(), *prompt_tokens.prompt] == ids[
            0
        ].tolist()
        with torch.no_grad():
            logits = scorer.network(input_ids=ids, pixel_values=pixels).logits[0, -1]
        expected.append(float(logits[: scorer.prompt_builder.vocab_size].softmax(-1)[yes]))
    scores = scorer(Video.of(frames), TEXTS)[0]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    large = as_shown(frames_of(1, 2, (90, 120)))
    result = scorer.prompt_builder.video_inputs(large).row["pixel_values"]
    torch.testing.assert_close(result, stretched(large.frames, 28, MEAN, STD))


@pytest.mark.parametrize("name", WRAPPED)
def test_internvl_shares_what_texts_of_a_video_have_in_common(name):
    media = [Video.of(frames_of(seed, 2 + seed)) for seed in range(2)] + [draw_image(0, (40, 70))]
    shared_as_apart(name, INTERNVL / name, media)


@pytest.fixture(scope="module")
def tarsier(tmp_path_factory):
    """A small Qwen2-VL and its tokenizer, and the same in the layout of Tarsier2's authors."""
    native, folder = (tmp_path_factory.mktemp(name) for name in ("native", "tarsier"))
    TINY["qwen2_vl"](native)
    model = Qwen2VLForConditionalGeneration.from_pretrained(native).eval()
    result = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("model.visual.", "vision_tower.")
        name = name.replace("model.language_model.", "language_model.model.")
        result[name.replace("lm_head", "language_model.lm_head")] = tensor.contiguous()
    save_file(result, folder / "model.safetensors")
    text, vision = model.config.text_config.to_dict(), model.config.vision_config.to_dict()
    rope = text.pop("rope_parameters")
    text |= {"model_type": "qwen2_vl", "rope_theta": rope["rope_theta"]}
    text |= {"rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}
    flat = {"architectures": ["TarsierForConditionalGeneration"], "text_config": text}
    flat |= {"vision_config": vision, "projection_head": None}
    (folder / "config.json").write_text(json.dumps(flat))
    words = AutoTokenizer.from_pretrained(native)
    words.save_pretrained(folder)
    return model, words, folder


@torch.no_grad()
def tarsier_by_hand(model, words, frames, text: str) -> float:
    """As `TarsierForConditionalGeneration` of bytedance/tarsier: each frame is seen by itself, all
    stand in one place, a step of time each, and text goes on behind the largest place."""
    seen = Qwen2VLImageProcessorPil(do_resize=False)(frames, return_tensors="pt")
    grids = seen["image_grid_thw"]
    features = torch.cat(model.model.get_image_features(seen["pixel_values"], grids).pooler_output)
    before = words(f"{QWEN}<|vision_start|>").input_ids
    after = words(f"<|vision_end|>{VIDEO.replace('{}', text)}{END}").input_ids
    embed = model.get_input_embeddings()
    parts = [embed(torch.tensor(before)), features, embed(torch.tensor(after))]
    start, (high, wide) = len(before), (int(n) // 2 for n in grids[0, 1:])
    steps = torch.cartesian_prod(*map(torch.arange, (len(frames), high, wide))).T + start
    behind = int(steps.max()) + 1 + torch.arange(len(after))
    places = torch.cat([torch.arange(start).expand(3, -1), steps, behind.expand(3, -1)], 1)
    states = model.model.language_model(
        inputs_embeds=torch.cat(parts)[None], position_ids=places[:, None]
    ).last_hidden_state[0, -1]
    yes = words("Yes", add_special_tokens=False).input_ids[0]
    return float(model.lm_head(states).softmax(-1)[yes])


def test_tarsier_reads_a_video_as_its_authors(tarsier):
    """Also where it is longer than its frames are high and wide."""
    model, words, folder = tarsier
    scorer = t2v_eval.load("tarsier2-7b", checkpoint=folder, device="cpu")
    videos = [frames_of(0, 5, (84, 56)), frames_of(1, 16, (56, 56))]
    expected = [[tarsier_by_hand(model, words, v, text) for text in TEXTS] for v in videos]
    media = [Video.of(frames) for frames in videos]
    np.testing.assert_allclose(scorer(media, TEXTS), expected, rtol=1e-4)
    assert len(np.unique(expected)) == 6
    shared_as_apart("tarsier2-7b", folder, [*media, draw_image(0, (60, 90))])


def test_tarsier_resizes_frames_as_its_authors(tarsier):
    """Into the limit of pixels first; then whole patches may pass it."""
    scorer = t2v_eval.load("tarsier2-7b", checkpoint=tarsier[2], device="cpu")
    frames = frames_of(0, 2, (960, 720))
    row = scorer.prompt_builder.video_inputs(as_shown(frames)).row
    assert row["video_grid_thw"].tolist() == [[2, 42, 56]] and 588 * 784 > 460800
    resized = [f.resize((783, 587)).resize((784, 588)) for f in frames]
    reference = Qwen2VLImageProcessorPil(do_resize=False)(resized, return_tensors="pt")
    torch.testing.assert_close(row["pixel_values_videos"], reference["pixel_values"])
    small = scorer.prompt_builder.video_inputs(as_shown(frames_of(0, 2, (300, 200)))).row
    assert small["video_grid_thw"].tolist() == [[2, 14, 22]]


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl"])
def test_text_stands_behind_a_video(kind, tmp_path):
    """However long it is, and so that the same is read with and without what texts share."""
    TINY[kind](tmp_path)
    media = [Video.of(frames_of(0, 40, (28, 28))), draw_image(0, (60, 90))]
    matches_found, small = [], {"shortest_edge": 784, "longest_edge": 784}
    for share in ("packed", "repeated", "vision", False):
        options = {"frames": 40, "video_settings": {"size": small}}
        scorer = t2v_eval.load(f"hf-vlm:{tmp_path}", device="cpu", share=share, **options)
        matches_found.append(scorer(media, TEXTS))
    for scores in matches_found[:-1]:
        np.testing.assert_allclose(scores, matches_found[-1], rtol=1e-5)
    kinds = torch.tensor([[0, 0, *[2] * 20, 0, 0], [0, 2, *[0] * 22]])
    grids = torch.tensor([[20, 2, 2], [1, 2, 2]])
    message = {"second_per_grid_ts": torch.tensor([1.0, 1.0])} if "5" in kind else {}
    places, shift = scorer.network.base_model.get_rope_index(
        torch.zeros_like(kinds), kinds, video_grid_thw=grids, **message
    )
    last = int(places[0, 0, 21])
    assert last > 2 and places[:, 0, 22:].tolist() == [[last + 1, last + 2]] * 3
    assert places[:, 1].tolist() == [[*range(24)]] * 3
    assert shift.tolist() == [[last + 3 - 24], [0]]


def segments(total: int) -> list[int]:
    """Frames of InternVL's `load_video`."""
    part = float(total - 1) / 16
    return [int(part / 2 + np.round(part * n)) for n in range(16)]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("llava-video-7b", lambda total: np.linspace(0, total - 1, 64, dtype=int).tolist()),
        ("internvl2.5-1b", segments),
        ("tarsier2-7b", lambda total: [round(n * (total - 1) / 15) for n in range(16)]),
    ],
)
def test_cards_show_the_frames_that_the_original_shows(name, chosen, llava, tarsier):
    folder = INTERNVL / name
    if not folder.exists():
        folder = tarsier[2] if "tarsier" in name else llava()
    scorer = t2v_eval.load(name, checkpoint=folder, device="cpu")
    for total in (64, 65, 100, 301, 1000):
        places = scorer.prompt_builder.sampling.indices(total, 30.0)
        assert places == chosen(total)
    few = clip(Video.of(frames_of(0, 5)), scorer.prompt_builder.sampling)
    assert few.places == [0, 1, 2, 3, 4]
