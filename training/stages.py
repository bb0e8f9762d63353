"""The training stages of each model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer, CLIPVisionModel, T5Tokenizer

from t2v_eval.benchmarks.forms.drawn_scenes import pick

from . import data
from .loop import train
from .models import ClipT5, PatchHeads, build_clip, build_tower, embed_images, embed_texts, patches

SHORT = 8  # tokens; answers up to here are decoded apart from the long lists
FEW_SHAPES = 32  # rows; the CPU kernels are compiled anew, for a second, at each new shape


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of a training run and what makes it reproducible.

    Args:
        folder: of the checkpoints.
        seed: of weights and data.
        scale: factor of all numbers of steps.
        compiled: whether T5's encoder is compiled.

    >>> Run(Path("checkpoints"), seed=0, scale=0.01).steps(900)
    9
    """

    folder: Path
    seed: int
    scale: float
    compiled: bool = False

    def steps(self, steps: int) -> int:
        """Return a number of steps times the scale, at least 1."""
        return max(1, round(steps * self.scale))

    def checkpoint(self, stage: str) -> Path:
        """Return the file of a stage's checkpoint."""
        return self.folder / f"{stage}.pt"

    def start(self, stage: str) -> None:
        """Seed PyTorch for a stage."""
        torch.manual_seed(sum(map(ord, stage)) * 1_000 + self.seed)


