"""How much sharing the prefix of an image saves scorers that ask many questions about it.

    OMP_NUM_THREADS=1 PYTHONPATH=tests python tests/performance/speed_questions.py

DSG with 15 questions about one image, together and one question at a time; replies of 32 tokens to
the same questions; and 8 sampled replies to one question: CPU seconds on one thread, medians of
interleaved rounds; random weights of the real classes. Equal replies have a difference of 0.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.models.tiny_vlm import llava, qwen2_5_vl
from performance.speed import CLIP, LANGUAGE, QWEN, QWEN_TEXT, passes, side_by_side
from PIL import Image

import t2v_eval
from t2v_eval.inputs.media import open_media
from t2v_eval.inputs.questions.question import Question, Questions
from t2v_eval.scoring.generation import Writing

WANTED = 6.0  # times one question at a time
TEXT = "a cat by the river"
TOKENS, PASSES = 32, 8
SIZES = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}
PARTS = ["cat", "river", "tail", "bank", "water", "sky", "ear", "paw", "grass", "tree", "stone"]
PARTS += ["boat", "shadow", "cloud", "bridge"]


def questions() -> Questions:
    return Questions(
        Question("1", str(n), TEXT, f"Is there a {part} in the image?", parents=("1",) * (n > 1))
        for n, part in enumerate(PARTS, 1)
    )


def measure(folder: Path, title: str, build: Callable[[Path], None]) -> None:
    build(folder)
    options = {"vlm": f"hf-vlm:{folder}", "questions": questions(), "device": "cpu"}
    together, alone = (
        t2v_eval.load("dsg", share=share, keep_bytes=0, **options) for share in (True, False)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    tokens = len(together.vlm.prompt_builder.image_inputs(image)["input_ids"][0])
    print(
        f"{title}, {len(PARTS)} questions after {tokens} tokens: "
        f"{passes(together.vlm, lambda: together(image, TEXT))}, and one at a time "
        f"{passes(alone.vlm, lambda: alone(image, TEXT))}",
        flush=True,
    )
    side_by_side(
        f"{title}, together against one question at a time",
        WANTED,
        lambda: log_probabilities(together, image),
        lambda: log_probabilities(alone, image),
    )
    all_prompts = [question.question for question in questions()]
    for what, prompts, writing in (
        (f"{len(all_prompts)} replies of {TOKENS} tokens", all_prompts, Writing(TOKENS)),
        (
            f"{PASSES} sampled replies",
            all_prompts[:1],
            Writing(TOKENS, temperature=1.0, passes=PASSES),
        ),
    ):
        side_by_side(
            f"{title}, {what} together against prompts read as a whole",
            1.0,
            lambda prompts=prompts, writing=writing: replies(together.vlm, image, prompts, writing),
            lambda prompts=prompts, writing=writing: replies(alone.vlm, image, prompts, writing),
        )


def replies(vlm: Any, image: Image.Image, prompts: Sequence[str], writing: Writing) -> torch.Tensor:
    """A number for each text that is written about the image."""
    media = [open_media(image)] * len(prompts)
    texts: dict[int, Any] = {}
    with torch.inference_mode():
        for numbers, written in vlm.write_passes(media, prompts, writing):
            texts |= zip(numbers, written, strict=True)
    listed = [text.text for n in range(len(prompts)) for text in texts[n]]
    return torch.tensor([zlib.crc32(text.encode()) for text in listed])


def log_probabilities(scorer: t2v_eval.Scorer, image: Image.Image) -> torch.Tensor:
    """Those of the expected answers, whose differences do not vanish where answers are unlikely."""
    (explanation,) = scorer.explain(image, TEXT)[0]
    return torch.tensor([answered.value for answered in explanation.questions]).log()


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        measure(
            root / "llava",
            "LLaVA-like",
            lambda f: llava(f, {**LANGUAGE, **SIZES}, {**CLIP, "image_size": 350}),
        )
        measure(
            root / "qwen",
            "Qwen2.5-VL-like",
            lambda f: qwen2_5_vl(
                f, {**QWEN_TEXT, **SIZES}, {**QWEN, "out_hidden_size": SIZES["hidden_size"]}, 640
            ),
        )
