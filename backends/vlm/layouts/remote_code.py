"""Models whose code lies beside their weights, each with a processor and a network of its own.

A layout here says how the code is asked for what stands before a question (`see`, `watch`) and how
it is run on tokens (`run`). What the last product of the network is given are its states, so that
everything else is as with a model of transformers. The code runs only where the user has said that
it may.
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

from t2v_eval.errors import CheckpointError, InputError

from ...common.images import crop_extreme
from ...common.pretrained import untrusted_code_error
from ...common.transformers_internals import adapt_to_transformers_5, load_remote_class
from .base import Fetch, Flat, Layout

Inputs = Mapping[str, Tensor]
ASKED = " User: ? Assistant:"  # what Molmo's processor makes of a question mark
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
BESIDE = "</Video><Video>"  # what InternVideo2-Chat has between parts of a video


class RemoteCodeModel(Layout):
    """A model with code of its own; `marks` are the tokens that begin what follows a picture.

    `blind` is why it is shown no videos, and empty where it is.
    """

    architecture: str
    marks: tuple[int, ...] = ()
    blind: str = ""

    @classmethod
    def fits(cls, flat: Flat) -> bool:
        return flat.get("architectures") == [cls.architecture] and "auto_map" in flat

    def read(self, fetch: Fetch) -> None:
        if not self.trusted:
            raise untrusted_code_error(self.folder)
        self.files = sorted(self.folder.glob("*.py"))
        self.config = self._theirs(AutoConfig)
        self.tokenizer = self.words(self.config)

    def build(self, device: torch.device, dtype: torch.dtype, attention: str) -> Any:
        named = self.flat["auto_map"]
        place = named.get("AutoModelForCausalLM") or named["AutoModel"]
        network: Any = self._trying(load_remote_class, place, self.folder)
        adapt_to_transformers_5(network)
        model = self._trying(network.from_pretrained, self.folder, config=self.config, dtype=dtype)
        self.model = model.to(device).eval().requires_grad_(False)
        return RemoteCodeNetwork(self)

    def adjust(self, settings: Mapping[str, Any]) -> None:
        """Prepare pictures otherwise.

        Raises:
            InputError: that cannot be set.
        """
        if settings:
            raise InputError(f"image_settings={settings!r}: this model has none: leave it out")

    @abstractmethod
    def see(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        """All inputs up to the end of a picture, `input_ids` (1, L) among them; `before` is the
        text before it.
        """

    def watch(self, before: str, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The same for the frames of a video, where the model is shown any."""
        raise NotImplementedError

    @abstractmethod
    def run(self, ids: Tensor, inputs: Inputs) -> Tensor:
        """Logits (1, L, V); `ids` are those of `see` with more behind, the rest is what `see` made.
        Without a picture there are no inputs.
        """

    @property
    def head(self) -> Any:
        """The last product, from states to logits."""
        return self.model.get_output_embeddings()

    def _theirs(self, auto: Any) -> Any:
        return self._trying(auto.from_pretrained, self.folder, trust_remote_code=True)

    def _trying(self, load: Callable[..., Any], *args: Any, **options: Any) -> Any:
        try:
            return load(*args, **options)
        except Exception as error:  # their code may do anything
            raise CheckpointError(
                f"the code of {self.folder} does not run with transformers "
                f"{transformers.__version__}, {type(error).__name__}: {error}. Install what it "
                "asks for, or the version of transformers it was written for"
            ) from error

    def _before(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text).input_ids
        return ids


class RemoteCodeNetwork:
    """What is asked of a network, of one with its own code: states, and logits."""

    def __init__(self, layout: RemoteCodeModel) -> None:
        self.layout, self.base_model = layout, RemoteCodeBase(layout)

    def __call__(self, input_ids: Tensor, **inputs: Tensor) -> Any:
        return SimpleNamespace(logits=self.layout.run(input_ids, inputs))

    def get_output_embeddings(self) -> Any:
        return self.layout.head

    def generate(
        self, input_ids: Tensor, max_new_tokens: int, do_sample: bool, **inputs: Tensor
    ) -> Tensor:
        """The likeliest token, one after another, until the text ends."""
        for _ in range(max_new_tokens):
            best = self.layout.run(input_ids, inputs)[:, -1:].argmax(-1)
            input_ids = torch.cat([input_ids, best], 1)
            if int(best) == self.layout.tokenizer.eos_token_id:
                break
        return input_ids


