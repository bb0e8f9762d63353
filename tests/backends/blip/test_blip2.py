"""BLIP-2 against what t2v_metrics answers, and against the network of transformers as it comes."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toy import draw_image
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer, Blip2ForImageTextRetrieval

import t2v_eval
from t2v_eval.errors import CheckpointError, T2VWarning, TemplateError
from t2v_eval.registry import models

FOLDER = Path(__file__).parents[2] / "goldens" / "vqa" / "blip2"
CHECKPOINT = FOLDER / "checkpoint" / "hf"
CASES = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
ODD = {"images/wide_rgba.png"}  # what a person sees of it is not what the original scores
NAMES = ["blip2-itm", "blip2-itc"]
TEXTS = [
    "cat",
    "",
    "two small dogs",
    "a red apple on a wooden table, and beside it a blue cup",
    "the tall lighthouse stands next to the calm river at night",
    "A PERSON!",
    "two dogs and a cat at night",
    "apple",
]


def load(name: str, checkpoint: Path = CHECKPOINT, **options):
    return t2v_eval.load(name, checkpoint=checkpoint, **{"device": "cpu", **options})


@pytest.fixture(scope="module")
def scorers():
    return {name: load(name) for name in NAMES}


@pytest.fixture(scope="module")
def images():
    return [draw_image(seed, (20 + 9 * seed, 60 - 3 * seed)) for seed in range(8)]


@pytest.fixture(scope="module")
def stock():
    return Blip2ForImageTextRetrieval.from_pretrained(CHECKPOINT).eval()


def plain_path(stock, scorer, images, texts, itm: bool) -> torch.Tensor:
    """One pair after the other through the network as it comes, padded to 35 tokens."""
    tokenizer = BertTokenizer.from_pretrained(CHECKPOINT)
    rows = []
    for image in images:
        pixels = scorer.preprocess(image)[None]
        for text in texts:
            ids = tokenizer(
                text, padding="max_length", truncation=True, max_length=35, return_tensors="pt"
            )
            with torch.inference_mode():
                logits = stock(
                    pixel_values=pixels,
                    input_ids=ids.input_ids,
                    attention_mask=ids.attention_mask,
                    use_image_text_matching_head=itm,
                ).logits_per_image
            rows.append(logits.softmax(-1)[0, 1] if itm else logits[0, 0])
    return torch.stack(rows).view(len(images), len(texts))


def test_the_score_of_retrieval_is_the_match_logit_plus_the_cosine(images, stock):
    """As LAVIS adds them: no softmax, no temperature; each pair alone through the plain network."""
    scorer = load("blip2-itm-itc", batch_size=5)
    tokenizer = BertTokenizer.from_pretrained(CHECKPOINT)
    expected = torch.zeros(8, len(TEXTS))
    for (row, column), _ in np.ndenumerate(expected.numpy()):
        ids = tokenizer(TEXTS[column], return_tensors="pt")
        inputs = {
            "pixel_values": scorer.preprocess(images[row])[None],
            "input_ids": ids.input_ids,
            "attention_mask": ids.attention_mask,
        }
        with torch.inference_mode():
            match = stock(**inputs, use_image_text_matching_head=True).logits_per_image[0, 1]
            cosine = stock(**inputs, use_image_text_matching_head=False).logits_per_image[0, 0]
        expected[row, column] = match + cosine
    torch.testing.assert_close(scorer(images, TEXTS), expected, atol=1e-5, rtol=0)


def write_checkpoint(folder: Path, tensors=None, **config) -> Path:
    """The checkpoint with other tensors or another configuration."""
    shutil.copytree(CHECKPOINT, folder)
    described = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(described))
    if tensors is not None:
        save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
@pytest.mark.parametrize("image_mode", ["original", "seen"])
def test_goldens(case, image_mode, scorers):
    scorer = scorers[case["model"]]
    indices = range(len(case["images"]))
    if image_mode == "original":
        scorer = load(case["model"], image_mode="original")
    else:
        indices = [i for i in indices if case["images"][i] not in ODD]
    paths = [FOLDER / case["images"][i] for i in indices]
    cut = pytest.warns(T2VWarning, match="2 of 3 texts")
    with cut if "truncate" in case["id"] else nullcontext():
        scores = scorer(paths, case["texts"])
    expected = np.array(case["scores"])[list(indices)]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_alpha_is_seen_over_white(name, scorers):
    path = FOLDER / "images" / "wide_rgba.png"
    alpha = Image.open(path)
    white = Image.alpha_composite(Image.new("RGBA", alpha.size, "white"), alpha).convert("RGB")
    torch.testing.assert_close(scorers[name](path, TEXTS), scorers[name](white, TEXTS))


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_network_of_transformers_pair_by_pair(name, scorers, stock, images):
    texts = [*TEXTS[:4], "a very long text " * 20]
    expected = plain_path(stock, scorers[name], images[:3], texts, itm=name == "blip2-itm")
    with pytest.warns(T2VWarning, match="1 of 5 texts"):
        scores = scorers[name](images[:3], texts)
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_encoded_once(name, images):
    scorer = load(name, batch_size=5)
    calls: list[int] = []
    scorer.network.vision_model.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["pixel_values"])), with_kwargs=True
    )
    assert scorer(images, TEXTS).shape == (8, 8)
    assert sum(calls) == 8


def test_keys_and_values_are_computed_once_an_image(images):
    scorer = load("blip2-itm")
    cross = [layer for layer in scorer.network.qformer.encoder.layer if layer.has_cross_attention]
    calls: list[int] = []
    scorer._keys_and_values.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    scorer(images, TEXTS)
    assert sum(calls) == 8
    for layer in cross:  # and nowhere else
        assert not [*layer.crossattention.attention.key.parameters()]
        assert not [*layer.crossattention.attention.value.parameters()]


def test_pairs_are_batched_across_images_and_texts(images):
    scorer = load("blip2-itm", batch_size=64)
    sizes: list[int] = []
    scorer.network.itm_head.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    scorer(images, TEXTS)
    assert sizes == [64]


@pytest.mark.parametrize("name", NAMES)
def test_alone_in_a_batch_and_in_any_order_are_the_same(name, scorers, images):
    together = scorers[name](images, TEXTS)
    alone = torch.stack([torch.cat([scorers[name](i, t)[0] for t in TEXTS]) for i in images])
    backwards = load(name, batch_size=3)(images[::-1], TEXTS[::-1]).flip(0, 1)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together, backwards, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_cut_after_35_tokens_and_reported(name, scorers, images):
    fits = "cat " * 33  # and [CLS] and [SEP]
    just = scorers[name](images[:2], fits)
    with pytest.warns(T2VWarning, match="2 of 3 texts are longer .* 'cat cat"):
        scores = scorers[name](images[:2], [fits, fits + "cat", fits + "dog " * 10_000])
    torch.testing.assert_close(scores, just.expand(-1, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_empty_and_blank_texts_are_the_same_text_to_bert(name, scorers, images):
    scores = scorers[name](images[:2], ["", "  \n\t"])
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores[:, 0], scores[:, 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_that_the_hub_adds_are_text_like_any_other(name, scorers, images, tmp_path):
    folder = write_checkpoint(tmp_path / "hub", image_token_index=394)
    stored = BertTokenizer.from_pretrained(folder)
    stored.add_tokens(["<image>"], special_tokens=True)
    stored.save_pretrained(folder)
    assert stored("<image>").input_ids[1] == 394  # for which the network has no embedding
    texts = ["a cat <image> at night", "[SEP] a dog [DEC]"]
    for keep in (("vocab.txt", "tokenizer.json"), ("tokenizer.json",)):
        if "vocab.txt" not in keep:
            (folder / "vocab.txt").unlink(missing_ok=True)
        scores = load(name, folder)(images[:2], texts)
        torch.testing.assert_close(scores, scorers[name](images[:2], texts))


def test_templates(scorers, images):
    scorer = scorers["blip2-itm"]
    scores = scorer(images[:2], "cat", question_template="a photo of a {}")
    torch.testing.assert_close(scores, scorer(images[:2], "a photo of a cat"))
    for scorer in scorers.values():
        with pytest.raises(TemplateError, match="pass `question_template=` alone"):
            scorer(images[:2], "cat", answer_template="Yes")


@pytest.mark.parametrize("size", [(1, 1), (20_000, 2), (2, 20_000)])
def test_any_size_of_image(size, scorers):
    for scorer in scorers.values():
        assert torch.isfinite(scorer(draw_image(0, size), "cat")).all()


def test_stored_queries_are_used_again(images, tmp_path):
    first = load("blip2-itc", store=tmp_path / "scores.db")(images[:3], TEXTS[:2])
    again = load("blip2-itc", store=tmp_path / "scores.db")
    again.network.vision_model = None
    torch.testing.assert_close(again(images[:3], TEXTS)[:, :2], first, atol=0, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(name, dtype, scorers, images):
    scores = load(name, dtype=dtype)(images[:2], TEXTS)
    torch.testing.assert_close(scores, scorers[name](images[:2], TEXTS), atol=0.05, rtol=0)


def test_a_pickle_of_tensors_is_read_and_one_of_code_refused(scorers, images, tmp_path):
    folder = write_checkpoint(tmp_path / "pickled")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({**tensors, "temp": torch.ones(1)}, folder / "pytorch_model.bin")
    scores = load("blip2-itm", folder)(images[:2], TEXTS)
    torch.testing.assert_close(scores, scorers["blip2-itm"](images[:2], TEXTS))
    torch.save({**tensors, "code": print}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin.*could run any code"):
        load("blip2-itm", folder)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    tensors = load_file(CHECKPOINT / "model.safetensors")
    lacking = {name: value for name, value in tensors.items() if name != "itm_head.weight"}
    with pytest.raises(CheckpointError, match="lacks weights itm_head.weight"):
        load("blip2-itm", write_checkpoint(tmp_path / "lacking", lacking))
    more = tensors | {"vision_model.encoder.layers.3.mlp.fc1.bias": torch.ones(64)}
    with pytest.raises(CheckpointError, match="unexpected weights vision_model"):
        load("blip2-itc", write_checkpoint(tmp_path / "more", more))
    other = tensors | {"query_tokens": torch.ones(1, 9, 32)}
    with pytest.raises(CheckpointError, match="query_tokens is of shape"):
        load("blip2-itc", write_checkpoint(tmp_path / "other", other))
    folder = write_checkpoint(tmp_path / "vocabulary")
    with (folder / "vocab.txt").open("a") as file:
        file.write("one\nmore\n")
    with pytest.raises(CheckpointError, match="396 tokens .* embeddings for 394"):
        load("blip2-itm", folder)
    for file in ("vocab.txt", "tokenizer.json"):
        (folder / file).unlink()
    with pytest.raises(CheckpointError, match="holds no vocab.txt or tokenizer.json"):
        load("blip2-itm", folder)
    for content in ("{", '{"vision_config": {"hidden_size": "wide"}}'):
        (folder / "config.json").write_text(content)
        with pytest.raises(
            CheckpointError, match="is no BLIP-2 of transformers|config.json is not readable JSON"
        ):
            load("blip2-itm", folder)


@pytest.mark.parametrize(
    "name", [f"{name}{variant}" for name in NAMES for variant in ("", "-coco")]
)
def test_cards_and_weights_that_are_not_here(name, tmp_path):
    card = models.card(name)
    hub = "Salesforce/blip2-itm-vit-g" + ("-coco" if "coco" in name else "")
    assert (card.kind, card.args["checkpoint"]) == ("itm" if "itm" in name else "clip", hub)
    assert all((card.summary, card.license, card.range, card.paper, "golden" in card.verified))
    assert card.default == (name == "blip2-itm")
    with pytest.raises(CheckpointError, match=f"{hub}.*checkpoint='DIR'"):
        t2v_eval.load(name, local_files_only=True, cache_dir=str(tmp_path))
