"""``t2v-eval plan``: sizes, costs and criteria of a protocol, as a file that a person edits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t2v_eval.cli import console
from t2v_eval.cli.help.completion import model_names
from t2v_eval.errors import InputError, MissingPackageError, OutputError, T2VError
from t2v_eval.registry import models
from t2v_eval.utils.arguments import check_path

if TYPE_CHECKING:
    from t2v_eval.protocol.draft import PlanDraft

Effect = Annotated[
    float,
    typer.Option(
        help="Smallest difference between the generators that matters, in --effect-unit, above 0."
    ),
]
EffectUnit = Annotated[
    Literal["sd", "score"],
    typer.Option(
        help="Unit of --effect: standard deviations of the paired differences (sd), or the scale "
        "of the scorers (score), which needs --pilot."
    ),
]
Power = Annotated[
    float, typer.Option(help="Probability that a difference of --effect is found, below 1.")
]
Alpha = Annotated[float, typer.Option(help="Level of two-sided tests, between 0 and 1.")]
PilotReport = Annotated[
    Path | None,
    typer.Option(
        help="Report of an evaluation or protocol of two generators, which says how much the "
        "scores of prompts vary. Default: none.",
        metavar="REPORT_DIR",
    ),
]
Scorers = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        help="Scorer of prompt adherence (see `list models`); repeat it for several. Default: the "
        "default scorer of each kind.",
        autocompletion=model_names,
    ),
]
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--features",
        help="Network of sample quality, as for `distance`; repeat it for several. Default: "
        "inception-v3, dinov2 and clip.",
        metavar="NAME",
    ),
]
Prompts = Annotated[
    str,
    typer.Option("--benchmark", "-b", help="File of prompts, or the name of a set of prompts."),
]
ModelImages = Annotated[
    list[Path] | None,
    typer.Option(
        "--images",
        help="Folder of the model's images; repeat it for each seed. Default: model/seed_N.",
        metavar="DIR",
    ),
]
BaselineImages = Annotated[
    list[Path] | None,
    typer.Option(
        "--baseline",
        help="Folder of the baseline's images; repeat it for each seed. Default: baseline/seed_N.",
        metavar="DIR",
    ),
]
Reference = Annotated[
    Path,
    typer.Option(help="Folder of reference images, for sample quality.", metavar="DIR"),
]
Seeds = Annotated[
    int, typer.Option(help="Images of each prompt and generator, each of its own seed, 1 or more.")
]
Review = Annotated[
    int, typer.Option(help="Outputs of each generator that people look at, 1 or more.")
]
Family = Annotated[
    list[str] | None,
    typer.Option(
        "--family",
        help="Kind of scorers that the model was trained or guided with, such as clip; repeat it "
        "for several. Default: none is known.",
    ),
]
Seconds = Annotated[
    float, typer.Option(help="Seconds of a GPU for an image; 0 where all images are there.")
]
GpuPrice = Annotated[float, typer.Option(help="US dollars for an hour of a GPU.")]
Budget = Annotated[
    float | None,
    typer.Option(
        help="US dollars to spend at most on generating and scoring, which limits the number of "
        "prompts. Default: no limit.",
        metavar="DOLLARS",
    ),
]
PlanFile = Annotated[
    Path,
    typer.Option(help="File to write, .toml; the same as Markdown is beside it.", metavar="FILE"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a plan that is there.")]

METRICS: Mapping[str, Sequence[str]] = {
    "inception-v3": ("fid", "kid", "precision", "recall"),
    "dinov2": ("fid", "kid"),
    "clip": ("cmmd",),
}
"""The metrics of each network that a plan names by itself; dinov2 with fid is FD-DINOv2."""
OTHERS = ("kid", "cmmd", "precision", "recall")
"""The metrics of any other network."""
SIDE = 1024  # pixels of the image whose cost is estimated


def plan(
    effect: Effect = 0.125,
    effect_unit: EffectUnit = "sd",
    power: Power = 0.8,
    alpha: Alpha = 0.05,
    pilot: PilotReport = None,
    model: Scorers = None,
    benchmark: Prompts = "prompts.csv",
    images: ModelImages = None,
    baseline: BaselineImages = None,
    reference: Reference = Path("reference"),
    features: Networks = None,
    seeds: Seeds = 3,
    review: Review = 50,
    family: Family = None,
    seconds_per_image: Seconds = 0.0,
    usd_per_gpu_hour: GpuPrice = 0.0,
    budget_usd: Budget = None,
    out: PlanFile = Path("plan.toml"),
    overwrite: Overwrite = False,
) -> None:
    """Plan a protocol: how many prompts, pairs and outputs, what they cost, and the criteria.

    Writes a commented TOML file, which `t2v-eval protocol` runs when you have edited it, and the
    same as Markdown. No image is scored.
    """
    from t2v_eval.protocol.draft import PlanDraft, plan_markdown, plan_toml, probe_cells
    from t2v_eval.protocol.sizes import GENERATORS, Prices, plan_sizes, read_pilot
    from t2v_eval.utils.files import check_file, write_text

    path = _check_out(check_file(out), overwrite)
    scorers = model or [card.name for card in models.cards.values() if card.default]
    cards = {name: models.card(name) for name in dict.fromkeys(scorers)}
    remote = [name for name, card in cards.items() if card.remote]
    prices = Prices(
        seconds_per_image=seconds_per_image,
        usd_per_gpu_hour=usd_per_gpu_hour,
        usd_per_score=_usd_per_score(remote),
        probe_scores=probe_cells(1, seeds, remote=True) / (GENERATORS * max(seeds, 1)),
        budget=budget_usd,
    )
    sizes = plan_sizes(
        effect,
        effect_unit=effect_unit,
        chance=power,
        alpha=alpha,
        seeds=seeds,
        review=review,
        deviations=None if pilot is None else _of_scorers(read_pilot(pilot), list(cards)),
        prices=prices,
    )
    folder = path.parent
    draft = PlanDraft(
        sizes=sizes,
        scorers=list(cards),
        distances=[(name, METRICS.get(name, OTHERS)) for name in features or METRICS],
        prompts=_beside(benchmark, folder) if Path(benchmark).is_file() else benchmark,
        model=_folders(images, "model", seeds, folder),
        baseline=_folders(baseline, "baseline", seeds, folder),
        names=_names(images, baseline),
        reference=_beside(reference, folder),
        families=family or [],
        remote=remote,
    )
    text = plan_markdown(draft)
    write_text(path, plan_toml(draft))
    write_text(path.with_suffix(".md"), text)
    _print(draft)
    console.show(f"Plan: {path} (and {path.with_suffix('.md').name}); edit it, then run")
    console.show(f"  t2v-eval protocol {path} --out protocol")


def _check_out(path: Path, overwrite: bool) -> Path:
    """Check that a plan that a person may have edited is not replaced.

    Raises:
        InputError: the file is no .toml file.
        OutputError: it is there.
    """
    if path.suffix.lower() != ".toml":
        raise InputError(f"--out {path}: a plan is a .toml file")
    for file in (path, path.with_suffix(".md")):
        if file.exists() and not overwrite:
            raise OutputError(f"{file} is there: pass --overwrite, or another --out")
    return path


def _names(images: Sequence[Path] | None, baseline: Sequence[Path] | None) -> tuple[str, str]:
    """Return the names of model and baseline: of their folder, or of the one that holds all."""
    names = []
    for folders, default in ((images, "model"), (baseline, "baseline")):
        places = [folder.absolute() for folder in folders or ()]
        parents = {place.parent for place in places}
        if len(places) == 1:
            names.append(places[0].name)
        else:
            names.append(next(iter(parents)).name if len(parents) == 1 else default)
    return (names[0], names[1]) if names[0] != names[1] else ("model", "baseline")


def _of_scorers(deviations: Mapping[str, float], scorers: Sequence[str]) -> dict[str, float]:
    """Return the spread of the scorers of a plan; of all of a pilot that has none of them."""
    same = {name: sd for name, sd in deviations.items() if name in scorers}
    return same or dict(deviations)


def _folders(folders: Sequence[Path] | None, default: str, seeds: int, beside: Path) -> list[str]:
    """Return the folders of a generator as a plan names them."""
    if not folders:
        return [f"{default}/seed_{k}" for k in range(seeds)]
    return [_beside(folder, beside) for folder in folders]


def _beside(path: str | Path, folder: Path) -> str:
    """Return a path relative to the folder of the plan, where it lies below it."""
    whole = check_path("path", path).absolute()
    base = folder.absolute()
    return whole.relative_to(base).as_posix() if whole.is_relative_to(base) else str(whole)


def _usd_per_score(remote: Sequence[str]) -> dict[str, float]:
    """Return what services charge for a score of an ordinary image, as far as it is known."""
    from PIL import Image

    from t2v_eval.api import ScorerOptions
    from t2v_eval.remote.scorer import estimate
    from t2v_eval.scoring.plan import Block

    prices: dict[str, float] = {}
    image = Image.new("RGB", (SIDE, SIDE))
    for name in remote:
        try:
            scorer = ScorerOptions().load(models.card(name))
            dollars = estimate(scorer, [Block([image], ["a photo of two red apples"])]).us_dollars
        except (MissingPackageError, T2VError) as error:
            console.say(f"{name}: what a score costs is not known: {error}", "yellow")
            continue
        if dollars is None:
            console.say(f"{name}: what a score costs is not known, and is not counted", "yellow")
        else:
            prices[name] = dollars
    return prices


def _print(draft: PlanDraft) -> None:
    """Print the sizes of the pillars, and what they show."""
    from t2v_eval.protocol.draft import criterion_names, pillar_rows, sentences

    for sentence in sentences(draft):
        console.show(sentence)
    columns = ["pillar", "measured by", "size", "what the size shows"]
    console.print_table(columns, pillar_rows(draft), "Pillars")
    console.show("Criteria:")
    for name in criterion_names(draft):
        console.show(f"  {name}")
