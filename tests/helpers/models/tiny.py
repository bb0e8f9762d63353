"""Every scorer small: a card's name, and weights to point it at, made in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from helpers.models import cycle_reward as cycle_files
from helpers.models import fga_blip2 as fga_files
from helpers.models import mps as mps_files
from helpers.models.classifiers import save_classifier
from helpers.models.clip_goldens import (
    arch,
    hf_clip_folder,
    long_clip_file,
    open_clip_file,
    openai_archive,
    tensors,
)
from helpers.models.detectors import make_detector
from helpers.models.hub_videos import make_pe_av, make_videoscore, make_xclip
from helpers.models.longclip import as_hub
from helpers.models.rewards import deqa as deqa_files
from helpers.models.rewards import hpsv3 as hpsv3_files
from helpers.models.rewards import hpsv3_plus_plus as hpsv3_plus_plus_files
from helpers.models.rewards import video_reward as video_reward_files
from helpers.models.siglip import MAKERS
from helpers.models.video import make_video_model
from helpers.models.videoprism import make_videoprism

import t2v_eval
from t2v_eval.inputs.questions.files import write_questions
from t2v_eval.inputs.questions.question import Question

GOLDENS = Path(__file__).parents[2] / "goldens"
VQA = GOLDENS / "vqa"

Make = Callable[[Path], dict[str, Any]]


def open_clip(folder: Path) -> dict[str, Any]:
    return {"checkpoint": open_clip_file(folder), "arch": arch("tiny-ViT-H")}


def open_clip_siglip(folder: Path) -> dict[str, Any]:
    file = open_clip_file(folder, "open_clip_siglip_like")
    return {"checkpoint": file, "arch": arch("tiny-SL-like")}


def archive(folder: Path) -> dict[str, Any]:
    return {"checkpoint": openai_archive(folder)}


def hf_clip(folder: Path) -> dict[str, Any]:
    return {"checkpoint": hf_clip_folder(folder)}


def classifier(folder: Path) -> dict[str, Any]:
    return {"checkpoint": str(save_classifier(folder))}


def pickscore(folder: Path) -> dict[str, Any]:
    return {"checkpoint": hf_clip_folder(folder, "pickscore", "gelu")}


def long_clip(folder: Path) -> dict[str, Any]:
    return {"checkpoint": long_clip_file(folder)}


def long_clip_hub(folder: Path) -> dict[str, Any]:
    return {"checkpoint": as_hub(folder)}


def hub(kind: str) -> Make:
    def make(folder: Path) -> dict[str, Any]:
        torch.manual_seed(0)
        MAKERS[kind](folder)
        return {"checkpoint": str(folder)}

    return make


def aesthetic(folder: Path) -> dict[str, Any]:
    torch.save(tensors("aesthetic"), folder / "predictor.pth")
    return {"checkpoint": str(folder / "predictor.pth"), "clip": openai_archive(folder)}


def mps(folder: Path) -> dict[str, Any]:
    clip = hf_clip_folder(folder / "clip", "pickscore", "gelu")
    return {"checkpoint": str(mps_files.make_checkpoint(folder / "mps", clip))}


def cycle_reward(folder: Path) -> dict[str, Any]:
    return {"checkpoint": str(cycle_files.make_checkpoint(folder))}


def fga_blip2(folder: Path) -> dict[str, Any]:
    return {"checkpoint": str(fga_files.make_checkpoint(folder)), "base": str(fga_files.BASE)}


def hpsv3(folder: Path) -> dict[str, Any]:
    checkpoint = str(hpsv3_files.make_checkpoint(folder))
    return {"checkpoint": checkpoint, "question_template": hpsv3_files.SHORT}


def deqa(folder: Path) -> dict[str, Any]:
    return {"checkpoint": str(deqa_files.make_checkpoint(folder))}


def hpsv3_plus_plus(folder: Path) -> dict[str, Any]:
    return {**hpsv3_plus_plus_files.make_checkpoint(folder), "base": None}


def video_reward(folder: Path) -> dict[str, Any]:
    return {**video_reward_files.make_checkpoint(folder), "base": None}


def clip_flant5(folder: Path) -> dict[str, Any]:
    root = VQA / "clip_flant5" / "checkpoint"
    return {
        "checkpoint": root / "model_safetensors",
        "tokenizer": root / "tokenizer",
        "vision_tower": root / "openai" / "clip-vit-tiny-patch14-56",
    }


def video(model: str) -> Make:
    return lambda folder: {"checkpoint": make_video_model(model, folder)}


def at(checkpoint: Path) -> Make:
    return lambda folder: {"checkpoint": checkpoint}


QUESTIONED = ["a cat", "two dogs", "a boat at night", "3 apples & a boat!", "cat " * 90]


def questions(folder: Path) -> dict[str, Any]:
    rows = [
        Question(text, str(n), text, asked, parents=("0",) if n else ())
        for text in QUESTIONED
        for n, asked in enumerate((f"Is there {text}?", "Is it a photo?"))
    ]
    write_questions(folder / "questions.jsonl", rows)
    file = str(folder / "questions.jsonl")
    return {"vlm": "clip-flant5-xxl", "questions": file, **clip_flant5(folder)}


CLAUSES: list[dict[str, Any]] = [
    {"include": [{"class": "cat", "count": 1}]},
    {"include": [{"class": "dog", "count": 2, "color": "red"}]},
    {"include": [{"class": "person", "count": 1}], "exclude": [{"class": "person", "count": 4}]},
    {
        "include": [
            {"class": "mouse", "count": 1},
            {"class": "cat", "count": 1, "position": ["left of", 0]},
        ]
    },
    {"include": [{"class": "bicycle", "count": 1, "color": "green"}]},
]


def objects(kind: str) -> Make:
    def make(folder: Path) -> dict[str, Any]:
        lines = [
            {"tag": "any", "prompt": text, **clauses}
            for text, clauses in zip(QUESTIONED, CLAUSES, strict=True)
        ]
        metadata = folder / "metadata.jsonl"
        metadata.write_text("\n".join(map(json.dumps, lines)))
        return {
            "detector": str(make_detector(kind, folder / kind)),
            "metadata": str(metadata),
            "colors": "tiny-clip",
            "threshold": 0.0,
        }

    return make


# Variant -> card and weights; every class of every card that can be small, on each of its layouts.
VARIANTS: dict[str, tuple[str, Make]] = {
    "open_clip": ("open_clip", open_clip),
    "open_clip, as OpenAI's archive": ("openai:ViT-B-32", archive),
    "open_clip, squashing": ("webli:ViT-B-16-SigLIP", open_clip_siglip),
    "open_clip-probability": ("open_clip-probability", open_clip_siglip),
    "hf-clip": ("hf-clip", hf_clip),
    "hf-clip, SigLIP": ("hf-clip", hub("siglip")),
    "hf-clip, SigLIP 2": ("hf-clip", hub("siglip2")),
    "hf-clip, MetaCLIP 2": ("hf-clip", hub("metaclip_2")),
    "hf-clip-probability": ("hf-clip-probability", hub("siglip")),
    "clipscore-100": ("clipscore-100", hf_clip),
    "clip-logits": ("clip-logits", hf_clip),
    "clip-logits, as OpenAI's archive": ("clip-logits", archive),
    "clip-iqa": ("clip-iqa", hf_clip),
    "clipscore": ("clipscore", open_clip),
    "refclipscore": ("refclipscore", open_clip),
    "longclip-l": ("longclip-l", long_clip),
    "longclip-b, on the hub": ("longclip-b", long_clip_hub),
    "specs": ("specs", long_clip),
    "specs, on the hub": ("specs", long_clip_hub),
    "blip2-itc": ("blip2-itc", at(VQA / "blip2" / "checkpoint" / "hf")),
    "blip2-itm": ("blip2-itm", at(VQA / "blip2" / "checkpoint" / "hf")),
    "blip2-itm-itc": ("blip2-itm-itc", at(VQA / "blip2" / "checkpoint" / "hf")),
    "fga-blip2": ("fga-blip2", fga_blip2),
    "umt-b16-25m-clip": ("umt-b16-25m-clip", video("umt")),
    "umt-b16-25m-itm": ("umt-b16-25m-itm", video("umt")),
    "internvideo2-1b-stage2-clip": ("internvideo2-1b-stage2-clip", video("internvideo2_stage2")),
    "internvideo2-1b-stage2-itm": ("internvideo2-1b-stage2-itm", video("internvideo2_stage2")),
    "internvideo2-clip-1b": ("internvideo2-clip-1b", video("internvideo2_clip")),
    "internvideo2-clip-b14": ("internvideo2-clip-b14", video("internvideo2_clip_small")),
    "viclip-l-14": ("viclip-l-14", video("viclip")),
    "languagebind-video-v1.5-ft": ("languagebind-video-v1.5-ft", video("languagebind_video")),
    "languagebind-video": ("languagebind-video", video("languagebind_video_lora")),
    "videoprism-lvt-base": ("videoprism-lvt-base", make_videoprism),
    "xclip-base-patch32": ("xclip-base-patch32", make_xclip),
    "pe-av-base": ("pe-av-base", make_pe_av),
    "videoscore-v1.1": ("videoscore-v1.1", make_videoscore),
    "hpsv2": ("hpsv2", open_clip),
    "hpsv2.1": ("hpsv2.1", open_clip),
    "pickscore-v1": ("pickscore-v1", pickscore),
    "pickscore-v1-cosine": ("pickscore-v1-cosine", pickscore),
    "image-reward": ("image-reward", at(GOLDENS / "clip" / "imagereward" / "checkpoint")),
    "cycle-reward": ("cycle-reward", cycle_reward),
    "mps-overall": ("mps-overall", mps),
    "hpsv3": ("hpsv3", hpsv3),
    "deqa-score": ("deqa-score", deqa),
    "hpsv3++": ("hpsv3++", hpsv3_plus_plus),
    "videoreward": ("videoreward", video_reward),
    "laion-aesthetic": ("laion-aesthetic", aesthetic),
    "clip-flant5-xxl": ("clip-flant5-xxl", clip_flant5),
    "instructblip-flant5-xl": (
        "instructblip-flant5-xl",
        at(VQA / "instructblip" / "checkpoint" / "hf"),
    ),
    "dsg": ("dsg", questions),
    "safety:ORG/NAME": ("nsfw-falconsai", classifier),
    "detect-compose": ("detect-compose", objects("mask2former")),
    "detect-compose, any class": ("detect-compose", objects("owlv2")),
    "llava-v1.5-7b": ("llava-v1.5-7b", at(VQA / "llava15" / "checkpoint" / "llava-1.5-tiny-hf")),
}


class Small:
    """Makes the weights of a variant once, and loads its scorer as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._arguments: dict[str, dict[str, Any]] = {}

    def load(self, variant: str, **options: Any) -> Any:
        name, make = VARIANTS[variant]
        if variant not in self._arguments:
            folder = self.folder / str(len(self._arguments))
            folder.mkdir(parents=True)
            self._arguments[variant] = make(folder)
        return t2v_eval.load(name, **{"device": "cpu", **self._arguments[variant], **options})
