"""Small copies of published benchmarks in their authors' layout: real rows, drawn images.

`LAYOUTS[name](root)` writes one; `ITEMS[name]` is how many items it then has.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
from helpers.benchmarks.choice_layouts import (
    aro_attribution,
    aro_order,
    aro_relation,
    camerabench_binary,
    camerabench_retrieval,
    composite,
    eqben_mini,
    flickr8k_cf,
    flickr8k_expert,
    foil,
    naturalbench,
    pascal_50s,
    sugarcrepe,
    winoground,
)
from helpers.benchmarks.small_files import FIXTURES, clip, copy, draw, jpeg, read_csv, write_json
from pyarrow import parquet

from t2v_eval.registry import benchmarks

GENERATORS = "DALLE_3 SDXL_Turbo DeepFloyd_I_XL_v1 Midjourney_6 SDXL_2_1 SDXL_Base".split()


def tifa160(root: Path) -> None:
    copy(root, "tifa160/tifa160.json", "agreement/tifa160/dsg_tifa160_anns.csv")
    for seed, row in enumerate(json.loads((root / "tifa160.json").read_text()).values()):
        draw(root / row["image_path"], seed)


def tifa160_two_raters(root: Path) -> None:
    copy(root, "tifa160/human_annotations.json")
    for seed, row in enumerate(json.loads((root / "human_annotations.json").read_text()).values()):
        draw(root / row["image_path"], seed)


GENAI = {
    "00000": {"prompt": "a baker pulling bread out of an oven", "models": [[5, 5, 4], [4, 4, 4]]},
    "00001": {"prompt": "three cats, not two", "models": [[2, 1, 1], [3, 3, 3]]},
    "00007": {"prompt": "a blue cup left of a red one", "models": [[5, 4, 5], [1, 1, 1]]},
}


GENAI_SKILLS = {
    "attribute": [7], "counting": [1], "negation": [1], "spatial relation": [7],
    "basic": [0, 7], "advanced": [1],
}  # fmt: skip


def genai_bench(root: Path) -> None:
    content = {
        name: {
            "id": name,
            "prompt": row["prompt"],
            # The first and the last generator as above, those between all rated 3.
            "models": {
                g: row["models"][k // 5] if k in (0, 5) else [3, 3, 3]
                for k, g in enumerate(GENERATORS)
            },
        }
        for name, row in GENAI.items()
    }
    write_json(root / "genai_image.json", content)
    write_json(root / "genai_skills.json", GENAI_SKILLS)
    for k, generator in enumerate(GENERATORS):
        for name in GENAI:
            draw(root / generator / f"{name}.jpeg", 10 * k + int(name))


def seetrue(root: Path) -> None:
    copy(root, "seetrue/SeeTRUE.csv")
    for seed, row in enumerate(read_csv(root / "SeeTRUE.csv")):
        draw(root / "images" / row["image"], seed)


def imagereward(root: Path) -> None:
    copy(root, "imagereward/test.json")
    names = [
        name for row in json.loads((root / "test.json").read_text()) for name in row["generations"]
    ]
    for seed, name in enumerate(names):
        draw(root / name, seed)


HPD = [
    {"prompt": "a cat in the rain", "image_path": ["0.jpg", "1.jpg", "2.jpg"], "rank": [1, 3, 2]},
    {"prompt": "a tram", "image_path": ["3.jpg", "4.jpg", "5.jpg"], "rank": [1.5, 1.5, 3]},
]


def hpdv2(root: Path) -> None:
    write_json(root / "test.json", HPD)
    for n in range(6):
        draw(root / "test" / f"{n}.jpg", n)


PICKED = [  # id, label_0, label_1; the third is none of the chosen ones
    (1, 1, 0), (9, 0, 1), (2, 1, 0), (385, 0.5, 0.5)
]  # fmt: skip


def pickapic_100(root: Path) -> None:
    rows = [
        {"id": i, "caption": f"caption {i}", "label_0": first, "label_1": second}
        | {f"image_{k}": f"images/{i}_{k}.jpg" for k in (0, 1)}
        for i, first, second in PICKED
    ]
    write_json(root / "test_captions.json", rows)
    for i, _, _ in PICKED:
        for k in (0, 1):
            draw(root / "images" / f"{i}_{k}.jpg", 2 * i + k)


def pickapic_test(root: Path) -> None:
    rows = [
        {"caption": f"caption {i}", "jpg_0": jpeg(2 * i), "jpg_1": jpeg(2 * i + 1)}
        | {"label_0": float(first), "label_1": float(second), "ranking_id": i}
        for i, first, second in PICKED
    ]
    (root / "data").mkdir()
    for part, some in enumerate((rows[:3], rows[3:])):
        path = root / "data" / f"test_unique-0000{part}-of-00002.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(some), path)
    other = pyarrow.Table.from_pylist(rows[:1])
    parquet.write_table(other, root / "data" / "test-00000-of-00001.parquet")


def agiqa3k(root: Path) -> None:
    copy(root, "agiqa3k/data.csv")
    for seed, row in enumerate(read_csv(root / "data.csv")):
        draw(root / row["name"], seed)


RANKED = {  # three raters' sums for nine images
    "00001": [15, 12, 9, 9, 6, 3, 12, 12, 12],
    "00012": [12, 12, 12, 12, 12, 12, 12, 12, 12],
    "00800": [3, 6, 9, 12, 6, 3, 6, 6, 6],
}


def genai_rank(root: Path) -> None:
    content = {
        name: {
            "id": name,
            "prompt": f"prompt {name}",
            "models": {
                model: {str(n): [total // 3] * 3 for n, total in enumerate(totals, 1)}
                for model in ("DALLE_3", "SDXL_Base")
            },
        }
        for name, totals in RANKED.items()
    }
    write_json(root / "human_rating.json", content)
    for k, model in enumerate(("DALLE_3", "SDXL_Base")):
        for name in RANKED:
            for n in range(1, 10):
                draw(root / model / f"{name}_{n:02}.jpeg", 10 * k + n)


VIDEO_MODELS = ("Floor33", "Gen2", "Pika_v1", "Modelscope")


def clips(root: Path, generator: str, name: str, count: int, seed: int) -> None:
    clip(root / generator / f"{name}.mp4", seed, count)


def frames(root: Path, generator: str, name: str, count: int, seed: int) -> None:
    for k in range(count):
        draw(root / "frames" / generator / f"video_{name}_frame_{k:04}.jpg", seed + k)


def genai_bench_video(root: Path, write: Callable[..., None] = frames) -> None:
    content = {
        name: {"prompt": f"prompt {name}", "models": {m: [k + 1] * 3 for k, m in enumerate(models)}}
        for name, models in (("00000", VIDEO_MODELS), ("00001", VIDEO_MODELS[:3]))
    }
    write_json(root / "genai_video.json", content)
    write_json(root / "genai_skills.json", {"counting": [1], "basic": [0], "advanced": [1]})
    for name, row in content.items():
        for k, model in enumerate(row["models"]):
            write(root, model, name, 2 if model != "Gen2" else 38, 40 * k)


def genai_bench_videos(root: Path) -> None:
    genai_bench_video(root, clips)


def t2vscore(root: Path, write: Callable[..., None] = frames) -> None:
    copy(root, "agreement/t2vscore/t2vscore_alignment_score.json")
    ratings = json.loads((root / "t2vscore_alignment_score.json").read_text())
    kept = {name: ratings[name] for name in list(ratings)[:2]}
    write_json(root / "t2vscore_alignment_score.json", kept)
    for name, row in kept.items():
        for k, model in enumerate(row["models"]):
            write(root, model, name.zfill(4), 3, 10 * k + int(name))


def t2vscore_quality(root: Path) -> None:
    t2vscore(root, clips)
    (root / "t2vscore_alignment_score.json").rename(root / "t2vscore_quality_score.json")


def stanfordt23d(root: Path) -> None:
    copy(root, "stanfordt23d/stanfordt23d.json")
    for name, row in json.loads((root / "stanfordt23d.json").read_text()).items():
        for k, model in enumerate(row["models"]):
            for view in (2, 15, 28, 41, 54, 67, 80, 93, 106):
                draw(root / model / name / "0" / f"rgb_{view}.jpg", 10 * k + view)


def draw_images(root: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        draw(root / "images" / f"{name}.png", seed)


def partiprompts(root: Path) -> None:
    copy(root, "prompt_sets/PartiPrompts.tsv")
    draw_images(root, "0", "1")


def drawbench(root: Path) -> None:
    (root / "drawbench.csv").write_text("Prompts,Category\nA red car.,Colors\nTwo.,Counting\n")
    draw_images(root, "0", "1")


def geneval(root: Path) -> None:
    copy(root, "prompt_sets/evaluation_metadata.jsonl")
    draw_images(root, "0", "1")


def t2i_compbench(root: Path) -> None:
    copy(root, *(f"prompt_sets/{path.name}" for path in (FIXTURES / "prompt_sets").glob("*.txt")))
    draw_images(root, *(f"{n:05}" for n in range(16)))


def genai_bench_prompts(root: Path) -> None:
    write_json(root / "genai_image.json", {n: {"prompt": f"of {n}"} for n in ("00003", "00009")})
    write_json(root / "genai_skills.json", {"counting": [9], "basic": [3, 9]})
    draw_images(root, "3", "00009")


def tifa_v1(root: Path) -> None:
    copy(root, "prompt_sets/tifa_v1.0_text_inputs.json")
    draw_images(root, "0", "1")


def dsg_1k(root: Path) -> None:
    copy(root, "prompt_sets/dsg-1k-anns.csv")
    draw_images(root, "0", "1")


def opened(name: str, root: Path | None) -> Any:
    """The benchmark on files in `root`; of sets of prompts with the images in ROOT/images."""
    if benchmarks.card(name).kind == "prompts":
        return benchmarks.create(name, root=root, images=(root or Path()) / "images")
    return benchmarks.create(name, root=root)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "tifa160": tifa160,
    "tifa160-two-raters": tifa160_two_raters,
    "genai-bench-527": genai_bench,
    "genai-bench-1600": genai_bench,
    "seetrue": seetrue,
    "sugarcrepe": sugarcrepe,
    "flickr8k-expert": flickr8k_expert,
    "flickr8k-cf": flickr8k_cf,
    "imagereward-test": imagereward,
    "hpdv2-test": hpdv2,
    "pickapic-100": pickapic_100,
    "pickapic-test": pickapic_test,
    "agiqa-3k": agiqa3k,
    "agiqa-3k-quality": agiqa3k,
    "eqben-mini": eqben_mini,
    "naturalbench-retrieval": naturalbench,
    "genai-rank-dalle3": genai_rank,
    "genai-rank-sdxl": genai_rank,
    "genai-bench-video-527": genai_bench_video,
    "genai-bench-video-800": genai_bench_videos,
    "t2vscore-alignment": t2vscore,
    "t2vscore-quality": t2vscore_quality,
    "stanfordt23d": stanfordt23d,
    "stanfordt23d-300": stanfordt23d,
    "pascal-50s": pascal_50s,
    "composite-captions": composite,
    "aro-relation": aro_relation,
    "aro-attribution": aro_attribution,
    "aro-coco-order": aro_order,
    "aro-flickr30k-order": aro_order,
    "foil-1-ref": foil,
    "foil-4-ref": foil,
    "camerabench-binary": camerabench_binary,
    "camerabench-retrieval": camerabench_retrieval,
    "winoground": winoground,
    "partiprompts": partiprompts,
    "drawbench": drawbench,
    "geneval": geneval,
    "t2i-compbench": t2i_compbench,
    "genai-bench-prompts": genai_bench_prompts,
    "tifa-v1": tifa_v1,
    "dsg-1k": dsg_1k,
}


ITEMS = {
    "tifa160": 6,
    "tifa160-two-raters": 6,
    "genai-bench-527": 3,
    "genai-bench-1600": 3,
    "seetrue": 9,
    "sugarcrepe": 14,
    "flickr8k-expert": 3,
    "flickr8k-cf": 3,
    "imagereward-test": 3,
    "hpdv2-test": 2,
    "pickapic-100": 3,
    "pickapic-test": 4,
    "agiqa-3k": 3,
    "agiqa-3k-quality": 3,
    "eqben-mini": 4,
    "naturalbench-retrieval": 3,
    "genai-rank-dalle3": 3,
    "genai-rank-sdxl": 3,
    "genai-bench-video-527": 2,
    "genai-bench-video-800": 2,
    "t2vscore-alignment": 2,
    "t2vscore-quality": 2,
    "stanfordt23d": 2,
    "stanfordt23d-300": 2,
    "pascal-50s": 8,
    "composite-captions": 3,
    "aro-relation": 5,
    "aro-attribution": 27,
    "aro-coco-order": 5,
    "aro-flickr30k-order": 5,
    "foil-1-ref": 3,
    "foil-4-ref": 3,
    "camerabench-binary": 31,
    "camerabench-retrieval": 10,
    "winoground": 3,
    "partiprompts": 2,
    "drawbench": 2,
    "geneval": 2,
    "t2i-compbench": 16,
    "genai-bench-prompts": 2,
    "tifa-v1": 2,
    "dsg-1k": 2,
}
