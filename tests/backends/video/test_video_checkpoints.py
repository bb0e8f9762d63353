"""Files of video-text models: every weight is used or named, and damage is an error."""

from __future__ import annotations

import json

import pytest
import torch
from helpers.models.video import CLIPS, TEXTS, make_video_model

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError

NAMES = {
    "umt": ["umt-b16-25m-clip", "umt-b16-25m-itm"],
    "internvideo2_stage2": ["internvideo2-1b-stage2-clip", "internvideo2-1b-stage2-itm"],
    "internvideo2_clip": ["internvideo2-clip-1b"],
    "internvideo2_clip_small": ["internvideo2-clip-b14"],
    "viclip": ["viclip-l-14"],
    "languagebind_video": ["languagebind-video-v1.5-ft"],
    "languagebind_video_lora": ["languagebind-video"],
}
LORA = "vision_model.encoder.base_model.model.layers.1.temporal_attn.v_proj.lora_B.default.weight"
# A weight of each file that its network cannot do without.
NEEDED = [
    ("umt", "umt_tiny.pth", "vision_encoder.encoder.blocks.1.attn.q_bias"),
    ("umt", "umt_tiny.pth", "text_encoder.bert.encoder.layer.2.crossattention.self.value.weight"),
    ("internvideo2_stage2", "internvideo2_stage2_tiny.pth", "vision_encoder.blocks.0.ls1.gamma"),
    ("internvideo2_clip", "InternVideo2_Stage2_tiny.pth", "vision_encoder.cls_token"),
    ("internvideo2_clip", "internvl_c_tiny.pth", "transformer.layers.1.self_attn.k_proj.weight"),
    (
        "internvideo2_clip",
        "internvl_c_tiny.pth",
        "transformer.layers.0.self_attn.v_proj.lora_B.default.weight",
    ),
    ("internvideo2_clip_small", "B14_dist_tiny.pth", "pos_embed"),
    ("internvideo2_clip_small", "mobileclip_tiny.pt", "text_encoder.projection_layer"),
    ("internvideo2_clip_small", "InternVideo2-CLIP-small_tiny.pth", "vision_align.1.bias"),
    ("viclip", "ViClip-tiny.pth", "vision_encoder.temporal_positional_embedding"),
    ("viclip", "ViClip-tiny.pth", "text_encoder.transformer.resblocks.1.mlp.c_proj.bias"),
    (
        "languagebind_video",
        "pytorch_model.bin",
        "vision_model.encoder.layers.1.temporal_embedding",
    ),
    ("languagebind_video_lora", "pytorch_model.bin", LORA),
]
# The file of each model to which a weight is added that no network has.
EXTENDED = [
    ("umt", "umt_tiny.pth", "vision_encoder.encoder.blocks.0.attn.k_bias"),
    ("internvideo2_stage2", "internvideo2_stage2_tiny.pth", "vision_encoder.head.weight"),
    ("internvideo2_clip", "InternVideo2-CLIP_tiny.pth", "vision_encoder.head.weight"),
    ("internvideo2_clip_small", "mobileclip_tiny.pt", "text_encoder.head.weight"),
    ("viclip", "ViClip-tiny.pth", "text_encoder.head.weight"),
    ("languagebind_video", "pytorch_model.bin", "vision_model.head.weight"),
]
pytestmark = pytest.mark.filterwarnings("ignore:.*longer than the model reads")


def load(name, folder, **options):
    return t2v_eval.load(name, checkpoint=folder, device="cpu", **options)


@pytest.mark.parametrize(("model", "file", "weight"), NEEDED)
def test_a_missing_weight_is_named(model, file, weight, tmp_path):
    def drop(name, tensors):
        return {n: t for n, t in tensors.items() if (name, n) != (file, weight)}

    make_video_model(model, tmp_path, drop)
    with pytest.raises(CheckpointError, match=f"lacks weights .*{weight.split('.')[-1]}"):
        load(NAMES[model][0], tmp_path)


