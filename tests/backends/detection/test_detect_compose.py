"""GenEval's checks end to end: given boxes, drawn scenes, failures, the store, odd inputs."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from helpers.models.detectors import make_detector
from helpers.question_goldens import numbered
from helpers.toy import draw_image
from PIL import Image
from typer.testing import CliRunner

import t2v_eval
from t2v_eval.backends.detection.colours import ColourClassifier, crop_object
from t2v_eval.backends.detection.detect_compose import ObjectScorer
from t2v_eval.backends.detection.detector import Detection
from t2v_eval.benchmarks.forms.drawn_scenes import COLOURS, NUMBERS, RELATIONS, SIZES, items
from t2v_eval.cli.main import app
from t2v_eval.errors import BenchmarkDataError, InputError, ScoringError, UnsupportedError
from t2v_eval.evaluation.run import evaluate, for_benchmark
from t2v_eval.inputs.media import open_media
from t2v_eval.inputs.object_requirements import Requirement, Requirements
from t2v_eval.registry import benchmarks
from t2v_eval.scoring.plan import Block
from t2v_eval.stats.detection_rules import COLOURS as COLOUR_NAMES

DOG = Requirement("a dog", "single_object", ({"class": "dog", "count": 1},))
RED_DOG = Requirement("a red dog", "colors", ({"class": "dog", "count": 1, "color": "red"},))
CATS = Requirement(
    "two cats", "counting", ({"class": "cat", "count": 2},), ({"class": "cat", "count": 3},)
)


class GivenBoxes:
    """A detector that knows the objects of each image, by the image's content."""

    classes = None

    def __init__(self, objects, classes=None):
        self.objects = {open_media(image).key: found for image, found in objects}
        self.classes = classes
        self.calls: list[list[list[str]]] = []

    def identity(self):
        return {"detector": "given boxes"}

    def prepare(self, image):
        return open_media(image).key

    def detect(self, prepared, classes, minimum):
        self.calls.append([list(names) for names in classes])
        if None in [self.objects.get(key) for key in prepared]:
            raise ValueError("no such image")
        return [
            {name: self.objects[key].get(name, []) for name in names}
            for key, names in zip(prepared, classes, strict=True)
        ]


@pytest.fixture(scope="module")
def colors():
    return t2v_eval.load("tiny-clip", device="cpu")


def scorer_of(objects, requirements, colors=None, classes=None, **options):
    detector = GivenBoxes(objects, classes)
    required = Requirements(requirements)
    return ObjectScorer(
        detector=detector, metadata=required, colors=colors, device="cpu", **options
    )


@pytest.mark.parametrize("case", **numbered("geneval"))
def test_an_image_is_judged_as_by_its_code(case, monkeypatch):
    metadata = case["input"]["metadata"]
    image = draw_image(0, (40, 40))
    boxes = {
        name: [Detection(tuple(box)) for box in listed]
        for name, listed in case["input"]["detections"].items()
    }
    colours = {tuple(box): colour for box, colour in case["input"]["colors"]}
    required = Requirement(
        "prompt", metadata["tag"], metadata.get("include", ()), metadata.get("exclude", ())
    )
    monkeypatch.setattr(
        ObjectScorer, "_embed_crops", lambda *_: {d: d for listed in boxes.values() for d in listed}
    )
    monkeypatch.setattr(
        ColourClassifier, "colour", lambda _, name, detection: colours[tuple(detection[:4])]
    )
    scorer = scorer_of([(image, boxes)], [required], colors=t2v_eval.load("tiny-clip"))
    assert scorer(image, "prompt")[0, 0] == float(case["result"]["correct"])
    check = scorer.explain(image, "prompt")[0][0].check
    assert len(check.reasons) == case["result"]["reasons"]


def scene_objects(scene):
    """The exact box of each thing of a drawn scene, whose class is its colour and shape."""
    objects: dict[str, list[Detection]] = {}
    for thing in scene:
        reach = SIZES[thing.size] / 2
        box = (thing.x - reach, thing.y - reach, thing.x + reach, thing.y + reach, 0.99)
        objects.setdefault(f"{thing.colour} {thing.shape}", []).append(Detection(box))
    return objects


