"""Videos and services: frames in one question, in their order, counted and stored as one."""

from __future__ import annotations

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from helpers.benchmarks.examples import EXAMPLES
from helpers.media.videos import by_hand, encode
from helpers.services.ask_server import SERVICES, Spoken
from helpers.services.loopback import Reply, Server, p_yes
from helpers.toy import draw_image
from PIL import Image
from typer.testing import CliRunner

from t2v_eval.cli.main import app
from t2v_eval.errors import InputError, MediaError
from t2v_eval.inputs.media import Video
from t2v_eval.registry import benchmarks
from t2v_eval.remote.scorer import estimate
from t2v_eval.scoring.plan import Block

NAMES = {"openai": "gpt-4o", "gemini": "gemini-2.5-flash"}
QUESTION = 'Does this figure show "{}"? Please answer yes or no.'
FIRST = [0, 5, 10, 15]  # of 22 frames, as the reference: k * (22 // 4)


@pytest.fixture(params=SERVICES)
def spoken(request):
    """Every service that can be asked, by the protocol that it speaks."""
    return Spoken(request.param)


@pytest.fixture
def server(spoken):
    with Server(spoken.right) as running:
        yield running


@pytest.fixture
def video(tmp_path):
    return encode(tmp_path / "a.mp4", 22)


def load(spoken, server, name="", **options):
    return spoken.load(server, name or NAMES[spoken.name], **{"timeout": 20.0, **options})


def kinds(request):
    """What a question's parts are, texts by what they say."""
    return [part.get("text") or "picture" for part in request._parts]


def sent(request):
    """The images of a question, which are JPEG files."""
    files = [  # of either alphabet
        base64.b64decode(item.rpartition(",")[2].translate(str.maketrans("-_", "+/")))
        for item in request.images
    ]
    result = [Image.open(io.BytesIO(file)) for file in files]
    assert {item.format for item in result} == {"JPEG"}
    reported = [part for part in request._parts if "text" not in part]
    assert all("image/jpeg" in json.dumps(part) for part in reported), "and are said to be"
    return result


def which(request, path):
    """The numbers of the frames that were sent: those that they are nearest to, nearly alike."""
    frames = np.stack(by_hand(path)).astype(float)
    apart = [np.abs(frames - np.asarray(item)).mean((1, 2, 3)) for item in sent(request)]
    assert max(item.min() for item in apart) < 2
    return [int(item.argmin()) for item in apart]


def test_a_video_is_one_question_with_four_frames(spoken, server, video, tmp_path):
    scorer = load(spoken, server, store=tmp_path / "s.db")
    score = scorer([video, str(video)], "a cat")
    (request,) = server.requests
    assert kinds(request) == [QUESTION.replace("{}", "a cat"), *["picture"] * 4]
    assert which(request, video) == FIRST
    right = p_yes(request.images[0], request.question)
    assert score[:, 0].tolist() == pytest.approx([right, right], abs=1e-6)
    again = load(spoken, server, store=tmp_path / "s.db")
    assert torch.equal(again(video, ["a cat"]), score[:1])
    assert len(server.requests) == 1, "what is in the store is not asked again"
    assert scorer.usage.total["requests"] == 1


def test_frames_are_chosen_and_part_of_the_id(spoken, server, video):
    for options, expected in (
        ({}, FIRST),
        ({"frames": 4}, FIRST),
        ({"frames": 7}, [0, 3, 6, 9, 12, 15, 18]),
        ({"frames": {"count": 4}}, [0, 7, 14, 21]),
        ({"frames": {"fps": 1.0}}, [0, 21]),  # of 2.75 seconds
        ({"frames": 40}, list(range(22))),
    ):
        load(spoken, server, **options)(video, "a cat")
        assert which(server.requests[-1], video) == expected
    ids = [load(spoken, server, **g).id for g in ({}, {"frames": 4}, {"frames": 5})]
    assert ids[0] == ids[1] != ids[2] and " frames=5 " in ids[2] and "frames" not in ids[0]
    for wrong in (0, True, {"number": 4}):
        with pytest.raises(InputError):
            load(spoken, server, frames=wrong)


def test_a_call_chooses_its_frames(spoken, server, video, tmp_path):
    scorer = load(spoken, server, store=tmp_path / "s.db")
    for call, expected in (
        ({}, FIRST),
        ({"num_frames": 7}, [0, 3, 6, 9, 12, 15, 18]),
        ({"num_frames": 40}, list(range(22))),
        ({"fps": 1.0}, [0, 11]),  # of 2.75 seconds, at equal steps
    ):
        scorer(video, "a cat", **call)
        assert which(server.requests[-1], video) == expected
    assert len(server.requests) == 4
    scorer(video, "a cat", num_frames=7)
    assert len(server.requests) == 4, "what is in the store is not asked again"


