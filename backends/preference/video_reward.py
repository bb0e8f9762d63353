"""VideoReward: visual quality, motion quality and text alignment of a video, learnt from choices.

Liu et al. 2025, "Improving Video Generation with Human Feedback", section 3. Qwen2-VL-2B reads two
frames a second and a long instruction with the prompt; a linear layer rates the states at three
tokens in it. Each rating is standardised by the mean and deviation in model_config.json, and their
sum is the overall reward (`VideoVLMRewardInference` of inference.py in KwaiVGI/VideoAlign).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import linear
from typing_extensions import override

from t2v_eval.errors import CheckpointError, ScoringError
from t2v_eval.inputs.template import Template
from t2v_eval.inputs.video import Clip
from t2v_eval.local.checkpoint_files import read_json
from t2v_eval.local.precision import large_dtype
from t2v_eval.local.weights import read_tensors
from t2v_eval.utils.text_file import read_text

from ..common.aspects import AspectScorer
from ..common.authors_text import AuthorsText
from ..common.images import check_aspect_ratio, smart_size
from ..video.checkpoint import merge_lora
from ..video.frames import check_one_size, resize_bicubic
from ..video.video_scorer import VideoScorer
from .hpsv3 import PREFIX, SUFFIX
from .qwen_reward import MULTIPLE, QwenReward

CONFIG, WEIGHTS = "model_config.json", "checkpoint-*/model.pth"
BASE = "Qwen/Qwen2-VL-2B-Instruct"
QUESTION = AuthorsText(
    "KwaiVGI/VideoAlign",
    "219ab9db64c045e5181a2202d11f686439351292",
    "prompt_template.py",
    "8fb42f91fd7440a1c9a377e78f36d67da6132eb348f402eecbeb57e41f138ae9",
    ["DETAILED_PROMPT_WITH_SPECIAL_TOKEN"],
    replace=[("{{text_prompt}}", "{}")],
)
ASPECTS = ("VQ", "MQ", "TA")
MIN_PIXELS = 128 * MULTIPLE**2  # of a resized frame
PEFT = "base_model.model."  # what peft writes before the names of weights
PAIR, PATCH = 2, 14  # frames of a patch in time, and pixels of its sides
# Training settings that this class supports; a checkpoint with other values is refused.
SETTINGS = {
    ("model_config", "use_special_tokens"): True,
    ("data_config", "prompt_template_type"): "detailed_special",
    ("data_config", "eval_dim"): [*ASPECTS],
    ("peft_lora_config", "use_rslora"): False,
}


class VideoReward(VideoScorer, AspectScorer, QwenReward):
    """Score a video by the sum of three standardised ratings, without bounds; `explain` gives them.

    The ratings are visual quality (VQ), motion quality (MQ) and text alignment (TA). An image is a
    video of one frame.

    Args:
        checkpoint: a folder or hub id with model_config.json and checkpoint-N/model.pth; of several
            checkpoints, the last is read.
        base: a folder or hub id with the configuration, tokenizer and image processor that it was
            trained from; by default those beside model_config.json, or else Qwen2-VL-2B-Instruct.
        questions: the authors' prompt_template.py, or its https URL.
        aspect: "VQ", "MQ" or "TA" gives one rating instead of the sum, "overall".
        **options: options of `VideoScorer`, without `resize`.

    Raises:
        CheckpointError: a file is missing, or the files do not belong to one model.
        InputError: an unknown aspect or convention.
        TemplateError: the template has an answer.

    >>> VideoReward.rewards
    ('<|VQ_reward|>', '<|MQ_reward|>', '<|TA_reward|>')
    """

    aspects = ASPECTS
    joined = "overall"
    default_template = "plain"
    fixed_count = False
    resizes = ("bicubic",)
    rewards = tuple(f"<|{aspect}_reward|>" for aspect in ASPECTS)
    head_weights = ("rm_head.weight",)
    out_of_memory_hint = "fewer frames (`num_frames=`), a smaller dtype or another device"

    def __init__(
        self,
        checkpoint: str,
        base: str | None = None,
        questions: str = QUESTION.url,
        aspect: str = "overall",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.choose_aspect(aspect)
        folder = self.locate(checkpoint, (CONFIG, WEIGHTS))
        config = _Config(folder / CONFIG)
        self.max_pixels = int(config.number("data_config", "max_frame_pixels"))
        self._lora_alpha = config.number("peft_lora_config", "lora_alpha")
        self._mean = config.numbers("inference_config", "_mean", 0).to(self.device)
        self._deviation = config.numbers("inference_config", "_std", 1).to(self.device)
        weights = _last_checkpoint(folder)
        self.dtype = large_dtype(options.get("dtype"), self.device, weights)
        base_folder, network_config = self.open_base(base, folder, BASE)
        script = self.locate(questions, argument="questions")
        self._question = Template(QUESTION.extract(read_text(script)))
        self._prefix = self.token_ids(PREFIX)
        self.files = [weights, folder / CONFIG, script, *self.config_files(base_folder)]
        tensors = dict(self.stored_weights())
        self._head = self.load_network(network_config, tensors, weights)["rm_head.weight"]
        if len(self._head) not in (1, len(ASPECTS)):
            raise CheckpointError(
                f"{weights} has a head of {len(self._head)} ratings; VideoReward has 1 or 3"
            )

    @override
    def fit(self, frame: Image.Image) -> Image.Image:
        """Resize an RGB frame in proportion, to sides that are multiples of 28."""
        check_aspect_ratio(*frame.size)
        height, width = smart_size(frame.height, frame.width, MULTIPLE, MIN_PIXELS, self.max_pixels)
        return frame if frame.size == (width, height) else resize_bicubic(frame, (height, width))

    @override
    def preprocess(self, image: Image.Image | Clip) -> Tensor:
        """Return patches (P, C + 3) of pairs of frames; the last of an odd number is repeated.

        The last three columns are the grid (t, h, w) of the video.

        Raises:
            InputError: its frames differ in size.
        """
        frames = image.frames if isinstance(image, Clip) else [self._fit_rgb(image)]
        check_one_size(frame.size for frame in frames)
        inputs = [self.processor(f, do_resize=False, return_tensors="pt") for f in frames]
        inputs += inputs[len(inputs) - len(inputs) % PAIR :]
        rows = [i.pixel_values.unflatten(1, (-1, PAIR, PATCH**2))[:, :, 0] for i in inputs]
        patches = [
            torch.stack(pair, dim=2).flatten(1) for pair in zip(rows[::2], rows[1::2], strict=True)
        ]
        grid = inputs[0].image_grid_thw * torch.tensor([len(patches), 1, 1], dtype=torch.long)
        video = torch.cat(patches)
        return torch.cat([video, grid.expand(len(video), 3)], dim=1)

    @override
    def rate(self, states: Sequence[Tensor], texts: Sequence[str]) -> Tensor:
        """Rate P pairs of the tokens of a video and a text.

        Returns:
            (P, 3) float32 standardised ratings, in the order of `ASPECTS`.

        Raises:
            ScoringError: a text contains a reward token.
        """
        prompts = [SUFFIX.format(self._ask(text)) for text in texts]
        ratings = linear(self.read(self._prefix, states, prompts), self._head)
        raw = ratings.diagonal(dim1=1, dim2=2) if ratings.shape[2] > 1 else ratings[..., 0]
        return (raw - self._mean) / self._deviation

    @override
    def join(self, ratings: Tensor) -> Tensor:
        """Return the sums (P,) of ratings (P, 3)."""
        return ratings.sum(1)

    @override
    def stored_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights with their LoRA updates, by names of transformers 4.45."""
        file = self.files[0]
        tensors = {n.removeprefix(PEFT): tensor for n, tensor in read_tensors(file).items()}
        yield from merge_lora(tensors, file, self._lora_alpha).items()

    def _ask(self, text: str) -> str:
        """Return the question about a text."""
        filled = self.template.fill(text)[0]
        if token := next((token for token in self.rewards if token in filled), None):
            raise ScoringError(
                f"the text {text[:60]!r} contains the reward token {token!r}: remove it"
            )
        return self._question.fill(filled)[0]


