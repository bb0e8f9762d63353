"""`CASES`: what the small copy of each benchmark holds, and what rows may do to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from helpers.benchmarks.choice_layouts import CLASSES
from helpers.benchmarks.example import (
    COUNTS,
    TWICE,
    cell_with,
    json_again,
    json_with,
    key_again,
    line_again,
    line_with,
    table_again,
    table_with,
    with_an_image,
)
from helpers.benchmarks.expected_metrics import (
    FIVE,
    FOUR,
    OBJECTS,
    SIX,
    Metric,
    agiqa,
    agreement,
    all_cameras_right,
    first_image_wins,
    last_of_nine,
    mean_over_prompts,
    models_of,
    pairs_of_videos,
    pairs_right_but_the_last,
    ranked,
    seetrue,
    tifa_likert,
    tifa_raters,
    true_but_the_first,
)


class Case(NamedTuple):
    """`tags`: how many items have each. `again` and `bad` change the files in a folder.

    `said` is the error, or, if it starts with "warns: ", the warning of a row that is there twice,
    or, if it starts with "counts: ", how many items there are then, and why that is right.
    """

    images: int
    texts: int
    tags: dict[str, int]
    metric: Metric
    again: Callable[[Path], None]
    said: str
    bad: Callable[[Path], None]
    message: str


def ratings(file: str, **facts: Any) -> Case:
    """Of `{name: {"prompt", "models": {generator: ratings}}}`."""
    return Case(
        again=key_again(file),
        said="the key '.*' occurs twice",
        bad=json_with(file, lambda c: next(iter(c.values()))["models"].update(DALLE_3=[9])),
        message=f"{file}, '.*DALLE_3",
        **facts,
    )


GENAI_TAGS = {"attribute": 1, "counting": 1, "negation": 1, "spatial relation": 1} | {
    "basic": 2, "advanced": 1
}  # fmt: skip
VIDEO_TAGS = {"counting": 1, "basic": 1, "advanced": 1}
PARTS = {"replace_att": 2, "replace_obj": 2, "replace_rel": 2, "swap_att": 2, "swap_obj": 2}
TIFA_TAGS = {"coco": 2, "partiprompt": 4}
RANK = {"a perfect image": 1, "no perfect image": 2}


def genai(**facts: Any) -> Case:
    return ratings("genai_image.json", images=18, texts=3, tags=GENAI_TAGS, **facts)


def genai_video() -> Case:
    # The videos of two frames, those of 38: 36.
    facts = {"images": 42 + 40, "texts": 2, "tags": VIDEO_TAGS}
    return ratings(
        "genai_video.json", metric=agreement(models_of("genai_video.json", *FOUR)), **facts
    )


def tvge(target: str) -> Case:
    file = f"t2vscore_{target}_score.json"
    facts = {"images": 2 * 5 * 3, "texts": 2, "tags": {}}
    return ratings(file, metric=agreement(models_of(file, *FIVE)), **facts)


def objects(*generators: str) -> Case:
    file = "stanfordt23d.json"
    facts = {"images": 2 * len(generators), "texts": 2, "tags": {}}
    return ratings(file, metric=agreement(models_of(file, *generators)), **facts)


def rank() -> Case:
    return Case(
        27, 3, RANK, last_of_nine,
        key_again("human_rating.json"), "the key '00001' occurs twice",
        json_with("human_rating.json", lambda c: c["00012"].pop("prompt")),
        "human_rating.json, '00012': there is no 'prompt'",
    )  # fmt: skip


def flickr(file: str, **facts: Any) -> Case:
    return Case(
        tags={},
        again=line_again(file),
        said="1_a.jpg with 1_a.jpg#1 occurs twice",
        bad=line_with(file, 0, "1_a.jpg\t2_b.jpg#0\t7\t7\t7"),
        message=f"{file}: 1_a.jpg with 2_b.jpg#0: .* is '7', not from",
        **facts,
    )


def order() -> Case:
    file = "data/test-00000-of-00002.parquet"
    return Case(
        5, 25, {}, true_but_the_first(),
        table_again(file), TWICE,
        table_with(file, "correct_caption", ""),
        f"{file}, row 1: 'correct_caption' is empty",
    )  # fmt: skip


def foil() -> Case:
    file = "foilv1.0_test_2017.json"
    return Case(
        3, 6, {}, true_but_the_first(),
        json_again(file, "annotations"), "row 7: the id 7 has two true captions",
        json_with(file, lambda c: c["annotations"][3].update(image_id="74")),
        f"{file}, row 4: 'image_id' is '74', not int",
    )  # fmt: skip


def agiqa_case(column: str) -> Case:
    styles = {"anime style": 1, "sci-fi style": 1}
    return Case(
        30, 3, styles, agreement(agiqa(column)),
        line_again("data.csv"), "row 31: .* occurs twice",
        cell_with("data.csv", column, "good"),
        f"data.csv, row 1: '{column}' is 'good', not a number",
    )  # fmt: skip


CASES = {
    "winoground": Case(
        6, 6,
        {"Object": 1, "Relation": 2, "1 main predicate": 1, "2 main predicates": 1,
         "3 main predicates": 1},
        pairs_right_but_the_last,
        line_again("data/examples.jsonl", 0), "the id 0 occurs twice",
        line_with("data/examples.jsonl", 1, "{"), "row 2 .*is not JSON",
    ),
    "eqben-mini": Case(
        8, 8, {"eqbensd": 1, "eqbenk": 2, "eqbeny": 1}, pairs_right_but_the_last,
        json_again("all_select.json"), TWICE,
        json_with("all_select.json", lambda c: c[2].pop("caption0")),
        "row 3: there is no 'caption0'",
    ),
    "naturalbench-retrieval": Case(
        6, 6, {}, pairs_right_but_the_last,
        json_again("metadata.json"), "the id 0 occurs twice",
        json_with("metadata.json", lambda c: c[2].update(index="two")),
        "row 3: 'index' is 'two', not int",
    ),
    "sugarcrepe": Case(
        14, 28,
        {"add_att": 2, "add_obj": 2, "replace_att": 2, "replace_obj": 2, "replace_rel": 2,
         "swap_att": 2, "swap_obj": 2, "add": 4, "replace": 6, "swap": 4},
        true_but_the_first(*[2] * 7),
        key_again("swap_att.json"), "swap_att.json: the key '0' occurs twice",
        json_with("add_obj.json", lambda c: c["1"].update(negative_caption=None)),
        "add_obj.json, '1': 'negative_caption' is None",
    ),
    "aro-relation": Case(
        5, 10, {"riding": 3, "on": 1}, true_but_the_first(3, 1),
        json_again("visual_genome_relation.json"), TWICE,
        json_with("visual_genome_relation.json", lambda c: c[4].update(bbox_h=-1)),
        "row 5: the box is 6 x -1",
    ),
    "aro-attribution": Case(
        27, 54, {"red_tall": 25}, true_but_the_first(25),
        json_again("visual_genome_attribution.json"), "warns: 1 of 28 items occur twice",
        json_with("visual_genome_attribution.json", lambda c: c[0].update(attributes="red")),
        "row 1: 'attributes' is 'red', not list",
    ),
    "aro-coco-order": order(),
    "aro-flickr30k-order": order(),
    "tifa160": Case(
        30, 6, TIFA_TAGS, agreement(tifa_likert),
        line_again("dsg_tifa160_anns.csv"), "row .*: .* rated .* before",
        json_with("tifa160.json", lambda c: next(iter(c.values())).update(text_id=3)),
        "tifa160.json, '.*': 'text_id' is 3, not str",
    ),
    "tifa160-two-raters": Case(
        30, 6, TIFA_TAGS, agreement(tifa_raters),
        key_again("human_annotations.json"), "the key '.*' occurs twice",
        json_with(
            "human_annotations.json", lambda c: next(iter(c.values())).update(human_scores=[6])
        ),
        "is 6, not from 1 to 5",
    ),
    "seetrue": Case(
        28, 9, {"drawbench": 3, "coco_t2i": 3, "editbench": 3}, seetrue,
        line_again("SeeTRUE.csv"), "row 29: .* occurs twice with",
        line_with("SeeTRUE.csv", 2, "a.png,text,yes,1,drawbench"), "row 2: 'label' is 'yes'",
    ),
    "genai-bench-527": genai(metric=agreement(models_of("genai_image.json", *SIX))),
    "genai-bench-1600": genai(metric=agreement(models_of("genai_image.json", *SIX))),
    "genai-bench-video-527": genai_video(),
    "genai-bench-video-800": genai_video(),
    "t2vscore-alignment": tvge("alignment"),
    "t2vscore-quality": tvge("quality"),
    "stanfordt23d": objects(*OBJECTS),
    "stanfordt23d-300": objects(*OBJECTS[:5]),
    "agiqa-3k": agiqa_case("mos_align"),
    "agiqa-3k-quality": agiqa_case("mos_quality"),
    "genai-rank-dalle3": rank(),
    "genai-rank-sdxl": rank(),
    "imagereward-test": Case(
        # Ranks 1 2 5 3, 3 2 3 2 5 and 1 2 1 4 3 4, images in falling order.
        15, 3, {}, ranked((5, 1, 0), (5, 3, 2), (11, 2, 2)),
        json_again("test.json"), "the id 005658-0040 occurs twice",
        json_with("test.json", lambda c: c[1].update(generations=["a.webp"])),
        "row 2: 1 images have 5 ranks",
    ),
    "hpdv2-test": Case(
        # Ranks 1 3 2 and 1.5 1.5 3.
        6, 2, {}, ranked((2, 1, 0), (2, 0, 1)),
        json_again("test.json"), "warns: 1 of 3 items occur twice",
        json_with("test.json", lambda c: c[1].update(rank=[1, 2, "x"])),
        "row 2: a rank is 'x', not a number",
    ),
    "pickapic-100": Case(
        # Of the chosen pairs people prefer the first, the second, and neither.
        6, 3, {}, first_image_wins((1 + 0 + 0.5) / 3, 1 / 2),
        json_again("test_captions.json"), "row 5: the id 1 occurs twice",
        json_with("test_captions.json", lambda c: c[1].update(label_1=2)),
        "id 9: the labels are 0 and 2",
    ),
    "pickapic-test": Case(
        # The first, the second, the first, and neither.
        8, 4, {}, first_image_wins((1 + 0 + 1 + 0.5) / 4, 2 / 3),
        table_again("data/test_unique-00000-of-00002.parquet"), TWICE,
        table_with("data/test_unique-00000-of-00002.parquet", "label_0", 0.2),
        "row 1: the labels are 0.2 and 0",
    ),
    "camerabench-binary": Case(
        # Static has the videos of 4, 8 and 8 frames, four kinds the last two, five the others.
        20 + 5 * (8 + 8) + 4 * (4 + 8) + 5 * (4 + 8), 31,
        dict.fromkeys(CLASSES, 2) | {"Static": 3}, all_cameras_right,
        line_again("binary_classification/Zoom_In.jsonl"), "the id Zoom_In/2.mp4 occurs twice",
        line_with("binary_classification/Zoom_In.jsonl", 0, '{"image": "0.mp4"}'),
        "Zoom_In.jsonl, row 1: there is no column 'question'",
    ),
    "camerabench-retrieval": Case(
        # Pairs of the videos of 8, 8 and 4 frames: 0 1, 1 2 and 2 0 three times each, 2 0 again.
        3 * (12 + 16 + 12) + 12, 20,
        {"skill-based": 9, "caption-based": 1, "complex_description": 1, "confusable_motion": 1,
         "has_motion": 2, "motion_and_steadiness": 1, "motion_direction": 1, "motion_speed": 1,
         "only_motion": 1, "scene_dynamics": 1, "tracking_shot": 1},
        pairs_of_videos,
        line_again("vqa_and_retrieval/has_motion/all.jsonl", 0), "warns: 1 of 11 items occur twic",
        line_with("vqa_and_retrieval/has_motion/all.jsonl", 1, "[]"), "row 2 .*is list, not a JSON",
    ),
    "flickr8k-expert": flickr(
        "ExpertAnnotations.txt", images=3, texts=4,
        metric=agreement(
            lambda root: [[1, 1, 2], [1, 1, 1], [2, 3, 2], [1, 2, 1]], "tau_c", "tau_b"
        ),
    ),
    "flickr8k-cf": flickr(
        "CrowdFlowerAnnotations.txt", images=3, texts=4,
        metric=agreement(lambda root: [0, 1 / 3, 1, 2 / 3], "tau_b", "tau_c", "acc23"),
    ),
    "composite-captions": Case(
        3, 5, {"flickr8k": 2, "coco": 1},
        agreement(lambda root: [5, 1, 3, 4, 3], "tau_c", "pearson"),
        json_again("composite.json", "coco"), "counts: 3, as two systems may write one caption",
        json_with("composite.json", lambda c: c["coco"][1].update(human="good")),
        "coco, row 2: 'human' is 'good', not a number",
    ),
    "pascal-50s": Case(
        8, 16, {"HC": 2, "HI": 2, "HM": 2, "MM": 2}, true_but_the_first(*[2] * 4),
        json_again("pascal_50s.json", "HI"), "warns: 1 of 9 items occur twice",
        json_with("pascal_50s.json", lambda c: c.pop("MM")), "pascal_50s.json: there is no 'MM'",
    ),
    "foil-1-ref": foil(),
    "foil-4-ref": foil(),
    "partiprompts": Case(
        2, 2, {"Abstract": 1, "Animals": 1, "Basic": 2}, mean_over_prompts,
        with_an_image(line_again("PartiPrompts.tsv")), COUNTS,
        line_with("PartiPrompts.tsv", 2, "sky\tArts"), "line 3 has 2 values between tabs, not 4",
    ),
    "drawbench": Case(
        2, 2, {"Colors": 1, "Counting": 1}, mean_over_prompts,
        with_an_image(line_again("drawbench.csv")), COUNTS,
        line_with("drawbench.csv", 2, ",Counting"), "row 2.*'Prompts' is empty",
    ),
    "geneval": Case(
        2, 2, {"single_object": 1, "colors": 1}, mean_over_prompts,
        with_an_image(line_again("evaluation_metadata.jsonl")), COUNTS,
        line_with("evaluation_metadata.jsonl", 1, '{"tag": "colors"}'), "row 2.*'prompt'",
    ),
    "t2i-compbench": Case(
        16, 16, dict.fromkeys(
            ("color", "shape", "texture", "spatial", "non_spatial", "complex", "numeracy",
             "3d_spatial"), 2
        ), mean_over_prompts,
        with_an_image(line_again("3d_spatial_val.txt"), "16"), COUNTS,
        lambda root: (root / "shape_val.txt").write_bytes(b"caf\xe9\n"),
        "shape_val.txt is not UTF-8 text in line 1, at byte 3",
    ),
    "genai-bench-prompts": Case(
        2, 2, {"counting": 1, "basic": 2}, mean_over_prompts,
        key_again("genai_image.json"), "the key '00003' occurs twice",
        json_with("genai_image.json", lambda c: c["00009"].pop("prompt")),
        "genai_image.json, '00009': there is no 'prompt'",
    ),
    "tifa-v1": Case(
        2, 2, {"coco": 1, "drawbench": 1}, mean_over_prompts,
        with_an_image(json_again("tifa_v1.0_text_inputs.json")), "id coco_301091 occurs twice",
        json_with("tifa_v1.0_text_inputs.json", lambda c: c[1].update(caption=3)),
        "row 2: 'caption' is 3, not str",
    ),
    "dsg-1k": Case(
        2, 2, {"whoops": 1, "vrd": 1}, mean_over_prompts,
        line_again("dsg-1k-anns.csv"), "counts: 2, as a row is a question of a prompt",
        cell_with("dsg-1k-anns.csv", "text", "A ball"), "row 2: whoops_5 has another text",
    ),
}  # fmt: skip
