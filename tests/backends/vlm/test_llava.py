"""LLaVA-1.5 against what t2v_metrics answers, and what images and texts of it share."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.models.checks import (
    check_against_pairs,
    check_company,
    check_golden,
    check_golden_batch,
    draw_sizes,
)
from helpers.toy import draw_image
from safetensors.torch import load_file, save_file
from transformers import LlamaTokenizer, LlavaForConditionalGeneration

import t2v_eval
from t2v_eval.errors import CheckpointError, InputError, T2VWarning, TemplateError
from t2v_eval.evaluation.benchmark import Benchmark, Item
from t2v_eval.evaluation.run import evaluate
from t2v_eval.scoring.plan import Block

FOLDER = Path(__file__).parents[2] / "goldens" / "vqa" / "llava15"
CHECKPOINT = FOLDER / "checkpoint" / "llava-1.5-tiny-hf"
CASES = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))
BATCH_CASES = json.loads((FOLDER / "batch_cases.json").read_text(encoding="utf-8"))
NOTICES = {"question_without_placeholder": "has a placeholder"}
TEXTS = ["cat", "the tall lighthouse stands next to the calm river " * 4, "two dogs", ""]
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions. USER: "
)


def paths(names: list[str]) -> list[str]:
    return [str(FOLDER / name) for name in names]


def load(checkpoint: Path = CHECKPOINT, **options):
    return t2v_eval.load("llava-v1.5-7b", checkpoint=checkpoint, device="cpu", **options)


@pytest.fixture(scope="session")
def authors(tmp_path_factory) -> tuple[Path, Path]:
    """The same weights as LLaVA's authors publish them: a checkpoint, and a tower apart."""
    folder, tower = tmp_path_factory.mktemp("llava"), tmp_path_factory.mktemp("clip")
    config = json.loads((CHECKPOINT / "config.json").read_text())
    text = config["text_config"] | {"vocab_size": 700, "pad_token_id": 0, "rope_theta": 10000.0}
    flat = text | {
        "model_type": "llava",
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_vision_tower": str(tower),
    }
    (folder / "config.json").write_text(json.dumps(flat))
    (tower / "config.json").write_text(json.dumps(config["vision_config"]))
    shutil.copy(CHECKPOINT / "preprocessor_config.json", tower)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(CHECKPOINT / name, folder)
    custom, seeing = {}, {}
    for name, tensor in (
        LlavaForConditionalGeneration.from_pretrained(CHECKPOINT).state_dict().items()
    ):
        if "vision_tower" in name:
            seeing["vision_model." + name.removeprefix("model.vision_tower.")] = tensor
            continue
        name = name.replace("language_model.", "").replace("multi_modal_", "mm_")
        name = name.replace("linear_1", "0").replace("linear_2", "2")
        custom[name] = tensor[:700].clone() if len(tensor) == 764 else tensor
    custom["model.vision_tower.vision_tower.vision_model.not_read"] = torch.ones(1)
    torch.save(custom, folder / "pytorch_model.bin")
    save_file(seeing, tower / "model.safetensors")
    return folder, tower


@pytest.fixture(scope="session")
def scorers(authors):
    result = {share: load(image_mode="original", share=share) for share in (True, False)}
    result["authors"] = load(authors[0], image_mode="original")
    return result.__getitem__


@pytest.fixture
def scorer(scorers):
    return scorers(True)


@pytest.fixture(scope="session")
def images():
    return draw_sizes()


@pytest.fixture(scope="session")
def read_plainly():
    """One pair at a time with the unchanged class of transformers: the oracle."""
    model = LlavaForConditionalGeneration.from_pretrained(CHECKPOINT).eval()
    tokenizer = LlamaTokenizer.from_pretrained(CHECKPOINT)

    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

    @torch.no_grad()
    def read(scorer, image, question: str, answer: str) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = scorer.preprocess(image).row["pixel_values"]
        head = [1, *encode(SYSTEM), *[700] * 16]
        prompt = f"\n{question} ASSISTANT: "
        asked = [*encode(prompt + answer), 2]
        first = len(head) + len(encode(prompt)) - 1
        ids = torch.tensor([head + asked])
        logits = model(input_ids=ids, pixel_values=pixels).logits[0, first - 1 : -1, :700]
        return logits.log_softmax(-1), ids[0, first:]

    return read


@pytest.fixture
def plain(read_plainly):
    def score(*asked) -> float:
        log_p, ids = read_plainly(*asked)
        return float(log_p.gather(1, ids[:, None]).mean().exp())

    return score


