"""How much sharing work saves: our way and one call a pair, side by side in one process.

    PYTHONPATH=tests python tests/performance/speed.py

CPU seconds on one thread, medians of interleaved rounds; random weights of the real shape.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from helpers.models.tiny_vlm import TEXT, llava, qwen2_5_vl
from performance.speed_gpu import flant5_like
from PIL import Image
from transformers import BertTokenizer, Blip2Config, Blip2ForImageTextRetrieval

from t2v_eval import Video, load

ROUNDS = 3
GOLDENS = Path(__file__).parents[1] / "goldens" / "vqa"
BLIP2 = GOLDENS / "blip2" / "checkpoint" / "hf"
FLANT5 = GOLDENS / "clip_flant5" / "checkpoint"


def cpu_seconds(work: Callable[[], torch.Tensor]) -> tuple[float, torch.Tensor]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def side_by_side(
    title: str,
    target: float,
    ours: Callable[[], torch.Tensor],
    theirs: Callable[[], torch.Tensor],
    rounds: int = ROUNDS,
) -> None:
    """Print both times, their ratio, and how far the results are apart.

    What takes minutes runs once, without a rehearsal.
    """
    if rounds > 1:
        ours(), theirs()
    timed = [(cpu_seconds(ours), cpu_seconds(theirs)) for _ in range(rounds)]
    fast, slow = (statistics.median(r[k][0] for r in timed) for k in (0, 1))
    apart = (timed[0][0][1] - timed[0][1][1]).abs().max().item()
    print(
        f"{title}: {fast:.2f} s against {slow:.2f} s, {slow / fast:.1f} times "
        f"(wanted {target:g}), largest difference {apart:.1e}",
        flush=True,
    )


def vit_b_32(folder: Path) -> Any:
    torch.manual_seed(0)
    weights = folder / "vit-b-32.pt"
    torch.save(open_clip.create_model("ViT-B-32").state_dict(), weights)
    return load("open_clip", checkpoint=weights, arch="ViT-B-32", device="cpu")


def clip_8_by_8(folder: Path) -> None:
    scorer = vit_b_32(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 256, 320, 3), dtype=np.uint8)
    images = [Image.fromarray(p) for p in pixels]
    texts = [f"a photo of {n} small dogs on a red sofa beside a lamp" for n in range(8)]
    side_by_side(
        "CLIP ViT-B-32, 8 x 8 in one call against 64 calls",
        6.0,
        lambda: scorer(images, texts),
        lambda: torch.stack([torch.cat([scorer(i, t)[0] for t in texts]) for i in images]),
    )


def passes(scorer: Any, work: Callable[[], torch.Tensor]) -> str:
    """How many images went through the vision tower and how many starts were read."""
    network, seen, read = scorer.network.base_model, [0], [0]
    tower = getattr(network, "visual", None) or network.vision_tower

    def look(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        grids = kwargs.get("grid_thw")
        seen[0] += len(args[0]) if grids is None else len(grids)

    def start(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read[0] += len(kwargs["input_ids"]) if kwargs.get("input_ids") is not None else 0

    hooks = [
        module.register_forward_pre_hook(hook, with_kwargs=True)
        for module, hook in ((tower, look), (network, start))
    ]
    work()
    for hook in hooks:
        hook.remove()
    return f"{seen[0]} seen and {read[0]} read"


def vlm(
    folder: Path, title: str, build: Callable[[Path], None], sides: tuple[int, ...] = (672,)
) -> None:
    """20 million parameters and 576 tokens of an image, as many as LLaVA-1.5's."""
    build(folder)
    shared, apart = (
        load(f"hf-vlm:{folder}", device="cpu", share=s, keep_bytes=0) for s in (True, False)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (16, 672, 672, 3), dtype=np.uint8)
    images = [Image.fromarray(p) for p in pixels]
    texts = [f"the cat number {n} by the river and {n * 3} dogs" for n in range(16)]
    few = images[:3]
    print(
        f"{title}, images: 3 x 16 {passes(shared, lambda: shared(few, texts))}, and pair by pair "
        f"1 x 16 {passes(apart, lambda: apart(few[0], texts))}",
        flush=True,
    )
    side_by_side(
        f"{title}, 1 x 16 after a shared start against 16 pairs",
        8.0,
        lambda: shared(images[0], texts),
        lambda: apart(images[0], texts),
    )
    if getattr(shared.prompt_builder.processor, "video_processor", None) is not None:
        film = Video.of([image.resize((336, 336)) for image in images[:8]])
        side_by_side(
            f"{title}, a video of 8 frames x 16 after a shared start against 16 pairs",
            8.0,
            lambda: shared(film, texts),
            lambda: apart(film, texts),
        )
    for side in sides:
        images = [image.resize((side, side)) for image in images]
        tokens = len(shared.prompt_builder.image_inputs(images[0])["input_ids"][0])
        side_by_side(
            f"{title}, 16 distinct pairs of {tokens} tokens before the text, together against one "
            "by one",
            1.0,
            lambda images=images: shared.score_pairs(images, texts),
            lambda images=images: apart.score_pairs(images, texts),
        )


LANGUAGE = {
    **TEXT,
    "hidden_size": 384,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 4096,
}
CLIP = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 3,
    "image_size": 336,
    "patch_size": 14,
}
QWEN_TEXT = {
    **LANGUAGE,
    "rope_parameters": {
        "rope_type": "default",
        "mrope_section": [8, 12, 12],
        "rope_theta": 10000.0,
    },
}
QWEN = {
    "hidden_size": 192,
    "intermediate_size": 512,
    "out_hidden_size": 384,
    "num_heads": 3,
    "depth": 8,
    "fullatt_block_indexes": [3, 7],
}


