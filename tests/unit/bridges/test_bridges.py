"""Scorers as rewards and metrics of other libraries, and reports in their trackers."""

import copy
import io
import math
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from helpers.toy import ToyEmbedding, draw_image, expected
from PIL import Image
from torchmetrics import MetricCollection

import t2v_eval
from t2v_eval.bridges.hf_evaluate import evaluate_metric
from t2v_eval.bridges.rewards import flow_grpo_reward, rewards, trl_reward, verl_omni_reward
from t2v_eval.bridges.torchmetrics import ScorerMetric
from t2v_eval.bridges.trackers import log_report
from t2v_eval.errors import InputError, MediaError, MissingPackageError, ScoringError

IMAGES = [draw_image(seed) for seed in range(4)]
TEXTS = ["a cat", "two dogs", "a cat", "a cat"]
COSINES = [expected(image, text) for image, text in zip(IMAGES, TEXTS, strict=True)]


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"no image")
    return [*IMAGES[:3], path]


def tensor_of(images):
    arrays = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255


def test_images_of_a_prompt_are_one_call_and_encode_it_once():
    scorer = ToyEmbedding()
    assert rewards(scorer, IMAGES, TEXTS) == pytest.approx(COSINES, abs=1e-6)
    assert sorted(scorer.text_calls) == ["a cat", "two dogs"]
    calls = []

    def score(images, texts):
        calls.append((len(images), texts))
        return [[expected(image, text) for text in texts] for image in images]

    assert rewards(t2v_eval.from_function(score), IMAGES, TEXTS) == pytest.approx(COSINES, abs=1e-6)
    assert calls == [(3, ["a cat"]), (1, ["two dogs"])]


def test_tensors_of_a_generator_may_leave_the_range():
    pixels = tensor_of(IMAGES)
    outside = torch.where(pixels == 1, 1.01, torch.where(pixels == 0, -0.01, pixels))
    assert (outside > 1).any() and (outside < 0).any()
    assert rewards(ToyEmbedding(), outside, TEXTS) == pytest.approx(COSINES, abs=1e-6)
    with pytest.raises(InputError, match="4 images and 1 texts"):
        rewards(ToyEmbedding(), pixels, TEXTS[:1])


@pytest.mark.parametrize("change", [lambda x: 2 * x - 1, lambda x: 255 * x, lambda x: x / 0])
@pytest.mark.parametrize("form", [list, torch.stack, lambda images: np.stack(images)])
def test_an_image_in_another_range_has_no_reward(change, form):
    """Clamped, it would have the score of another image."""
    pixels = [*tensor_of(IMAGES)]
    pixels[1] = change(pixels[1])
    values = rewards(ToyEmbedding(on_error="skip"), form(pixels), TEXTS)
    assert values[1] is None
    assert [values[n] for n in (0, 2, 3)] == pytest.approx(
        [COSINES[n] for n in (0, 2, 3)], abs=1e-6
    )
    with pytest.raises(MediaError, match=r"images\[1\].*(values from .* floats in 0-1|infinite)"):
        rewards(ToyEmbedding(), form(pixels), TEXTS)


def test_lists_and_arrays_are_clamped_as_batches_are():
    pixels = 1.02 * tensor_of(IMAGES) - 0.01
    arrays = np.moveaxis(pixels.numpy(), 1, -1)
    clamped = [Image.fromarray(np.uint8(np.rint(255 * a.clip(0, 1)))) for a in arrays]
    cosines = [expected(image, text) for image, text in zip(clamped, TEXTS, strict=True)]
    for images in (pixels, [*pixels], arrays, [*arrays], arrays.astype(float)):
        assert rewards(ToyEmbedding(), images, TEXTS) == pytest.approx(cosines, abs=1e-6)
    for empty in (torch.zeros(4, 3, 0, 0), pixels.to_sparse(), pixels.to("meta")):
        assert rewards(ToyEmbedding(on_error="skip"), empty, TEXTS) == [None] * 4


def test_a_text_is_not_taken_for_a_list_of_letters():
    for reward in (flow_grpo_reward(ToyEmbedding()), lambda *args: rewards(ToyEmbedding(), *args)):
        with pytest.raises(InputError, match="4 images and 1 texts"):
            reward(IMAGES, "cats")
    assert rewards(ToyEmbedding(), IMAGES[0], "a cat") == pytest.approx(COSINES[:1], abs=1e-6)
    for texts in (None, [None], [["a cat"]]):
        with pytest.raises(InputError, match="not a string"):
            rewards(ToyEmbedding(), IMAGES[0], texts)


def test_a_missing_reward_is_no_number(broken):
    skipping = ToyEmbedding(on_error="skip")
    values = rewards(skipping, broken, TEXTS)
    assert values[3] is None and values[:3] == pytest.approx(COSINES[:3], abs=1e-6)
    scores, more = flow_grpo_reward(skipping)(broken, TEXTS, [{}] * 4)
    assert np.isnan(scores).tolist() == [False] * 3 + [True] and more == {}
    with pytest.raises(ScoringError, match="no score of the image of 'a cat'"):
        verl_omni_reward(skipping)(solution_image=broken[3], ground_truth="a cat")
    with pytest.raises(MediaError):
        rewards(ToyEmbedding(), broken, TEXTS)