class Tower(nn.Module):
    """The vision tower with the probes that it is trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.heads = build_tower(), PatchHeads()


def train_tower(run: Run) -> tuple[Tower, float]:
    """Train the vision tower to classify the content of each patch; all models start from it."""
    run.start("tower")
    model = Tower()

    def loss(step: int, progress: float) -> Tensor:
        rng = data.generator(run.seed, "tower", step)
        examples = [data.sample(rng, pick(rng, data.SKILLS))[0] for _ in range(128)]
        targets = data.patch_targets([example.scene for example in examples])
        return model.heads.loss(patches(model.tower, data.render(rng, examples)), targets)

    seconds = train(
        model, loss, steps=run.steps(900), rate=1e-3, checkpoint=run.checkpoint("tower")
    )
    return model, seconds


def train_clip(
    run: Run, tower: CLIPVisionModel, tokenizer: CLIPTokenizer
) -> tuple[CLIPModel, float]:
    """Train CLIP as published: each image with its caption, the rest of the batch as negatives."""
    run.start("tiny-clip")
    model = build_clip(tokenizer)
    model.vision_model.load_state_dict(tower.state_dict())

    def loss(step: int, progress: float) -> Tensor:
        rng = data.generator(run.seed, "tiny-clip", step)
        examples = [data.sample(rng, pick(rng, data.SKILLS))[0] for _ in range(256)]
        texts = [data.caption(rng, example.claim) for example in examples]
        return contrastive(model, tokenizer, data.render(rng, examples), texts)

    seconds = train(
        model, loss, steps=run.steps(1500), rate=6e-4, checkpoint=run.checkpoint("tiny-clip")
    )
    return model, seconds


def train_negclip(run: Run, clip: CLIPModel, tokenizer: CLIPTokenizer) -> tuple[CLIPModel, float]:
    """Train NegCLIP: CLIP continued with both halves of an item in each batch.

    So each image has its reordered caption, and each caption the other image, as hard negatives.
    """
    run.start("tiny-negclip")
    model = build_clip(tokenizer)
    model.load_state_dict(clip.state_dict())

    def loss(step: int, progress: float) -> Tensor:
        rng = data.generator(run.seed, "tiny-negclip", step)
        examples = [half for _ in range(128) for half in data.sample(rng, pick(rng, data.SKILLS))]
        texts = [data.caption(rng, example.claim) for example in examples]
        return contrastive(model, tokenizer, data.render(rng, examples), texts)

    seconds = train(
        model, loss, steps=run.steps(1000), rate=5e-4, checkpoint=run.checkpoint("tiny-negclip")
    )
    return model, seconds


def contrastive(
    model: CLIPModel, tokenizer: CLIPTokenizer, pixels: Tensor, texts: Sequence[str]
) -> Tensor:
    """Return CLIP's symmetric cross-entropy over a batch of images and captions.

    Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision",
    figure 3.

    Args:
        model: the CLIP.
        tokenizer: its tokenizer.
        pixels: (N, 3, H, W).
        texts: N captions.
    """
    images, captions = embed_images(model, pixels), embed_texts(model, tokenizer, texts)
    logits = model.logit_scale.clamp(max=4.6052).exp() * images @ captions.T
    target = torch.arange(len(texts))
    return (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    ) / 2


class ProbedClipT5(nn.Module):
    """CLIP-FlanT5 with linear probes of its patches, whose losses are part of training."""

    def __init__(self, tokenizer: T5Tokenizer) -> None:
        super().__init__()
        self.model = ClipT5(tokenizer)
        self.tower_heads, self.encoder_heads = PatchHeads(), PatchHeads()


def question_shares(progress: float) -> tuple[float, float]:
    """Return the shares of dense and single-phrase questions at a progress from 0 to 1.

    >>> question_shares(0.0), question_shares(1.0)
    ((0.8, 0.2), (0.2, 0.08))
    """
    if progress < 0.33:
        return 0.8, 0.2
    if progress < 0.47:
        return 0.45, 0.3
    return 0.2, 0.08


def train_vqa(run: Run, tower: Tower, tokenizer: T5Tokenizer) -> tuple[ClipT5, float]:
    """Train on questions and answers, with patch targets on the tower and on T5's encoder.

    Without the targets the tower loses positions and the encoder does not use them.
    """
    run.start("tiny-clip-flant5")
    network = ProbedClipT5(tokenizer)
    model = network.model
    model.vision_tower.load_state_dict(tower.tower.state_dict())
    network.tower_heads.load_state_dict(tower.heads.state_dict())
    if run.compiled:
        model.t5.encoder.compile(dynamic=False)

    def loss(step: int, progress: float) -> Tensor:
        rng = data.generator(run.seed, "tiny-clip-flant5", step)
        dense, single = question_shares(progress)
        skills = [pick(rng, data.QUESTION_SKILLS) for _ in range(32)]
        examples = [data.sample(rng, skill)[0] for skill in skills]
        questions = [
            (i, data.ask(rng, example, dense, single))
            for i, example in enumerate(examples)
            for _ in range(6)
        ]
        questions.sort(key=lambda question: -len(model.tokens(question[1].answer)))
        image_index = [i for i, _ in questions]
        features = model.encode_vision(data.render(rng, examples))
        states, mask = model.encode(features, image_index, [qa.question for _, qa in questions])
        answers = answer_loss(model, states, mask, [qa.answer for _, qa in questions])
        targets = data.patch_targets([example.scene for example in examples])
        again = {name: target[image_index] for name, target in targets.items()}
        encoder_loss = network.encoder_heads.loss(model.image_states(states), again)
        return answers + 0.05 * (network.tower_heads.loss(features, targets) + encoder_loss)

    seconds = train(
        network,
        loss,
        steps=run.steps(4200),
        rate=6e-4,
        checkpoint=run.checkpoint("tiny-clip-flant5"),
    )
    return model, seconds


def answer_loss(model: ClipT5, states: Tensor, mask: Tensor, answers: Sequence[str]) -> Tensor:
    """Return the mean over questions of negative log-likelihood / sqrt(length) of the answer.

    Summed over tokens, a list would outweigh thirty answers of yes; averaged, it would weigh too
    little.

    Args:
        model: CLIP-FlanT5.
        states: encoder states (Q, L, width).
        mask: (Q, L).
        answers: sorted, longest first, since short ones are decoded separately.
    """
    long = sum(len(model.tokens(answer)) > SHORT for answer in answers)
    long = min(len(answers), math.ceil(long / FEW_SHAPES) * FEW_SHAPES)
    total = torch.zeros(())
    for rows in (slice(0, long), slice(long, len(answers))):
        if answers[rows]:
            log_p, length = model.answer_log_likelihood(states[rows], mask[rows], answers[rows])
            total = total - (log_p / length.sqrt()).sum()
    return total / len(answers)