def scene_requirement(claim):
    """A caption of a drawn scene as clauses; "no" and exact numbers need `exclude`."""
    include, exclude = [], []
    for phrase in (claim.second, claim.first):
        name, count = f"{phrase.colour} {phrase.shape}", NUMBERS.get(phrase.number, 1)
        if count:
            include.append({"class": name, "count": count})
        if phrase.number in NUMBERS:
            exclude.append({"class": name, "count": count + 1})
    if claim.joint in RELATIONS:
        include[-1]["position"] = [claim.joint, 0]
    return Requirement(str(claim), "counting", tuple(include), tuple(exclude))


def is_right(claim, scene):
    """What GenEval's rule says of a scene, from its description alone."""
    if not (claim.first.holds(scene) and claim.second.holds(scene)):
        return False
    if claim.joint not in RELATIONS:
        return True
    # Of equally confident boxes the last is looked at.
    first, second = ([t for t in scene if p.matches(t)][-1] for p in (claim.first, claim.second))
    offset = np.array([first.x - second.x, first.y - second.y], float)
    slack = 0.1 * (SIZES[first.size] + SIZES[second.size])
    axis = np.array(RELATIONS[claim.joint])
    along = float(offset @ axis)
    return max(along - slack, 0) / np.hypot(*offset) > 0.5


def test_drawn_scenes_are_checked_end_to_end():
    chosen = [item for item in items(120) if item.skill != "size"]
    chosen = [i for i in chosen if not any(c.first.size or c.second.size for c in i.claims)]
    images = [image for item in chosen for image in item.images]
    scenes = [scene for item in chosen for scene in item.scenes]
    claims = {str(claim): claim for item in chosen for claim in item.claims}
    objects = [(image, scene_objects(scene)) for image, scene in zip(images, scenes, strict=True)]
    scorer = scorer_of(objects, [scene_requirement(claim) for claim in claims.values()])
    blocks = [Block(item.images, item.texts) for item in chosen]
    scores = scorer.evaluate_blocks(blocks).scores
    expected = [[[is_right(c, s) for c in item.claims] for s in item.scenes] for item in chosen]
    np.testing.assert_array_equal(scores, np.array(expected, float))
    assert 60 < np.sum(scores) < len(chosen) * 3


