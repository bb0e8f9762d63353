"""How near a GPU is to its limit, and how well decoding hides behind the model.

    PYTHONPATH=tests python tests/performance/speed_gpu.py
    PYTHONPATH=tests python tests/performance/speed_gpu.py --scale tiny --device cpu --images 4

The first measures CLIP-FlanT5-XL, LLaVA-1.5-7B and CLIP ViT-L/14 with random weights of the
published shapes; the second only shows that the script works, on any machine.

Pairs a second are of whole calls by the clock, decoding of images included, medians of three
rounds. The work of a call is that of its matrix products and convolutions, counted from their
shapes while one image is scored by itself, so that padding counts for nothing; attention counts as
if it saw everything.

CLIP scores JPEG files of 1024 x 1024 pixels. Beside whole calls, the files are decoded without the
model, and the model runs without decoding; the slower of both limits the calls. Calls that copy
images to the device from the decoding threads (`local/upload.py`) take turns with others.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.models.clip_goldens import hf_clip_folder
from helpers.models.tiny_vlm import llava
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Config,
    T5ForConditionalGeneration,
)

from t2v_eval import load
from t2v_eval.inputs.media import open_list
from t2v_eval.local.batching import ahead
from t2v_eval.utils.torch_internals import inference

FOLDER = Path(__file__).parents[1] / "goldens" / "vqa" / "clip_flant5"

TEXTS_OF_ONE = 16
WANTED = {"distinct": 35, "shared": 40}  # percent of the ceiling
ROUNDS = 3
VIT_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
LLAMA_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "vocab_size": 32064,
}
T5_XL = {"d_model": 2048, "d_ff": 5120, "d_kv": 64, "num_heads": 32}
T5_XL |= {"num_layers": 24, "num_decoder_layers": 24, "vocab_size": 32128}
CLIP_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
CLIP_TEXT |= {"num_attention_heads": 12, "projection_dim": 768}
SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
TINY: dict[str, dict[str, Any]] = {
    "vision": {**VIT_L, **SMALL, "num_attention_heads": 4, "image_size": 56},
    "llama": {**LLAMA_7B, **SMALL, "num_attention_heads": 4, "num_key_value_heads": 4},
    "t5": {**T5_XL, "d_model": 64, "d_ff": 128, "num_layers": 3, "num_decoder_layers": 3},
    "text": {**CLIP_TEXT, **SMALL, "num_attention_heads": 4},
}
REAL: dict[str, dict[str, Any]] = {
    "vision": VIT_L,
    "llama": LLAMA_7B,
    "t5": T5_XL,
    "text": CLIP_TEXT,
}


def random_weights(network: torch.nn.Module, device: str) -> dict[str, torch.Tensor]:
    """bfloat16 weights for a network on the meta device, of a size that keeps states finite."""
    torch.manual_seed(0)
    return {
        name: torch.empty(value.shape, dtype=torch.bfloat16, device=device)
        .normal_(std=0.5 * max(value[0].numel(), 1) ** -0.5 if value.ndim > 1 else 0.02)
        .add_(1 if value.ndim == 1 and name.endswith("weight") else 0)
        .cpu()
        for name, value in network.state_dict().items()
        if value.is_floating_point()
    }


def llava_like(folder: Path, shape: dict[str, dict[str, Any]], **options: Any) -> Any:
    """LLaVA-1.5 with the tokenizer of the tests."""
    llava(folder, seeing={**TINY["vision"], "image_size": shape["vision"]["image_size"]})
    config = AutoConfig.from_pretrained(folder)
    wide = shape["llama"]
    config.text_config.update(
        {**wide, "head_dim": wide["hidden_size"] // wide["num_attention_heads"]}
    )
    config.vision_config.update(shape["vision"])
    config.save_pretrained(folder)
    with torch.device("meta"):
        network = AutoModelForImageTextToText.from_config(config)
    save_file(random_weights(network, options["device"]), folder / "model.safetensors")
    return load(f"hf-vlm:{folder}", **options)


def flant5_like(folder: Path, shape: dict[str, dict[str, Any]], **options: Any) -> Any:
    """CLIP-FlanT5 in its published layout, with the tokenizer of the tests."""
    root, tower = FOLDER / "checkpoint", folder / "tower"
    shutil.copytree(root / "openai" / "clip-vit-tiny-patch14-56", tower)
    side = shape["vision"]["image_size"]
    described = json.loads((tower / "preprocessor_config.json").read_text())
    described |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    (tower / "preprocessor_config.json").write_text(json.dumps(described))
    vision = CLIPVisionConfig(**shape["vision"])
    vision.save_pretrained(tower)
    config = json.loads((root / "model_safetensors" / "config.json").read_text()) | shape["t5"]
    (folder / "config.json").write_text(json.dumps(config))
    with torch.device("meta"):
        t5, vision_model = (
            T5ForConditionalGeneration(T5Config.from_dict(config)),
            CLIPVisionModel(vision),
        )
        inside, outside = vision.hidden_size, config["d_model"]
        layers = torch.nn.Linear(inside, outside), torch.nn.Linear(outside, outside)
        projector = torch.nn.Sequential(layers[0], torch.nn.GELU(), layers[1])
    tensors = {}
    for prefix, network in (
        ("", t5),
        ("mm_projector.", projector),
        ("vision_tower.vision_tower.vision_model.", vision_model),
    ):
        result = random_weights(network, options["device"])
        tensors |= {prefix + name.removeprefix("vision_model."): of for name, of in result.items()}
    aliases = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    tensors = {name: of for name, of in tensors.items() if name not in aliases}
    save_file(tensors, folder / "model.safetensors")
    tokenizer = root / "tokenizer"
    return load(
        "clip-flant5-xl", checkpoint=folder, tokenizer=tokenizer, vision_tower=tower, **options
    )


def clip_like(folder: Path, shape: dict[str, dict[str, Any]], **options: Any) -> Any:
    """CLIP ViT-L/14 of 224 pixels, with the tokenizer of the tests."""
    hf_clip_folder(folder)
    config = AutoConfig.from_pretrained(folder)
    side = min(224, shape["vision"]["image_size"])
    config.projection_dim = shape["text"]["projection_dim"]
    config.text_config.update(shape["text"])
    config.vision_config.update({**shape["vision"], "image_size": side})
    config.save_pretrained(folder)
    processor = folder / "preprocessor_config.json"
    described = json.loads(processor.read_text())
    described |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    processor.write_text(json.dumps(described))
    with torch.device("meta"):
        network = AutoModel.from_config(config)
    tensors = random_weights(network, options["device"])
    save_file(tensors | {"logit_scale": torch.tensor(4.6)}, folder / "model.safetensors")
    return load(f"hf-clip:{folder}", **options)


def photographs(folder: Path, count: int, side: int = 1024) -> list[Path]:
    """JPEG files of the photographs of scikit-learn, each shifted by another number of pixels."""
    squares = [
        np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS))
        for pixels in load_sample_images().images
    ]
    paths = [folder / f"{n}.jpg" for n in range(count)]
    for n, path in enumerate(paths):
        shifted = np.roll(squares[n % len(squares)], n, axis=1)
        Image.fromarray(shifted).save(path, "JPEG", quality=90)
    return paths


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def products(work: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def measure(title: str, scorer: Any, count: int, ceiling: float) -> None:
    """Print pairs a second, and the share of the device's limit, with and without shared images."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 336, 336, 3), dtype=np.uint8)
    images = [Image.fromarray(p) for p in pixels]
    texts = [f"a cat and {n % 10} dogs" for n in range(max(count, TEXTS_OF_ONE))]
    few, many = images[: max(1, count // TEXTS_OF_ONE)], texts[:TEXTS_OF_ONE]
    for what, work, pairs, flops, wanted in (
        (
            f"{count} distinct pairs",
            lambda: scorer.score_pairs(images, texts[:count]),
            count,
            lambda: count * products(lambda: scorer(images[0], texts[0])),
            WANTED["distinct"],
        ),
        (
            f"{len(few)} x {TEXTS_OF_ONE}",
            lambda: scorer(few, many),
            len(few) * TEXTS_OF_ONE,
            lambda: len(few) * products(lambda: scorer(few[0], many)),
            WANTED["shared"],
        ),
    ):
        scores = work()  # which also finds the batch size
        assert torch.isfinite(scores).all(), "random weights gave no finite scores"
        took = statistics.median(seconds(work) for _ in range(ROUNDS))
        rate = flops() / took / 1e12
        print(
            f"{title}, {what}: {pairs / took:.1f} pairs a second, {rate:.3g} TFLOP/s, "
            f"{100 * rate / ceiling:.2g} % of {ceiling:g} (wanted {wanted}); {_told(scorer)}",
            flush=True,
        )


def measure_feeding(title: str, scorer: Any, paths: list[Path]) -> None:
    """Print images a second of decoding alone, of the model alone, and of calls, in pairs."""
    count, size = len(paths), scorer.image_batch.value
    text = "a cat and two dogs"
    batch = scorer.stack([scorer.prepare(open_list(paths[:1])[0])] * min(count, size))

    def decode_alone() -> None:
        for _ in ahead(open_list(paths), scorer.prepare, 2 * size):
            pass

    def encode_alone() -> None:
        with inference():
            for _ in range(-(-count // len(batch))):
                scorer.encode_images(batch).cpu()

    def call(uploads: bool) -> torch.Tensor:
        scorer.uploads_ahead = uploads
        scores: torch.Tensor = scorer(paths, text)
        return scores

    encode_alone()
    assert torch.equal(call(True), call(False)), "copies ahead change scores"
    took: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        for what, work in (
            ("decoded alone", decode_alone),
            ("model alone", encode_alone),
            ("copied ahead", lambda: call(True)),
            ("copied with the batch", lambda: call(False)),
        ):
            took.setdefault(what, []).append(seconds(work))
    rates = {what: count / statistics.median(times) for what, times in took.items()}
    rates["model alone"] *= -(-count // len(batch)) * len(batch) / count
    limit = min(rates["decoded alone"], rates["model alone"])
    print(
        f"{title}, image_mode {scorer.image_mode}, images a second: "
        + ", ".join(f"{what} {rate:.0f}" for what, rate in rates.items())
        + f"; copied ahead is {rates['copied ahead'] / limit:.2f} of the slower part alone",
        flush=True,
    )


def _told(scorer: Any) -> str:
    result = ", ".join(f"{name} {value}" for name, value in scorer.execution.items())
    if torch.cuda.is_available():
        result += f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most"
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scale", choices=("real", "tiny"), default="real")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--ceiling", type=float, default=790, help="TFLOP/s of the device")
    arguments = parser.parse_args()
    shape = REAL if arguments.scale == "real" else TINY
    options = {"device": arguments.device, "dtype": arguments.dtype, "keep_bytes": 0}
    for title, build in (("CLIP-FlanT5-XL", flant5_like), ("LLaVA-1.5-7B", llava_like)):
        with tempfile.TemporaryDirectory() as folder:
            scorer = build(Path(folder), shape, **options)
            measure(f"{title} ({arguments.scale})", scorer, arguments.images, arguments.ceiling)
            del scorer
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as checkpoint:
        paths = photographs(Path(folder), 8 * arguments.images)
        for mode in ("seen", "fast"):
            scorer = clip_like(Path(checkpoint), shape, image_mode=mode, **options)
            measure_feeding(f"CLIP ViT-L/14 ({arguments.scale})", scorer, paths)


if __name__ == "__main__":
    main()
