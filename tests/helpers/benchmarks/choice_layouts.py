"""Small copies of benchmarks of true and false texts, of pairs of pairs, and of captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
from helpers.benchmarks.small_files import FIXTURES, clip, copy, draw, jpeg, write_json, write_lines
from pyarrow import parquet


def winoground(root: Path) -> None:
    rows = [
        {"id": n, "image_0": f"ex_{n}_img_0", "image_1": f"ex_{n}_img_1", "collapsed_tag": tag}
        | {"caption_0": f"one {n} on two", "caption_1": f"two on one {n}", "num_main_preds": n + 1}
        for n, tag in enumerate(("Object", "Relation", "Relation"))
    ]
    write_lines(root / "data" / "examples.jsonl", rows)
    for n in range(3):
        for k in (0, 1):
            draw(root / "data" / "images" / f"ex_{n}_img_{k}.png", 2 * n + k)


EQBEN = ["eqbensd", "eqbenkubric_cnt", "eqbenkubric_attr", "eqbenyoucook2"]


def eqben_mini(root: Path) -> None:
    rows = [
        {f"image{k}": f"{subset}/{n}/{k}.png" for k in (0, 1)}
        | {f"caption{k}": f"{subset} caption {k}" for k in (0, 1)}
        for n, subset in enumerate(EQBEN)
    ]
    write_json(root / "all_select.json", rows)
    for n, row in enumerate(rows):
        for k in (0, 1):
            draw(root / "images" / row[f"image{k}"], 2 * n + k)


def naturalbench(root: Path) -> None:
    rows = [
        {"index": n, "caption_0": f"one {n}", "caption_1": f"other {n}"}
        | {f"image_{k}": f"{n}_{k}.jpg" for k in (0, 1)}
        for n in range(3)
    ]
    write_json(root / "metadata.json", rows)
    for row in rows:
        for k in (0, 1):
            draw(root / "images" / row[f"image_{k}"], 2 * row["index"] + k)


def sugarcrepe(root: Path) -> None:
    for path in sorted((FIXTURES / "sugarcrepe").glob("*.json")):
        copy(root, f"sugarcrepe/{path.name}")
        for row in json.loads(path.read_text(encoding="utf-8")).values():
            draw(root / "val2017" / row["filename"], int(row["filename"][:-4]) % 97)


def vg_rows(key: str, parts: list[Any]) -> list[dict[str, Any]]:
    box = {"bbox_x": 1, "bbox_y": 2, "bbox_w": 6, "bbox_h": 5}
    return [
        {"image_id": str(n % 2), "image_path": f"{n % 2}.jpg", key: part, **box}
        | {"true_caption": f"the {n} is one", "false_caption": f"the one is {n}"}
        for n, part in enumerate(parts)
    ]


RELATIONS = ["riding", "riding", "on", "near", "riding"]


ATTRIBUTES = [["red", "tall"]] * 25 + [["old", "new"]] * 2


def aro_relation(root: Path) -> None:
    write_json(root / "visual_genome_relation.json", vg_rows("relation_name", RELATIONS))
    for n in range(2):
        draw(root / "images" / f"{n}.jpg", n)


def aro_attribution(root: Path) -> None:
    write_json(root / "visual_genome_attribution.json", vg_rows("attributes", ATTRIBUTES))
    for n in range(2):
        draw(root / "images" / f"{n}.jpg", n)


def aro_order(root: Path) -> None:
    rows = [
        {"images": {"bytes": jpeg(n // 2), "path": None}, "correct_caption": f"a caption {n}"}
        | {f"hard_text_{k}": f"caption {n} a {k}" for k in range(1, 5)}
        for n in range(5)
    ]
    (root / "data").mkdir()
    for part, some in enumerate((rows[:3], rows[3:])):
        path = root / "data" / f"test-0000{part}-of-00002.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(some), path, row_group_size=2)


TOKENS = {
    "1_a.jpg": ["A dog runs .", "A brown  dog .", "Dog", "The dog is fast .", "An animal ."],
    "2_b.jpg": ["Two girls sing .", "Girls .", "Two people .", "A choir .", "Singing ."],
    "3_c.jpg": ["A red car .", "A car .", "Car on a road .", "A vehicle .", "Driving ."],
}


EXPERT = [  # photograph, caption, three ratings; the second caption is the photograph's own
    ("1_a.jpg", "2_b.jpg#0", 1, 1, 2),
    ("1_a.jpg", "1_a.jpg#1", 4, 4, 4),
    ("1_a.jpg", "3_c.jpg#2", 1, 1, 1),
    ("2_b.jpg", "1_a.jpg#4", 2, 3, 2),
    ("3_c.jpg", "2_b.jpg#1", 1, 2, 1),
]


CROWD = [  # photograph, caption, share of yes, yes, no
    ("1_a.jpg", "2_b.jpg#0", 0, 0, 3),
    ("1_a.jpg", "1_a.jpg#1", 1, 3, 0),
    ("1_a.jpg", "3_c.jpg#2", 1 / 3, 1, 2),
    ("2_b.jpg", "1_a.jpg#4", 2 / 3, 2, 1),
]


def flickr8k(root: Path) -> None:
    names = ("Flickr8k.token.txt", "ExpertAnnotations.txt", "CrowdFlowerAnnotations.txt")
    tables = (
        [(f"{name}#{n}", one) for name, own in TOKENS.items() for n, one in enumerate(own)],
        EXPERT,
        CROWD,
    )
    for name, table in zip(names, tables, strict=True):
        lines = ["\t".join(map(str, row)) for row in table]
        (root / name).write_text("\n".join(lines) + "\n")
    for seed, name in enumerate(TOKENS):
        draw(root / "Flicker8k_Dataset" / name, seed)


def flickr8k_expert(root: Path) -> None:
    flickr8k(root)
    (root / "CrowdFlowerAnnotations.txt").unlink()


def flickr8k_cf(root: Path) -> None:
    flickr8k(root)
    (root / "ExpertAnnotations.txt").unlink()


COMPOSITE = {  # part: photograph, caption, rating
    "flickr8k": [("a.jpg", "a dog", 5), ("a.jpg", "a  cat", 1), ("b.jpg", "two men", 3)],
    "coco": [("c.jpg", "a tram", 4), ("c.jpg", "a bus", 3)],
}


def composite(root: Path) -> None:
    content = {
        part: [
            {"image": image, "caption": caption, "human": human, "references": [f"of {image}"]}
            for image, caption, human in rows
        ]
        for part, rows in COMPOSITE.items()
    }
    write_json(root / "composite.json", content)
    for seed, name in enumerate("abc"):
        draw(root / "images" / f"{name}.jpg", seed)


def pascal_50s(root: Path) -> None:
    content = {
        kind: [
            {"image": f"{kind}_{n}.jpg", "captions": ["first", "second"], "label": (n + k) % 2}
            | {"references": ["a reference", "another"]}
            for n in range(2)
        ]
        for k, kind in enumerate(("HC", "HI", "HM", "MM"))
    }
    write_json(root / "pascal_50s.json", content)
    for seed, name in enumerate(row["image"] for rows in content.values() for row in rows):
        draw(root / "images" / name, seed)


FOIL = [  # id, foil_id, photograph, caption, whether it is a foil; the file mixes them
    (7, 0, 42200, "A dog on a  bed.", False),
    (7, 1, 42200, "A cat on a bed.", True),
    (9, 2, 74, "A red bus.", False),
    (9, 4, 74, "A red truck.", True),
    (9, 3, 74, "A red car.", True),
    (12, 5, 74, "A bus stop.", False),
]


def foil(root: Path) -> None:
    rows = [
        {"id": i, "foil_id": f, "image_id": image, "caption": caption, "foil": wrong}
        | {"target_word": "a" if wrong else "ORIG", "foil_word": "b" if wrong else "ORIG"}
        for i, f, image, caption, wrong in FOIL
    ]
    images = [{"id": i, "file_name": f"COCO_val2014_{i:012}.jpg"} for i in (42200, 74)]
    write_json(root / "foilv1.0_test_2017.json", {"images": images, "annotations": rows})
    captions = [
        {"image_id": image, "id": 10 * image + n, "caption": caption}
        for image, own in ((42200, "A dog on a bed."), (74, "A red bus."))
        for n, caption in enumerate([own, *(f"Caption {k} of {image} ." for k in range(4))])
    ]
    write_json(root / "captions_val2014.json", {"annotations": captions})
    for seed, image in enumerate((42200, 74)):
        draw(root / "val2014" / f"COCO_val2014_{image:012}.jpg", seed)


CLASSES = (
    "Move_Down Move_In Move_Left Move_Out Move_Right Move_Up Pan_Left Pan_Right Roll_Clockwise "
    "Roll_Counterclockwise Static Tilt_Down Tilt_Up Zoom_In Zoom_Out"
).split()


def camerabench_binary(root: Path) -> None:
    for k, kind in enumerate(CLASSES):
        # Each kind has two videos of three, one answer is yes; Static has all.
        videos = [n for n in range(3) if kind == "Static" or n != k % 3]
        rows = [
            {"image": f"{n}.mp4", "question": f"Is it {kind}?", "task": kind.replace("_", " ")}
            | {"label": "Yes" if n == videos[0] else "No", "label_name": f"cam_motion.{kind}"}
            for n in videos
        ]
        write_lines(root / "binary_classification" / f"{kind}.jsonl", rows)
    for n in range(3):
        clip(root / "videos" / f"{n}.mp4", n, 10 * n + 4)


SKILLS = (
    "complex_description confusable_motion has_motion motion_and_steadiness motion_direction "
    "motion_speed only_motion scene_dynamics tracking_shot"
).split()


def camerabench_retrieval(root: Path) -> None:
    for k, skill in enumerate(SKILLS):
        videos = [f"{(n + k) % 3}.mp4" for n in range(2)]
        texts = [f"Is it {skill}?", f"Is it not {skill}?"]
        row = {"skill": skill, "task": "all", "images": videos, "texts": texts}
        for what, pair in (("video", videos), ("text", texts), ("question", texts)):
            row |= {f"pos_{what}": pair[0], f"neg_{what}": pair[1]}
        rows = [row, row | {"pos_text": "Is it?"}] if skill == "has_motion" else [row]
        write_lines(root / "vqa_and_retrieval" / skill / "all.jsonl", rows)
    for n in range(3):
        clip(root / "videos" / f"{n}.mp4", n, 10 * n + 4)
