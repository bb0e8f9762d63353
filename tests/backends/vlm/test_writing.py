"""Texts behind shared prefixes: each real class, small, against a model that shares nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.models.tiny_vlm import OPTIONS, TINY, save_tiny
from helpers.models.tiny_vlm_more import CARDED, OTHERS
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.backends.vlm.reading import prefix
from t2v_eval.inputs.media import open_media
from t2v_eval.scoring.generation import Writing

KINDS = TINY | CARDED | OTHERS
UNSHARED = {"paligemma", "lfm2_vl"}  # their images see the question; their layers keep no prefix
PROMPTS = ["Is it a cat?", "Is it a dog that runs by the river?", "two dogs"]
SIZES = [(60, 40), (30, 64), (60, 40)]
WRITINGS = {
    "likeliest": Writing(7),
    "sampled": Writing(5, temperature=1.0),
    "three passes": Writing(5, temperature=1.0, passes=3),
}


@pytest.fixture(scope="module")
def images():
    return [open_media(draw_image(n, size)) for n, size in enumerate(SIZES)]


@pytest.fixture(scope="module", params=["llava", "qwen2_5_vl"])
def folder(request, tmp_path_factory):
    return save_tiny(tmp_path_factory, TINY[request.param])


def load(folder, kind="", **options):
    return t2v_eval.load(f"hf-vlm:{folder}", device="cpu", **{**OPTIONS.get(kind, {}), **options})


def write(scorer, images, prompts, writing):
    """All prompts about each image, as texts in this order."""
    texts = {}
    media = [image for image in images for _ in prompts]
    with torch.inference_mode():
        for numbers, written in scorer.write_passes(media, prompts * len(images), writing):
            assert not isinstance(written, str), written
            texts |= zip(numbers, written, strict=True)
    return [texts[n] for n in range(len(media))]


def count_tokens(scorer, work):
    """How many tokens the language model reads."""
    tokens = 0
    layers = [
        module
        for name, module in scorer.network.base_model.named_modules()
        if name.endswith("layers.0") and "language" in name
    ]

    def hook(_, args, kwargs):
        nonlocal tokens
        states = args[0] if args else kwargs["hidden_states"]
        tokens += states.shape[0] * states.shape[1]

    handle = layers[0].register_forward_pre_hook(hook, with_kwargs=True)
    work()
    handle.remove()
    return tokens


@pytest.mark.parametrize("kind", KINDS)
def test_texts_behind_a_shared_prefix_are_those_of_prompts_read_as_a_whole(
    kind, tmp_path_factory, images
):
    folder = save_tiny(tmp_path_factory, KINDS[kind])
    shared, whole = (load(folder, kind, share=share) for share in (True, False))
    for writing in WRITINGS.values():
        texts = write(shared, images, PROMPTS, writing)
        assert texts == write(whole, images, PROMPTS, writing)
        assert len(set(map(str, texts))) > 1, "they depend on image and prompt"
    assert shared.reader.shares_prefixes is (kind not in UNSHARED)


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 1},
        {"num_beams": 3},
        {"cache_implementation": "static"},
        {"cache_implementation": "dynamic", "do_sample": True, "top_k": 3, "temperature": 0.5},
        {"prefill_chunk_size": 4},
        {"use_cache": False},
        {"min_new_tokens": 3, "suppress_tokens": [5, 6, 7], "bad_words_ids": [[9, 10]]},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_of_generation_in_a_checkpoint_hold_behind_a_prefix(folder, images, settings):
    texts = []
    for share in (True, False):
        scorer = load(folder, share=share)
        for name, value in settings.items():
            setattr(scorer.network.generation_config, name, value)
        texts.append(
            [write(scorer, images, PROMPTS, WRITINGS[k]) for k in ("likeliest", "sampled")]
        )
        for name, value in settings.items():
            assert getattr(scorer.network.generation_config, name) == value
    assert texts[0] == texts[1]


def test_an_image_is_read_once_for_all_its_prompts(folder):
    """Also where there are more images than are read together, and prompts in any order."""
    scorer = load(folder)
    images = [open_media(draw_image(n, (60, 40))) for n in range(scorer.image_batch.value + 2)]
    media = images * len(PROMPTS)
    asked = [prompt for prompt in PROMPTS for _ in images]
    encode = scorer.prompt_builder.tokenize
    prompts = [encode(prompt, "").prompt for prompt in PROMPTS]
    begin = next(n for n in range(99) if len({tuple(p[: n + 1]) for p in prompts}) > 1)
    lengths = [
        scorer.prompt_builder.image_inputs(image.load())["input_ids"].shape[1] for image in images
    ]
    suffixes = sum(len(p) - begin for p in prompts)
    for writing, expected in (
        (Writing(1), sum(lengths) + len(images) * (begin + suffixes)),
        # The image, each prompt but its last token once, and that token for each pass.
        (
            Writing(1, temperature=1.0, passes=3),
            sum(lengths) + len(images) * sum(len(p) + 2 for p in prompts),
        ),
    ):
        with torch.inference_mode():
            tokens = count_tokens(
                scorer, lambda w=writing: list(scorer.write_passes(media, asked, w))
            )
        assert tokens == expected


def test_texts_of_an_image_are_the_same_among_any_others(folder, images):
    scorer = load(folder)
    for writing in WRITINGS.values():
        together = write(scorer, images, PROMPTS, writing)
        alone = [write(scorer, [i], [p], writing)[0] for i in images for p in PROMPTS]
        backwards = write(scorer, images[::-1], PROMPTS[::-1], writing)[::-1]
        assert together == alone == backwards


def test_probabilities_of_digits_behind_a_prefix_are_those_of_the_whole(folder, images):
    """A random model writes no grades, so the tokens of an answer are given."""
    shared, whole = (load(folder, share=share) for share in (True, False))
    answer = shared.prompt_builder.encode("dogs 3 apples 2")
    listed = []
    with torch.inference_mode():
        for scorer in (shared, whole):
            questions = scorer._questions([(i, p) for i in images for p in PROMPTS], 8)
            prefill = scorer._prefill(questions, Writing(8, grades=4))
            assert bool(prefill.prefixes) is (scorer is shared)
            listed.append([scorer._digits(q, prefill, answer, 4) for q in questions])
    for ours, theirs in zip(*listed, strict=True):
        assert [d.token for d in ours] == [d.token for d in theirs] == ["3", "2"]
        for first, second in zip(ours, theirs, strict=True):
            assert first.probabilities == pytest.approx(second.probabilities, rel=1e-4)


def wrong_positions(network, offsets):
    network.rope_deltas = torch.full((len(offsets), 1), 9)


def wrong_layers(*_):
    raise TypeError("no such layer")


@pytest.mark.parametrize(
    ("name", "fault"), [("set_position_offsets", wrong_positions), ("prefix_cache", wrong_layers)]
)
def test_a_network_that_writes_otherwise_behind_a_prefix_reads_prompts_as_a_whole(
    name, fault, tmp_path_factory, images, monkeypatch
):
    folder = save_tiny(tmp_path_factory, TINY["qwen2_5_vl"])
    scorer, whole = load(folder), load(folder, share=False)
    scorer._writes_behind_prefix = None  # as for classes that no test covers
    monkeypatch.setattr(prefix, name, fault)
    for writing in WRITINGS.values():
        assert write(scorer, images, PROMPTS, writing) == write(whole, images, PROMPTS, writing)
    assert scorer._writes_behind_prefix is False


def test_too_little_memory_says_nothing_about_prefixes(tmp_path_factory, images, monkeypatch):
    writing = Writing(4, temperature=1.0)
    scorer = load(save_tiny(tmp_path_factory, TINY["qwen2_5_vl"]))
    expected = write(scorer, images, PROMPTS, writing)
    scorer._writes_behind_prefix = None

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(scorer.network, "generate", full)
        with pytest.raises(AssertionError, match="memory of cpu"):
            write(scorer, images, PROMPTS, writing)
    assert scorer._writes_behind_prefix is None
    assert write(scorer, images, PROMPTS, writing) == expected
    assert scorer._writes_behind_prefix is True


def test_rope_that_depends_on_the_length_reads_prompts_as_a_whole(tmp_path_factory, images):
    """Its rotation changes while a text is written, so a prefix may have been turned otherwise."""
    scorer = load(save_tiny(tmp_path_factory, TINY["llava"]))
    pairs = [(images[0], prompt) for prompt in PROMPTS]
    questions = scorer._questions(pairs, 4)
    lengths = [question.row["input_ids"].shape[1] for question in questions]
    with torch.inference_mode():
        for limit, shares in ((max(lengths) + 4, True), (max(lengths) + 3, False)):
            scorer.reader.max_stable_length = limit
            for writing in (Writing(4), Writing(4, temperature=1.0)):
                assert bool(scorer._prefill(questions, writing).prefixes) is shares


def test_questions_of_a_video_share_it(tmp_path_factory):
    folder = save_tiny(tmp_path_factory, TINY["qwen2_5_vl"])
    shared, whole = (load(folder, share=share, frames=4) for share in (True, False))
    frames = np.random.default_rng(0).integers(0, 256, (4, 56, 56, 3), dtype=np.uint8)
    video = open_media(t2v_eval.Video.of([draw_image(n, (56, 56)) for n in range(len(frames))]))
    for writing in WRITINGS.values():
        texts = write(shared, [video], PROMPTS, writing)
        assert texts == write(whole, [video], PROMPTS, writing)
