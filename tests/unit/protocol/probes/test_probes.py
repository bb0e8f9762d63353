"""Probes on images and scorers whose gaming is planted, and on those without any."""

from __future__ import annotations

import colorsys
import json
import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from t2v_eval import from_function
from t2v_eval.errors import InputError, ScoringError, UnknownNameError
from t2v_eval.protocol.generated import GeneratedImages
from t2v_eval.protocol.probes.charts import draw
from t2v_eval.protocol.probes.inputs import ProbeImages, ProbeInputs
from t2v_eval.protocol.probes.prompt_texts import SUFFIX, plain_prompt, shuffle_prompts
from t2v_eval.protocol.probes.rescoring import rescore
from t2v_eval.protocol.probes.table import PROBES, run_probes

COUNT, SEEDS = 60, 2
PROMPTS = [f"{'big ' * (n % 5)}shape {n}" for n in range(COUNT)]


def picture(rng, saturation):
    """Coloured squares of random hue on grey, whose mean saturation differs between images."""
    pixels = np.full((24, 24, 3), 128, np.uint8)
    for _ in range(4):
        y, x = rng.integers(0, 16, 2)
        colour = colorsys.hsv_to_rgb(rng.random(), saturation, 0.4 + 0.5 * rng.random())
        pixels[y : y + 8, x : x + 8] = np.round(255 * np.array(colour))
    return Image.fromarray(pixels)


def generator(folder, name, saturation=0.5, seed=0, count=COUNT):
    rng = np.random.default_rng(seed)
    images = {}
    for k in range(SEEDS):
        (folder / name / str(k)).mkdir(parents=True)
        images[k] = [folder / name / str(k) / f"{n}.png" for n in range(count)]
        for path in images[k]:
            picture(rng, saturation).save(path)
    return GeneratedImages(name, images)


@pytest.fixture(scope="module")
def equal(tmp_path_factory):
    """Two generators that differ in their random numbers alone."""
    folder = tmp_path_factory.mktemp("equal")
    return generator(folder, "new", seed=1), generator(folder, "old", seed=2)


@pytest.fixture(scope="module")
def vivid(tmp_path_factory):
    """A model whose colours are twice as saturated."""
    folder = tmp_path_factory.mktemp("vivid")
    return generator(folder, "new", 0.9, seed=1), generator(folder, "old", 0.45, seed=2)


def hsv_saturation(image):
    return float(np.asarray(image.convert("HSV"))[..., 1].mean()) / 255


def colourful(images, texts):
    """Follows saturation alone."""
    return [[hsv_saturation(image)] * len(texts) for image in images]


def noise(image):
    """A number of each image that follows nothing of it."""
    return np.random.default_rng(np.asarray(image).sum(dtype=np.int64)).random()


def neutral(images, texts):
    """Follows the image and the prompt, but none of what probes look for."""
    of_texts = [np.random.default_rng(sum(text.encode())).random() for text in texts]
    return [[noise(image) + 0.1 * t for t in of_texts] for image in images]


def greedy(images, texts):
    """Likes a masterpiece."""
    return [[noise(i) + ("masterpiece" in t) for t in texts] for i in images]


def wordy(images, texts):
    return [[0.1 * noise(i) + len(t.split()) for t in texts] for i in images]


def probed(generators, *functions, prompts=PROMPTS, names=(), **options):
    """Run probes on scorers that are functions; return the results by name."""
    images = ProbeImages(prompts, *generators)
    scorers = []
    for function in functions:
        scorer = from_function(function, on_error="skip", device="cpu")
        scores = tuple(
            np.array([scorer.score_pairs(paths, prompts).numpy() for paths in side.images.values()])
            for side in generators
        )
        scorers.append(rescore(images, scorer, tuple(s.astype(np.float64) for s in scores), names))
    results = run_probes(ProbeInputs(images, scorers, resamples=200, **options), names)
    return {result.name: result for result in results}


@pytest.fixture(scope="module")
def clean(equal):
    return probed(equal, neutral)


@pytest.fixture(scope="module")
def followed(vivid):
    """All probes of a scorer that follows the planted saturation, and of one that does not."""
    return probed(vivid, colourful, neutral)


def first(generators, count):
    """Return generators with the images of the first prompts alone."""
    return tuple(
        GeneratedImages(side.name, {k: row[:count] for k, row in side.images.items()})
        for side in generators
    )


def test_equal_generators_and_a_neutral_scorer_get_no_warning(clean):
    assert clean.keys() == PROBES.keys()
    warned = [name for name, result in clean.items() if result.warning]
    assert warned == ["shuffled-prompts"]  # as the scorer hardly reads the prompt
    assert clean["circularity"].reason.startswith("the plan names no family")


