"""Small copies of published benchmarks in their authors' layout: real rows, drawn pictures.

`LAYOUTS[name](root)` writes one; `ITEMS[name]` is how many items it then has.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toy import picture

FIXTURES = Path(__file__).parent / "fixtures"
GENERATORS = "DALLE_3 SDXL_Turbo DeepFloyd_I_XL_v1 Midjourney_6 SDXL_2_1 SDXL_Base".split()


def draw(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(seed).save(path)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def copy(root: Path, *names: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(FIXTURES / name, root / Path(name).name)


def tifa160(root: Path) -> None:
    copy(root, "tifa160/tifa160.json", "agreement/tifa160/dsg_tifa160_anns.csv")
    for seed, row in enumerate(json.loads((root / "tifa160.json").read_text()).values()):
        draw(root / "tifa160" / row["image_path"], seed)


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


def sugarcrepe(root: Path) -> None:
    for path in sorted((FIXTURES / "sugarcrepe").glob("*.json")):
        copy(root, f"sugarcrepe/{path.name}")
        for row in json.loads(path.read_text(encoding="utf-8")).values():
            draw(root / "val2017" / row["filename"], int(row["filename"][:-4]) % 97)


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "tifa160": tifa160,
    "tifa160-two-raters": tifa160_two_raters,
    "genai-bench-527": genai_bench,
    "genai-bench-1600": genai_bench,
    "seetrue": seetrue,
    "sugarcrepe": sugarcrepe,
}
ITEMS = {
    "tifa160": 6,
    "tifa160-two-raters": 6,
    "genai-bench-527": 3,
    "genai-bench-1600": 3,
    "seetrue": 9,
    "sugarcrepe": 14,
}
