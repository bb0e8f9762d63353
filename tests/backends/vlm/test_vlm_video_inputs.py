"""Videos given to vision-language models: files, frames, stores, settings, and what is wrong."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from helpers.media.videos import by_hand, encode
from helpers.media.vlm_videos import TEXTS, frames_of, load
from helpers.models.tiny_vlm import TINY, save_tiny
from helpers.toy import draw_image

from t2v_eval.errors import InputError, MediaError, ScoringError
from t2v_eval.inputs.media import Video, open_media
from t2v_eval.inputs.video import Sampling, clip


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    return save_tiny(tmp_path_factory, TINY["qwen2_5_vl"])


def test_generate_and_explain_take_videos(qwen, tmp_path):
    path = encode(tmp_path / "a.mp4", 8, seed=1)
    scorer = load(qwen, frames=4)
    generated = scorer.generate([path, draw_image(0)], "What happens?", max_new_tokens=4)
    assert len(generated) == 2
    message = scorer.explain(path, ["cat", "dog"])[0]
    scores = scorer(path, ["cat", "dog"])[0]
    assert [item.score for item in message] == pytest.approx(scores.tolist(), rel=1e-5)
    assert "<|video_pad|>" in message[0].prompt and "cat" in message[0].prompt


def test_scores_of_videos_are_stored(qwen, tmp_path):
    path = encode(tmp_path / "a.mp4", 8, seed=1)
    first = load(qwen, frames=4, store=tmp_path / "s.sqlite")(path, TEXTS)
    again = load(qwen, frames=4, store=tmp_path / "s.sqlite")
    again.score_cells = None  # nothing is left to do
    assert again(path, TEXTS).tolist() == first.tolist()


def test_a_video_that_is_too_long_says_so(qwen, tmp_path):
    """And the others of a run are scored."""
    videos = [Video.of(frames_of(0, count)) for count in (2, 60)]
    with pytest.raises(
        MediaError, match=r"video of 60.*60 frames take \d+ of the 300 tokens.*no room"
    ):
        load(qwen, frames=60, context=300)(videos, "cat")
    scores = load(qwen, frames=60, context=300, on_error="skip")(videos, "cat")[:, 0]
    assert scores.isfinite().tolist() == [True, False]


def test_frames_of_several_sizes_are_images_and_no_video(qwen):
    odd = Video.of([draw_image(0, (60, 44)), draw_image(1, (44, 60))])
    with pytest.raises(MediaError, match=r"several sizes, \[\(44, 60\), \(60, 44\)\]: resize them"):
        load(qwen)(odd, "cat")
    assert load(qwen, video_settings={"as_pictures": True})(odd, "cat").isfinite().all()


def test_a_broken_video_is_one_failure(qwen, tmp_path):
    valid, bad = encode(tmp_path / "a.mp4", 8, seed=1), tmp_path / "b.mp4"
    bad.write_bytes(valid.read_bytes()[:300])
    scorer = load(qwen, frames=4, on_error="skip")
    assert scorer([valid, bad, draw_image(0)], "cat")[:, 0].isfinite().tolist() == [
        True,
        False,
        True,
    ]
    with pytest.raises((MediaError, ScoringError), match=r"b.mp4.*fetch it again"):
        load(qwen)(bad, "cat")


def test_models_that_are_shown_one_image_say_so(tmp_path):
    TINY["paligemma"](tmp_path / "p")
    scorer = load(tmp_path / "p", style="paligemma")
    video = encode(tmp_path / "a.mp4", 8)
    with pytest.raises(MediaError, match=r"a\.mp4\): is a video, and this model takes none"):
        scorer(video, "cat")
    with pytest.raises(InputError, match="`style='paligemma'` takes no frames: leave it out"):
        load(tmp_path / "p", style="paligemma", frames=4)


def test_wrong_settings_of_videos(qwen):
    for arguments, messages in (
        ({"frames": 0}, "whole numbers of 1 or more"),
        ({"frames": {"fps": -1.0}}, "fps above 0"),
        ({"frames": {"choose": "random"}}, "'uniform' or 'nearest'"),
        ({"frames": {"number": 4}}, "no number; use count, fps, least"),
        ({"frames": "all"}, 'use a whole number, or a table such as {"fps": 2.0, "most": 64}'),
        ({"frames": 4.0}, "use a whole number"),
        ({"frames": [4]}, "use a whole number"),
        ({"frames": {"fps": "2"}}, "fps above 0"),
        ({"frames": {1: 2}}, "no 1; use count"),
        ({"video_settings": {"pixels": [1, 2]}}, "pixels are three whole numbers"),
        ({"video_settings": {"pixels": 5}}, "pixels are three whole numbers"),
        ({"video_settings": {"pixels": (0, 0, 0)}}, "pixels are three whole numbers"),
        ({"video_settings": {"caption": 5}}, "caption and lead cannot be filled"),
        ({"video_settings": {"caption": "{number.foo}"}}, "caption and lead cannot be filled"),
        ({"video_settings": {"as_pictures": "no"}}, "as_pictures is True or False"),
        ({"video_settings": "lead"}, "use a table"),
        ({"video_settings": {"fps": 2.0}}, "fps is decided by `frames="),
        ({"video_settings": {"size": 5}}, "video_settings="),
        ({"video_settings": {"do_resize": False}}, "video_settings="),
        ({"video_settings": {"tiles": 4}}, "Qwen2VLVideoProcessor of this model has no tiles"),
    ):
        with pytest.raises(InputError, match=messages):
            load(qwen, **arguments)


def test_a_kept_video_that_leaves_no_room_is_one_failure(qwen):
    """Where another question is longer."""
    films = [Video.of(frames_of(0, 2)), Video.of(frames_of(1, 8))]
    scorer = load(qwen, frames=8, context=640, on_error="skip")
    assert scorer(films, "cat").isfinite().all()
    longer = "Think of it, and look again, and then say it. " * 4 + "Is it {}?"
    assert scorer(films, "cat", question_template=longer)[:, 0].isfinite().tolist() == [True, False]
    with pytest.raises(MediaError, match=r"video of 8\): its 8 frames take .* example `frames=4"):
        scorer.generate(films[1], "What is it?", max_new_tokens=600)


def test_an_animated_file_is_a_video_by_any_name(qwen, tmp_path):
    still = [draw_image(n, (56, 56)) for n in range(4)]
    still[0].save(tmp_path / "a.gif", save_all=True, append_images=still[1:], duration=100)
    (tmp_path / "a.mp4").write_bytes((tmp_path / "a.gif").read_bytes())
    paths = [tmp_path / "a.gif", tmp_path / "a.mp4"]
    scorer = load(qwen, frames=4, store=tmp_path / "s.sqlite")
    alone = [float(load(qwen, frames=4)(path, "cat")) for path in paths]
    assert scorer(paths, "cat")[:, 0].tolist() == pytest.approx(alone, rel=1e-5)
    assert alone[0] == pytest.approx(alone[1], rel=1e-5)
    first = float(scorer(still[0], "cat"))
    assert abs(alone[0] - first) > 1e-3 * first


def test_videos_of_frames():
    frames = frames_of(0, 3)
    item, same, faster = Video.of(frames), Video.of(list(frames)), Video.of(frames, fps=2.0)
    assert item.key == same.key and len({item.key, faster.key, Video.of(frames[::-1]).key}) == 3
    assert item.key != open_media(frames[0]).key
    media_inputs = clip(faster, Sampling(count=2))
    assert (media_inputs.places, media_inputs.times, media_inputs.seconds) == (
        [0, 2],
        [0.0, 1.0],
        1.5,
    )
    with pytest.raises(InputError, match="frames is empty"):
        Video.of([])
    with pytest.raises(InputError, match="frames per second above 0"):
        Video.of(frames, fps=0.0)
    for fps in (None, "2", True):
        with pytest.raises(InputError, match="frames per second above 0"):
            Video.of(frames, fps=fps)
    with pytest.raises(InputError, match="is a video itself: Video.of takes images"):
        Video.of([faster])
    with pytest.raises(MediaError, match=r"frames\[1\].*no such file"):
        Video.of([frames[0], "nowhere.png"])


def test_a_rotated_or_odd_file_still_has_its_rate(tmp_path):
    path = encode(tmp_path / "a.mkv", 10, seed=1)
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
    assert clip(open_media(path), Sampling(count=3)).fps == pytest.approx(rate)
    content = path.read_bytes()
    held = Video("k", "held", None, content)
    media_inputs = clip(held, Sampling(count=3))
    np.testing.assert_array_equal(np.asarray(media_inputs.frames[0]), by_hand(path)[0])


def test_a_call_chooses_its_frames(qwen, tmp_path):
    """And shares no cached features and no stored scores with another choice."""
    path, options = encode(tmp_path / "a.mp4", 24, seed=1), {"choose": "middle"}
    chosen = [{}, {"num_frames": 3}, {"fps": 1.5}]
    loaded = [{"count": 6}, {"count": 3}, {"fps": 1.5}]  # of 3 seconds
    expected = [load(qwen, frames=sampling | options)(path, TEXTS) for sampling in loaded]
    assert len({scores.sum().item() for scores in expected}) == 3
    scorer = load(qwen, frames={"count": 6} | options, store=tmp_path / "s.sqlite")
    for _ in range(2):
        for call, scores in zip(chosen, expected, strict=True):
            torch.testing.assert_close(scorer(path, TEXTS, **call), scores, atol=1e-6, rtol=0)
    unstored = load(qwen, frames={"count": 6} | options)
    for call, scores in zip([*chosen, *chosen], [*expected, *expected], strict=True):
        torch.testing.assert_close(unstored(path, TEXTS, **call), scores, atol=1e-6, rtol=0)
    assert scorer.with_frames(num_frames=6).id == scorer.id
    assert "count=3" in scorer.with_frames(num_frames=3).id


def test_every_kind_of_call_chooses_its_frames(qwen, tmp_path):
    path = encode(tmp_path / "a.mp4", 24, seed=1)
    scorer, expected = load(qwen, frames=6), load(qwen, frames=3)(path, TEXTS)[0]
    pairs = scorer.score_pairs([path] * len(TEXTS), TEXTS, num_frames=3)
    sample = {"images": [path], "texts": TEXTS}
    explained = scorer.explain(path, TEXTS, num_frames=3)[0]
    for scores in (
        pairs,
        scorer.batch_forward([sample], num_frames=3)[0, 0],
        torch.tensor([item.score for item in explained]),
    ):
        torch.testing.assert_close(scores, expected, atol=1e-6, rtol=0)
    assert scorer.rank([path, draw_image(0)], TEXTS[0], num_frames=3)
    few = load(qwen, frames=3).generate(path, "What happens?", max_new_tokens=4)
    assert scorer.generate(path, "What happens?", max_new_tokens=4, num_frames=3) == few


def test_a_still_image_is_encoded_once_for_all_choices_of_frames(qwen):
    scorer, image = load(qwen, frames=6), draw_image(0)
    score = scorer(image, "cat")
    scorer.encode_images = None
    assert torch.equal(scorer(image, "cat", num_frames=3), score)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"fps": 2.0, "num_frames": 4}, "`fps=2.0` and `num_frames=4`: pass one of them"),
        ({"num_frames": 0}, "`num_frames=0`: use a whole number of 1 or more"),
        ({"num_frames": True}, "`num_frames=True`"),
        ({"num_frames": 2.0}, "`num_frames=2.0`"),
        ({"fps": 0}, "`fps=0`: use a number of frames per second above 0"),
        ({"fps": float("inf")}, "`fps=inf`"),
        ({"fps": "dynamic"}, "`fps='dynamic'`.*'dynamic' of t2v_metrics is `fps=2.0`"),
    ],
)
def test_a_wrong_choice_of_frames_is_named(qwen, call, message):
    with pytest.raises(InputError, match=message):
        load(qwen)(Video.of(frames_of(0, 4)), "cat", **call)


def test_a_model_of_images_chooses_no_frames(tmp_path):
    TINY["paligemma"](tmp_path / "p")
    with pytest.raises(InputError, match="takes no videos: "):
        load(tmp_path / "p", style="paligemma")(draw_image(0), "cat", num_frames=4)
