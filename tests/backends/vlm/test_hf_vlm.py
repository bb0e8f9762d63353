"""Vision-language models of transformers: each real class, small, against itself unshared."""

from __future__ import annotations

import shutil
from inspect import signature

import numpy as np
import pytest
import torch
from helpers.models.geometry import observed_geometry
from helpers.models.tiny_vlm import OPTIONS, TINY, save_tiny
from helpers.toy import draw_image
from transformers import AutoModelForImageTextToText, AutoProcessor

import t2v_eval
from t2v_eval.backends.vlm.hf_vlm import RULES, HfVlm
from t2v_eval.backends.vlm.prompting import STYLES
from t2v_eval.backends.vlm.reading.inputs import append_tokens
from t2v_eval.backends.vlm.reading.prefix import Prefix
from t2v_eval.backends.vlm.transformers_vision import VisionEncoder
from t2v_eval.errors import (
    CheckpointError,
    InputError,
    MediaError,
    MissingPackageError,
    T2VWarning,
    UnsupportedError,
)
from t2v_eval.registry import models
from t2v_eval.scoring.plan import Block

TEXTS = ["cat", "the tall lighthouse stands next to the calm river " * 3, "two dogs", ""]
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'


@pytest.fixture(scope="session", params=TINY)
def kind(request):
    return request.param


@pytest.fixture(scope="session")
def folder(kind, tmp_path_factory):
    return save_tiny(tmp_path_factory, TINY[kind])


@pytest.fixture(scope="session")
def make(kind, folder):
    return lambda **options: load(folder, **{**OPTIONS.get(kind, {}), **options})


@pytest.fixture(scope="session")
def scorer(make):
    return make()


@pytest.fixture(scope="session")
def qwen(tmp_path_factory):
    return save_tiny(tmp_path_factory, TINY["qwen2_5_vl"], "Qwen")


@pytest.fixture(scope="session")
def images():
    return [draw_image(seed, size) for seed, size in enumerate([(40, 90), (80, 30), (56, 56)])]


