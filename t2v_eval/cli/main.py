"""The ``t2v-eval`` command line: each command reads its arguments, calls the library and prints."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from t2v_eval import __version__
from t2v_eval.cli import console
from t2v_eval.cli.agree import agree
from t2v_eval.cli.battles.judge import judge
from t2v_eval.cli.battles.rank import rank
from t2v_eval.cli.battles.results import results
from t2v_eval.cli.caption import caption
from t2v_eval.cli.cluster.engine import with_engine
from t2v_eval.cli.data import data
from t2v_eval.cli.evaluate import demo, evaluate
from t2v_eval.cli.flags import App
from t2v_eval.cli.gate import gate
from t2v_eval.cli.generate import generate
from t2v_eval.cli.help.examples import EXAMPLES
from t2v_eval.cli.listing import list_names
from t2v_eval.cli.models.drift import drift
from t2v_eval.cli.models.verify import verify
from t2v_eval.cli.options import with_scorer_options
from t2v_eval.cli.prefer import prefer
from t2v_eval.cli.protocol.plan import plan
from t2v_eval.cli.protocol.protocol import protocol
from t2v_eval.cli.reports import report, reports
from t2v_eval.cli.run_file import run_file
from t2v_eval.cli.score import score
from t2v_eval.cli.server.serve import serve
from t2v_eval.cli.statistics.distance import distance
from t2v_eval.cli.statistics.power import power
from t2v_eval.cli.statistics.questions import questions
from t2v_eval.cli.store import stores
from t2v_eval.cli.votes.pages import rate, vote
from t2v_eval.cli.votes.ratings import ratings
from t2v_eval.cli.votes.reviews import flags, review


class Commands(TyperGroup):
    """Command group that turns the library's errors into one red line and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the arguments, and keep them for a report."""
        ctx.meta[console.ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with console.guarded(debug=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


app = App(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Score how well images match texts, and which scorer agrees best with people.",
    epilog=f"Example: {EXAMPLES['eval']}\n\n"
    "Exit codes: 0 done (failed scores, if any, are counted on stderr), 1 every score "
    "failed, 2 an error, 3 a gate or a check failed, 130 interrupted, 143 terminated.",
)
app.add_typer(stores, name="store")
app.add_typer(questions, name="questions")
app.add_typer(report, name="report")
app.add_typer(reports, name="reports")
app.command()(agree)
app.command()(data)
app.command()(distance)
app.command()(with_scorer_options(drift))
app.command()(gate)
app.command()(generate)
app.command()(plan)
app.command()(power)
app.command()(with_scorer_options(judge))
app.command()(with_scorer_options(prefer))
app.command()(with_scorer_options(protocol))
app.command()(rank)
app.command()(results)
app.command()(with_scorer_options(with_engine(score)))
app.command()(with_scorer_options(serve))
app.command("eval")(with_scorer_options(with_engine(evaluate)))
app.command("compare")(with_scorer_options(with_engine(evaluate)))
app.command()(demo)
app.command("list")(list_names)
app.command("run")(run_file)
app.command()(caption)
app.command()(verify)
app.command()(vote)
app.command()(rate)
app.command()(ratings)
app.command()(review)
app.command()(flags)


def _print_version(requested: bool) -> None:
    if requested:
        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the full traceback of an error.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Read the options that come before a command."""


def main() -> None:
    """Run ``t2v-eval``, also as ``python -m t2v_eval``."""
    sys.excepthook = console.say_unexpected
    app(prog_name="t2v-eval")