class RemoteCodeBase:
    """The part of a network before its last product."""

    def __init__(self, layout: RemoteCodeModel) -> None:
        self.layout = layout

    def __call__(self, input_ids: Tensor, use_cache: bool = False, **inputs: Tensor) -> Any:
        given: list[Tensor] = []
        hook = self.layout.head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
        try:
            self.layout.run(input_ids, inputs)
        finally:
            hook.remove()
        # Where a picture was one token, it is many states; those of the text are the last.
        return SimpleNamespace(last_hidden_state=given[-1][:, -input_ids.shape[1] :])

    forward = __call__


class Molmo(RemoteCodeModel):
    """Molmo (the first), whose processor puts the picture before a text that it words itself."""

    architecture = "MolmoForCausalLM"
    blind = "it was tuned on questions about one picture"

    def read(self, fetch: Fetch) -> None:
        super().read(fetch)
        self.theirs = self._theirs(AutoProcessor)

    def see(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        made = self.theirs.process(images=[image], text="?")
        inputs = {name: value[None] for name, value in made.items()}
        ids, asked = inputs["input_ids"], self.tokenizer(ASKED, add_special_tokens=False).input_ids
        if ids[0, -len(asked) :].tolist() != asked:
            raise CheckpointError(f"the processor of {self.folder} does not ask {ASKED!r}")
        return {**inputs, "input_ids": ids[:, : -len(asked)]}

    def run(self, ids: Tensor, inputs: Inputs) -> Tensor:
        logits: Tensor = self.model(input_ids=ids, use_cache=False, **inputs).logits
        return logits


class Owl3(RemoteCodeModel):
    """mPLUG-Owl3, whose layers look at the pictures before each token."""

    architecture = "mPLUGOwl3Model"

    def see(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        return self._made("<|image|>", images=[image], videos=None)

    def watch(self, before: str, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
        return self._made("<|video|>", images=None, videos=[list(frames)])

    def _made(self, content: str, **seen: Any) -> dict[str, Tensor]:
        theirs = self.model.init_processor(self.tokenizer)
        said = [{"role": "user", "content": content}, {"role": "assistant", "content": ""}]
        made = theirs(said, **seen)
        ids = made["input_ids"][0].tolist()
        mark, close = self.tokenizer.convert_tokens_to_ids(["<|image|>", "<|im_end|>"])
        # Pictures may have tokens around them: all that stands before the question's end is kept.
        end = ids.index(close, max(n for n, token in enumerate(ids) if token == mark))
        kept = {name: made[name][:, :end] for name in ("input_ids", "media_offset")}
        # From the next token on, all pictures have been seen.
        kept["media_offset"] = torch.cat([kept["media_offset"], made["media_offset"][:, -1:]], 1)
        return {**kept, "pixel_values": made["pixel_values"]}

    def run(self, ids: Tensor, inputs: Inputs) -> Tensor:
        pictures, offset = inputs.get("pixel_values"), inputs.get("media_offset")
        if offset is None:
            offset = ids[..., None].expand(-1, -1, 2) * 0 - 1_000_000  # none was seen
        more = offset[:, -1:].expand(-1, max(0, ids.shape[1] - offset.shape[1]), -1)
        offset = torch.cat([offset, more], 1)[:, : ids.shape[1]]
        made = self.model(
            input_ids=ids, pixel_values=pictures, media_offset=offset, use_cache=False
        )
        logits: Tensor = made.logits
        return logits


class XComposer(RemoteCodeModel):
    """InternLM-XComposer2.5, which is given embeddings, and which of them are of a picture."""

    architecture = "InternLMXComposer2ForCausalLM"
    blind = "its code draws the frames of a video into one picture, which is not done here"
    tiles = 24

    def see(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        transform = sys.modules[type(self.model).__module__].Image_transform
        pixels = self.model.vis_processor(transform(image.convert("RGB"), hd_num=self.tiles))
        ids = [*self._before(before), 0]  # one token in the place of the picture
        place = torch.tensor(len(ids) - 1, dtype=torch.long)
        return {
            "input_ids": torch.tensor([ids], dtype=torch.long),
            "picture": pixels[None],
            "place": place,
        }

    def run(self, ids: Tensor, inputs: Inputs) -> Tensor:
        words = self.model.get_input_embeddings()(ids)
        seen = torch.zeros(words.shape[:2], dtype=torch.bool, device=ids.device)
        if inputs:
            place, made = int(inputs["place"]), self.model.encode_img(inputs["picture"])
            words = torch.cat([words[:, :place], made.to(words), words[:, place + 1 :]], 1)
            seen = torch.zeros(words.shape[:2], dtype=torch.bool, device=ids.device)
            seen[:, place : place + made.shape[1]] = True
        mask = torch.ones(words.shape[:2], dtype=torch.long, device=ids.device)
        made = self.model(
            inputs_embeds=words,
            attention_mask=mask,
            im_mask=seen,
            use_cache=False,
            return_dict=True,
        )
        logits: Tensor = made.logits
        return logits


class VideoChat(RemoteCodeModel):
    """InternVideo2-Chat, which sees a video, of one frame where it is a picture, in 96 queries.

    With a `grid` of columns and rows, it sees each part of that many squares, and then the whole.
    """

    architecture = "InternVideo2_VideoChat2"
    side, queries = 224, 96
    grid: Sequence[int] | None = None
    least = 8  # frames of which its positions are; of other numbers it makes them on a GPU alone

    def read(self, fetch: Fetch) -> None:
        super().read(fetch)
        self.marks = tuple(self._before(""))  # each side of the picture begins as a text does

    def adjust(self, settings: Mapping[str, Any]) -> None:
        grid = settings.get("grid", ())
        if settings and (
            [*settings] != ["grid"]
            or not isinstance(grid, Sequence)
            or [type(n) is int and n > 0 for n in grid] != [True, True]
        ):
            raise InputError(
                f"image_settings={settings!r}: use grid=[columns, rows], two whole numbers of 1 or "
                "more"
            )
        self.grid = grid or None

    def see(self, before: str, image: Image.Image) -> dict[str, Tensor]:
        return self._made(before, [image])

    def watch(self, before: str, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
        """A video of fewer frames has some of them again: the middles of equal parts."""
        if len(frames) < self.least:
            part = (len(frames) - 1) / self.least
            frames = [frames[int(part / 2) + round(part * k)] for k in range(self.least)]
        return self._made(before, frames)

    def run(self, ids: Tensor, inputs: Inputs) -> Tensor:
        words = self.model.lm.get_input_embeddings()(ids)
        if inputs:
            places = inputs["starts"][:, None] + torch.arange(self.queries, device=ids.device)
            seen = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
            seen[:, places.flatten()] = True
            words = self.model.pad_text_embeds(
                input_ids=ids, video=inputs["frames"], video_idx=seen
            )
        mask = torch.ones(words.shape[:2], dtype=torch.long, device=ids.device)
        made = self.model.lm(inputs_embeds=words, attention_mask=mask, use_cache=False)
        logits: Tensor = made.logits
        return logits

    def _made(self, before: str, frames: Sequence[Image.Image]) -> dict[str, Tensor]:
        if self.grid is None:
            views = torch.stack([middle_of(frame, self.side) for frame in frames])[None]
        else:
            columns, rows = self.grid
            parts = [parts_of(frame, self.side, columns, rows) for frame in frames]
            views = torch.stack(parts, 1)
        ids, starts = [], []
        for text in [before, *[BESIDE] * (len(views) - 1)]:
            ids += self._before(text)
            starts.append(len(ids))
            ids += [0] * self.queries
        pixels = views if len(views) == 1 else views[None]
        told = torch.tensor([ids], dtype=torch.long), torch.tensor(starts, dtype=torch.long)
        return {"input_ids": told[0], "starts": told[1], "frames": pixels}

    @property
    def head(self) -> Any:
        return self.model.lm.get_output_embeddings()


def middle_of(image: Image.Image, side: int) -> Tensor:
    """The middle square (3, S, S), normalised, of a picture whose short side is made S pixels.

    As torchvision resizes tensors: colours are not rounded in between.
    """
    pixels = colours_of(crop_extreme(image, side))
    sides = pixels.shape[1:]
    high, wide = (side * length // min(sides) for length in sides)
    made = interpolate(pixels[None], (high, wide), mode="bicubic", antialias=True)[0]
    top, left = round((high - side) / 2), round((wide - side) / 2)
    return normalised(made[:, top : top + side, left : left + side])


def parts_of(image: Image.Image, side: int, columns: int, rows: int) -> Tensor:
    """Squares (C * R + 1, 3, S, S), normalised, of a picture that is resized to fill them: each
    part, row by row, and then the whole. Its authors smooth nothing where they make it smaller.
    """
    large = interpolate(colours_of(image)[None], (side * rows, side * columns), mode="bicubic")
    large = normalised(large)
    parts = large.view(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).flatten(0, 1)
    return torch.cat([parts, interpolate(large, (side, side), mode="bicubic")])


def colours_of(image: Image.Image) -> Tensor:
    """(3, H, W), from 0 to 1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def normalised(colours: Tensor) -> Tensor:
    """(..., 3, H, W) as networks of ImageNet take them."""
    mean, std = (torch.tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (MEAN, STD))
    return (colours - mean) / std


REMOTE_CODE_MODELS = (Molmo, Owl3, XComposer, VideoChat)