@pytest.fixture(scope="session")
def plain(kind, folder):
    """One pair at a time through processor, chat template and model as they come: the oracle."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)

    @torch.no_grad()
    def score(image, question: str, answer: str) -> float:
        prompt_tokens = [{"type": "image", "image": image}, {"type": "text", "text": question}]
        if processor.chat_template:
            inputs = processor.apply_chat_template(
                [{"role": "user", "content": prompt_tokens}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        else:
            inputs = processor(images=image, text=f"<image>{question}", return_tensors="pt")
            inputs.pop("labels")
        end = processor.tokenizer.convert_tokens_to_ids(END.get(kind, "<|im_end|>"))
        words = [*processor.tokenizer(answer, add_special_tokens=False).input_ids, end]
        for name, value in inputs.items():
            if value.shape == inputs["input_ids"].shape and name != "input_ids":
                item = name == "attention_mask" or (kind == "paligemma" and name != "input_ids")
                inputs[name] = torch.cat([value, torch.full((1, len(words)), int(item))], 1)
            elif name == "cross_attention_mask":
                more = value[:, -1:].expand(-1, len(words), -1, -1)
                inputs[name] = torch.cat([value, more], 1)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([words])], 1)
        logits = model(**inputs).logits[0, -len(words) - 1 : -1]
        return float(logits.log_softmax(-1).gather(1, torch.tensor(words)[:, None]).mean().exp())

    return score


END = {"gemma3": "<end_of_turn>", "paligemma": "<eos>", "mllama": "<|eot_id|>"}


def load(checkpoint, **options):
    return t2v_eval.load(f"hf-vlm:{checkpoint}", device="cpu", **options)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (QUESTION, "Yes"),
        ("", "{}"),
        ("{} or {}?", "No, {}"),
        ("{}", "a long answer " * 9),
        ("{}", ""),
    ],
)
def test_shared_work_gives_what_one_pair_at_a_time_gives(scorer, plain, images, question, answer):
    prompt_tokens = {"question_template": question, "answer_template": answer}
    scores = scorer(images, TEXTS, **prompt_tokens)
    for i, j in [(0, 1), (1, 0), (1, 2), (2, 3)]:  # each image, and each text
        words = (template.replace("{}", TEXTS[j]) for template in (question, answer))
        expected = plain(images[i], *words)
        np.testing.assert_allclose(scores[i, j], expected, rtol=1e-4, atol=1e-7)
    alone = float(scorer(images[0], TEXTS[1], **prompt_tokens))
    assert alone == pytest.approx(float(scores[0, 1]), rel=1e-4)


# Small models with a card of their kind; those of LLaVA-1.5 and 1.6 pad an image in another layout.
CARD_OF = {
    "llava_onevision": "llava-onevision-qwen2-7b-ov",
    "qwen2_vl": "qwen2-vl-2b",
    "qwen2_5_vl": "qwen2.5-vl-3b",
    "qwen3_vl": "qwen3-vl-2b",
    "qwen3_vl_moe": "qwen3-vl-30b-a3b",
    "qwen3_5": "qwen3.5-4b",
    "internvl": "internvl3-8b",
    "gemma3": "gemma-3-4b-it",
    "paligemma": "paligemma-3b-mix-224",
    "mllama": "llama-3.2-11b-vision-instruct",
    "perception_lm": "perception-lm-1b",
}


def test_an_image_is_cut_or_stretched_as_the_card_of_its_kind_says(kind, scorer):
    assert CARD_OF.keys() | {"llava", "llava_next"} == TINY.keys()
    if kind in CARD_OF:
        assert observed_geometry(scorer) == models.card(CARD_OF[kind]).geometry


NOT_SHARED = {  # images that look at the text; memories that cannot be packed
    ("paligemma", "packed"),
    ("paligemma", "repeated"),
    ("qwen3_5", "packed"),
}
SHAPES = [(1, 4), (6, 1), (3, 4)]  # images and texts
SIX_TEXTS = [TEXTS[n % 4] + str(n) for n in range(6)]


@pytest.fixture(scope="session")
def oracle(make):
    apart = make(share=False)
    assert apart.sharing_mode == "one by one"
    return apart


@pytest.fixture(scope="session")
def six_images(images):
    return [*images, *(draw_image(7 + n, (30 + 13 * n, 61)) for n in range(3))]


@pytest.fixture(scope="session")
def apart(oracle, six_images):
    """Scores of images and texts of every shape, and of pairs, that share nothing."""
    scores = [oracle(six_images[:rows], TEXTS[:columns]) for rows, columns in SHAPES]
    return scores, oracle.score_pairs(six_images, SIX_TEXTS)


@pytest.fixture(scope="session")
def chosen(scorer):
    """The mode that is chosen by itself."""
    return scorer.reader.mode


@pytest.mark.parametrize("share", [True, "packed", "repeated", "vision"])
def test_every_mode_gives_what_pairs_by_themselves_give(
    kind, make, oracle, apart, chosen, six_images, share
):
    if (kind, share) in NOT_SHARED:
        with pytest.raises(UnsupportedError, match=f"`share='{share}'` is not possible here; use"):
            make(share=share)
        return
    scorer = make(share=share)
    assert scorer.id == oracle.id
    scorer.room = 10**6  # tokens in a batch
    assert scorer.reader.mode == (chosen if share is True else share)
    assert scorer.reader.batches_images
    if share == chosen:  # which is what True reads with
        return
    requested, pairs = apart
    for (rows, columns), expected in zip(SHAPES, requested, strict=True):
        result = scorer(six_images[:rows], TEXTS[:columns])
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    result = scorer.score_pairs(six_images, SIX_TEXTS)
    np.testing.assert_allclose(result, pairs, rtol=1e-5, atol=1e-6)


def test_a_score_does_not_depend_on_its_batch(scorer, images):
    together = scorer(images, TEXTS)
    backwards = scorer(images[::-1], TEXTS[::-1]).flip(0, 1)
    alone = torch.tensor([[float(scorer(image, text)) for text in TEXTS] for image in images])
    np.testing.assert_allclose(backwards, together, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(
        scorer.score_pairs(images, TEXTS[:3]), together.diagonal(), rtol=1e-4, atol=1e-7
    )


def test_an_image_is_seen_and_read_once(kind, make, images):
    scorer = make(keep_bytes=0)
    scorer.room = 10**6
    network, features, read, rows = scorer.network.base_model, [], [], []
    towers = ("vision_tower", "visual", "vision_model")
    tower = next(getattr(network, name) for name in towers if hasattr(network, name))

    def look(_, args, kwargs):
        features.append(next(t.numel() for t in [*args, *kwargs.values()] if t.is_floating_point()))

    tower.register_forward_pre_hook(look, with_kwargs=True)
    network.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(len(kwargs.get("input_ids", ()))), with_kwargs=True
    )
    gather = scorer.rule.gather
    scorer.rule.gather = lambda log_p, labels: rows.append(len(log_p)) or gather(log_p, labels)
    scorer([*images, images[0]], TEXTS)
    # All pixels once; images whose pixels have the same shape are seen together.
    pixels = [scorer.prompt_builder.image_inputs(image)["pixel_values"] for image in images]
    assert sum(features) == sum(p.numel() for p in pixels)
    assert len(features) == len({p.shape[1:] for p in pixels})
    # An image that looks at the text is read with each; a memory takes one image at a time.
    assert sum(read) == (12 if kind == "paligemma" else 3)
    assert len([count for count in read if count]) == (3 if kind == "qwen3_5" else 1)
    assert sum(rows) == 3 * 4 * len(scorer.prompt_builder.tokenize("", "Yes").answer)


def test_pairs_of_like_length_are_read_together(qwen):
    """Whatever their order, so that hardly anything of a batch is filling."""
    scorer, shapes = load(qwen, batch_size=3), []
    scorer.room = 10**6
    texts = ["dog " * (1 + (5 * n) % 12) for n in range(12)]
    images = [draw_image(n, (56, 56)) for n in range(12)]
    (state,) = scorer.encode_images([scorer.preprocess(images[0])])
    prompt_tokens = scorer.build_prompt(state, texts).prompts.values()
    image_length = state.row["input_ids"].shape[1]
    lengths = sorted(image_length + len(a.prompt) + len(a.answer) - 1 for a in prompt_tokens)
    scorer.network.base_model.register_forward_pre_hook(
        lambda _, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    scorer.score_pairs(images, texts)
    assert shapes == [(3, lengths[n + 2]) for n in range(0, 12, 3)]


def test_texts_hold_no_control_tokens(scorer, images):
    chat = scorer.prompt_builder
    original = [str(t) for t in chat.tokenizer.added_tokens_decoder.values() if t.special]
    for text in [*original, "an <image> of {} {0} {{x}}", "{", "{% raw %}"]:
        tokens = chat.tokenize(f"{text} here", "Yes").prompt
        harmless = chat.tokenize("x here", "Yes").prompt
        ids = {chat.tokenizer.convert_tokens_to_ids(token) for token in original}
        assert [t for t in tokens if t in ids] == [t for t in harmless if t in ids]
        assert scorer(images[0], [text, "cat"]).isfinite().all()


def test_long_texts_are_cut_and_their_answers_are_not(scorer, images):
    long = "two small dogs " * 400
    with pytest.warns(T2VWarning, match="1 of 2 texts"):
        scores = scorer(images[0], ["cat", long])
    assert scores.isfinite().all()
    assert float(scores[0, 0]) == pytest.approx(float(scorer(images[0], "cat")), rel=1e-4)
    with pytest.warns(T2VWarning, match="1 of 1 texts"):
        assert scorer(images[0], long, template="visualgptscore").isfinite().all()
    with pytest.raises(InputError, match="leave no room"):
        scorer(images[0], "cat", question_template=long + "{}")


def test_an_image_that_leaves_no_room_is_the_only_one_that_fails(tmp_path_factory):
    """A large image has more tokens of this model; the question is as long for all."""
    folder = save_tiny(tmp_path_factory, TINY["internvl"])
    small, large = draw_image(0, (30, 30)), draw_image(1, (300, 300))
    builder = load(folder).prompt_builder
    lengths = [builder.image_inputs(image)["input_ids"].shape[1] for image in (small, large)]
    question = sum(map(len, load(folder)._encode_question("", "")))
    question += 4  # for the text
    scorer = load(folder, context=lengths[0] + question, on_error="skip")
    assert lengths[1] > lengths[0]
    result = scorer.evaluate_blocks([Block([large, small], ["a"])], progress=False)
    assert np.isnan(result.scores[0][:, 0]).tolist() == [True, False]
    (reason,) = result.failures.values()
    assert f"it takes {lengths[1]} of the {scorer.prompt_builder.context} tokens" in reason
    with pytest.raises(MediaError, match="no room for a question; use smaller images"):
        scorer.generate(large, "a", max_new_tokens=4)


def test_sharing_that_changes_something_is_given_up(qwen, images, monkeypatch):
    expected = load(qwen)(images, TEXTS)

    def given_up_to(mode, together=True):
        scorer = load(qwen)
        assert (scorer.reader.mode, scorer.reader.batches_images) == (mode, together)
        np.testing.assert_allclose(scorer(images, TEXTS), expected, rtol=1e-4, atol=1e-7)

    monkeypatch.setattr("t2v_eval.backends.vlm.tested_classes.tested_classes", frozenset)
    given_up_to("packed")
    monkeypatch.setattr(Prefix, "_masks", lambda *_: None)
    given_up_to("repeated")
    monkeypatch.setattr(Prefix, "_read_repeated", lambda *_: [])
    given_up_to("vision")
    monkeypatch.setattr("t2v_eval.backends.vlm.reading.reader.batch_rows", lambda rows, *_: rows[0])
    given_up_to("vision", together=False)
    monkeypatch.setattr(VisionEncoder, "encode", lambda *_: {}["nothing"])
    given_up_to("none", together=False)
    with pytest.raises(
        UnsupportedError, match="`share='vision'` .* changes what this model answers"
    ):
        load(qwen, share="vision")


def test_generate(kind, folder, scorer, images):
    prompts = ["Describe the picture.", "What is this? " * 9, "a"]
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    generated = scorer.generate(images, prompts, max_new_tokens=5)
    for image, prompt, text in zip(images, prompts, generated, strict=True):
        inputs = scorer.prompt_builder.image_inputs(image)
        inputs = append_tokens(inputs, scorer.prompt_builder.tokenize(prompt, "").prompt)
        result = model.generate(**inputs, max_new_tokens=5, do_sample=False)[0]
        answer = result[inputs["input_ids"].shape[1] :].tolist()
        assert (
            text == scorer.prompt_builder.tokenizer.decode(answer, skip_special_tokens=True).strip()
        )
    with pytest.warns(T2VWarning, match="1 of 1 texts"):
        scorer.generate(images[0], "two small dogs " * 400, max_new_tokens=2)


def test_text_without_an_image_is_that_of_the_model_alone(qwen):
    scorer = load(qwen)
    model = AutoModelForImageTextToText.from_pretrained(qwen).eval()
    processor = AutoProcessor.from_pretrained(qwen)
    prompt = "Which things does the caption name? a red cube"
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "text", "text": prompt}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    result = model.generate(**inputs, max_new_tokens=5, do_sample=False)[0]
    expected = processor.decode(result[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert scorer.write_text(prompt, 5) == (expected.strip(), False)
    model.generation_config.eos_token_id = scorer.network.generation_config.eos_token_id = [
        result[inputs["input_ids"].shape[1]].item()
    ]
    assert scorer.write_text(prompt, 5)[1]  # whole, as it ends by itself
    with pytest.raises(InputError, match="control token"):
        scorer.write_text("<|im_end|>", 5)
    with pytest.raises(InputError, match="reads .* with the reply"):
        scorer.write_text(prompt, 10**6)
    with pytest.raises(UnsupportedError, match="`chat=` is a text around an image"):
        load(qwen, chat="user-assistant").write_text(prompt, 5)


def test_texts_about_images_that_are_alike_are_written_together(kind, make, monkeypatch):
    scorer = make(batch_size=4)
    alike = [draw_image(seed, (56, 56)) for seed in range(3)]
    prompt_tokens = [*alike, draw_image(3, (90, 40)), alike[0]]
    prompts = ["What is this?"] * 4 + ["And what is that?"]
    alone = [
        scorer.generate(i, p, max_new_tokens=6)[0]
        for i, p in zip(prompt_tokens, prompts, strict=True)
    ]
    scorer._shares_prefixes()  # tried once, where no test covers the network
    rows, generate = [], scorer.network.generate

    def count(**options):
        rows.append(len(options["input_ids"]))
        return generate(**options)

    monkeypatch.setattr(scorer.network, "generate", count)
    assert scorer.generate(prompt_tokens, prompts, max_new_tokens=6) == alone
    assert sum(rows) == 5 and max(rows) >= 3
    assert len({*alone}) > 2 or kind == "qwen3_5"  # whose small weights say little


def test_explain(scorer, images):
    scores = scorer(images[:2], TEXTS[:2])
    result = scorer.explain(images[:2], TEXTS[:2], top=3)
    for i in range(2):
        for j in range(2):
            item = result[i][j]
            assert item.score == pytest.approx(float(scores[i, j]), rel=1e-4)
            assert TEXTS[j].strip() in item.prompt
            chances = [token.probability for token in item.tokens]
            assert item.score == pytest.approx(float(np.exp(np.log(chances).mean())), rel=1e-4)
            assert "Yes" in "".join(token.token for token in item.tokens)
            assert all(len(token.alternatives) == 3 for token in item.tokens)
            assert item.tokens[0].alternatives[0][1] >= chances[0] - 1e-6
    assert " x " in result[0][0].prompt or "image" in result[0][0].prompt
    assert str(result[0][0]).startswith(f"{result[0][0].score:.4f}\n{result[0][0].prompt}\n  ")
    assert scorer.explain(images[0], "cat", answer_template="No")[0][0].tokens[0].token[0] == "N"


def test_many_texts_are_read_in_several_rows(scorer, images, monkeypatch):
    expected = scorer(images[0], TEXTS)
    monkeypatch.setattr("t2v_eval.backends.vlm.reading.prefix.MAX_BATCH_TOKENS", 40)
    np.testing.assert_allclose(scorer(images[0], TEXTS), expected, rtol=1e-4, atol=1e-7)


def test_a_model_that_changes_its_logits_is_refused(qwen, monkeypatch):
    from transformers import Qwen2_5_VLForConditionalGeneration as Network

    forward = Network.forward

    def louder(self, *args, **kwargs):
        result = forward(self, *args, **kwargs)
        result.logits = result.logits * 3
        return result

    monkeypatch.setattr(Network, "forward", louder)
    with pytest.raises(UnsupportedError, match="changes its logits in a way"):
        load(qwen)


def test_cards_and_arguments_say_how_a_model_is_asked(qwen, images):
    plain, other = load(qwen), load(qwen, system="Be brief.", rule="first-token")
    assert other.id != plain.id
    assert "system='Be brief.'" in other.id
    assert "rule=first-token" in other.id
    assert plain.card.kind == "vqa"
    assert not np.allclose(other(images, TEXTS), plain(images, TEXTS))
    with pytest.raises(InputError, match="`style='paligemma'` takes no chat"):
        load(qwen, chat="USER: <image>{}", style="paligemma")
    with pytest.raises(InputError, match="style='chatty'"):
        load(qwen, style="chatty")


def test_placement_and_attention(qwen, images):
    expected = load(qwen)(images, TEXTS)
    placed = load(qwen, device_map={"": "cpu"})
    np.testing.assert_allclose(placed(images, TEXTS), expected, rtol=1e-5)
    eager = load(qwen, attn_implementation="eager")
    assert "attention=eager" in eager.id
    np.testing.assert_allclose(eager(images, TEXTS), expected, rtol=1e-4)
    with pytest.raises(MissingPackageError, match="pip install bitsandbytes"):
        load(qwen, load_in_4bit=True)
    with pytest.raises(InputError, match="pass one of them"):
        load(qwen, load_in_4bit=True, load_in_8bit=True)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(qwen, attn_implementation="flash_attention_2")


def test_what_cannot_be_asked_is_refused(qwen, tmp_path):
    mute = tmp_path / "mute"
    shutil.copytree(qwen, mute)
    template = mute / "chat_template.jinja"
    source = template.read_text()
    template.write_text("{{ messages[0].content[1].text }} <|image_pad|>")
    with pytest.raises(CheckpointError, match="the image first"):
        load(mute)
    template.write_text(source.replace("{{ c.text }}", "{{ c.text }}{{ c.text }}"))
    with pytest.raises(CheckpointError, match="hold both once"):
        load(mute)
    template.unlink()
    with pytest.raises(CheckpointError, match="has no chat template"):
        load(mute)
    (mute / "config.json").write_text(
        '{"model_type": "ours", "auto_map": {"AutoConfig": "ours.Config"}}'
    )
    for text_out in ("False", "no", 0.5):
        with pytest.raises(InputError, match="`trust_remote_code=.*; use True or False"):
            load(qwen, trust_remote_code=text_out)
    with pytest.raises(CheckpointError, match="pass `trust_remote_code=True` if you trust it"):
        load(mute)


CARDS = {n: c for n, c in models.cards.items() if c.entry == "HfVlm"}


@pytest.mark.parametrize("name", CARDS)
def test_every_card_can_be_asked(name):
    card = CARDS[name]
    text_out = card.verified.partition(":")[0]
    assert text_out in ("golden", "architecture", "unverified")
    assert card.args.get("rule", "answer") in RULES
    assert card.args.get("style", "template") in STYLES
    assert card.args.get("template", "vqascore") in t2v_eval.list_templates()
    sampled = {*signature(HfVlm.__init__).parameters, "template"}
    assert set(card.args) <= sampled


def test_a_card_s_question_yields_to_the_user_s(qwen, images):
    card = t2v_eval.load("qwen2.5-vl-7b", checkpoint=qwen, device="cpu")
    assert card.template.question == 'Does this figure show "{}"? Please answer Yes or No.'
    assert "rule=first-token" in card.id
    custom = t2v_eval.load("qwen2.5-vl-7b", checkpoint=qwen, device="cpu", question_template="{}?")
    assert custom.template.question == "{}?"
    settings = models.card("qwen2.5-vl-7b").args["image_settings"]
    plain = load(qwen, rule="first-token", image_settings=settings)
    plain = plain(images, TEXTS, template="vqascore-capital")
    np.testing.assert_allclose(card(images, TEXTS), plain, rtol=1e-6)


def test_a_scorer_says_how_it_works(qwen):
    scorer = load(qwen, batch_size=4)
    execution = {"device": "cpu", "dtype": "float32", "attention": "sdpa"}
    assert execution.items() <= scorer.execution.items()
    assert scorer.execution["batch_size"] == "4"
    assert scorer.sharing_mode == scorer.execution["mode"] == "prefix shared, packed"
    assert load(qwen, share=False).sharing_mode == "one by one"


def test_attention_that_takes_no_mask_reads_starts_repeated(qwen, images, monkeypatch):
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    def causal(module, query, key, value, attention_mask, **options):
        assert attention_mask is None or attention_mask.dtype is torch.bool, "a mask of ours"
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)

    AttentionInterface.register("without_masks", causal)
    AttentionMaskInterface.register("without_masks", sdpa_mask)
    scorer = load(qwen, attn_implementation="without_masks")
    assert scorer.sharing_mode == "prefix shared, repeated"
    np.testing.assert_allclose(scorer(images, TEXTS), load(qwen)(images, TEXTS), rtol=1e-4)