def test_frames_that_are_images_and_a_limit_of_pixels_of_each(spoken, server):
    frames = [draw_image(n, (60, 40)) for n in range(4)]
    load(spoken, server, max_pixels=600)(Video.of(frames, 2.0), "a cat")
    assert [item.size for item in sent(server.requests[0])] == [(30, 20)] * 4
    load(spoken, server)(Video.of(frames[:2]), "a cat")
    images = sent(server.requests[1])
    for item, frame in zip(images, frames, strict=False):  # JPEG keeps brightness, not all colours
        apart = np.asarray(item.convert("L"), float) - np.asarray(frame.convert("L"))
        assert np.abs(apart).mean() < 3
    assert len(images) == 2


def test_videos_in_batches(spoken, video, tmp_path):
    service = spoken.BatchService()
    other = encode(tmp_path / "b.mp4", 9, seed=1)
    options = {"batch": True, "poll": 0.01, "retries": 1}
    with Server(service) as server:
        batched = load(spoken, server, store=tmp_path / "s.db", **options)
        scores = batched([video, other, draw_image(0)], ["a cat", "a dog"])
        assert len(service.cells) == 6
        plain = load(spoken, server)
        assert torch.equal(scores, plain([video, other, draw_image(0)], ["a cat", "a dog"]))
    requests = [request for request in server.requests if "Does this" in str(request.body)[:900]]
    assert sorted({len(request.images) for request in requests[-6:]}) == [1, 4]


def test_an_estimate_counts_all_frames(spoken, server, video):
    scorer, still = load(spoken, server, frames=6), Image.new("RGB", (32, 24))
    item, six = (estimate(scorer, [Block([media], ["a cat"])]) for media in (still, video))
    words = 12 + math.ceil(len(QUESTION.replace("{}", "a cat")) / 4)
    assert six.input_tokens - words == 6 * (item.input_tokens - words) > 0
    assert (six.requests, len(server.requests)) == (1, 0)
    few = estimate(scorer, [Block([Video.of([still] * 3)], ["a cat"])])
    assert few.input_tokens - words == 3 * (item.input_tokens - words)


def test_a_broken_video_is_one_failure(spoken, server, video, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(video.read_bytes()[:300])
    scores = load(spoken, server, on_error="skip")([video, bad, draw_image(0)], "a cat")[:, 0]
    assert scores.isfinite().tolist() == [True, False, True] and len(server.requests) == 2
    with pytest.raises(MediaError, match=r"bad.mp4\): not a video that can be decoded"):
        load(spoken, server)(bad, "a cat")


def test_judges_and_what_is_written(spoken, video, tmp_path):
    other = encode(tmp_path / "b.mp4", 9, seed=1)
    with Server(lambda _: Reply(spoken.sampled("70"))) as server:
        assert float(load(spoken, server, f"{NAMES[spoken.name]}-judge")(video, "a cat")) == 70
        assert load(spoken, server).generate(video, "What happens?") == ["70"]
    assert [which(request, video) for request in server.requests] == [FIRST, FIRST]
    with Server(lambda _: Reply(spoken.sampled("Video A"))) as server:
        judge = load(spoken, server, f"{NAMES[spoken.name]}-preference")
        assert judge.prefer(video, other, "a cat").value == 0.5
        judge.prefer(video, draw_image(0), "a cat")
    images = [kinds(request)[1:] for request in server.requests]
    four = ["picture"] * 4
    assert images[:2] == [["Video A:", *four, "Video B:", *four]] * 2
    assert sorted(images[2:]) == [
        ["Picture A:", "picture", "Video B:", *four],
        ["Video A:", *four, "Picture B:", "picture"],
    ]


def test_a_server_of_ones_own_gets_the_frames_first(video):
    spoken = Spoken("openai")
    with Server(spoken.right) as server:
        spoken.load(server, timeout=20.0)(video, "a cat")
    assert kinds(server.requests[0]) == [*["picture"] * 4, QUESTION.replace("{}", "a cat")]


@pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")
def test_what_a_benchmark_of_whole_videos_would_cost(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    EXAMPLES["camerabench-binary"].write(tmp_path)
    requests = (
        f"eval --dry-run -m gpt-4o -b camerabench-binary --no-store --root {tmp_path}".split()
    )
    reported = []
    for whole in ("true", "false"):
        result = CliRunner().invoke(app, [*requests, "--benchmark-option", f"whole={whole}"])
        assert result.exit_code == 0, result.output
        reported.append(" ".join(result.output.split()))
    # 31 questions about a video each, or about 4 frames of the first and 8 of both others.
    items = benchmarks.create("camerabench-binary", root=tmp_path).items()
    assert len(items) == 31 and " 31 " in reported[0]
    assert f" {sum(len(item.images) for item in items)} " in reported[1]
