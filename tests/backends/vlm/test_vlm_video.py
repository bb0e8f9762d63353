"""Videos shown to vision-language models: each real class, small, against transformers itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.media.videos import by_hand, encode
from helpers.media.vlm_videos import TEXTS, frames_of, load
from helpers.models.plain_vlm import first_token_of_yes, of_images
from helpers.models.tiny_vlm import TINY, save_tiny
from helpers.models.tiny_vlm_more import CARDED, OTHERS
from helpers.toy import draw_image

import t2v_eval
from t2v_eval.backends.vlm.reading.video import VideoSettings, smart_size, stack_frames
from t2v_eval.errors import InputError, MediaError, UnsupportedError
from t2v_eval.inputs.media import Video, open_media
from t2v_eval.inputs.video import Clip, Sampling, clip, sampling_of
from t2v_eval.registry import models

KINDS = {**TINY, **CARDED, **OTHERS}
KINDS.pop("paligemma")  # reads one image
# Those that have a place for videos; others are shown several images.
NATIVE = {"llava_onevision", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5"}
NATIVE |= {"internvl", "perception_lm", "smolvlm", "molmo2", "gemma4", "gemma4_unified"}
NATIVE |= {"qwen3_omni"}
UNSHARED = {("qwen3_5", "packed"), ("lfm2_vl", "packed"), ("lfm2_vl", "repeated")}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return save_tiny(tmp_path_factory, KINDS[kind])


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return save_tiny(tmp_path_factory, TINY["qwen2_5_vl"])


def asked_plainly(folder, native, videos, texts) -> list[list[float]]:
    """Of frames, 2 of which make a second, as a video or as images."""
    score = first_token_of_yes(folder)

    def of(frames, text: str) -> float:
        if not native:
            return score(of_images(frames), text)
        message = {"total_num_frames": len(frames), "fps": 2.0, "duration": len(frames) / 2}
        message["frames_indices"] = list(range(len(frames)))
        film = {"type": "video", "video": [np.asarray(frame) for frame in frames]}
        return score([film], text, do_sample_frames=False, video_metadata=[message])

    return [[of(frames, text) for text in texts] for frames in videos]


def test_a_video_scores_as_transformers_scores_it(kind, folder):
    videos = [frames_of(seed) for seed in range(2)]
    expected = asked_plainly(folder, kind in NATIVE, videos, TEXTS)
    media = [Video.of(frames, fps=2.0) for frames in videos]
    scorer = load(folder, rule="first-token")
    np.testing.assert_allclose(scorer(media, TEXTS), expected, rtol=1e-4, atol=1e-9)
    assert len(np.unique(expected)) == 8


@pytest.fixture(scope="module")
def media():
    """Videos of several lengths, and images among them."""
    return [
        Video.of(frames_of(0, 5), 2.0),
        draw_image(3, (50, 50)),
        Video.of(frames_of(1, 5), 2.0),
        Video.of(frames_of(2, 2), 2.0),
        draw_image(4, (40, 60)),
    ]


@pytest.fixture(scope="module")
def apart(folder, media):
    """A scorer that shares nothing, its scores, and the mode that is chosen by itself."""
    scorer = load(folder, share=False, frames=4)
    return scorer, scorer(media, TEXTS), load(folder, frames=4).reader.mode


@pytest.mark.parametrize("share", [True, "packed", "repeated", "vision"])
def test_shared_passes_equal_single_ones(kind, folder, apart, media, share):
    if (kind, share) in UNSHARED:
        with pytest.raises(UnsupportedError, match="is not possible here"):
            load(folder, share=share)
        return
    plain, requested, chosen = apart
    scorer = load(folder, share=share, frames=4)
    scorer.room = 10**6
    assert scorer.id == plain.id and scorer.reader.batches_images
    assert scorer.reader.mode == (chosen if share is True else share)
    if share == chosen:  # which is what True reads with
        return
    np.testing.assert_allclose(scorer(media, TEXTS), requested, rtol=1e-5, atol=1e-6)
    pairs = scorer.score_pairs(media[:4], TEXTS)  # of what was kept of the videos and images
    np.testing.assert_allclose(pairs, requested[:4].diagonal(), rtol=1e-5, atol=1e-6)
    assert len(requested.unique()) > 15


def test_a_video_is_seen_and_read_once(kind, folder):
    scorer, features, read = load(folder, frames=4, keep_bytes=0), [], []
    network = scorer.network.base_model
    towers = ("vision_tower", "visual", "vision_model", "embed_vision")
    tower = next(getattr(network, name) for name in towers if hasattr(network, name))

    def look(_, args, kwargs):
        arguments = (t for t in [*args, *kwargs.values()] if isinstance(t, torch.Tensor))
        features.append(next(arguments).numel())

    tower.register_forward_pre_hook(look, with_kwargs=True)
    network.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(len(kwargs.get("input_ids", ()))), with_kwargs=True
    )
    media = [Video.of(frames_of(seed), 2.0) for seed in range(2)]
    rows = [scorer.preprocess(scorer.load(item)).row for item in media]
    names = ("pixel_values", "pixel_values_videos")
    scorer(media, TEXTS)
    assert sum(features) == sum(row[name].numel() for row in rows for name in names if name in row)
    assert sum(read) == (8 if kind == "lfm2_vl" else 2)  # which keeps states that are not shared


def test_the_order_of_frames_matters(qwen):
    scorer, frames = load(qwen), frames_of(0, 6)
    forwards, backwards = scorer([Video.of(frames), Video.of(frames[::-1])], "cat")[:, 0]
    assert abs(forwards - backwards) > 0.01 * forwards


def test_a_video_file_is_its_frames(qwen, tmp_path):
    path = encode(tmp_path / "a.mp4", 20, seed=1)  # 8 frames a second
    frames = by_hand(path)
    for options, requested in (
        ({"frames": 4}, [0, 6, 12, 19]),
        ({"frames": {"count": 4, "choose": "nearest"}}, [0, 6, 13, 19]),
        ({"frames": {"fps": 2.0, "multiple": 2}}, [0, 6, 12, 19]),
        ({}, [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 19]),
    ):
        scorer = load(qwen, context=5000, **options)
        media = open_media(path)
        clip = scorer.load(media)
        assert (clip.places, clip.total, clip.fps) == (requested, 20, 8.0)
        for item, n in zip(clip.frames, requested, strict=True):
            np.testing.assert_array_equal(np.asarray(item), frames[n])
        assert clip.times == [n / 8 for n in requested] and clip.seconds == 2.5
        score = scorer([str(path), path, media], "cat")[:, 0]
        assert score.unique().numel() == 1 and score.isfinite().all()
        all_of_it = scorer(Video.of(frames, fps=8.0), "cat")
        assert float(all_of_it) == pytest.approx(float(score[0]), rel=1e-6)


def test_which_frames_are_in_the_id_and_how_they_are_shown(qwen):
    few = load(qwen, frames=4)
    ids = {load(qwen).id, few.id, load(qwen, frames={"fps": 2.0}).id}
    ids.add(load(qwen, frames=4, video_settings={"as_pictures": True}).id)
    assert len(ids) == 4 and "frames=4" in few.id
    assert load(qwen, frames=4).id == few.id


def test_frames_as_images_with_captions_and_a_lead(qwen):
    messages = {
        "caption": "Frame {number} at {seconds}s:",
        "lead": "{count} in {seconds:.1f} ({times}).",
    }
    scorer = load(qwen, frames=3, video_settings=messages)
    prompt = scorer.explain(Video.of(frames_of(0, 3), fps=3.0), "cat")[0][0].prompt
    parts = ["Frame 1 at 0.0s:", "Frame 2 at 0.33s:", "Frame 3 at 0.67s:"]
    parts += ['3 in 1.0 (0.00s,0.33s,0.67s).Does this figure show "cat"?']
    places = [prompt.index(part) for part in parts]
    assert places == sorted(places) and prompt.count("<|vision_start|>") == 3
    apart = load(qwen, frames=3, video_settings=messages, share=False)
    videos = [Video.of(frames_of(seed, 3), fps=3.0) for seed in range(2)]
    np.testing.assert_allclose(scorer(videos, TEXTS), apart(videos, TEXTS), rtol=1e-5)
    with pytest.raises(InputError, match="caption and lead cannot be filled: 'minutes'"):
        load(qwen, video_settings={"lead": "{minutes}"})


def test_a_wrapper_with_one_place_shows_no_images_in_a_row(qwen):
    around = "<|im_start|>user\n<|vision_start|><image><|vision_end|>{}<|im_end|>\n"
    film = Video.of(frames_of(0))
    assert load(qwen, chat=around)(film, "cat").isfinite().all()
    with pytest.raises(MediaError, match="has a place for one image, between control tokens"):
        load(qwen, chat=around, video_settings={"as_pictures": True})(film, "cat")


def test_text_that_a_processor_puts_behind_a_video(tmp_path):
    """SmolVLM ends frames with two new lines, which its tokenizer may join with what follows."""
    KINDS["smolvlm"](tmp_path)
    scorer = load(tmp_path)
    chat = scorer.prompt_builder
    plain = chat.video_inputs(Clip(frames_of(0), [0, 1, 2, 3], 4, 2.0))
    chat._text_is_lead = True
    cut = chat.video_inputs(Clip(frames_of(0), [0, 1, 2, 3], 4, 2.0))
    assert cut.lead == "\n\n" and plain.lead == ""
    ids = [
        [*clip.row["input_ids"][0].tolist(), *chat.tokenize(f"{clip.lead}Is it?", "").prompt]
        for clip in (plain, cut)
    ]
    assert ids[0] == ids[1] and cut.row["attention_mask"].shape == cut.row["input_ids"].shape


def test_many_videos_at_once_are_what_they_are_alone(tmp_path):
    """Decoding threads do not disturb how questions become tokens beside them."""
    KINDS["internvl"](tmp_path)
    scorer = load(tmp_path, frames=2, context=9000, keep_bytes=0)
    films = [Video.of(frames_of(seed, 2)) for seed in range(16)]
    alone = torch.cat([scorer(film, TEXTS[:3]) for film in films])
    for _ in range(6):
        np.testing.assert_allclose(scorer(films, TEXTS[:3]), alone, rtol=1e-4, atol=1e-7)


def test_nothing_is_tokenized_as_text_of_people_while_videos_are_prepared(qwen, monkeypatch):
    scorer = load(qwen, frames=2)
    monkeypatch.setattr(scorer.prompt_builder, "tokenizer", None)
    assert scorer.preprocess(scorer.load(Video.of(frames_of(0, 2)))).frames == 2


@pytest.mark.parametrize("kind", ["qwen3_vl", "qwen3_5", "qwen2_5_vl", "gemma4"])
def test_one_frame_is_a_video_too(kind, tmp_path):
    """As if it stood still, where a model reads two frames as one."""
    KINDS[kind](tmp_path)
    scorer, frame = load(tmp_path), frames_of(0, 1)
    item, two = Video.of(frame, 2.0), Video.of(frame * 2, 2.0)
    assert scorer(item, "cat").isfinite().all()
    if kind == "qwen2_5_vl":  # which is not told when a frame is seen
        grids = [
            scorer.preprocess(scorer.load(v)).row["video_grid_thw"].tolist() for v in (item, two)
        ]
        assert grids[0] == grids[1]


def qwen_vl_utils(total: int, fps: float) -> list[int]:
    """As its readers do: `smart_nframes` with fps=8, and even steps rounded to the nearest."""
    lower, upper = 4, min(768, total) // 2 * 2
    count = min(min(max(total / fps * 8.0, lower), upper), total)
    return torch.linspace(0, total - 1, int(count // 2 * 2)).round().long().tolist()


def test_frames_of_qwen_are_those_of_qwen_vl_utils():
    sampling = sampling_of({"fps": 8.0, "least": 4, "multiple": 2, "choose": "nearest"})
    same = total = 0
    for frames in range(2, 900, 7):
        for fps in (8.0, 24.0, 25.0, 29.97, 30.0, 60.0):
            mine, reference = sampling.indices(frames, fps), qwen_vl_utils(frames, fps)
            assert len(mine) == len(reference)
            # In float32 a step of theirs may fall on the other side of a half.
            assert np.abs(np.subtract(mine, reference)).max() <= 1
            same, total = same + int(mine == reference), total + 1
    assert same > 0.9 * total


def test_pixels_of_frames():
    settings = VideoSettings.from_mapping({"pixels": (100352, 151200, 90316800)})
    assert settings.frame_pixels(16) == (100352, 151200)
    assert settings.frame_pixels(4000) == (100352, int(1.05 * 100352))
    for height, width in ((720, 1280), (240, 320), (1080, 608), (90, 1200), (33, 41)):
        high, wide = smart_size(height, width, 28, 100352, 151200)
        assert high % 28 == wide % 28 == 0 and high * wide <= 151200 * 1.3
        assert abs(np.log(high / wide) - np.log(height / width)) < 0.35
    assert VideoSettings.from_mapping({"size": {"longest_edge": 9}}).processor == {
        "size": {"longest_edge": 9}
    }


def test_frames_of_limited_pixels_are_shown_as_they_are_resized(qwen):
    """Not resized again; torchvision resizes as we do."""
    from torchvision.transforms.functional import InterpolationMode, resize

    frames = [draw_image(n, (130, 97)) for n in range(4)]
    limits = (28 * 28 * 4, 28 * 28 * 9, 10**9)
    scorer = load(qwen, video_settings={"pixels": limits})
    clip = scorer.load(Video.of(frames, fps=2.0))
    size = smart_size(97, 130, 28, *limits[:2])
    whole = torch.from_numpy(np.stack([np.asarray(frame) for frame in frames])).permute(0, 3, 1, 2)
    reference = resize(whole, size, InterpolationMode.BICUBIC, antialias=True)
    apart = stack_frames(clip).int() - reference.int()
    assert apart.abs().max() <= 1 and len(frames) == len(clip.frames)
    grid = scorer.prompt_builder.video_inputs(clip).row["video_grid_thw"][0].tolist()
    assert grid == [2, size[0] // 14, size[1] // 14]


def test_large_frames_are_made_smaller_as_they_are_decoded(qwen, tmp_path, monkeypatch):
    """At no time are there two whole ones."""
    path, sizes = encode(tmp_path / "a.mp4", 12, seed=1), []
    scorer = load(qwen, frames=12, video_settings={"pixels": (1, 784, 10**9)})
    fit = scorer.prompt_builder.resize_frame

    def note(frame, count):
        sizes.append((frame.size, count))
        return fit(frame, count)

    monkeypatch.setattr(scorer.prompt_builder, "resize_frame", note)
    clip = scorer.load(open_media(path))
    assert sizes == [((32, 24), 12)] * 12 and {f.size for f in clip.frames} == {(28, 28)}


WAYS = {
    "qwen2-vl-7b": ("qwen2_vl", "<|video_pad|>", range(20)),
    "qwen2.5-vl-7b": ("qwen2_5_vl", "<|video_pad|>", range(20)),
    "qwen3-vl-8b": ("qwen3_vl", "<|video_pad|>", range(20)),
    "qwen3.5-9b": ("qwen3_5", "<|video_pad|>", range(20)),
    "qwen3-omni-30b-a3b": ("qwen3_omni", "<|video_pad|>", [0, 6, 13, 19]),
    "gemma-3-4b-it": ("gemma3", "Frame at 2.38s:", [0, 2, 4, 6, 8, 10, 12, 14, 16, 19]),
    "gemma-4-12b-it": ("gemma4_unified", "Frame at 2.38s:", [0, 2, 4, 6, 8, 10, 12, 14, 16, 19]),
    "perception-lm-1b": ("perception_lm", "<|video|>", range(20)),
    "smolvlm2-256m": ("smolvlm", "from a 0:00:02 [H:MM:SS] video", [0, 19]),
    "molmo2-8b": ("molmo2", "<frame_start>", [0, 4, 8, 12, 16]),
    "llama-3.2-11b-vision-instruct": ("mllama", "<|image|>", [0, 1, 2, 3, 5, 6]),
}


@pytest.mark.parametrize("name", WAYS)
def test_cards_show_videos_as_their_originals_do(name, tmp_path):
    """20 frames, 8 of which make a second."""
    kind, messages, requested = WAYS[name]
    KINDS[kind](tmp_path / "m")
    path = encode(tmp_path / "a.mp4", 20, seed=1)
    scorer = t2v_eval.load(name, checkpoint=tmp_path / "m", device="cpu", context=9000)
    assert scorer.load(open_media(path)).places[: len(requested)] == [*requested]
    message = scorer.explain(path, "a dog")[0][0]
    assert messages in message.prompt and "a dog" in message.prompt and 0 < message.score < 1


def test_frames_of_qwen_have_the_sizes_of_qwen_vl_utils(tmp_path):
    """280 x 504 of 720 x 1280, since at most 151,200 pixels fit: 18 x 10 tokens for two frames."""
    KINDS["qwen2_5_vl"](tmp_path)
    scorer = t2v_eval.load("qwen2.5-vl-7b", checkpoint=tmp_path, device="cpu", context=9000)
    film = Video.of([draw_image(n, (1280, 720)) for n in range(4)], fps=8.0)
    row = scorer.preprocess(scorer.load(film)).row
    assert row["video_grid_thw"].tolist() == [[2, 20, 36]]
    assert row["second_per_grid_ts"].tolist() == [0.25]
    assert (row["input_ids"] == scorer.prompt_builder.processor.video_token_id).sum() == 2 * 10 * 18


def test_times_are_not_rounded_with_the_pixels(qwen):
    scorer = load(qwen, dtype="bfloat16", frames=6)
    row = scorer._to_device(
        scorer.preprocess(clip(Video.of(frames_of(0, 6), 29.97), Sampling(6)))
    ).row
    assert row["pixel_values_videos"].dtype is torch.bfloat16
    assert row["second_per_grid_ts"].tolist() == pytest.approx([2 / 29.97], rel=1e-6)
    assert scorer(Video.of(frames_of(0, 6), 29.97), "cat").isfinite().all()


def test_every_card_says_something_that_can_be_read():
    cards = [card for card in models.cards.values() if card.entry == "HfVlm"]
    for card in cards:
        sampling_of(card.args.get("frames"))
        VideoSettings.from_mapping(card.args.get("video_settings", {}))
    assert sum("frames" in card.args for card in cards) > 30