@pytest.mark.parametrize("share", [True, False, "authors"])
@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_golden(case, share, scorers):
    check_golden(scorers(share), case, FOLDER, NOTICES)


@pytest.mark.parametrize("case", BATCH_CASES, ids=[case["id"] for case in BATCH_CASES])
def test_golden_batch(case, scorer):
    check_golden_batch(scorer, case, FOLDER)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ('Does this figure show "{}"? Please answer yes or no.', "Yes"),
        ("", "{}"),
        ("{} or {}?", "No, {}"),
        ("{}", "3 of them: {}, and a long answer " * 5),
        ("{}", ""),
    ],
)
def test_shared_work_gives_what_one_pair_at_a_time_gives(scorer, plain, images, question, answer):
    check_against_pairs(scorer, plain, images, TEXTS, question, answer)


def test_a_score_does_not_depend_on_its_batch(scorer, images):
    together = check_company(scorer, images, TEXTS)
    in_ones = scorer.batch_forward([{"images": images, "texts": TEXTS}], batch_size=1)[0]
    scorer.start_batches_at(32)
    np.testing.assert_allclose(in_ones, together, rtol=0, atol=1e-5)


def test_an_image_is_seen_once_and_its_prompt_read_once(images):
    scorer = load()
    features: list[int] = []
    read: list[tuple[int, ...]] = []
    scorer.network.base_model.vision_tower.register_forward_pre_hook(
        lambda _, args, kwargs: features.append(len(args[0])), with_kwargs=True
    )
    scorer.network.base_model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    scorer([*images, images[0]], TEXTS)
    assert features == [3]
    # Starts, which hold the images, in one batch, then the ends, packed: what differs.
    (starts, length), (rows, _) = read
    assert starts == rows == 3
    assert length > 16 + 30
    # What the tower made of an image is kept for the next call.
    for text in TEXTS:
        scorer(images, text)
    assert features == [3]
    assert [rows for rows, _ in read[2:]] == [3] * 4
    scorer([draw_image(9)], TEXTS[:1])
    assert features == [3, 1]


@pytest.mark.parametrize(
    "text", ["an <image> of {} and {0} {text} {{x}}", "{", "}", "a\n<image>", "</s> <s>", "<pad>"]
)
def test_no_text_is_taken_for_a_placeholder(scorer, plain, images, text):
    question = f'Does this figure show "{text}"? Please answer yes or no.'
    expected = plain(scorer, images[0], question, "Yes")
    assert float(scorer(images[0], text)) == pytest.approx(expected, rel=1e-5)
    both = scorer(images[0], [text, "cat"])
    assert float(both[0, 0]) == pytest.approx(expected, rel=1e-5)


def test_long_texts_are_cut_and_their_answers_are_not(scorer, plain, images):
    long, longer = "two small dogs " * 1500, "two small dogs " * 1600
    with pytest.warns(T2VWarning, match="2 of 3 texts"):
        outcome = scorer.evaluate_blocks([Block.of(images[0], ["cat", long, longer])])
    assert outcome.truncated == 2
    scores = outcome.scores[0][0]
    assert np.isfinite(scores).all()
    assert scores[1] == pytest.approx(scores[2], abs=1e-6)
    assert scores[0] == pytest.approx(float(scorer(images[0], "cat")), abs=1e-5)
    with pytest.warns(T2VWarning, match="1 of 1 texts"):
        assert 0 < float(scorer(images[0], long, template="visualgptscore")) < 1
    builder = scorer.prompt_builder
    asked = scorer._prompt("", long, 2048 - builder.context_used({}))
    assert asked.answer == scorer._prompt("", "cat", 999).answer
    assert (
        2040
        < len(asked.prompt) + len(asked.answer) + scorer.prompt_builder.context_used({})
        <= 2048
    )
    with pytest.raises(InputError, match="leave no room for a text"):
        scorer(images[0], "cat", question_template="two small dogs " * 1500 + "{}")