def test_colours_are_read_from_the_pixels_of_objects(colors):
    """A dual encoder of drawn scenes names the colours of shapes on grey."""
    sheet = Image.new("RGB", (96, 96), (230, 220, 215))
    # Half of each box is another colour, which the mask takes away.
    objects, requirements = {}, []
    for n, (name, rgb) in enumerate(COLOURS.items()):
        left, top = 32 * (n % 3), 32 * (n // 3)
        sheet.paste(rgb, (left, top, left + 24, top + 24))
        mask = np.zeros((96, 96), bool)
        mask[top : top + 24, left : left + 24] = True
        detection = Detection((left, top, left + 24, top + 24, 0.9), mask)
        objects[f"square {n}"] = [detection]
        clause = {"class": f"square {n}", "count": 1, "color": name}
        requirements.append(Requirement(name, "colors", (clause,)))
    scorer = scorer_of([(sheet, objects)], requirements, colors)
    assert scorer(sheet, list(COLOURS)).sum() >= 4  # of 6, by a model of 100,000 weights
    wrong = {"class": "square 0", "count": 1, "color": "blue"}
    scorer = scorer_of([(sheet, objects)], [Requirement("blue", "colors", (wrong,))], colors)
    check = scorer.explain(sheet, "blue")[0][0].check
    assert check.score == 0 and "expected 1 blue square 0, detected the colours" in str(check)


def test_a_colour_is_that_of_the_nearest_mean_of_three_texts(colors):
    """As clip_benchmark's zero_shot_classifier: unit embeddings, their mean, made unit again."""
    crops = [draw_image(n, (8 + n, 20 - n)) for n in range(12)]
    classifier = ColourClassifier(colors)
    embedded = classifier.embed(crops).numpy()
    bound = colors.with_template(template="plain")
    for name in ("dog", "dining table"):
        means = []
        for colour in COLOUR_NAMES:
            texts = [f"a photo of a {colour} {name}", f"a photo of a {colour}-colored {name}"]
            texts.append(f"a photo of a {colour} object")
            with torch.inference_mode():
                rows = bound.embed_texts(texts).double().numpy()
            mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(0)
            means.append(mean / np.linalg.norm(mean))
        expected = [COLOUR_NAMES[k] for k in (embedded @ np.array(means).T).argmax(1)]
        assert [classifier.colour(name, row) for row in classifier.embed(crops)] == expected
    with torch.inference_mode():
        (_, alone, _), *_ = classifier.encoder.embed_images([open_media(crops[0])])
    cosine = torch.nn.functional.cosine_similarity(alone[0].double(), classifier.embed(crops)[0], 0)
    assert float(cosine) == pytest.approx(1, abs=1e-6)


def test_a_crop_is_the_object_on_grey():
    image = Image.new("RGB", (10, 10), "red")
    mask = np.zeros((10, 10), bool)
    mask[2:4, 2:8] = True
    crop = crop_object(image, Detection((1.6, 2, 8.4, 6, 0.9), mask))
    assert crop.size == (6, 4)
    assert crop.getpixel((0, 0)) == (255, 0, 0) and crop.getpixel((0, 3)) == (153, 153, 153)
    assert crop_object(image, Detection((1.6, 2, 8.4, 6, 0.9))).getpixel((0, 3)) == (255, 0, 0)
    assert crop_object(image, Detection((2.6, 2, 3.4, 6, 0.9))).size == (1 + 1, 4)
    with pytest.raises(ScoringError, match="without pixels"):
        crop_object(image, Detection((3, 2, 3, 6, 0.9)))


def test_the_objects_of_an_image_are_found_once_for_all_texts():
    images = [draw_image(n) for n in range(5)]
    dog = {"dog": [Detection((0, 0, 5, 5, 0.95))], "cat": [Detection((0, 0, 5, 5, 0.95))] * 2}
    scorer = scorer_of([(image, dog) for image in images], [DOG, CATS])
    assert scorer(images, ["a dog", "two cats"]).tolist() == [[1, 1]] * 5
    assert [len(call) for call in scorer.detector.calls] == [5]
    assert scorer.detector.calls[0][0] == ["dog", "cat"]


def test_an_image_that_fails_is_recorded_and_tried_again(tmp_path):
    images = [draw_image(n) for n in range(4)]
    dog = {"dog": [Detection((0, 0, 5, 5, 0.95))]}
    cells = [(image, dog) for n, image in enumerate(images) if n != 2]
    options = {"store": tmp_path / "scores.sqlite", "on_error": "skip"}
    scorer = scorer_of(cells, [DOG], **options)
    result = scorer.evaluate_blocks([Block(images, ["a dog"])])
    assert np.isnan(result.scores[0][:, 0]).tolist() == [False, False, True, False]
    assert list(result.failures) == [(0, 2, 0)] and "no such image" in result.failures[0, 2, 0]
    again = scorer_of([(images[2], {})], [DOG], **options)
    result = again.evaluate_blocks([Block(images, ["a dog"])])
    assert result.scores[0][:, 0].tolist() == [1, 1, 0, 1] and len(again.detector.calls) == 1
    detail = json.loads(result.details[0, 0, 0])
    assert detail["objects"] == {"dog": [{"box": [0, 0, 5, 5], "confidence": 0.95}]}
    assert json.loads(result.details[0, 2, 0])["reasons"] == ["expected 1 dog, detected 0"]


def test_a_colour_that_cannot_be_read_fails_alone(colors):
    image = draw_image(0)
    objects = {"dog": [Detection((4, 4, 4, 9, 0.9))]}
    scorer = scorer_of([(image, objects)], [DOG, RED_DOG], colors, on_error="skip")
    result = scorer.evaluate_blocks([Block([image], ["a dog", "a red dog"])])
    assert result.scores[0][0, 0] == 1 and math.isnan(result.scores[0][0, 1])
    assert "without pixels" in result.failures[0, 0, 1]


def test_the_id_holds_detector_colours_metadata_and_thresholds(colors, tmp_path):
    def identity(requirements=(RED_DOG,), **options):
        return scorer_of([], requirements, colors, **options).id

    folder = make_detector("detr", tmp_path / "detr")
    of_folder = t2v_eval.load(
        "detect-compose", detector=folder, metadata=Requirements([DOG]), device="cpu"
    )
    ids = [
        identity(),
        identity([RED_DOG, DOG]),
        identity(threshold=0.2),
        identity(counting_threshold=0.5),
        of_folder.id,
    ]
    assert len({*ids}) == 5 and identity() == ids[0]
    assert "detector=given boxes" in ids[0] and colors.encoder_id in ids[0]
    assert "threshold=0.3" in ids[0] and "counting_threshold=0.9" in ids[0]
    assert "detector=detr" in of_folder.id and "colors=none" in of_folder.id


@pytest.fixture(scope="module")
def rt_detr(tmp_path_factory):
    return make_detector("rt-detr", tmp_path_factory.mktemp("rt-detr"))


def test_the_command_scores_folders_in_the_layout_of_its_scripts(rt_detr, tmp_path):
    rows = [
        {"tag": "single_object", "prompt": "a dog", "include": [{"class": "dog", "count": 1}]},
        {"tag": "counting", "prompt": "99 cats", "include": [{"class": "cat", "count": 99}]},
    ]
    metadata = tmp_path / "evaluation_metadata.jsonl"
    metadata.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for n, row in enumerate(rows):
        samples = tmp_path / "images" / f"{n:05}" / "samples"
        samples.mkdir(parents=True)
        (samples.parent / "metadata.jsonl").write_text(json.dumps(row))
        for k in range(2):
            draw_image(2 * n + k, (64, 48)).save(samples / f"{k:04}.png")
    command = ["eval", "-m", "detect-compose", "-b", "geneval", "--no-store", "--device", "cpu"]
    command += ["--root", str(tmp_path), "--images", str(tmp_path / "images")]
    options = ["--option", "threshold=0.0"]  # the benchmark has the metadata
    result = CliRunner().invoke(app, [*command, *options, "--option", f"detector={rt_detr}"])
    assert result.exit_code == 0, result.output
    assert "overall" in result.stdout and "4 of 4" in result.stdout
    assert "4 images in GenEval's layout" in result.stdout
    assert "of another detector" in " ".join(result.stdout.split())
    result = CliRunner().invoke(app, [*command, *options, "--option", "detector=org/gone"])
    assert result.exit_code == 2 and "the detector 'org/gone' is not on this" in result.stderr


def test_a_benchmark_says_what_its_images_must_show(colors, tmp_path):
    scorer = ObjectScorer(detector=GivenBoxes([]), colors=colors, device="cpu")
    assert scorer.needs_requirements and "metadata=none" in scorer.id
    bound = scorer.with_requirements(Requirements([RED_DOG]))
    assert not bound.needs_requirements and bound.colours is not None and scorer.colours is None
    assert bound.id == scorer_of([], [RED_DOG], colors).id
    with pytest.raises(UnsupportedError, match="scenes does not say which objects"):
        evaluate(scorer, benchmarks.create("scenes", n=1))
    (tmp_path / "evaluation_metadata.jsonl").write_text('{"tag": "t", "prompt": "a dog"}')
    geneval = benchmarks.create("geneval", root=tmp_path)
    with pytest.raises(BenchmarkDataError, match="not as published.*line 1: there is nothing"):
        for_benchmark(scorer, geneval)


def test_checkpoint_and_detector_are_the_same_option(rt_detr):
    options = {"metadata": Requirements([DOG]), "device": "cpu", "threshold": 0.0}
    image = draw_image(1, (64, 64))
    by_name = t2v_eval.load("detect-compose", checkpoint=str(rt_detr), **options)
    other = t2v_eval.load("detect-compose", detector=str(rt_detr), **options)
    assert by_name.id == other.id
    assert torch.equal(by_name(image, "a dog"), other(image, "a dog"))
    assert other.to("cpu")(image, "a dog").shape == (1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detector": 3}, "`detector=3` is neither a hub id nor a folder"),
        ({"threshold": 1}, "`threshold=1`: use a number from 0"),
        ({"counting_threshold": "0.5"}, "`counting_threshold='0.5'`"),
        ({"colors": None}, "asks for colours.*colors='openai:ViT-L-14'"),
        ({"colors": "hpsv2-of-nobody"}, "hpsv2-of-nobody"),
        ({"question_template": "Is it {}?"}, "leave templates out"),
    ],
)
def test_what_cannot_be_checked_is_refused(options, message):
    chosen = {
        "detector": GivenBoxes([]),
        "metadata": Requirements([RED_DOG]),
        "colors": "tiny-clip",
        **options,
    }
    with pytest.raises((InputError, t2v_eval.errors.UnknownNameError), match=message):
        t2v_eval.load("detect-compose", device="cpu", **chosen)