@pytest.mark.parametrize(("model", "file", "weight"), EXTENDED)
def test_an_unknown_weight_is_named(model, file, weight, tmp_path):
    def add(name, tensors):
        return tensors | ({weight: torch.ones(3)} if name == file else {})

    make_video_model(model, tmp_path, add)
    with pytest.raises(
        CheckpointError, match=r"has the unexpected weights .*(k_bias|head\.weight)"
    ):
        load(NAMES[model][0], tmp_path)


@pytest.mark.parametrize("model", NAMES)
def test_weights_of_another_shape_are_refused(model, tmp_path):
    def widen(_, tensors):
        name = next(n for n in tensors if n.endswith(("norm1.bias", "mlp.fc1.bias", "c_fc.bias")))
        return tensors | {name: torch.ones(7)} if name else tensors

    def change(name, tensors):
        has = any(n.endswith(("norm1.bias", "mlp.fc1.bias", "c_fc.bias")) for n in tensors)
        return widen(name, tensors) if has else tensors

    make_video_model(model, tmp_path, change)
    with pytest.raises(CheckpointError, match=r"is of shape \(7,\) instead of"):
        load(NAMES[model][0], tmp_path)


def test_fine_tuned_weights_of_umt_have_no_bert_in_their_names(tmp_path):
    def rename(_, tensors):
        return {n.replace("text_encoder.bert.", "text_encoder."): t for n, t in tensors.items()}

    plain = make_video_model("umt", tmp_path / "plain")
    renamed = make_video_model("umt", tmp_path / "renamed", rename)
    name = NAMES["umt"][1]
    assert torch.equal(*(load(name, folder)(CLIPS[2], TEXTS) for folder in (plain, renamed)))


def test_lora_of_newer_versions_of_peft_is_merged_too(tmp_path):
    def rename(_, tensors):
        return {
            n.replace("q_proj.weight", "q_proj.base_layer.weight"): t for n, t in tensors.items()
        }

    plain = make_video_model("internvideo2_clip", tmp_path / "plain")
    renamed = make_video_model("internvideo2_clip", tmp_path / "renamed", rename)
    name = NAMES["internvideo2_clip"][0]
    assert torch.equal(*(load(name, folder)(CLIPS[0], TEXTS) for folder in (plain, renamed)))


