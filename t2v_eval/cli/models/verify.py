"""``t2v-eval verify``: prove that published weights are loaded as their authors meant them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2v_eval.api import ScorerOptions
from t2v_eval.cards import ModelCard
from t2v_eval.cli import console
from t2v_eval.cli.help.completion import model_names
from t2v_eval.cli.options import (
    AsJson,
    CheckpointPath,
    Device,
    Dtype,
    ScorerOptionPairs,
    parse_options,
)
from t2v_eval.errors import InputError
from t2v_eval.registry import models
from t2v_eval.utils.files import check_file, write_text

if TYPE_CHECKING:
    from t2v_eval.verification.results import Verification

FAILED = 3  # exit code
STYLES = {"passed": "green", "failed": "red", "measured": "", "not checked": "dim"}

Names = Annotated[
    list[str] | None,
    typer.Argument(
        help="Names of scorers (see `list models`).", metavar="NAME", autocompletion=model_names
    ),
]
AllLocal = Annotated[
    bool,
    typer.Option(
        "--all-local",
        help="Verify every scorer whose weights are on this machine; download nothing.",
    ),
]
Published = Annotated[
    bool | None,
    typer.Option(
        "--published/--other",
        help="Whether the weights are the published ones, which are judged by known answers and "
        "by matching texts. Default: yes, unless options name other weights.",
    ),
]
Fetch = Annotated[bool, typer.Option("--fetch", help="Download the images of known answers, once.")]
ListFiles = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Compare the files on the Hugging Face hub with those that the scorer reads, and "
        "their size with the free disk; download only files that describe a model.",
    ),
]
Out = Annotated[Path, typer.Option(help="File to write all checks to, as JSON.", metavar="FILE")]


def verify(
    names: Names = None,
    all_local: AllLocal = False,
    published: Published = None,
    fetch: Fetch = False,
    dry_run: ListFiles = False,
    checkpoint: CheckpointPath = None,
    device: Device = None,
    dtype: Dtype = None,
    option: ScorerOptionPairs = None,
    out: Out = Path("verify.json"),
    as_json: AsJson = False,
) -> None:
    """Load scorers, and check their weights, tokenizers and scores; exit 3 if a check fails.

    Numbers that authors print for known images are compared, where there are any; the other checks
    need none.
    """
    options = _options(checkpoint, device, dtype, option)
    check_file(out)
    cards = _cards(names, all_local, options)
    from t2v_eval.verification.run import VerifyOptions
    from t2v_eval.verification.run import verify as verify_scorer

    results: list[Verification] = []
    chosen = VerifyOptions(published=published, fetch=fetch)
    with console.stoppable(None, f"finished checks are in {out}"):
        for card in cards:
            with console.waiting(f"verifying {card.name}"):
                if dry_run:
                    from t2v_eval.verification.hub import check_hub

                    result = check_hub(card, options)
                else:
                    result = verify_scorer(card, options.for_card(card, cards), chosen)
            results.append(result)
            _write(out, results)
            if not as_json:
                _print(result)
    if as_json:
        console.print_json([result.as_dict() for result in results])
    console.note(f"all checks are in {out}")
    if wrong := [result.model for result in results if result.failed]:
        console.say(f"a check failed: {', '.join(wrong)}", "red")
        raise SystemExit(FAILED)


def _options(
    checkpoint: str | None, device: str | None, dtype: str | None, option: Sequence[str] | None
) -> ScorerOptions:
    pairs = ScorerOptions.from_keywords(**parse_options(option))
    flags = {"checkpoint": checkpoint, "device": device, "dtype": dtype}
    chosen: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    return replace(pairs, **chosen)


def _cards(names: list[str] | None, all_local: bool, options: ScorerOptions) -> list[ModelCard]:
    """Return the cards of the names, or of all scorers whose weights are on this machine."""
    if all_local == bool(names):
        raise InputError("verify: pass names of scorers, or --all-local")
    if names:
        return [models.card(name) for name in dict.fromkeys(names)]
    from t2v_eval.verification.hub import is_local

    if options.checkpoint is not None:
        raise InputError("--all-local verifies the cards' own weights: leave out --checkpoint")
    with console.waiting("looking for weights on this machine"):
        cards = [card for card in models.cards.values() if is_local(card)]
    if not cards:
        raise InputError("--all-local: no scorer's weights are on this machine")
    return cards


def _write(out: Path, results: Sequence[Verification]) -> None:
    """Write the results so far, so that none is lost."""
    content = [result.as_dict() for result in results]
    write_text(out, json.dumps(content, indent=1, ensure_ascii=False, default=str) + "\n")


def _print(result: Verification) -> None:
    rows = [
        [check.name, console.text_of(check.outcome.value, STYLES[check.outcome]), text]
        for check in result.checks
        for text in [console.translated(check.text)]
    ]
    console.print_table(["check", "outcome", "what was compared"], rows, title=result.model)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in result.counts.items())
    console.show(f"{result.model}: {counts}")