def blip2_itm_8_by_8(folder: Path) -> None:
    """A Q-Former of the published shape on a tower of 24 layers, 768 wide; ViT-g's has 6 times its
    weights, so that published images cost more and sharing them saves more.
    """
    torch.manual_seed(0)
    config = Blip2Config(
        vision_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 24,
            "num_attention_heads": 12,
            "image_size": 224,
            "patch_size": 14,
        },
        qformer_config={
            "vocab_size": 30523,
            "encoder_hidden_size": 768,
            "use_qformer_text_input": True,
        },
        image_text_hidden_size=256,
    )
    stock = Blip2ForImageTextRetrieval(config).eval()
    stock.save_pretrained(folder)
    shutil.copy(BLIP2 / "vocab.txt", folder)
    scorer = load("blip2-itm", checkpoint=folder, device="cpu")
    tokenizer = BertTokenizer.from_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 256, 320, 3), dtype=np.uint8)
    images = [Image.fromarray(p) for p in pixels]
    texts = [f"{n} small dogs on a red table near a stone wall" for n in range(8)]

    @torch.inference_mode()
    def one_pair(image: Image.Image, text: str) -> torch.Tensor:
        # As the original: the image anew for each pair, the text padded to 35 tokens.
        ids = tokenizer(
            text, padding="max_length", truncation=True, max_length=35, return_tensors="pt"
        )
        logits = stock(
            scorer.preprocess(image)[None],
            ids.input_ids,
            ids.attention_mask,
            use_image_text_matching_head=True,
        ).logits_per_image
        return logits.softmax(-1)[0, 1]

    side_by_side(
        "BLIP2-ITM, 8 x 8 in one call against 64 calls of the network as it comes",
        4.0,
        lambda: scorer(images, texts),
        lambda: torch.stack([one_pair(i, t) for i in images for t in texts]).view(8, 8),
        rounds=1,
    )


T5 = {
    "d_model": 512,
    "d_ff": 1024,
    "d_kv": 64,
    "num_heads": 8,
    "num_layers": 6,
    "num_decoder_layers": 6,
    "vocab_size": 32128,
}


def flant5_16_by_16(folder: Path) -> None:
    """Of a pair by itself, the tower is a fifth of the work and T5's decoder a tenth."""
    folder.mkdir()
    options = {"device": "cpu", "dtype": "float32", "keep_bytes": 0}
    shared = flant5_like(folder, {"vision": CLIP, "t5": T5}, **options)
    places = {"tokenizer": FLANT5 / "tokenizer", "vision_tower": folder / "tower"}
    apart, half = (
        load("clip-flant5-xl", checkpoint=folder, **places, **{**options, **more})
        for more in ({"share": False}, {"dtype": "bfloat16"})
    )
    pixels = np.random.default_rng(0).integers(0, 256, (16, 336, 336, 3), dtype=np.uint8)
    images = [Image.fromarray(p) for p in pixels]
    texts = [f"{n} small dogs on a red table near a stone wall" for n in range(16)]
    side_by_side(
        "CLIP-FlanT5-like, 3 x 4 in bfloat16 against float32",
        1.0,
        lambda: half(images[:3], texts[:4]),
        lambda: shared(images[:3], texts[:4]),
    )
    counts = []
    for scorer in (shared, apart):
        counts.append([0])

        def look(_: Any, args: Any, kwargs: Any, count: list[int] = counts[-1]) -> None:
            count[0] += len(kwargs["pixel_values"])

        scorer.tower.register_forward_pre_hook(look, with_kwargs=True)
    side_by_side(
        "CLIP-FlanT5-like, 16 x 16 in one call against 256 pairs, T5 as it comes",
        1.15,
        lambda: shared(images, texts),
        lambda: apart(images, texts),
        rounds=1,
    )
    (once,), (anew,) = counts
    print(f"CLIP-FlanT5-like, images of 16 x 16: {once} seen, and pair by pair {anew} seen")


def text_trimming(folder: Path) -> None:
    scorer = vit_b_32(folder)
    kinds, more = ("small", "large", "old"), "dogs on a red sofa near an old lamp"
    texts = [f"a photo of {n} {kind} {more}" for n in range(10) for kind in kinds]
    ids = scorer.tokenizer(texts)
    assert ((ids != 0).sum(1) == 16).all()

    @torch.inference_mode()
    def padded() -> torch.Tensor:
        return torch.as_tensor(scorer.network.encode_text(ids))

    @torch.inference_mode()
    def cut() -> torch.Tensor:
        return torch.as_tensor(scorer.encode_texts(texts))

    side_by_side("CLIP ViT-B-32, 30 texts of 16 tokens cut against padded to 77", 3.0, cut, padded)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clip_8_by_8(folder)
        text_trimming(folder)
        blip2_itm_8_by_8(folder / "blip2")
        flant5_16_by_16(folder / "flant5")
        vlm(folder / "l", "LLaVA-like", lambda f: llava(f, LANGUAGE, CLIP))
        vlm(
            folder / "q",
            "Qwen2.5-VL-like",
            lambda f: qwen2_5_vl(f, QWEN_TEXT, QWEN, 576),
            sides=(672, 84),
        )