class _Config:
    """The training settings in model_config.json.

    Raises:
        CheckpointError: the file is missing or damaged, or has an unsupported setting.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._tables = read_json(file)
        for (table, key), expected in SETTINGS.items():
            if (value := self._value(table, key)) != expected:
                raise CheckpointError(
                    f"{file} says {table}.{key} = {value!r}; VideoReward supports {expected!r} "
                    "alone"
                )

    def number(self, table: str, key: str) -> float:
        """Return a number."""
        value = self._value(table, key)
        if type(value) not in (int, float):
            raise CheckpointError(
                f"{self.file} says {table}.{key} = {value!r}, which is not a number"
            )
        return float(value)

    def numbers(self, table: str, ending: str, default: float) -> Tensor:
        """Return a number for each aspect (3,), or the default where there is no such table."""
        values = [
            self.number(table, aspect + ending) if table in self._tables else default
            for aspect in ASPECTS
        ]
        return torch.tensor(values, dtype=torch.float32)

    def _value(self, table: str, key: str) -> Any:
        settings = self._tables.get(table)
        return settings.get(key) if isinstance(settings, dict) else None


def _last_checkpoint(folder: Path) -> Path:
    """Return the weights of the checkpoint with the highest number."""
    steps = {file: file.parent.name.partition("-")[2] for file in folder.glob(WEIGHTS)}
    files = {int(step): file for file, step in steps.items() if step.isdecimal()}
    if not files:
        raise CheckpointError(f"{folder} holds no {WEIGHTS}")
    return files[max(files)]