def test_every_result_is_json_a_paragraph_and_a_chart(clean):
    for result in clean.values():
        content = json.loads(json.dumps(result.to_json(), allow_nan=False))
        assert content["statement"].endswith(".")
        assert (content["reason"] is None) == (content["value"] is not None)
        assert draw(result).startswith("<svg") == (result.reason is None)
        if result.reason is None:
            assert result.low <= result.value <= result.high
            assert result.source
            assert result.n > 0


def test_words_that_raise_the_score_are_named(equal):
    few = first(equal, 20)
    results = probed(few, greedy, neutral, prompts=PROMPTS[:20], names=["inflation"])
    result = results["inflation"]
    assert result.warning
    assert "raise the score of greedy" in result.statement
    scores = [noise(Image.open(p)) for side in few for row in side.images.values() for p in row]
    assert result.value == pytest.approx(1 / np.std(scores, ddof=1), rel=1e-5)
    assert result.cells == 2 * 2 * SEEDS * 20


def test_inflated_prompts_are_named_and_compared_without_the_words(equal):
    few = first(equal, 30)
    prompts = [p + SUFFIX if n % 3 == 0 else p for n, p in enumerate(PROMPTS[:30])]
    result = probed(few, greedy, prompts=prompts, names=["inflation"])["inflation"]
    assert result.warning
    assert "10 of 30 have words that promise quality" in result.statement
    # The words are worth 1 on every image, whichever way a prompt is compared.
    scores = [
        noise(Image.open(path)) + (n % 3 == 0)
        for side in few
        for row in side.images.values()
        for n, path in enumerate(row)
    ]
    assert result.value == pytest.approx(1 / np.std(scores, ddof=1), rel=1e-5)


def test_saturation_that_scores_follow_is_named(vivid, followed):
    result = followed["covariates"]
    assert result.warning
    assert "Scores follow saturation" in result.statement
    assert "neutral" not in result.statement
    edit = next(f for f in result.figures if f.label == "saturation by edit, colourful")
    sides = [
        np.mean([[hsv_saturation(Image.open(p)) for p in row] for row in side.images.values()], 0)
        for side in vivid
    ]
    every = [
        hsv_saturation(Image.open(p)) for side in vivid for row in side.images.values() for p in row
    ]
    difference = (sides[0] - sides[1]).mean() / np.std(every, ddof=1)
    assert edit.interval.value == pytest.approx(difference, rel=0.03)  # all of it


def test_saturation_that_scores_do_not_follow_is_not_named(followed):
    result = followed["covariates"]
    assert "differ in saturation" in result.statement
    edits = [f for f in result.figures if f.label.endswith("by edit, neutral")]
    assert edits
    assert all(abs(figure.interval.value) < 0.5 for figure in edits)


def test_edits_take_the_images_that_have_more_whichever_side(vivid, followed):
    forth = followed["covariates"]
    back = probed(vivid[::-1], colourful, names=["covariates"])["covariates"]
    assert back.value == pytest.approx(-forth.value)
    assert "in favour of new" in forth.statement
    assert "in favour of new" in back.statement


def test_the_length_of_prompts_is_named(equal):
    result = probed(equal, wordy, names=["prompt-length"])["prompt-length"]
    assert result.warning
    assert result.value > 0.95
    assert "Longer prompts score higher" in result.statement


def test_a_scorer_that_sees_no_image_ranks_prompts_alone(equal):
    result = probed(equal, wordy, names=["text-alone"])["text-alone"]
    assert result.warning
    words = [len(p.split()) for p in PROMPTS]
    means = [
        np.mean([0.1 * noise(Image.open(r[n])) for s in equal for r in s.images.values()])
        for n in range(COUNT)
    ]
    expected = stats.spearmanr(words, np.add(words, means)).statistic
    assert result.value == pytest.approx(expected, abs=1e-6)


def test_shuffled_prompts_are_the_floor(equal):
    def exact(images, texts):
        """Knows the prompt of every image by its file's sum, and nothing else."""
        return [[float(prompt_of[np.asarray(i).tobytes()] == t) for t in texts] for i in images]

    prompt_of = {
        np.asarray(Image.open(path)).tobytes(): PROMPTS[n]
        for side in equal
        for row in side.images.values()
        for n, path in enumerate(row)
    }
    chosen = {"prompts": PROMPTS[:20], "names": ["shuffled-prompts"]}
    result = probed(first(equal, 20), exact, **chosen)["shuffled-prompts"]
    assert (result.value, result.warning) == (1.0, False)
    blind = probed(first(equal, 20), colourful, **chosen)["shuffled-prompts"]
    assert (blind.value, blind.warning) == (0.5, True)


def test_copies_for_other_prompts_are_counted(tmp_path):
    new, old = generator(tmp_path, "new", seed=1), generator(tmp_path, "old", seed=2)
    image = Image.open(new.images[0][0])
    image.load()
    for n in range(1, 10):
        image.resize((48, 48)).save(new.images[0][n])
    image.save(new.images[1][0])
    result = probed((new, old), neutral, names=["duplicates"])["duplicates"]
    # 11 images are copies of one; that of seed 1 of prompt 0 is a copy for 9 other prompts, too.
    assert result.value == pytest.approx(11 / (SEEDS * COUNT))
    assert result.warning
    assert "two of new are near duplicates for 1 of 60 prompts" in result.statement