def test_other_ways_to_take_the_probability(scorer, read_plainly, images, monkeypatch):
    first = load(rule="first-token", image_mode="original")
    ratio = load(rule="yes-no", image_mode="original")
    assert len({first.id, ratio.id, scorer.id}) == 3
    question = 'Does this figure show "cat"? Please answer yes or no.'
    log_p, ids = read_plainly(scorer, images[0], question, "Yes")
    for answer in ("Yes", "Yes, it does"):
        score = float(first(images[0], "cat", answer_template=answer))
        assert score == pytest.approx(float(log_p[0, ids[0]].exp()), rel=1e-5)
    words = ("yes", "Yes", "YES"), ("no", "No", "NO")
    yes, no = (
        {
            t[0]
            for w in forms
            for s in ("", " ")
            if len(t := scorer.prompt_builder.encode(s + w)) == 1
        }
        for forms in words
    )
    p_yes, p_no = (float(log_p[0, sorted(tokens)].exp().sum()) for tokens in (yes, no))
    for answer, expected in (("Yes", p_yes), ("no.", p_no)):
        score = float(ratio(images[0], "cat", answer_template=answer))
        assert score == pytest.approx(expected / (p_yes + p_no), rel=1e-5)
    outcome = ratio.evaluate_blocks([Block.of(images[0], "cat")])
    (message,) = map(json.loads, outcome.details.values())
    assert message["listed"] == pytest.approx(p_yes + p_no, rel=1e-5)
    assert message["answer"] == pytest.approx(p_yes, rel=1e-5)
    assert message["opposite"] == pytest.approx(p_no, rel=1e-5)
    with pytest.raises(TemplateError, match="scores the answers yes and no"):
        ratio(images, TEXTS, answer_template="maybe")
    monkeypatch.setattr("t2v_eval.backends.vlm.reading.rules.YesNoProbability.min_probability", 1.0)
    with pytest.warns(T2VWarning, match="yes and no together"):
        ratio(images[0], "cat")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_and_part_of_the_id(dtype, scorer, images):
    half = load(dtype=dtype, image_mode="original")
    assert f"dtype={dtype}" in half.id
    assert half.network.base_model.language_model.layers[0].mlp.up_proj.weight.dtype == half.dtype
    np.testing.assert_allclose(half(images, TEXTS), scorer(images, TEXTS), atol=0.1)


def test_what_does_not_fit_is_said(tmp_path, scorer):
    with pytest.raises(CheckpointError, match="describes no model"):
        load(FOLDER / "images")
    with pytest.raises(InputError, match="must hold <image>"):
        load(chat="USER: {}")
    with pytest.raises(InputError, match="`rule='likely'`; use 'answer' or 'first-token'"):
        load(rule="likely")
    broken = tmp_path / "broken"
    shutil.copytree(CHECKPOINT, broken)
    tensors = load_file(broken / "model.safetensors")
    missing = next(name for name in tensors if name.endswith("linear_2.bias"))
    save_file({n: t for n, t in tensors.items() if n != missing}, broken / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks weights .*linear_2\.bias"):
        load(broken)
    with pytest.raises(CheckpointError, match="nobody/nothing"):
        load("nobody/nothing", local_files_only=True)


def test_the_layout_of_the_authors(authors, scorer, images):
    folder, tower = authors
    named = load(folder, vision_tower=tower, image_mode="original")
    assert named.id != scorer.id
    torch.testing.assert_close(named(images, TEXTS), scorer(images, TEXTS), rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="takes no device_map"):
        load(folder, device_map="auto")
    with pytest.raises(CheckpointError, match="images holds no weights"):
        load(folder, vision_tower=FOLDER / "images")
    with pytest.raises(CheckpointError, match="nobody/nothing.*vision_tower='DIR'"):
        load(folder, vision_tower="nobody/nothing", local_files_only=True)
    with pytest.raises(CheckpointError, match="no chat template; load it by a name"):
        t2v_eval.load(f"hf-vlm:{folder}", device="cpu", vision_tower=tower)


def test_nothing_is_written_but_tokens(authors, scorer, images):
    """Converted weights have rows after the vocabulary, which the authors' have not."""
    folder, tower = authors
    generated = scorer.generate(images, "What is it?", max_new_tokens=6)
    reference = load(folder, vision_tower=str(tower), image_mode="original")
    assert generated == reference.generate(images, "What is it?", max_new_tokens=6)


def test_what_yes_and_no_captured_is_stored_and_reported(images, tmp_path):
    class PromptTokens(Benchmark):
        def items(self):
            return [Item(images, ["cat", "two dogs"])]

        def metrics(self, items, scores):
            return {"mean": float(np.mean(scores[0]))}

    scorer = load(rule="yes-no", store=tmp_path / "scores.sqlite")
    fresh, stored = (evaluate(scorer, PromptTokens(), resamples=2) for _ in range(2))
    assert stored.counts.reused == 2 * len(images)
    message = [json.loads(detail)["listed"] for detail in fresh.details.values()]
    assert len(message) == 2 * len(images) and all(0 < share < 1 for share in message)
    expected = {"mean": pytest.approx(np.mean(message)), "lowest": min(message), "n": len(message)}
    for run in (fresh, stored):
        assert asdict(run.scorer.details["listed"]) == expected
