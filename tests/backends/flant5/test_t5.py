"""What scorers with a T5 share: absorbed cross-attention against the plain, and explanations."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toy import draw_image
from transformers import T5Config, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

import t2v_eval
from t2v_eval.backends.common.transformers_internals import (
    AbsorbedCrossAttention,
    absorb_cross_attention,
)
from t2v_eval.backends.flant5.t5 import EncodedPrompts, answer_states
from t2v_eval.errors import InputError, MissingPackageError, UnsupportedError

GOLDENS = Path(__file__).parents[2] / "goldens" / "vqa"
TEXTS = ["cat", "an <image> of {} and {0} {{x}}", "the tall lighthouse stands " * 5, ""]
TEMPLATES = [
    {},
    {"question_template": "", "answer_template": "{}"},
    {"question_template": "{} or {}?", "answer_template": "No, {}, " + "a long answer " * 9},
    {"question_template": "{}", "answer_template": ""},
]
CHECKPOINTS = {
    "clip-flant5-xxl": {
        "checkpoint": GOLDENS / "clip_flant5" / "checkpoint" / "model_safetensors",
        "tokenizer": GOLDENS / "clip_flant5" / "checkpoint" / "tokenizer",
        "vision_tower": GOLDENS / "clip_flant5/checkpoint/openai/clip-vit-tiny-patch14-56",
    },
    "instructblip-flant5-xl": {"checkpoint": GOLDENS / "instructblip" / "checkpoint" / "hf"},
}


def load(name: str, **options):
    return t2v_eval.load(name, device="cpu", **CHECKPOINTS[name], **options)


@pytest.fixture(scope="session", params=CHECKPOINTS)
def both(request):
    """The scorer as it is, and as the oracle: pair by pair, T5 as it comes."""
    return load(request.param), load(request.param, share=False)


@pytest.fixture(scope="session")
def images():
    return [draw_image(seed, size) for seed, size in enumerate([(40, 90), (80, 30)])]


def t5(kind: str, **config) -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    result = T5Config(
        vocab_size=50, d_model=32, d_kv=8, d_ff=40, num_heads=4, num_layers=2,
        feed_forward_proj=kind, decoder_start_token_id=0, **config,
    )  # fmt: skip
    network = T5ForConditionalGeneration(result).eval().requires_grad_(False)
    for block in network.decoder.block:  # so that attention is not nearly even
        block.layer[1].EncDecAttention.q.weight *= 20
    return network


@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("lengths", [[2, 2, 2], [1, 3, 2]])
def test_absorbed_is_the_plain_decoder(kind, attention, lengths):
    plain, absorbed = (t5(kind, attn_implementation=attention) for _ in range(2))
    absorb_cross_attention(absorbed)
    torch.manual_seed(1)
    mask = torch.ones(3, 60, dtype=torch.bool)
    mask[0, 40:], mask[1, 5] = False, False
    answers = [torch.randint(2, 50, (length,)).tolist() for length in lengths]
    for calls in (mask, torch.ones_like(mask)):
        read = EncodedPrompts(torch.randn(3, 60, 32), calls, [False] * 3)
        expected, labels = answer_states(plain, read, answers)
        actual, _ = answer_states(absorbed, read, answers)
        real = labels >= 0
        torch.testing.assert_close(actual[real], expected[real], rtol=1e-5, atol=1e-5)


def test_keys_and_values_are_made_only_where_they_pay():
    network = t5("relu")
    result: list[int] = []
    for block in network.decoder.block:
        keys = block.layer[1].EncDecAttention.k
        keys.register_forward_pre_hook(lambda _, args: result.append(args[0].shape[1]))
    assert absorb_cross_attention(network)
    assert all(
        isinstance(b.layer[1].EncDecAttention, AbsorbedCrossAttention)
        for b in network.decoder.block
    )
    states = torch.randn(1, 60, 32)
    read = EncodedPrompts(states, torch.ones(1, 60, dtype=torch.bool), [False])
    answer_states(network, read, [[3, 1]])
    assert result == []
    answer_states(network, read, [[3] * 40])
    assert result == [60, 60]
    result.clear()
    network.generate(encoder_outputs=BaseModelOutput(states), max_new_tokens=3, min_new_tokens=3)
    assert result == [60, 60]  # once for all tokens that follow


def test_packed_weights_are_left_to_their_own_code():
    class Packed(torch.nn.Linear):
        """As quantised weights are: of another class, whose weights are no matrix."""

    network = t5("relu")
    network.decoder.block[1].layer[1].EncDecAttention.k = Packed(32, 32)
    assert not absorb_cross_attention(network)
    assert not any(isinstance(module, AbsorbedCrossAttention) for module in network.modules())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_absorbed_in_half_precision_is_as_close_as_plain(dtype):
    torch.manual_seed(1)
    states, answers = torch.randn(2, 60, 32), [[5, 1], [7, 1]]

    def run(expected: torch.dtype, absorbed: bool) -> torch.Tensor:
        network = t5("gated-gelu").to(expected)
        if absorbed:
            absorb_cross_attention(network)
        read = EncodedPrompts(states.to(expected), torch.ones(2, 60, dtype=torch.bool), [False] * 2)
        return answer_states(network, read, answers)[0].float()

    exact, half = run(torch.float32, False), getattr(torch, dtype)
    off = [float((run(half, absorbed) - exact).norm()) for absorbed in (False, True)]
    assert off[1] < 3 * off[0]


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_fast_path_is_the_plain_one(both, images, template):
    fast, plain = both
    np.testing.assert_allclose(
        fast(images, TEXTS, **template), plain(images, TEXTS, **template), rtol=1e-5, atol=1e-7
    )


def test_ways_of_working_are_told(both):
    fast, plain = both
    assert fast.id == plain.id
    assert fast.execution["mode"] == "images encoded once, absorbed cross-attention"
    assert plain.execution["mode"] == "one by one"
    assert fast.execution["attention"] == plain.execution["attention"] == "sdpa"


@pytest.mark.parametrize("answer", ["Yes", "{}", "no, a red dog"])
def test_an_explanation_holds_the_score(both, images, answer):
    scorer, _ = both
    message = scorer.explain(images, TEXTS[:3], top=3, answer_template=answer)
    scores = scorer(images, TEXTS[:3], answer_template=answer)
    for row, explained in zip(scores, message, strict=True):
        for score, item in zip(row, explained, strict=True):
            assert item.score == pytest.approx(float(score), rel=1e-4)
            mean = sum(math.log(t.probability) for t in item.tokens) / len(item.tokens)
            assert math.exp(mean) == pytest.approx(item.score, rel=1e-4)
            assert item.tokens[-1].token == "</s>"
            for token in item.tokens:
                chances = [p for _, p in token.alternatives]
                assert len(chances) == 3 and chances == sorted(chances, reverse=True)
                assert token.probability <= chances[0] + 1e-6
    assert "cat" in message[0][0].prompt and "yes or no" in message[0][0].prompt
    assert f"{message[0][0].score:.4f}" in str(message[0][0])


def test_the_prompt_is_what_the_model_saw(images):
    output = load("clip-flant5-xxl").explain(images[0], "cat")[0][0].prompt
    before, after = output.split(" <image> x 16 ")
    assert before.startswith("A chat between") and before.endswith("USER:</s>")
    assert after.startswith('Does this figure show "cat"?') and after.endswith("ASSISTANT:</s>")
    output = load("instructblip-flant5-xl").explain(images[0], "cat")[0][0].prompt
    assert output.startswith("Q-Former: <image> [CLS]") and "[SEP]\nT5: <query> x 8 Q" in output
    assert output.endswith("answer yes or no.</s>")


def test_what_cannot_explain_says_so(images):
    with pytest.raises(UnsupportedError, match="'tiny-clip' cannot explain a score"):
        t2v_eval.load("tiny-clip", device="cpu").explain(images, "cat")


def test_placement_and_attention(images):
    name = "instructblip-flant5-xl"
    eager, plain = load(name, attn_implementation="eager"), load(name)
    assert "attention=eager" in eager.id and "attention=sdpa" in plain.id
    np.testing.assert_allclose(eager(images, TEXTS), plain(images, TEXTS), rtol=1e-5)
    with pytest.raises(MissingPackageError, match="load_in_8bit needs .* pip install bitsandbytes"):
        load(name, load_in_8bit=True)
    for option in ("device_map", "load_in_4bit"):
        with pytest.raises(InputError, match=f"'clip-flant5-xxl' takes no `{option}=`"):
            load("clip-flant5-xxl", **{option: "auto"})