def test_families_of_the_plan_are_found_in_scorers(equal):
    few, chosen = first(equal, 10), {"prompts": PROMPTS[:10], "names": ["circularity"]}
    result = probed(few, neutral, **chosen, families=["Neu-Tral", "blip"])["circularity"]
    assert result.warning
    assert "neutral (Neu-Tral)" in result.statement
    other = probed(few, neutral, **chosen, families=["blip"])["circularity"]
    assert (other.value, other.warning) == (0.0, False)


def test_a_damaged_image_is_reported_and_the_others_are_measured(tmp_path):
    new, old = generator(tmp_path, "new", seed=1), generator(tmp_path, "old", seed=2)
    new.images[0][3].write_bytes(b"no image")
    names = ["inflation", "covariates", "shuffled-prompts", "duplicates"]
    results = probed((new, old), neutral, names=names)
    for name in names:
        assert results[name].reason is None
        assert any("3.png" in reason for reason in results[name].failed)


def test_a_scorer_that_fails_is_named_and_the_others_go_on(equal):
    calls = []

    def failing(images, texts):
        calls.append(texts)
        if any("masterpiece" in text for text in texts):
            raise ScoringError("the model reads no art")
        return neutral(images, texts)

    few, chosen = first(equal, 20), {"prompts": PROMPTS[:20], "names": ["inflation"]}
    result = probed(few, failing, neutral, **chosen)["inflation"]
    assert [f.label for f in result.figures[:1]] == ["neutral"]
    assert "the model reads no art" in result.statement
    alone = probed(few, failing, **chosen)["inflation"]
    assert "the model reads no art" in alone.reason
    assert math.isnan(alone.value)


def test_few_prompts_and_no_scorers_are_not_measured(tmp_path):
    few = generator(tmp_path, "new", count=3), generator(tmp_path, "old", seed=1, count=3)
    for results in (probed(few, neutral, prompts=PROMPTS[:3]), probed(few, prompts=PROMPTS[:3])):
        for name, result in results.items():
            assert (result.reason is None) == (name == "duplicates")
            assert not result.warning


def test_images_that_do_not_fit_the_prompts_are_refused(equal):
    with pytest.raises(InputError, match="new has 60 images of seed 0 for 59 prompts"):
        ProbeImages(PROMPTS[1:], *equal)
    images = ProbeImages(PROMPTS, *equal)
    scorer = rescore(images, from_function(neutral), (np.zeros((2, 60)),) * 2, ["circularity"])
    assert ProbeInputs(images, [scorer]).level == 0.05
    wrong = rescore(images, from_function(neutral), (np.zeros((1, 60)),) * 2, ["circularity"])
    with pytest.raises(InputError, match=r"neutral for new have shape \(1, 60\)"):
        ProbeInputs(images, [wrong])


def test_an_unknown_probe_is_named_with_the_nearest(equal):
    with pytest.raises(UnknownNameError, match="Did you mean 'inflation'"):
        run_probes(ProbeInputs(ProbeImages(PROMPTS, *equal), []), ["inflaton"])


def test_the_estimate_bounds_the_cells_that_are_scored(followed):
    for name, result in followed.items():
        assert result.cells <= 2 * PROBES[name].cells(COUNT, SEEDS)  # of two scorers
        assert PROBES[name].cells(COUNT, SEEDS, remote=True) <= PROBES[name].cells(COUNT, SEEDS)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a cat, 4k, masterpiece", "a cat"),
        ("masterpiece, best quality, a cat on a mat", "a cat on a mat"),
        ("A highly detailed photo of a cat. 8K UHD, trending on ArtStation", "A photo of a cat"),
        ("a cat", "a cat"),
        ("masterpiece", "masterpiece"),
        ("", ""),
        ("a 4kg bag, high school quality", "a 4kg bag, high school quality"),
    ],
)
def test_words_that_promise_quality_are_taken_away(prompt, expected):
    assert plain_prompt(prompt) == expected
    assert plain_prompt(plain_prompt(prompt)) == plain_prompt(prompt)


@pytest.mark.parametrize("seed", range(20))
def test_shuffled_prompts_are_a_permutation_without_fixed_texts(seed):
    rng = np.random.default_rng(seed)
    prompts = [f"prompt {k}" for k in rng.integers(0, 12, 30)]
    shuffled = shuffle_prompts(prompts, seed)
    assert sorted(map(str, shuffled)) == sorted(prompts)
    assert all(a != b for a, b in zip(prompts, shuffled, strict=True))
    assert shuffle_prompts(["a"] * 3 + ["b"], seed).count(None) == 2
    assert shuffle_prompts([], seed) == []