def test_a_scorer_without_embeddings_names_no_colours():
    with pytest.raises(InputError, match="`colors='tiny-clip-flant5'` embeds no images and texts"):
        ColourClassifier(t2v_eval.load("tiny-clip-flant5", device="cpu"))


def test_a_text_or_class_that_is_not_known_is_an_error_before_anything_is_detected():
    scorer = scorer_of([], [DOG, CATS], classes={"dog", "cow"}, on_error="skip")
    unknown = ObjectScorer(detector=scorer.detector, device="cpu")
    with pytest.raises(InputError, match="not guessed from its text.*`metadata=FILE`, or evaluate"):
        unknown(draw_image(0), "a dog")
    with pytest.raises(InputError, match="what an image of 'A dog' must show; add a line"):
        scorer(draw_image(0), ["a dog", "A dog"])
    with pytest.raises(InputError, match="knows 2 classes, and not 'cat'"):
        scorer(draw_image(0), ["a dog", "two cats"])
    assert not scorer.detector.calls


def test_many_boxes_and_none_at_all():
    crowd = [Detection((n / 10, 0, n / 10 + 5, 5, 0.5 + n / 1000)) for n in range(300)]
    seventeen = Requirement("17 dogs", "x", ({"class": "dog", "count": 17},))
    sixteen = Requirement("16 dogs", "x", ({"class": "dog", "count": 16},))
    image, empty = draw_image(0), draw_image(1)
    scorer = scorer_of([(image, {"dog": crowd}), (empty, {})], [sixteen, seventeen, DOG])
    assert scorer([image, empty], ["16 dogs", "17 dogs", "a dog"]).tolist() == [
        [1, 0, 1],
        [0, 0, 0],
    ]
    explanation = scorer.explain(image, "16 dogs")[0][0]
    assert len(explanation.check.objects["dog"]) == 16
    assert "dog 0.80 at (30, 0, 35, 5)" in str(explanation)
    assert "asked for: 1 dog; detected: nothing; wrong: expected 1 dog" in str(
        scorer.explain(empty, "a dog")[0][0]
    )


@pytest.mark.parametrize("image_mode", ["seen", "original"])
@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_images_of_any_mode_reach_the_detector_in_rgb(mode, image_mode, tmp_path):
    sizes = []

    class Watching(GivenBoxes):
        def prepare(self, image):
            sizes.append((image.mode, image.size))

        def detect(self, prepared, classes, minimum):
            return [{} for _ in prepared]

    image = Image.new(mode, (1, 3))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "image.png", exif=exif)
    scorer = ObjectScorer(
        detector=Watching([]), metadata=Requirements([DOG]), image_mode=image_mode, device="cpu"
    )
    assert scorer(tmp_path / "image.png", "a dog").tolist() == [[0]]
    assert sizes == [("RGB", (3, 1))]
