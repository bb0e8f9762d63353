"""Images by a pipeline of diffusers, from the hub or a folder."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from typing_extensions import override

from t2v_eval.errors import (
    CheckpointError,
    GenerationError,
    InputError,
    MissingPackageError,
    UnsupportedError,
)
from t2v_eval.generators.generator import Generated, Generator, check_json, check_sampling
from t2v_eval.local.batching import BatchSize, Failure, empty_allocator_cache
from t2v_eval.local.devices import pick_device, pick_dtype
from t2v_eval.local.weights import fingerprint
from t2v_eval.utils.arguments import check_path, unknown_argument
from t2v_eval.utils.torch_internals import computes_bfloat16

INDEX = "model_index.json"  # of every pipeline
PACKAGES = ("diffusers", "torch", "transformers")
# Arguments of a call that are said otherwise here.
PARAMETER_OF = {
    "num_inference_steps": "steps",
    "generator": "seed",
    "num_images_per_prompt": "per_prompt",
}


class DiffusersGenerator(Generator):
    """Make images with a pipeline of diffusers.

    Noise comes from a generator of the CPU for each image, so that it does not depend on the device
    or on what else is in a batch.

    Args:
        pipeline: an id of the hub, or a folder that a pipeline was saved in.
        steps: the number of steps. Default: the pipeline's, as for the next three.
        guidance_scale: the weight of the prompt.
        height: pixels.
        width: pixels.
        device: such as "cuda:0". Default: a GPU if there is one.
        dtype: precision. Default: bfloat16 on a GPU that computes it, else float32.
        batch_size: images to make at once; halved when memory runs out. With another number, the
            last bits of an image may differ.
        revision: a commit, branch or tag of the hub. Default: the newest commit.
        variant: of the weight files, such as "fp16".
        safety_checker: False loads none, where the pipeline has one.
        offload: keep in the memory of the GPU only the network that computes.
        options: arguments of a call of the pipeline, such as `negative_prompt`.

    Raises:
        InputError: an option is not valid, or the pipeline does not take it.
        CheckpointError: there is no such pipeline, or it cannot be downloaded.
        MissingPackageError: diffusers is not installed.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         DiffusersGenerator(folder)
    ...     except CheckpointError as error:
    ...         print(str(error)[-41:])
    ipeline was saved in, or an id of the hub
    """

    def __init__(
        self,
        pipeline: str,
        *,
        steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_size: int | None = None,
        revision: str | None = None,
        variant: str | None = None,
        safety_checker: bool = True,
        offload: bool = False,
        **options: Any,
    ) -> None:
        check_sampling(steps, guidance_scale, height, width)
        self.name, self._size = pipeline, BatchSize(1 if batch_size is None else batch_size)
        self.device = pick_device(device)
        chosen = pick_dtype(dtype)
        fast = self.device.type == "cuda" and computes_bfloat16(self.device)
        self.dtype = chosen or (torch.bfloat16 if fast else torch.float32)
        self._settings = {
            "steps": steps,
            "guidance_scale": guidance_scale,
            "height": height,
            "width": width,
        }
        self._variant, self._offload = variant, offload
        self._unsafe = {} if safety_checker else {"safety_checker": None}
        self._folder, self._revision = _locate(pipeline, revision, variant)
        self._options = check_json(options)
        self._parameters = _parameters(self._folder, pipeline)
        self._check_options()
        self._pipeline: Any = None

    @override
    def facts(self) -> Mapping[str, Any]:
        more: dict[str, Any] = {"variant": self._variant} if self._variant else {}
        if self._unsafe:
            more["safety_checker"] = False
        return {
            "pipeline": self.name,
            "revision": self._revision,
            **self._settings,
            "options": self._options,
            "device": self.device.type,
            "dtype": str(self.dtype).removeprefix("torch."),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
            "more": more,
        }

    @override
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> Iterator[Generated]:
        if self._pipeline is None:
            self._pipeline = self._load()

        def run(numbers: Sequence[int]) -> list[Image.Image | None]:
            return self._run([prompts[n] for n in numbers], [seeds[n] for n in numbers])

        for part, images in self._size.run_adaptive(range(len(prompts)), run):
            if isinstance(images, Failure):
                yield Generated(part.start, error=_reason(images))
                continue
            for number, image in zip(range(part.start, part.stop), images, strict=True):
                withheld = GenerationError("the pipeline's safety checker withheld the image")
                yield Generated(number, image, None if image is not None else withheld)

    @override
    def close(self) -> None:
        self._pipeline = None
        empty_allocator_cache()

    def _check_options(self) -> None:
        """Check settings and options against the arguments of the pipeline."""
        for name in ("prompt", "generator"):
            if name not in self._parameters:
                raise UnsupportedError(
                    f"{self.name} makes no images of prompts alone: its pipeline takes no {name!r}"
                )
        for name, argument in zip(self._settings, _arguments(self._settings), strict=True):
            if self._settings[name] is not None and argument not in self._parameters:
                raise InputError(f"`{name}={self._settings[name]!r}`: {self.name} takes none")
        arguments = sorted(
            self._parameters - {"prompt", "output_type", "return_dict", *PARAMETER_OF}
        )
        for name, value in self._options.items():
            if name in PARAMETER_OF:
                raise InputError(f"`{name}={value!r}`: it is called `{PARAMETER_OF[name]}=` here")
            if name not in arguments:
                raise InputError(unknown_argument(self.name, name, arguments))

    def _load(self) -> Any:
        import diffusers

        load: Any = diffusers.DiffusionPipeline.from_pretrained
        with _no_bars():
            try:
                pipeline = load(
                    self._folder,
                    dtype=self.dtype,
                    variant=self._variant,
                    local_files_only=True,
                    **self._unsafe,
                )
            except Exception as error:  # files of a pipeline may be damaged in any way
                reason = str(error).strip().partition("\n")[0]
                raise CheckpointError(f"{self.name} cannot be loaded: {reason}") from error
        pipeline.set_progress_bar_config(disable=True)
        if self._offload:
            pipeline.enable_model_cpu_offload(device=self.device)
            return pipeline
        return pipeline.to(self.device)

    def _run(self, prompts: list[str], seeds: list[int]) -> list[Image.Image | None]:
        """Return an image of each prompt; None where a safety checker withheld it."""
        settings = {
            argument: value
            for argument, value in zip(
                _arguments(self._settings), self._settings.values(), strict=True
            )
            if value is not None
        }
        options = {
            # A text counts for one prompt alone in some pipelines.
            name: [value] * len(prompts)
            if name.startswith("negative_prompt") and isinstance(value, str)
            else value
            for name, value in self._options.items()
        }
        noise = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        with torch.inference_mode():
            result = self._pipeline(
                prompt=prompts, generator=noise, output_type="np", **settings, **options
            )
        images = getattr(result, "images", None)
        if images is None or len(images) != len(prompts):
            raise UnsupportedError(f"{self.name} makes no images, one of each prompt")
        withheld = getattr(result, "nsfw_content_detected", None) or [False] * len(prompts)
        return [
            None if unsafe else _to_image(image)
            for image, unsafe in zip(images, withheld, strict=True)
        ]


@contextmanager
def _no_bars() -> Iterator[None]:
    """Show no progress bars of libraries within the block."""
    import diffusers
    import transformers

    libraries: list[Any] = [diffusers, transformers]
    loggings = [library.logging for library in libraries]
    active = [each for each in loggings if each.is_progress_bar_enabled()]
    for each in active:
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each in active:
            each.enable_progress_bar()


def _arguments(settings: Mapping[str, Any]) -> list[str]:
    return ["num_inference_steps" if name == "steps" else name for name in settings]


def _locate(pipeline: str, revision: str | None, variant: str | None) -> tuple[Path, str | None]:
    """Return the folder of a pipeline, and its commit on the hub or the hash of its files."""
    folder = check_path("pipeline", pipeline)
    if folder.exists():
        if revision is not None:
            raise InputError(f"`revision={revision!r}`: {pipeline} is a folder, which has none")
        if not (folder / INDEX).is_file():
            raise CheckpointError(
                f"{pipeline} holds no {INDEX}; pass a folder that a pipeline was saved in, or an "
                "id of the hub"
            )
        return folder, fingerprint([folder])
    try:
        import diffusers
    except ImportError as error:
        raise MissingPackageError(
            f"{pipeline} needs the package 'diffusers': pip install 't2v-eval[generate]'"
        ) from error
    library: Any = diffusers
    verbosity = library.logging.get_verbosity()
    library.logging.set_verbosity_error()  # what fails is said in the error
    try:
        path = Path(
            library.DiffusionPipeline.download(pipeline, revision=revision, variant=variant)
        )
    except Exception as error:  # of the hub, the network or the disk
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise CheckpointError(
            f"there is no folder {pipeline}, and no pipeline of this name can be downloaded: "
            f"{reason}"
        ) from error
    finally:
        library.logging.set_verbosity(verbosity)
    return path, path.name if path.parent.name == "snapshots" else revision


def _parameters(folder: Path, name: str) -> set[str]:
    """Return the arguments of a call of a folder's pipeline, from its class alone."""
    try:
        import diffusers
    except ImportError as error:
        raise MissingPackageError(
            f"{name} needs the package 'diffusers': pip install 't2v-eval[generate]'"
        ) from error
    try:
        kind = json.loads((folder / INDEX).read_text("utf-8"))["_class_name"]
        pipeline = getattr(diffusers, kind)
        return set(inspect.signature(pipeline.__call__).parameters) - {"self"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{name}: its {INDEX} names no pipeline of diffusers "
            f"{importlib.metadata.version('diffusers')} ({error}); code of its own is not run"
        ) from error


def _to_image(image: Any) -> Image.Image:
    """Return an image of a pipeline.

    Raises:
        GenerationError: it has numbers that are not finite, which would be black.
    """
    if isinstance(image, Image.Image):
        return image
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise GenerationError("the image is not finite: use another precision, `dtype='float32'`")
    pixels = (values.clip(0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def _reason(failure: Failure) -> GenerationError:
    if failure.error is None:
        return GenerationError(
            "not even one image fits into the memory: pass a smaller `height=` and `width=`, or "
            "`offload=True`"
        )
    if isinstance(failure.error, GenerationError):
        return failure.error
    reason = str(failure.error).strip().partition("\n")[0]
    return GenerationError(f"{type(failure.error).__name__}: {reason}")
