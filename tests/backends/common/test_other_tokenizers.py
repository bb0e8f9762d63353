"""Checkpoints with the tokenizer or image processor of another model, or with less than all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.models.clip_goldens import hf_clip_folder
from helpers.models.tiny_vlm import TINY, llava, tokenizer
from helpers.toy import draw_image
from transformers import CLIPTokenizer

import t2v_eval
from t2v_eval.errors import CheckpointError

GOLDENS = Path(__file__).parents[2] / "goldens"
TEXTS = ["cat", "two dogs by the river"]


def change(folder: Path, name: str, **values: object) -> None:
    """Set values of a JSON file by their path, or with None remove them."""
    valid = json.loads((folder / name).read_text())
    for key, value in values.items():
        group, (*way, last) = valid, key.split("__")
        for step in way:
            group = group[step]
        group.pop(last, None)
        if value is not None:
            group[last] = value
    (folder / name).write_text(json.dumps(valid))


@pytest.fixture(scope="module")
def known_clip(tmp_path_factory):
    return Path(hf_clip_folder(tmp_path_factory.mktemp("clip")))


@pytest.fixture
def clip(known_clip, tmp_path):
    return Path(shutil.copytree(known_clip, tmp_path / "clip"))


def load_clip(folder):
    return t2v_eval.load(f"hf-clip:{folder}", device="cpu")


@pytest.mark.parametrize(
    "named",
    [
        {"image_processor_type": "CLIPFeatureExtractor"},
        {"image_processor_type": "CLIPImageProcessorFast"},
        {"image_processor_type": "NoSuchImageProcessor"},
        {"image_processor_type": None, "feature_extractor_type": "CLIPFeatureExtractor"},
        {"image_processor_type": None, "feature_extractor_type": "ViTFeatureExtractor_"},
        {"image_processor_type": None},
        {"processor_class": "NoSuchProcessor"},
    ],
)
def test_an_image_processor_by_an_old_name_is_that_of_the_kind_of_model(known_clip, clip, named):
    image = draw_image(1, (90, 40))
    expected = load_clip(known_clip)(image, TEXTS)
    change(clip, "preprocessor_config.json", **named)
    np.testing.assert_array_equal(load_clip(clip)(image, TEXTS), expected)


def test_an_image_processor_that_nothing_knows_is_told_in_a_line(clip):
    change(clip, "preprocessor_config.json", image_processor_type="NoSuch", size="large")
    with pytest.raises(
        CheckpointError, match="'NoSuch' of its preprocessor_config.json"
    ) as message:
        load_clip(clip)
    assert len(str(message.value)) < 800
    (clip / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="it lacks preprocessor_config.json or processor_con"):
        load_clip(clip)


def test_sizes_that_are_not_stated_are_those_of_the_tower(known_clip, clip):
    image = draw_image(1, (90, 40))
    expected = load_clip(known_clip)(image, TEXTS)
    for lacking in ({"size": None}, {"crop_size": None}, {"size": None, "crop_size": None}):
        shutil.copy(known_clip / "preprocessor_config.json", clip)
        change(clip, "preprocessor_config.json", **lacking)
        np.testing.assert_array_equal(load_clip(clip)(image, TEXTS), expected)
    change(clip, "preprocessor_config.json", size={"shortest_edge": 99}, crop_size=99)
    with pytest.raises(CheckpointError, match="makes images of 99 x 99 pixels .* takes 32 x 32"):
        load_clip(clip)


def test_a_clip_with_another_tokenizer_is_refused(clip):
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (clip / name).unlink(missing_ok=True)
    valid = json.loads((clip / "config.json").read_text())["text_config"]["vocab_size"]
    words = {f"w{n}": n for n in range(valid + 5)}
    words |= {"<|startoftext|>": valid + 5, "<|endoftext|>": valid + 6}
    CLIPTokenizer(vocab=words, merges=[]).save_pretrained(clip)
    with pytest.raises(
        CheckpointError, match=rf"tokenizer of .*clip.*numbered up to \d+.*embeddings of {valid};"
    ):
        load_clip(clip)


def test_a_clip_whose_texts_end_elsewhere_is_refused(clip):
    tokenizer(["<s>", "</s>"], bos_token="<s>", eos_token="</s>", pad_token="</s>").save_pretrained(
        clip
    )
    for name in ("vocab.json", "merges.txt"):
        (clip / name).unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="not that of this model"):
        load_clip(clip)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    result = tmp_path_factory.mktemp("llava")
    llava(result)
    return result, t2v_eval.load(f"hf-vlm:{result}", device="cpu")(draw_image(0), TEXTS)


@pytest.mark.parametrize(
    "lacking",
    [
        {"patch_size": None},
        {"vision_feature_select_strategy": None},
        {"num_additional_image_tokens": None},
        {"image_token": None},
        {"patch_size": None, "vision_feature_select_strategy": None, "image_token": None},
        {"image_processor__size": None},
        {"image_processor__crop_size": None},
        {"image_processor__image_processor_type": "CLIPFeatureExtractor"},
    ],
)
def test_what_a_processor_leaves_out_is_taken_from_the_configuration(whole, lacking, tmp_path):
    folder, expected = whole
    copy = Path(shutil.copytree(folder, tmp_path / "llava"))
    change(copy, "processor_config.json", **lacking)
    scorer = t2v_eval.load(f"hf-vlm:{copy}", device="cpu")
    np.testing.assert_allclose(scorer(draw_image(0), TEXTS), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["processor_config.json", "tokenizer.json", "tokenizer_config.json", "config.json"]
)
def test_a_file_that_is_not_there_is_an_error_of_the_checkpoint_or_not_needed(
    whole, name, tmp_path
):
    folder, expected = whole
    copy = Path(shutil.copytree(folder, tmp_path / "llava"))
    (copy / name).unlink()
    try:
        scorer = t2v_eval.load(f"hf-vlm:{copy}", device="cpu")
    except CheckpointError as error:
        assert str(copy) in str(error) and len(str(error)) < 1200
    else:
        np.testing.assert_allclose(scorer(draw_image(0), TEXTS), expected, rtol=1e-6)


def test_a_generation_config_is_not_needed(whole, tmp_path):
    folder, expected = whole
    copy = Path(shutil.copytree(folder, tmp_path / "llava"))
    (copy / "generation_config.json").unlink(missing_ok=True)
    scorer = t2v_eval.load(f"hf-vlm:{copy}", device="cpu")
    np.testing.assert_array_equal(scorer(draw_image(0), TEXTS), expected)


LARGER = [f"<extra_{n}>" for n in range(200)]


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "internvl", "gemma3", "paligemma", "mllama"])
def test_a_vision_language_model_with_a_larger_tokenizer_is_refused(kind, tmp_path):
    """Whose ordinary tokens, behind many more control tokens, have no embeddings."""
    TINY[kind](tmp_path)
    valid = json.loads((tmp_path / "tokenizer.json").read_text())
    special = [token["content"] for token in valid["added_tokens"]]
    larger = json.loads(tokenizer([*special, *LARGER]).backend_tokenizer.to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(larger))
    style = {"style": "paligemma"} if kind == "paligemma" else {}
    with pytest.raises(
        CheckpointError, match=r"tokenizer of .* vocabulary of \d+ .* embeddings of"
    ):
        t2v_eval.load(f"hf-vlm:{tmp_path}", device="cpu", **style)


def test_llava_with_other_ends_or_another_image_is_refused(tmp_path):
    valid = GOLDENS / "vqa" / "llava15" / "checkpoint" / "llava-1.5-tiny-hf"
    copy = Path(shutil.copytree(valid, tmp_path / "llava"))
    options = {"checkpoint": copy, "device": "cpu"}
    change(copy, "config.json", text_config__bos_token_id=5)
    with pytest.raises(CheckpointError, match=r"begin and end with \(1, 2\).*says \(5, 2\)"):
        t2v_eval.load("llava-v1.5-7b", **options)
    change(copy, "config.json", text_config__bos_token_id=1, image_token_index=7)
    with pytest.raises(CheckpointError, match="is token 700, but"):
        t2v_eval.load("llava-v1.5-7b", **options)
    shutil.rmtree(copy)
    shutil.copytree(valid, copy)
    change(copy, "config.json", text_config__vocab_size=300)
    with pytest.raises(CheckpointError):
        t2v_eval.load("llava-v1.5-7b", **options)


def test_a_model_that_moved_is_taken_from_the_cache_by_its_former_name(tmp_path, monkeypatch):
    """Under the new name nothing was downloaded yet; what lies there under the old one is read."""
    remaining = tmp_path / "models--THUDM--ImageReward"
    snapshot = remaining / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True), (remaining / "refs").mkdir()
    (remaining / "refs" / "main").write_text("0" * 40)
    (snapshot / "ImageReward.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (snapshot / "med_config.json").write_text("{}")
    (tmp_path / "bert").mkdir()
    options = {"cache_dir": str(tmp_path), "local_files_only": True, "device": "cpu"}
    with pytest.raises(CheckpointError, match="models--THUDM.*ImageReward.pt is a Git LFS pointer"):
        t2v_eval.load("image-reward", tokenizer=str(tmp_path / "bert"), **options)
    shutil.rmtree(remaining)
    with pytest.raises(CheckpointError, match="'zai-org/ImageReward' is not on this machine"):
        t2v_eval.load("image-reward", tokenizer=str(tmp_path / "bert"), **options)


@pytest.mark.parametrize("kind", ["blip2", "instructblip"])
def test_a_vocabulary_that_is_not_berts_is_refused(kind, tmp_path):
    where = {"blip2": "blip2", "instructblip": "instructblip"}[kind]
    folders = [p.parent for p in (GOLDENS / "vqa" / where).rglob("config.json")]
    if not folders:
        pytest.skip("no golden folder of this kind")
    copy = Path(shutil.copytree(folders[0], tmp_path / "copy"))
    at = copy / "qformer_tokenizer" if kind == "instructblip" else copy
    for name in ("tokenizer.json", "vocab.txt"):
        (at / name).unlink(missing_ok=True)
    (at / "vocab.txt").write_text("\n".join(f"w{n}" for n in range(9000)) + "\n")
    name = "blip2-itm" if kind == "blip2" else "instructblip-flant5-xl"
    with pytest.raises(CheckpointError, match="BERT|BertTokenizer|knows|embeddings"):
        t2v_eval.load(name, checkpoint=copy, device="cpu")
