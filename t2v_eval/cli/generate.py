"""``t2v-eval generate``: the images of prompts, by a pipeline of diffusers or an images API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t2v_eval.cli import console
from t2v_eval.cli.options import (
    AsJson,
    BenchmarkOptionPairs,
    BenchmarkRoot,
    Columns,
    Device,
    MaxRequests,
    Subset,
    parse_columns,
    parse_options,
    raise_or_skip,
)
from t2v_eval.cli.progress import Bars

if TYPE_CHECKING:
    from t2v_eval.generators.run import GeneratedFolder
    from t2v_eval.scoring.results import CellCounts

Pipeline = Annotated[
    str,
    typer.Option(
        "--pipeline",
        "--model",
        "-m",
        help="What makes the images: a pipeline of diffusers, by its id on the hub or its folder, "
        "or a model of an images API, as openai:gpt-image-1 or openai-compatible:NAME.",
        metavar="ID",
    ),
]
Prompts = Annotated[
    str,
    typer.Option(
        "--benchmark",
        "-b",
        help="Where the prompts are: a set of prompts (see `list benchmarks`), or a file of your "
        "own, as prompts.csv or prompts.txt.",
    ),
]
OutFolder = Annotated[
    Path,
    typer.Option(help="Folder of the images of this generator; pass it to `eval --images`."),
]
PerPrompt = Annotated[int, typer.Option(help="Number of images of each prompt, 1 or more.")]
ImageSeed = Annotated[
    int,
    typer.Option(help="Random seed, from which that of each image follows, and of --limit."),
]
PromptLimit = Annotated[
    int | None,
    typer.Option(
        help="Use at most this many prompts, those that `eval --limit` chooses with the same "
        "--seed. Default: all.",
        metavar="N",
    ),
]
Steps = Annotated[int | None, typer.Option(help="Number of steps. Default: the generator's own.")]
GuidanceScale = Annotated[
    float | None,
    typer.Option(help="Weight of the prompt. Default: the generator's own."),
]
Height = Annotated[int | None, typer.Option(help="Height in pixels. Default: the generator's own.")]
Width = Annotated[int | None, typer.Option(help="Width in pixels. Default: the generator's own.")]
ImagesAtOnce = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        help="Number of images to make at once; it is halved when memory runs out. Default: 1.",
    ),
]
PipelineDtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="Precision: float32, bfloat16 or float16. Default: bfloat16 on a GPU that computes "
        "it, else float32.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(help="Address of the images API, for example http://localhost:8000/v1."),
]
GeneratorOptionPairs = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        help="Another option of the generator, for example negative_prompt=blurry or revision=main "
        "for a pipeline, quality=low for an API; repeat it for several.",
        metavar="KEY=VALUE",
    ),
]
OnFailure = Annotated[
    Literal["error", "skip", "raise"],
    typer.Option(
        help="What to do with a prompt of which no image can be made: stop (error), or leave it "
        "out and count it (skip).",
    ),
]
Requests = Annotated[
    bool,
    typer.Option("--dry-run", help="Print how many images and requests are missing; make none."),
]


def generate(
    pipeline: Pipeline,
    benchmark: Prompts,
    out: OutFolder,
    per_prompt: PerPrompt = 1,
    seed: ImageSeed = 0,
    steps: Steps = None,
    guidance_scale: GuidanceScale = None,
    height: Height = None,
    width: Width = None,
    option: GeneratorOptionPairs = None,
    batch_size: ImagesAtOnce = None,
    device: Device = None,
    dtype: PipelineDtype = None,
    base_url: BaseUrl = None,
    max_requests: MaxRequests = None,
    root: BenchmarkRoot = None,
    column: Columns = None,
    benchmark_option: BenchmarkOptionPairs = None,
    subset: Subset = None,
    limit: PromptLimit = None,
    on_error: OnFailure = "error",
    dry_run: Requests = False,
    as_json: AsJson = False,
) -> None:
    """Make the images of prompts, for `eval --images`.

    Images that are in the folder are not made again, so the same command goes on after an
    interruption. The seed of each image follows from --seed, its prompt and its number. The recipe
    is in recipe.json, and the prompt and seed of each image in images.jsonl.
    """
    named = {
        "steps": steps,
        "guidance_scale": guidance_scale,
        "height": height,
        "width": width,
        "batch_size": batch_size,
        "device": device,
        "dtype": dtype,
        "base_url": base_url,
        "max_requests": max_requests,
    }
    options = parse_options(option) | {k: v for k, v in named.items() if v is not None}
    from t2v_eval.evaluation.options import BenchmarkOptions
    from t2v_eval.generators.run import generate as make
    from t2v_eval.generators.run import prompts_of

    opening = BenchmarkOptions(
        root=root,
        columns=parse_columns(column),
        specific=parse_options(benchmark_option, "--benchmark-option"),
    )
    name, prompts = prompts_of(benchmark, opening, subset or None, limit, seed)
    plan: dict[str, Any] = {"per_prompt": per_prompt, "seed": seed}
    if dry_run:
        _print_missing(pipeline, options, prompts, plan, out, as_json)
        return
    hint = f"finished images are in {out}; run the same command again to continue"
    with console.stoppable(None, hint), Bars(what="images") as bars:
        update = bars.add(f"{pipeline} on {name}")
        result = make(
            pipeline,
            prompts,
            out,
            name=name,
            on_error=raise_or_skip(on_error),
            progress=lambda so_far: update(_counts(so_far)),
            **plan,
            **options,
        )
    _print_result(result, as_json)
    if not result.present:
        console.say("error: every image failed", "red")
        raise SystemExit(1)


def _print_result(result: GeneratedFolder, as_json: bool) -> None:
    if as_json:
        console.print_json({**asdict(result), "folder": str(result.folder)})
    else:
        reused = f", {result.reused} of earlier runs" if result.reused else ""
        console.show(f"{result.present} of {result.images} images are in {result.folder}{reused}")
    if result.failures:
        console.say(f"{len(result.failures)} images could not be made:", "yellow")
        for reason, count in Counter(result.failures.values()).items():
            first = next(file for file, why in result.failures.items() if why == reason)
            console.say(f"  {count} x {reason} ({first}{' ...' if count > 1 else ''})", "yellow")


def _print_missing(
    pipeline: str,
    options: Mapping[str, Any],
    prompts: Mapping[str, str],
    plan: Mapping[str, int],
    out: Path,
    as_json: bool,
) -> None:
    """Print what is missing, and the requests that it takes; make nothing."""
    from t2v_eval.generators.plan import plan_images
    from t2v_eval.generators.run import missing_images, open_generator

    images = plan_images(prompts, **plan)
    missing = len(missing_images(images, out))
    with closing(open_generator(pipeline, **options)) as generator:
        requests = missing if generator.remote else 0
    numbers = {
        "prompts": len(prompts),
        "images": len(images),
        "present": len(images) - missing,
        "missing": missing,
        "requests": requests,
    }
    if as_json:
        console.print_json({"pipeline": pipeline, **numbers})
    else:
        row = [pipeline, *map(str, numbers.values())]
        console.print_table(["pipeline", *numbers], [row], numbers=True)


def _counts(result: GeneratedFolder) -> CellCounts:
    from t2v_eval.scoring.results import CellCounts

    return CellCounts(result.images, result.made, result.reused, len(result.failures))