def test_files_by_options_score_as_those_that_the_config_names(tmp_path):
    folder = make_video_model("internvideo2_clip_small", tmp_path / "together")
    name = NAMES["internvideo2_clip_small"][0]
    expected = load(name, folder)(CLIPS[0], TEXTS)
    config = json.loads((folder / "config.json").read_text())
    encoder = config["model"]["vision_encoder"]
    for key in ("vision_ckpt_path", "text_ckpt_path", "extra_ckpt_path", "text_encoder"):
        del config["model"][key]
    (folder / "config.json").write_text(json.dumps(config))
    others = {
        "vision": str(folder / "B14_dist_tiny.pth"),
        "text": str(folder / "mobileclip_tiny.pt"),
        "sizes": {"text_heads": 4, "heads": encoder["num_heads"]},
    }
    with pytest.raises(CheckpointError, match="expected one file of weights .* found B14_dist"):
        load(name, folder, **others)
    scorer = load(name, folder / "InternVideo2-CLIP-small_tiny.pth", **others)
    assert torch.equal(scorer(CLIPS[0], TEXTS), expected)


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    for key, value in changes.items():
        place, *inner, last = ["model", *key.split("__")]
        table = config[place]
        for part in inner:
            table = table[part]
        table[last] = value
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("umt", {"vision_encoder__encoder_num_heads": 5}, "48 cannot be split into the 5 heads"),
        ("umt", {"vision_encoder__encoder_num_heads": "4"}, "encoder_num_heads is '4'; it is a"),
        ("umt", {"vision_encoder__img_size": 0}, "img_size is 0; it is a whole number of 1"),
        ("umt", {"text_encoder__config": "../bert.json"}, "'../bert.json', which is not beside it"),
        ("umt", {"text_encoder__config": "bert/none.json"}, "bert/none.json, which is not there"),
        ("internvideo2_stage2", {"vision_encoder__img_size": 126}, "257 positions, which are not"),
        ("internvideo2_clip", {"vision_ckpt_path": "/etc/passwd"}, "'/etc/passwd', which is not"),
        ("internvideo2_clip", {"text_ckpt_path": "gone.pth"}, "gone.pth, which is not there"),
        ("internvideo2_clip", {"tokenizer_path": "none"}, "none has no config.json of LLaMA"),
        ("internvideo2_clip_small", {"text_encoder__config": "config.json"}, "of MobileCLIP-B"),
    ],
)
def test_a_config_that_does_not_fit_is_named(model, changes, message, tmp_path):
    make_video_model(model, tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load(NAMES[model][0], tmp_path)


@pytest.mark.parametrize(
    ("model", "file", "content", "message"),
    [
        ("umt", "bert/vocab.txt", b"cat\ndog\n", "is not the vocabulary of BERT"),
        ("umt", "umt_tiny.pth", b"", "is empty"),
        ("umt", "umt_tiny.pth", b"not a pickle", "umt_tiny.pth"),
        ("umt", "second.pth", b"more", "found second.pth, umt_tiny.pth; pass the file itself"),
        ("internvideo2_clip", "llama/tokenizer.model", b"junk", "is no model of SentencePiece"),
        ("viclip", "bpe_first_1000_merges.txt.gz", b"junk", "no gzipped list of merges"),
    ],
)
def test_a_damaged_file_is_named(model, file, content, message, tmp_path):
    make_video_model(model, tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load(NAMES[model][0], tmp_path)


def test_viclip_has_positions_for_so_many_frames(tmp_path):
    make_video_model("viclip", tmp_path)
    with pytest.raises(InputError, match="`frames=4`: 'viclip-l-14' has positions for 8 frames"):
        load("viclip-l-14", tmp_path, frames=4)


@pytest.mark.parametrize(
    ("model", "name", "argument"),
    [
        ("internvideo2_clip", "internvideo2-clip-1b", "text"),
        ("internvideo2_clip", "internvideo2-clip-1b", "tokenizer"),
    ],
)
def test_a_file_that_nobody_names_is_asked_for(model, name, argument, tmp_path):
    make_video_model(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["model"][{"text": "text_ckpt_path", "tokenizer": "tokenizer_path"}[argument]]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"needs `{argument}=`"):
        load(name, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act 'relu' .*; LanguageBind-Video has 'gelu' or"),
        ({"num_attention_heads": 7}, "64 cannot be split into the 7 heads of the vision"),
        ({"num_frames": "8"}, "num_frames is '8'; it is a whole number"),
    ],
)
def test_a_config_of_languagebind_that_does_not_fit_is_named(changes, message, tmp_path):
    make_video_model("languagebind_video", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"] |= changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load("languagebind-video", tmp_path)


def test_languagebind_needs_its_config_and_its_tokenizer(tmp_path):
    make_video_model("languagebind_video", tmp_path)
    (tmp_path / "merges.txt").rename(tmp_path / "merges")
    with pytest.raises(CheckpointError, match="is no tokenizer of CLIP"):
        load("languagebind-video", tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match="has no config.json of LanguageBind-Video"):
        load("languagebind-video", tmp_path)


def test_lora_of_languagebind_is_merged_by_any_version_of_peft(tmp_path):
    def rename(_, tensors):
        return {
            n.replace("attn.q_proj.w", "attn.q_proj.base_layer.w"): t for n, t in tensors.items()
        }

    plain = make_video_model("languagebind_video_lora", tmp_path / "plain")
    renamed = make_video_model("languagebind_video_lora", tmp_path / "renamed", rename)
    scores = [load("languagebind-video", at)(CLIPS[0], TEXTS) for at in (plain, renamed)]
    assert torch.equal(*scores)