def test_flow_grpo_gets_an_array_of_either_layout():
    reward = flow_grpo_reward(ToyEmbedding())
    for images in (tensor_of(IMAGES), np.stack([np.asarray(image) for image in IMAGES])):
        scores, _ = reward(images, tuple(TEXTS), [{}] * 4)
        np.testing.assert_allclose(scores, COSINES, atol=1e-6)


def test_verl_omni_gets_a_score_of_one_image():
    pixels = tensor_of(IMAGES[:1])
    for image in (pixels[0], pixels, IMAGES[0]):
        fields = {"data_source": "x", "solution_image": image, "ground_truth": TEXTS[0]}
        assert verl_omni_reward(ToyEmbedding())(**fields, extra_info={}) == {
            "score": pytest.approx(COSINES[0], abs=1e-6)
        }


def test_trl_gets_rewards_of_completions_or_prompts():
    scorer = ToyEmbedding(on_error="skip")
    spoken = [[{"role": "assistant", "content": text}] for text in TEXTS]
    image = {"type": "image"}
    rewards = [
        [{"role": "user", "content": [image, {"type": "text", "text": text}]}] for text in TEXTS
    ]
    more = {"image": IMAGES, "completion_ids": [[1]] * 4, "trainer_state": None}
    for completions in (TEXTS, spoken):
        values = trl_reward(scorer)(prompts=["?"] * 4, completions=completions, **more)
        assert values == pytest.approx(COSINES, abs=1e-6)
    reward = trl_reward(scorer, texts="prompts")
    assert reward(prompts=rewards, completions=["?"] * 4, **more) == pytest.approx(
        COSINES, abs=1e-6
    )
    assert reward.__name__ == "ToyEmbedding"
    nothing = [[], [{"role": "assistant", "content": None}], [{"role": "assistant"}], ""]
    values = trl_reward(scorer)(prompts=["?"] * 4, completions=nothing, **more)
    assert values == pytest.approx([expected(image, "") for image in IMAGES], abs=1e-6)
    with pytest.raises(InputError, match="no column 'photo'"):
        trl_reward(scorer, images="photo")(prompts=TEXTS, completions=TEXTS, **more)


def test_trl_takes_it_as_a_reward_function():
    trainer = pytest.importorskip("trl.trainer.grpo_trainer", reason="TRL is not installed")
    reward = trl_reward(ToyEmbedding(on_error="skip"))
    state = MagicMock()  # of the trainer, all but the reward functions
    state.accelerator.device, state.accelerator.gather = "cpu", lambda values: values
    state.accelerator.is_main_process = False
    state.reward_funcs, state.reward_processing_classes = [reward], [None]
    state.reward_func_names, state.environments = [reward.__name__], None
    inputs = [{"prompt": "?", "image": image} for image in IMAGES]
    calculate = trainer.GRPOTrainer._calculate_rewards
    values = calculate(state, inputs, ["?"] * 4, TEXTS, [[1]] * 4)
    np.testing.assert_allclose(values[:, 0], COSINES, atol=1e-6)


def test_a_metric_counts_failures_apart(broken):
    metric = ScorerMetric(ToyEmbedding(on_error="skip"))
    metric.update(broken, TEXTS)
    metric.update(tensor_of(IMAGES[:1]), TEXTS[:1])
    assert metric.compute().item() == pytest.approx(np.mean([*COSINES[:3], COSINES[0]]), abs=1e-6)
    assert (metric.count, metric.failures) == (4, 1)
    metric.reset()
    metric.update(broken[3:], TEXTS[3:])
    assert math.isnan(metric.compute()) and metric.failures == 1


def test_copies_of_a_metric_share_the_scorer():
    metrics = MetricCollection({"score": ScorerMetric(ToyEmbedding())}, prefix="val/")
    copied = metrics.clone()
    copy.deepcopy(metrics)(IMAGES, TEXTS)
    copied.update(IMAGES, TEXTS)
    assert copied.compute()["val/score"].item() == pytest.approx(np.mean(COSINES), abs=1e-6)


def test_processes_reduce_to_the_mean_of_all_images():
    other = ScorerMetric(ToyEmbedding(on_error="skip"))
    other.update([*IMAGES[1:], "gone.png"], [*TEXTS[1:], "a cat"])
    states = iter(("total", "count", "failures"))  # in the order in which they are gathered

    def gather(value, group=None):
        return [value, getattr(other, next(states))]

    metric = ScorerMetric(
        ToyEmbedding(), dist_sync_fn=gather, distributed_available_fn=lambda: True
    )
    metric.update(IMAGES[:1], TEXTS[:1])
    with metric.sync_context(dist_sync_fn=gather, distributed_available=lambda: True):
        assert (metric.count, metric.failures) == (4, 1)
        value = (metric.total / metric.count).item()
    assert value == pytest.approx(np.mean(COSINES), abs=1e-6)
    assert (metric.count, metric.failures) == (1, 0)
    states = iter(("total", "count", "failures"))
    assert metric.compute().item() == pytest.approx(np.mean(COSINES), abs=1e-6)


