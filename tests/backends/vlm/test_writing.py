"""Texts behind shared prefixes: each real class, small, against a model that shares nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

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
        {"return_dict_in_generate": True, "output_scores": True},
        {"num_return_sequences": 3, "do_sample": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_settings_of_generation_in_a_checkpoint_hold_behind_a_prefix(folder, images, settings):
    texts = []
    for share in (True, False):
        scorer = load(folder, share=share)
        for name, value in settings.items():
            setattr(scorer.network.generation_config, name, value)
        if "use_cache" in settings:  # a written image token would be read as one of an image
            image_token = scorer.network.config.image_token_id
            scorer.network.generation_config.suppress_tokens = [image_token]
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
    listed_prompts = [prompt for prompt in PROMPTS for _ in images]
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
                scorer, lambda w=writing: list(scorer.write_passes(media, listed_prompts, w))
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


def test_beams_that_a_checkpoint_returns_are_no_texts_of_other_prompts(folder, images):
    """One text of each prompt is asked for, the best."""
    best, all_beams = load(folder), load(folder)
    best.network.generation_config.num_beams = 3
    all_beams.network.generation_config.num_beams = 3
    all_beams.network.generation_config.num_return_sequences = 3
    for writing in (WRITINGS["likeliest"], WRITINGS["sampled"]):
        texts = [write(scorer, images, PROMPTS, writing) for scorer in (best, all_beams)]
        assert texts[0] == texts[1]


def test_a_text_that_ends_before_others_of_its_batch_holds_no_padding(folder):
    """Also where the padding is a token of text, as it is in some checkpoints."""
    scorer = load(folder)
    images = [open_media(draw_image(n, (60, 40))) for n in range(6)]
    expected = write(scorer, images, PROMPTS[:2], Writing(6))
    tokens = scorer.prompt_builder.encode
    ends = {tokens(text.text)[3] for (text,) in expected[:4] if len(tokens(text.text)) > 3}
    settings = scorer.network.generation_config
    settings.eos_token_id, settings.pad_token_id = [*ends, *range(60, 160)], tokens("cat")[0]
    together = write(scorer, images, PROMPTS[:2], Writing(6))
    alone = [write(scorer, [i], [p], Writing(6))[0] for i in images for p in PROMPTS[:2]]
    assert together == alone
    lengths = {len(tokens(text.text)) for (text,) in together}
    assert len(lengths) > 1, "some end before others"


@pytest.mark.parametrize("share", [True, False])
def test_no_other_thread_uses_the_network_while_it_writes(share, folder, images, monkeypatch):
    """The network keeps positions of what it read last, which another call would change."""
    scorer = load(folder, share=share, batch_size=1)
    other, generate, writing = scorer.with_template(), scorer.network.generate, []

    def is_free():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(take_and_give_back, other._lock).result()

    def watched(**inputs):
        writing.append(is_free())
        return generate(**inputs)

    monkeypatch.setattr(scorer.network, "generate", watched)
    with torch.inference_mode():
        between = [is_free() for _ in scorer.write_passes(images, PROMPTS, Writing(2))]
    assert writing == [False] * len(PROMPTS)
    assert between == [True] * len(PROMPTS)


def take_and_give_back(lock):
    taken = lock.acquire(blocking=False)
    if taken:
        lock.release()
    return taken


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
    scorer.reader.writes_behind_prefix = None  # as for classes that no test covers
    monkeypatch.setattr(prefix, name, fault)
    for writing in WRITINGS.values():
        assert write(scorer, images, PROMPTS, writing) == write(whole, images, PROMPTS, writing)
    assert scorer.reader.writes_behind_prefix is False


def test_a_network_is_tried_once_for_all_copies(tmp_path_factory, monkeypatch):
    scorer = load(save_tiny(tmp_path_factory, TINY["qwen3_5"]))
    tries = []
    attempt = type(scorer)._try_prefix
    monkeypatch.setattr(
        type(scorer), "_try_prefix", lambda self: tries.append(self) or attempt(self)
    )
    for _ in range(3):
        scorer.generate([draw_image(0, (60, 40))] * 2, PROMPTS[:2], max_new_tokens=2)
    assert len(tries) == 1


def test_too_little_memory_says_nothing_about_prefixes(tmp_path_factory, images, monkeypatch):
    writing = Writing(4, temperature=1.0)
    scorer = load(save_tiny(tmp_path_factory, TINY["qwen2_5_vl"]))
    expected = write(scorer, images, PROMPTS, writing)
    scorer.reader.writes_behind_prefix = None

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(scorer.network, "generate", full)
        with pytest.raises(AssertionError, match="memory of cpu"):
            write(scorer, images, PROMPTS, writing)
    assert scorer.reader.writes_behind_prefix is None
    assert write(scorer, images, PROMPTS, writing) == expected
    assert scorer.reader.writes_behind_prefix is True


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
