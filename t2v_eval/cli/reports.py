"""``t2v-eval reports`` and ``t2v-eval report``: an index of many reports, and formats of others."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from t2v_eval.cli import console
from t2v_eval.cli.flags import App
from t2v_eval.cli.help.examples import EXAMPLES
from t2v_eval.cli.options import AsJson
from t2v_eval.errors import InputError
from t2v_eval.utils.arguments import check_path

reports = App(
    no_args_is_help=True,
    help="Make one page over many reports.",
    epilog=f"Example: {EXAMPLES['index']}",
)
report = App(
    no_args_is_help=True,
    help="Write a report in the formats of others.",
    epilog=f"Example: {EXAMPLES['reports.export']}",
)


class Format(StrEnum):
    """A format that reports can be written in."""

    eee = "eee"
    hub = "hub"


@reports.callback()
def _reports() -> None:
    """Make one page over many reports."""


@report.callback()
def _report() -> None:
    """Write a report in the formats of others."""


@reports.command()
def index(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Folders of reports, or folders that hold some.", metavar="DIR..."),
    ],
    out: Annotated[
        Path, typer.Option(help="Page to write; its links are relative to it.", metavar="PAGE")
    ] = Path("reports.html"),
    as_json: AsJson = False,
) -> None:
    """Make one static page over many report folders: figures, dates, trends and links."""
    from t2v_eval.report.folders.index import find_reports, render_index
    from t2v_eval.utils.files import check_file, write_text

    path = check_file(out)
    folder_reports = find_reports(folders)
    content, left_out = render_index(folder_reports, path)
    write_text(path, content)
    for why in left_out:
        console.say(f"left out: {why}", "yellow")
    count = len(folder_reports) - len(left_out)
    if as_json:
        console.print_json({"reports": count, "left_out": left_out, "page": str(path.resolve())})
    else:
        console.show(f"{count} report{'s' * (count != 1)}: {path.resolve()}")


@report.command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder of a report.", metavar="DIR")],
    to: Annotated[
        Format,
        typer.Option(
            help="eee: JSON of Every Eval Ever; hub: YAML of the Hugging Face Hub's evaluation "
            "results."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write to, or a .json or .yaml file where there is just one to write. "
            "Default: a folder in DIR.",
            metavar="PATH",
        ),
    ] = None,
    model_id: Annotated[
        str,
        typer.Option(
            help="Id of the model for --to eee. Default: the pipeline of a generator's recipe, or "
            "its name.",
            metavar="ORG/NAME",
        ),
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(
            help="Data set of the benchmark for --to hub. Default: that of the benchmark's card.",
            metavar="ORG/NAME",
        ),
    ] = "",
    task: Annotated[
        str, typer.Option(help="Task in the eval.yaml of the data set, for --to hub.")
    ] = "default",
    as_json: AsJson = False,
) -> None:
    """Write the figures of a report as results of Every Eval Ever or of the Hugging Face Hub.

    A file holds one model on one benchmark: a generator, or a scorer on rated images.
    """
    from t2v_eval.report.folders.every_eval_ever import to_every_eval_ever
    from t2v_eval.report.folders.hub import to_hub
    from t2v_eval.report.reader import read_report
    from t2v_eval.utils.files import check_file, write_text

    source = check_path("folder", folder)
    if source.is_dir():
        source /= "report.json"
        if not source.exists():
            raise InputError(f"{folder} holds no report.json: pass a folder that --out wrote")
    content = read_report(source)
    if to is Format.eee:
        timestamp = datetime.fromtimestamp(source.stat().st_mtime).astimezone()
        files = to_every_eval_ever(content, model_id, timestamp)
    else:
        files = to_hub(content, dataset, task)
    if not files:
        raise InputError(f"{source} has no figure to export")
    target = check_path("out", out) if out else source.parent / to.value
    if target.suffix in (".json", ".yaml", ".yml"):
        if len(files) > 1:
            raise InputError(
                f"{target} is one file, but {len(files)} are to be written, one for each model and "
                "benchmark: name a folder"
            )
        files = {"": next(iter(files.values()))}
    paths = []
    for name, text in files.items():
        path = check_file(target / name if name else target)
        write_text(path, text)
        paths.append(str(path))
    if as_json:
        console.print_json({"files": paths})
    else:
        console.show("\n".join(paths))
