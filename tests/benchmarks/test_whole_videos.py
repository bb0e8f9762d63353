"""Videos of benchmarks that are read whole: by models, in comparisons, on the command line."""

from pathlib import Path

import numpy as np
import pytest
from helpers.benchmarks.examples import EXAMPLES
from helpers.media.videos import by_hand
from helpers.toy import ToyEmbedding, expected
from PIL import Image
from typer.testing import CliRunner

from t2v_eval.benchmarks.forms.frames import FramesForm
from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, InputError, MediaError
from t2v_eval.evaluation.options import open_benchmark
from t2v_eval.evaluation.run import evaluate
from t2v_eval.inputs.media import Video
from t2v_eval.inputs.video import Sampling, clip
from t2v_eval.registry import benchmarks
from t2v_eval.report.report import compare

pytestmark = pytest.mark.filterwarnings("ignore:.*the figures are:t2v_eval.errors.T2VWarning")


class ToyVideo(ToyEmbedding):
    """Reads a video whole: what it knows of one are the first two frames, in their order."""

    def load(self, media):
        if not isinstance(media, Video):
            return super().load(media)
        first, second = clip(media, Sampling(2, choose="first")).frames
        return Image.fromarray(np.hstack([np.asarray(first), np.asarray(second)]))


def first_two(path):
    return Image.fromarray(np.hstack(by_hand(path)[:2]))


@pytest.mark.parametrize(
    "name",
    ["genai-bench-video-800", "t2vscore-quality", "camerabench-binary", "camerabench-retrieval"],
)
def test_videos_that_are_read_whole(tmp_path, name):
    EXAMPLES[name].write(tmp_path)
    benchmark = open_benchmark(name, tmp_path, whole=True)
    items = benchmark.items()
    for item in items:
        assert item.labels["frames"] == [[k] for k in range(len(item.images))]
        assert all(Path(path).suffix == ".mp4" for path in item.images)
    run = evaluate(ToyVideo(), benchmark, items=items, resamples=2)
    assert run.counts.failed == 0 and run.rated_units[0] == items[0].labels["frames"]
    entry, scores = items[-1], run.scores[-1]
    reference = [[expected(first_two(path), text) for text in entry.texts] for path in entry.images]
    np.testing.assert_allclose(scores, reference, rtol=1e-6)
    # A video's score is the metric's own: the form that compares them has nothing to average.
    plain = super(FramesForm, benchmark).statistic(items, run.scores)(np.arange(len(items)))
    actual = benchmark.metrics(items, run.scores)
    assert {key: actual[key] for key in plain} == pytest.approx(plain, nan_ok=True)
    assert run.benchmark.summary.endswith("here each video is read whole instead")
    assert not open_benchmark(name, tmp_path).card.summary.endswith("instead")


def test_a_scorer_of_images_does_not_read_videos_whole(tmp_path):
    EXAMPLES["camerabench-binary"].write(tmp_path)
    benchmark = open_benchmark("camerabench-binary", tmp_path, whole=True)
    with pytest.raises(MediaError, match="at a time: score frames of it"):
        evaluate(ToyEmbedding(), benchmark, resamples=2)


def test_whole_videos_that_are_missing_or_cut_are_named(tmp_path):
    EXAMPLES["camerabench-binary"].write(tmp_path)
    path = tmp_path / "videos/1.mp4"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BenchmarkDataError, match=r"videos/1.mp4: .*; fetch it again"):
        benchmarks.create("camerabench-binary", root=tmp_path, whole=True).items()
    path.unlink()
    with pytest.raises(BenchmarkDataError, match=r"missing: .*videos/1.mp4\. To get them, downl"):
        benchmarks.create("camerabench-binary", root=tmp_path, whole=True).items()
    with pytest.raises(InputError, match="`whole='no'`: pass true or false"):
        benchmarks.create("camerabench-binary", root=tmp_path, whole="no").items()


def test_options_of_a_benchmark_in_a_comparison_and_on_the_command_line(tmp_path):
    EXAMPLES["camerabench-binary"].write(tmp_path)
    message = {"benchmark_options": {"whole": True}, "root": tmp_path, "resamples": 2}
    report = compare([ToyVideo()], ["camerabench-binary"], **message)
    assert {len(item.images) for item in report.runs[0].items} == {1}
    with pytest.raises(InputError, match="'scenes' takes no `whole=`"):
        compare([ToyVideo()], ["scenes"], **message)
    command = f"eval -m tiny-clip -b camerabench-binary --root {tmp_path} --no-store".split()
    actual = CliRunner().invoke(app, [*command, "--benchmark-option", "whole=true"])
    assert actual.exit_code == 2 and "at a time" in actual.output
    actual = CliRunner().invoke(app, [*command, "--benchmark-option", "frames=1"])
    assert actual.exit_code == 0 and "mean_average_precision" in actual.output
    actual = CliRunner().invoke(app, [*command, "--benchmark-option", "whole"])
    assert actual.exit_code == 2 and "--benchmark-option 'whole': write KEY=VALUE" in actual.output