@pytest.fixture
def evaluate():
    return pytest.importorskip("evaluate", reason="Hugging Face evaluate is not installed")


@pytest.fixture
def jpeg(tmp_path):
    draw_image(9).save(tmp_path / "a.jpg", quality=50)
    return tmp_path / "a.jpg"


def test_evaluate_collects_images_in_every_form(evaluate, jpeg, tmp_path):
    metric = evaluate_metric(ToyEmbedding(), cache_dir=str(tmp_path))
    metric.add_batch(predictions=tensor_of(IMAGES[:1]), references=TEXTS[:1])
    metric.add_batch(predictions=[np.asarray(IMAGES[1])], references=TEXTS[1:2])
    read = [Image.open(io.BytesIO(jpeg.read_bytes())), jpeg, str(jpeg), jpeg.read_bytes()]
    metric.add_batch(predictions=[*IMAGES[2:], *read], references=[*TEXTS[2:], *["a cat"] * 4])
    metric.add(prediction=Image.open(io.BytesIO(jpeg.read_bytes())), reference="a cat")
    values = [*COSINES, *[expected(Image.open(jpeg), "a cat")] * 5]
    assert metric.compute() == {"score": pytest.approx(np.mean(values), abs=1e-6), "failures": 0}
    with pytest.raises(ValueError, match="Mismatch in the number"):
        metric.compute(predictions=IMAGES, references=TEXTS[:2])


def test_evaluate_counts_failures_apart(evaluate, broken, jpeg):
    cut = Image.open(io.BytesIO(jpeg.read_bytes()[:-40]))
    pairs = {"predictions": [*broken, "gone.png", cut], "references": [*TEXTS, "a cat", "a cat"]}
    metric = evaluate_metric(ToyEmbedding(on_error="skip"), keep_in_memory=True)
    mean = pytest.approx(np.mean(COSINES[:3]), abs=1e-6)
    assert metric.compute(**pairs) == {"score": mean, "failures": 3}
    empty = metric.compute(predictions=broken[3:], references=["a cat"])
    assert math.isnan(empty["score"]) and empty["failures"] == 1
    for image in (broken[3], cut):
        with pytest.raises(MediaError):
            evaluate_metric(ToyEmbedding(), keep_in_memory=True).compute(
                predictions=[image], references=["a cat"]
            )


def test_evaluate_combines_metrics_by_the_names_of_scorers(evaluate):
    half = t2v_eval.from_function(lambda images, texts: [[0.5] for _ in images], name="half")
    metrics = [evaluate_metric(scorer, keep_in_memory=True) for scorer in (ToyEmbedding(), half)]
    values = evaluate.combine(metrics).compute(predictions=IMAGES, references=TEXTS)
    assert values["half_score"] == 0.5
    assert values["ToyEmbedding_score"] == pytest.approx(np.mean(COSINES), abs=1e-6)


def test_evaluate_that_is_missing_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "evaluate", None)
    with pytest.raises(MissingPackageError, match="pip install evaluate"):
        evaluate_metric(ToyEmbedding())


@pytest.fixture(scope="module")
def report():
    return t2v_eval.compare("tiny-clip", "scenes", benchmark_options={"n": 4}, resamples=20)


def figures_of(report):
    """The values of a report, by the name that trackers show."""
    values = {}
    for row in report.figures():
        name = "/".join(filter(None, (row["benchmark"], row["scorer"], row["metric"], row["tag"])))
        keys = (("", "value"), ("/low", "low"), ("/high", "high"))
        values |= {name + end: row[key] for end, key in keys if not math.isnan(row[key])}
    return values


def test_a_run_of_wandb_gets_all_figures_at_once(report):
    class Run:
        def log(self, values, step):
            self.values, self.step = values, step

    run = Run()
    assert log_report(report, run, step=3) == len(run.values)
    assert run.values == pytest.approx(figures_of(report)) and run.step == 3
    with pytest.raises(InputError, match="SummaryWriter"):
        log_report(report, print)


def test_wandb_itself_takes_them(report, tmp_path):
    wandb = pytest.importorskip("wandb", reason="W&B is not installed")
    with wandb.init(mode="offline", dir=tmp_path, project="t") as run:
        log_report(report, run, step=0)
        run.log({}, step=1)  # W&B writes a step when the next one begins
        assert {name: run.summary[name] for name in figures_of(report)} == figures_of(report)


def test_tensorboard_reads_back_what_was_logged(report, tmp_path):
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        log_report(report, writer, step=7)
    events = EventAccumulator(str(tmp_path)).Reload()
    values = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    assert {tag: event.value for tag, (event,) in values.items()} == pytest.approx(
        figures_of(report), abs=1e-6
    )
    assert {event.step for (event,) in values.values()} == {7}
