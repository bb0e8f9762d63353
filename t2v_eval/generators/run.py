"""Make the images of prompts into a folder, and go on where an earlier run has stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from t2v_eval.errors import GenerationError, InputError, UnknownNameError
from t2v_eval.evaluation.benchmark import Benchmark
from t2v_eval.evaluation.options import BenchmarkOptions
from t2v_eval.evaluation.sampling import Sample
from t2v_eval.generators.generator import Generated, Generator
from t2v_eval.generators.plan import PlannedImage, hash_prompts, plan_images
from t2v_eval.generators.recipe import ImageList, Recipe, begin
from t2v_eval.registry import benchmarks, models
from t2v_eval.scoring.scorer import OnError
from t2v_eval.utils.arguments import check_path, wrong_type
from t2v_eval.utils.files import check_folder, replacing


@dataclass(frozen=True, slots=True)
class GeneratedFolder:
    """What a run has made.

    Attributes:
        folder: where the images are.
        images: the number of images that there should be.
        made: the number of images that this run made.
        reused: the number of images of earlier runs.
        failures: the reason for each image that is missing, by its file name.

    >>> GeneratedFolder(Path("sdxl"), images=4, made=1, reused=2, failures={"0.png": "..."}).present
    3
    """

    folder: Path
    images: int
    made: int = 0
    reused: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def present(self) -> int:
        """The number of images that there are."""
        return self.made + self.reused


Progress = Callable[[GeneratedFolder], None]


def generate(
    pipeline: str | Generator,
    benchmark: str | Path | Benchmark | Mapping[str, str],
    folder: str | Path,
    *,
    per_prompt: int = 1,
    seed: int = 0,
    subset: str | Sequence[str] | None = None,
    limit: int | None = None,
    on_error: OnError = "raise",
    benchmark_options: BenchmarkOptions | None = None,
    name: str = "",
    progress: Progress | None = None,
    **options: Any,
) -> GeneratedFolder:
    """Make the images of prompts, which `compare` and `t2v-eval eval --images` find by their names.

    Images that are there are not made again, so that an interrupted run goes on where it stopped.
    The seed of an image follows from its prompt, so neither order nor batches change it. The folder
    also gets `recipe.json`, which says how the images were made, and `images.jsonl`, with the
    prompt and the seed of each.

    Args:
        pipeline: an id of the hub or a folder, for a pipeline of diffusers; a model of an images
            API, such as ``openai:gpt-image-1``; or a generator of your own.
        benchmark: a name of `list_benchmarks()` that is a set of prompts, a file of prompts, an
            opened benchmark, or prompts by the names of their images.
        folder: where the images go; each generator has its own.
        per_prompt: the number of images of each prompt.
        seed: the seed of all images, and of `limit`.
        subset: tags; only prompts that have one of them are used.
        limit: how many prompts to use at most, chosen at random by `seed`.
        on_error: "raise" at the first image that fails, or "skip" to go on without it.
        benchmark_options: how the benchmark is opened.
        name: what the recipe calls the prompts. Default: the name of the benchmark.
        progress: called with what there is so far.
        options: options of the generator, such as `steps`; see `DiffusersGenerator`.

    Returns:
        The number of images, and the reasons for those that are missing.

    Raises:
        InputError: an option is not valid.
        OutputError: nothing can be written to the folder, or it holds images of another recipe.
        GenerationError: an image failed, with ``on_error="raise"``; finished images stay.
        T2VError: the prompts cannot be read, or the generator fails for all of them.

    >>> import tempfile
    >>> from t2v_eval.generators.generator import Generated, Generator
    >>> from PIL import Image
    >>> class Grey(Generator):
    ...     def facts(self):
    ...         return {"pipeline": "grey"}
    ...
    ...     def generate(self, prompts, seeds):
    ...         for number, seed in enumerate(seeds):
    ...             yield Generated(number, Image.new("L", (8, 8), seed % 256))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = generate(Grey(), {"0": "a cat"}, folder, per_prompt=2)
    ...     result.made, sorted(path.name for path in Path(folder).glob("*.png"))
    (2, ['0_0.png', '0_1.png'])
    """
    if on_error not in ("raise", "skip"):
        raise InputError(f"`on_error={on_error!r}`: pass 'raise' or 'skip'")
    own_name, prompts = prompts_of(benchmark, benchmark_options, subset, limit, seed)
    images = plan_images(prompts, per_prompt, seed)
    path = check_folder(folder)
    with _opened(pipeline, options) as generator:
        recipe = recipe_of(generator, name or own_name, prompts, per_prompt, seed)
        begin(path, recipe)
        return _make(generator, images, path, on_error, progress)


def prompts_of(
    benchmark: str | Path | Benchmark | Mapping[str, str],
    options: BenchmarkOptions | None = None,
    subset: str | Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> tuple[str, Mapping[str, str]]:
    """Return the name of a benchmark, and its prompts by the names of their images.

    Args:
        benchmark: as for `generate`, and so are the others.
        options: how it is opened.
        subset: tags.
        limit: the maximal number of prompts.
        seed: of `limit`.

    Raises:
        UnsupportedError: the benchmark is no set of prompts.
        T2VError: the prompts cannot be read.

    >>> prompts_of({"0": "a cat"})
    ('', {'0': 'a cat'})
    """
    if isinstance(benchmark, Mapping):
        if subset is not None or limit is not None:
            raise InputError("`subset=` and `limit=` choose from a benchmark: pass fewer prompts")
        return "", benchmark
    if not isinstance(benchmark, Benchmark):
        if not isinstance(benchmark, (str, Path)):
            expected = "a name, a file, or prompts by the names of their images, as {'0': 'a cat'}"
            raise wrong_type("benchmark", benchmark, expected)
        benchmark = (options or BenchmarkOptions()).open(benchmarks.card(benchmark))
    sample = None if limit is None else Sample(limit, seed)
    return benchmark.name, benchmark.selecting(subset, None, sample).prompts_by_name()


def open_generator(pipeline: str, **options: Any) -> Generator:
    """Open a generator by its name; nothing is generated yet.

    Args:
        pipeline: as for `generate`.
        options: its options.

    Raises:
        InputError: an option is not valid, or the name is that of a scorer.
        T2VError: there is no such pipeline.

    >>> open_generator("openai:gpt-image-1", api_key="k", quality="low").facts()["options"]
    {'quality': 'low'}
    """
    if not isinstance(pipeline, str):
        raise wrong_type("pipeline", pipeline, "an id, a folder or a Generator")
    _, colon, model = pipeline.partition(":")
    if not check_path("pipeline", pipeline).exists():
        try:
            card = models.card(pipeline)
        except UnknownNameError:
            card = None
        if card is not None and not (colon and card.generator):
            raise InputError(
                f"{pipeline!r} is a scorer, which makes no images; pass a pipeline of diffusers, "
                "by its id on the hub or its folder, or a model of an images API"
            )
        if card is not None:
            module, _, entry = card.generator.rpartition(".")
            place = f"{card.module.rpartition('.')[0]}.{module}"
            built: Generator = models.build(
                replace(card, module=place, entry=entry, args={"model": model}, file=None),
                **options,
            )
            return built
    from t2v_eval.generators.diffusers_pipeline import DiffusersGenerator

    return DiffusersGenerator(pipeline, **options)


def recipe_of(
    generator: Generator, benchmark: str, prompts: Mapping[str, str], per_prompt: int, seed: int
) -> Recipe:
    """Return the recipe of the images that a generator makes of prompts.

    Args:
        generator: the generator.
        benchmark: the name of the prompts.
        prompts: the prompts by the names of their images.
        per_prompt: the number of images of each.
        seed: the seed of the whole set.

    >>> generator = open_generator("openai:gpt-image-1", api_key="k")
    >>> recipe_of(generator, "", {"0": "a cat"}, per_prompt=1, seed=7).pipeline
    'openai:gpt-image-1'
    """
    facts = dict(generator.facts())
    field_names = {f.name for f in fields(Recipe)}
    more = {**facts.pop("more", {}), **{k: facts.pop(k) for k in [*facts] if k not in field_names}}
    return Recipe(
        prompts_sha256=hash_prompts(prompts),
        seed=seed,
        per_prompt=per_prompt,
        benchmark=benchmark,
        more=more,
        **facts,
    )


def missing_images(images: Sequence[PlannedImage], folder: Path) -> list[PlannedImage]:
    """Return the images that a folder lacks.

    Args:
        images: the planned images.
        folder: where they are.

    >>> missing_images([PlannedImage("0_0.png", "a cat", 1)], Path("nowhere"))
    [PlannedImage(file='0_0.png', prompt='a cat', seed=1)]
    """
    return [image for image in images if not (folder / image.file).is_file()]


@contextmanager
def _opened(pipeline: str | Generator, options: Mapping[str, Any]) -> Iterator[Generator]:
    """Return the generator; one that is opened here is closed again."""
    if isinstance(pipeline, Generator):
        if options:
            raise InputError(f"`{next(iter(options))}=`: an opened generator takes no options")
        yield pipeline
        return
    with closing(open_generator(pipeline, **options)) as generator:
        yield generator


def _make(
    generator: Generator,
    images: Sequence[PlannedImage],
    folder: Path,
    on_error: OnError,
    progress: Progress | None,
) -> GeneratedFolder:
    missing = missing_images(images, folder)
    result = GeneratedFolder(folder, len(images), reused=len(images) - len(missing))
    if progress is not None:
        progress(result)
    if not missing:
        return result
    listed, failures, first = ImageList(folder, images), dict[str, str](), ""
    prompts, seeds = [image.prompt for image in missing], [image.seed for image in missing]
    try:
        for outcome in generator.generate(prompts, seeds):
            image = missing[outcome.number]
            reason = _write(outcome, folder / image.file)
            listed.add(image, {"error": reason} if reason else outcome.notes)
            if reason:
                failures[image.file] = reason
            result = replace(result, made=result.made + (not reason), failures=dict(failures))
            if progress is not None:
                progress(result)
            if failures and on_error == "raise":
                first = first or f"{image.file}, {image.prompt!r}: {reason}"
                if not generator.remote:
                    break
                generator.stop()  # answers that were paid for are still written
    finally:
        listed.finish()
    if first:
        raise GenerationError(first)
    return result


def _write(outcome: Generated, path: Path) -> str:
    """Write an image; return why there is none, or ""."""
    if outcome.image is None:
        return str(outcome.error or "the generator returned no image")
    with replacing(path, "wb") as stream:
        outcome.image.save(stream, "PNG")
    return ""
