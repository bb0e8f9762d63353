"""Models whose code lies beside their weights, each with a processor and a network of its own.

A class here asks that code for the inputs up to a question (`image_inputs`, `video_inputs`) and
runs it on tokens (`logits`). Hidden states are what its head receives, so that everything else is
as with a model of transformers. The code runs only with `trust_remote_code`.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import AutoConfig, AutoProcessor
from typing_extensions import override

from t2v_eval.errors import CheckpointError, InputError, UnsupportedError

from ...common.images import crop_extreme
from ...common.pretrained import untrusted_code_error
from ...common.transformers_internals import adapt_to_transformers_5, load_remote_class
from .base import ConfigJson, Fetch, Layout

Inputs = Mapping[str, Tensor]
MOLMO_QUESTION = " User: ? Assistant:"  # the prompt of Molmo's processor for a question mark
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
BETWEEN_VIEWS = "</Video><Video>"  # of InternVideo2-Chat
NO_IMAGE_OFFSET = -1_000_000  # of mPLUG-Owl3, where no image comes before a token


class RemoteCodeModel(Layout):
    """A model with remote code.

    Attributes:
        architecture: its name in config.json.
        suffix_tokens: tokens between the inputs of `image_inputs` and the question.
        no_video_reason: why the model takes no videos; empty where it takes them.

    >>> class Example(RemoteCodeModel):
    ...     architecture = "ExampleForCausalLM"
    ...
    ...     def image_inputs(self, before, image):
    ...         return {"input_ids": torch.tensor([[1]])}
    ...
    ...     def logits(self, ids, inputs):
    ...         return self.model(ids, **inputs).logits
    >>> config = {"architectures": ["ExampleForCausalLM"], "auto_map": {"AutoModel": "own.Example"}}
    >>> Example.matches(config)
    True
    """

    architecture: str
    suffix_tokens: tuple[int, ...] = ()
    no_video_reason: str = ""

    @classmethod
    @override
    def matches(cls, config: ConfigJson) -> bool:
        return config.get("architectures") == [cls.architecture] and "auto_map" in config

    @override
    def read(self, fetch: Fetch) -> None:
        if not self.trusted:
            raise untrusted_code_error(self.folder)
        self.files = sorted(self.folder.glob("*.py"))
        self.config = self._load_auto(AutoConfig)
        self.tokenizer = self.load_tokenizer(self.config)

    @override
    def build(self, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
        auto_map = self.config_json["auto_map"]
        reference = auto_map.get("AutoModelForCausalLM") or auto_map["AutoModel"]
        network: Any = self._try_remote(load_remote_class, reference, self.folder)
        adapt_to_transformers_5(network)
        model = self._try_remote(
            network.from_pretrained, self.folder, config=self.config, dtype=dtype
        )
        self.model = model.to(device).eval().requires_grad_(False)
        return RemoteCodeNetwork(self)

    def set_image_options(self, settings: Mapping[str, Any]) -> None:
        """Set how images are prepared.

        Raises:
            InputError: a setting that the model does not have.
        """
        if settings:
            raise InputError(f"`image_settings={settings!r}`: this model has none: leave it out")

    @abstractmethod
    def image_inputs(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        """Return all inputs up to the end of an image, `input_ids` (1, L) among them.

        Args:
            before: the text before the image.
            image: the image.
        """

    def video_inputs(self, before: str, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Return the same for the frames of a video, where the model takes videos."""
        raise NotImplementedError

    @abstractmethod
    def logits(self, ids: Tensor, inputs: Inputs) -> Tensor:
        """Return logits (1, L, V).

        Args:
            ids: (1, L), those of `image_inputs` with more tokens behind them.
            inputs: the other inputs; empty for a text without an image.
        """

    @property
    def head(self) -> Any:
        """The module that turns hidden states into logits."""
        return self.model.get_output_embeddings()

    def _load_auto(self, auto: Any) -> Any:
        return self._try_remote(auto.from_pretrained, self.folder, trust_remote_code=True)

    def _try_remote(self, load: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return load(*args, **options)
        except Exception as error:  # remote code may raise anything
            raise CheckpointError(
                f"the code of {self.folder} does not run with transformers "
                f"{transformers.__version__}, {type(error).__name__}: {error}. Install what it "
                "asks for, or the version of transformers it was written for"
            ) from error

    def _tokens_at_start(self, text: str) -> list[int]:
        """Return the tokens of a text with those that begin a text."""
        ids: list[int] = self.tokenizer(text).input_ids
        return ids


class RemoteCodeNetwork:
    """The interface of a network of transformers, for a model with remote code.

    >>> head, words = torch.nn.Linear(8, 5), torch.nn.Embedding(5, 8)
    >>> layout = SimpleNamespace(head=head, logits=lambda ids, inputs: head(words(ids)))
    >>> RemoteCodeNetwork(layout)(torch.tensor([[1, 2, 3]])).logits.shape
    torch.Size([1, 3, 5])
    """

    def __init__(self, layout: RemoteCodeModel) -> None:
        self.layout, self.base_model = layout, RemoteCodeBase(layout)

    def __call__(self, input_ids: Tensor, **inputs: Tensor) -> Any:
        """Return an object with the logits (1, L, V)."""
        return SimpleNamespace(logits=self.layout.logits(input_ids, inputs))

    @property
    def generation_config(self) -> Any:
        """What ends a text."""
        return SimpleNamespace(eos_token_id=self.layout.tokenizer.eos_token_id)

    def get_output_embeddings(self) -> Any:
        """Return the layer that turns hidden states into logits."""
        return self.layout.head

    def generate(
        self,
        input_ids: Tensor,
        max_new_tokens: int,
        do_sample: bool,
        num_return_sequences: int = 1,
        return_dict_in_generate: bool = False,
        **inputs: Tensor,
    ) -> Tensor:
        """Append the likeliest token, again and again, until the text ends."""
        if do_sample or num_return_sequences > 1 or return_dict_in_generate:
            raise UnsupportedError(
                "the code of this model writes the likeliest text alone: use `temperature=0` and "
                "`passes=1`"
            )
        for _ in range(max_new_tokens):
            token = self.layout.logits(input_ids, inputs)[:, -1:].argmax(-1)
            input_ids = torch.cat([input_ids, token], 1)
            if int(token) == self.layout.tokenizer.eos_token_id:
                break
        return input_ids


class RemoteCodeBase:
    """The network without its head: it returns hidden states.

    >>> head, words = torch.nn.Linear(8, 5), torch.nn.Embedding(5, 8)
    >>> layout = SimpleNamespace(head=head, logits=lambda ids, inputs: head(words(ids)))
    >>> RemoteCodeBase(layout)(torch.tensor([[1, 2, 3]])).last_hidden_state.shape
    torch.Size([1, 3, 8])
    """

    def __init__(self, layout: RemoteCodeModel) -> None:
        self.layout = layout

    def __call__(self, input_ids: Tensor, use_cache: bool = False, **inputs: Tensor) -> Any:
        """Return an object with the hidden states before the head."""
        states: list[Tensor] = []
        hook = self.layout.head.register_forward_pre_hook(lambda _, args: states.append(args[0]))
        try:
            self.layout.logits(input_ids, inputs)
        finally:
            hook.remove()
        # The one token of an image becomes many states; those of the text are the last.
        return SimpleNamespace(last_hidden_state=states[-1][:, -input_ids.shape[1] :])

    forward = __call__


class Molmo(RemoteCodeModel):
    """Molmo (the first), whose processor puts the image before a question in its own words.

    >>> Molmo.matches({"architectures": ["MolmoForCausalLM"], "auto_map": {}})
    True
    """

    architecture = "MolmoForCausalLM"
    no_video_reason = "it was tuned on questions about one image"

    @override
    def read(self, fetch: Fetch) -> None:
        super().read(fetch)
        self.processor = self._load_auto(AutoProcessor)

    @override
    def image_inputs(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        processed = self.processor.process(images=[image], text="?")
        inputs = {name: value[None] for name, value in processed.items()}
        ids = inputs["input_ids"]
        question = self.tokenizer(MOLMO_QUESTION, add_special_tokens=False).input_ids
        if ids[0, -len(question) :].tolist() != question:
            raise CheckpointError(f"the processor of {self.folder} does not ask {MOLMO_QUESTION!r}")
        return {**inputs, "input_ids": ids[:, : -len(question)]}

    @override
    def logits(self, ids: Tensor, inputs: Inputs) -> Tensor:
        logits: Tensor = self.model(input_ids=ids, use_cache=False, **inputs).logits
        return logits


class Owl3(RemoteCodeModel):
    """mPLUG-Owl3, whose layers attend to the images before each token.

    >>> Owl3.matches({"architectures": ["mPLUGOwl3Model"], "auto_map": {}})
    True
    """

    architecture = "mPLUGOwl3Model"

    @override
    def image_inputs(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        return self._process("<|image|>", images=[image], videos=None)

    @override
    def video_inputs(self, before: str, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
        return self._process("<|video|>", images=None, videos=[list(frames)])

    def _process(self, content: str, **media: Any) -> dict[str, Tensor]:
        processor = self.model.init_processor(self.tokenizer)
        messages = [{"role": "user", "content": content}, {"role": "assistant", "content": ""}]
        processed = processor(messages, **media)
        ids = processed["input_ids"][0].tolist()
        image, close = self.tokenizer.convert_tokens_to_ids(["<|image|>", "<|im_end|>"])
        # Images may have tokens around them: all up to the question's end is of the image.
        end = ids.index(close, max(n for n, token in enumerate(ids) if token == image))
        inputs = {name: processed[name][:, :end] for name in ("input_ids", "media_offset")}
        # From the next token on, all images come before it.
        last = processed["media_offset"][:, -1:]
        inputs["media_offset"] = torch.cat([inputs["media_offset"], last], 1)
        return {**inputs, "pixel_values": processed["pixel_values"]}

    @override
    def logits(self, ids: Tensor, inputs: Inputs) -> Tensor:
        pixels, offset = inputs.get("pixel_values"), inputs.get("media_offset")
        if offset is None:
            offset = ids[..., None].expand(-1, -1, 2) * 0 + NO_IMAGE_OFFSET
        repeated = offset[:, -1:].expand(-1, max(0, ids.shape[1] - offset.shape[1]), -1)
        offset = torch.cat([offset, repeated], 1)[:, : ids.shape[1]]
        logits: Tensor = self.model(
            input_ids=ids, pixel_values=pixels, media_offset=offset, use_cache=False
        ).logits
        return logits


class XComposer(RemoteCodeModel):
    """InternLM-XComposer2.5, which takes embeddings and a mask of those that are of an image.

    >>> XComposer.matches({"architectures": ["InternLMXComposer2ForCausalLM"], "auto_map": {}})
    True
    """

    architecture = "InternLMXComposer2ForCausalLM"
    no_video_reason = "its code draws the frames of a video into one image, which is not done here"
    tiles = 24

    @override
    def image_inputs(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        transform = sys.modules[type(self.model).__module__].Image_transform
        pixels = self.model.vis_processor(transform(image.convert("RGB"), hd_num=self.tiles))
        ids = [*self._tokens_at_start(before), 0]  # one token in the place of the image
        place = torch.tensor(len(ids) - 1, dtype=torch.long)
        return {
            "input_ids": torch.tensor([ids], dtype=torch.long),
            "image": pixels[None],
            "place": place,
        }

    @override
    def logits(self, ids: Tensor, inputs: Inputs) -> Tensor:
        embeddings = self.model.get_input_embeddings()(ids)
        is_image = torch.zeros(embeddings.shape[:2], dtype=torch.bool, device=ids.device)
        if inputs:
            place = int(inputs["place"])
            image = self.model.encode_img(inputs["image"]).to(embeddings)
            parts = [embeddings[:, :place], image, embeddings[:, place + 1 :]]
            embeddings = torch.cat(parts, 1)
            is_image = torch.zeros(embeddings.shape[:2], dtype=torch.bool, device=ids.device)
            is_image[:, place : place + image.shape[1]] = True
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=ids.device)
        logits: Tensor = self.model(
            inputs_embeds=embeddings,
            attention_mask=mask,
            im_mask=is_image,
            use_cache=False,
            return_dict=True,
        ).logits
        return logits


class VideoChat(RemoteCodeModel):
    """InternVideo2-Chat, which turns a video, or an image as its one frame, into 96 queries.

    With a `grid` of columns and rows, each part of the grid and then the whole get 96 queries.

    >>> VideoChat.matches({"architectures": ["InternVideo2_VideoChat2"], "auto_map": {}})
    True
    """

    architecture = "InternVideo2_VideoChat2"
    side, queries = 224, 96
    grid: Sequence[int] | None = None
    min_frames = 8  # its position embeddings; for other numbers its code needs a GPU

    @override
    def read(self, fetch: Fetch) -> None:
        super().read(fetch)
        # The text after the image is tokenized as if a text began there.
        self.suffix_tokens = tuple(self._tokens_at_start(""))

    @override
    def set_image_options(self, settings: Mapping[str, Any]) -> None:
        grid = settings.get("grid", ())
        if settings and (
            [*settings] != ["grid"]
            or not isinstance(grid, Sequence)
            or [type(n) is int and n > 0 for n in grid] != [True, True]
        ):
            raise InputError(
                f"`image_settings={settings!r}`: use grid=[columns, rows], two whole numbers of 1 "
                "or more"
            )
        self.grid = grid or None

    @override
    def image_inputs(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        return self._inputs(before, [image])

    @override
    def video_inputs(self, before: str, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
        """Return the inputs of a video; one of fewer than 8 frames repeats some of them.

        The frames are those at the middles of 8 equal parts.
        """
        if len(frames) < self.min_frames:
            part = (len(frames) - 1) / self.min_frames
            frames = [frames[int(part / 2) + round(part * k)] for k in range(self.min_frames)]
        return self._inputs(before, frames)

    @override
    def logits(self, ids: Tensor, inputs: Inputs) -> Tensor:
        embeddings = self.model.lm.get_input_embeddings()(ids)
        if inputs:
            places = inputs["starts"][:, None] + torch.arange(self.queries, device=ids.device)
            is_video = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
            is_video[:, places.flatten()] = True
            embeddings = self.model.pad_text_embeds(
                input_ids=ids, video=inputs["frames"], video_idx=is_video
            )
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long, device=ids.device)
        logits: Tensor = self.model.lm(
            inputs_embeds=embeddings, attention_mask=mask, use_cache=False
        ).logits
        return logits

    def _inputs(self, before: str, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
        if self.grid is None:
            views = torch.stack([center_square(frame, self.side) for frame in frames])[None]
        else:
            columns, rows = self.grid
            parts = [grid_views(frame, self.side, columns, rows) for frame in frames]
            views = torch.stack(parts, 1)
        ids, starts = [], []
        for text in [before, *[BETWEEN_VIEWS] * (len(views) - 1)]:
            ids += self._tokens_at_start(text)
            starts.append(len(ids))
            ids += [0] * self.queries
        return {
            "input_ids": torch.tensor([ids], dtype=torch.long),
            "starts": torch.tensor(starts, dtype=torch.long),
            "frames": views if len(views) == 1 else views[None],
        }

    @property
    @override
    def head(self) -> Any:
        return self.model.lm.get_output_embeddings()


def center_square(image: Image.Image, side: int) -> Tensor:
    """Return the normalised center square (3, S, S) of an image whose short side is resized to S.

    As torchvision resizes tensors: colours are not rounded in between.

    >>> center_square(Image.new("RGB", (40, 20)), 8).shape
    torch.Size([3, 8, 8])
    """
    pixels = unit_pixels(crop_extreme(image, side))
    sides = pixels.shape[1:]
    height, width = (side * length // min(sides) for length in sides)
    resized = interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)[0]
    y, x = round((height - side) / 2), round((width - side) / 2)
    return normalise(resized[:, y : y + side, x : x + side])


def grid_views(image: Image.Image, side: int, columns: int, rows: int) -> Tensor:
    """Return normalised squares (C * R + 1, 3, S, S): the parts of a grid by row, then the image.

    The image is resized to fill the grid, without antialiasing, as its authors do.

    >>> grid_views(Image.new("RGB", (40, 20)), 8, columns=2, rows=1).shape
    torch.Size([3, 3, 8, 8])
    """
    large = interpolate(unit_pixels(image)[None], (side * rows, side * columns), mode="bicubic")
    large = normalise(large)
    parts = large.view(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).flatten(0, 1)
    return torch.cat([parts, interpolate(large, (side, side), mode="bicubic")])


def unit_pixels(image: Image.Image) -> Tensor:
    """Return the pixels (3, H, W) of an image, 0 to 1.

    >>> unit_pixels(Image.new("RGB", (2, 1), (255, 0, 51)))[:, 0, 0].tolist()
    [1.0, 0.0, 0.20000000298023224]
    """
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def normalise(pixels: Tensor) -> Tensor:
    """Return pixels (..., 3, H, W) normalised by ImageNet's mean and standard deviation.

    >>> normalise(torch.tensor(MEAN).view(3, 1, 1)).flatten().tolist()
    [0.0, 0.0, 0.0]
    """
    mean, std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


REMOTE_CODE_MODELS = (Molmo, Owl3, XComposer, VideoChat)
