"""``t2v-eval drift``: ask a service again for stored scores, and say whether they have shifted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v_eval.api import ScorerOptions
from t2v_eval.cli import console
from t2v_eval.cli.help.completion import model_names
from t2v_eval.cli.inputs.image_arguments import expand_images
from t2v_eval.cli.options import AsJson, DryRun
from t2v_eval.cli.progress import Bars
from t2v_eval.errors import InputError
from t2v_eval.registry import models

if TYPE_CHECKING:
    from t2v_eval.evaluation.stability.drift import Drift
    from t2v_eval.store import Store

SHIFTED = 3  # exit code

Images = Annotated[
    list[str] | None,
    typer.Argument(
        help="Files, folders or globs that hold the scored images, which are recognised by their "
        "content. Default: the files that the store names, from the current folder.",
        metavar="IMAGE",
    ),
]
StoredModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name of the scorer, with the options that its scores were computed with. Default: "
        "the only one in the store.",
        autocompletion=model_names,
    ),
]
SampleSize = Annotated[
    int, typer.Option("--sample", help="Number of stored scores to ask for again.", metavar="N")
]
SampleSeed = Annotated[int, typer.Option(help="Random seed of the sample, 0 or more.")]
ScoresFile = Annotated[
    Path | None,
    typer.Option(
        help="File to write the stored and the new scores to: .csv, .jsonl or .parquet.",
        metavar="FILE",
    ),
]
NewStore = Annotated[
    Path | None,
    typer.Option(
        "--new-store",
        help="Store for the new scores, from which an interrupted check resumes; --store is never "
        "changed. Default: none.",
        metavar="FILE",
    ),
]


def drift(
    options: ScorerOptions,
    images: Images = None,
    model: StoredModel = None,
    sample: SampleSize = 50,
    seed: SampleSeed = 0,
    new_store: NewStore = None,
    out: ScoresFile = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Compute some stored scores again, and print by how much they have shifted.

    A service may answer with another model under the same name, so that new scores are no longer
    comparable with stored ones. The mean difference has a 95 % interval over images; where that
    excludes 0, the exit code is 3.
    """
    from t2v_eval.evaluation.stability.drift import measure_drift, sample_stored
    from t2v_eval.inputs import tables
    from t2v_eval.utils import files

    if out is not None:
        tables.check_suffix(out)
        files.check_file(out)
    store = _open_store(options)
    card = models.card(model or _only_name(store))
    paths = expand_images(images) if images else []
    with console.stoppable(new_store), Bars() as bars:
        scorer = options.load(card)
        chosen = sample_stored(scorer, store, paths, cells=sample, seed=seed)
        if dry_run:
            from t2v_eval.remote.scorer import estimate

            scorer.store = new_store
            console.print_estimates(
                [({"model": card.name}, estimate(scorer, chosen.blocks()))], as_json
            )
            return
        again = None if new_store is None else _new_store(new_store)
        result = measure_drift(scorer, chosen, again=again, progress=bars.add(card.name), seed=seed)
    if out is not None:
        rows = _rows(result)
        with tables.rescuing(out, rows):
            tables.write_table(out, rows)
        console.note(f"{len(rows)} stored and new scores are in {out}")
    if as_json:
        console.print_json({"model": card.name, **result.as_dict()})
    else:
        _print(card.name, result)
    failures: dict[str, int] = {}
    for score in result.scores:
        if score.error:
            failures[score.error] = failures.get(score.error, 0) + 1
    console.say_failures(card.name, len(result.scores), failures)
    console.exit_if_all_failed(len(result.answered))
    if result.shifted:
        raise SystemExit(SHIFTED)


def _open_store(options: ScorerOptions) -> Store:
    from t2v_eval.errors import StoreError
    from t2v_eval.store import Store

    if options.store is None:
        raise InputError("drift compares stored scores: leave out --no-store")
    if isinstance(options.store, Store):
        return options.store
    if not Path(options.store).is_file():
        raise StoreError(f"there is no store at {options.store}: --store names another")
    return Store(options.store)


def _new_store(path: Path) -> Store:
    from t2v_eval.store import Store

    return Store(path)


def _only_name(store: Store) -> str:
    """Return the name of the only scorer in a store.

    Raises:
        InputError: there are several, or none.
    """
    names = sorted({s.scorer.partition(" ")[0] for s in store.stats() if s.cells})
    if len(names) != 1:
        listed = ", ".join(names) or "none"
        raise InputError(
            f"{store.path} has scores of {len(names)} scorers ({listed}): name one with --model"
        )
    return names[0]


def _rows(result: Drift) -> list[dict[str, Any]]:
    return [
        {
            "image": score.image,
            "text": score.text,
            "stored": score.stored,
            "score": score.again,
            "error": score.error,
            "stored_model": score.stored_model,
            "model": score.model,
        }
        for score in result.scores
    ]


def _print(name: str, result: Drift) -> None:
    then, now = result.models
    rows: list[list[Any]] = [
        ["scores asked for again", f"{len(result.scores)}"],
        ["answered", f"{len(result.answered)}"],
        ["changed", f"{result.changed}"],
        ["mean shift (new - stored)", console.interval_text(result.shift, sign="+")],
        ["mean absolute difference", f"{result.mean_absolute:.3g}" if result.answered else "-"],
    ]
    if result.without_image:
        rows.append(["left out, image missing or changed", f"{result.without_image}"])
    if then or now:
        rows.append(["model of stored scores", ", ".join(then) or "unknown"])
        rows.append(["model of new scores", ", ".join(now) or "unknown"])
    console.print_table(["quantity", "value"], rows, title=name)
    if result.shifted:
        console.say(
            "the scores have shifted: new scores are not comparable with the stored ones", "red"
        )
    elif then and now and then != now:
        console.say("another model answers now, but these scores show no shift", "yellow")
