"""The commands put together, and run: every error ends here, as one line and an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import gradood
from gradood.cli.bench import bench
from gradood.cli.calibrate import calibrate
from gradood.cli.card import card
from gradood.cli.compare import compare
from gradood.cli.demo import demo
from gradood.cli.exits import broken_pipe, explain
from gradood.cli.fit import fit
from gradood.cli.inspect import inspect
from gradood.cli.methods import methods
from gradood.cli.output import data, say, talking
from gradood.cli.report import report
from gradood.cli.score import score
from gradood.cli.train import train
from gradood.cli.verify import verify

__all__ = ["app", "run"]

app = typer.Typer(
    name="gradood",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        data(f"gradood {gradood.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tell when a classifier looks at something it was never trained on.

    Exit codes: 0 well; 1 a gate failed; 2 wrong usage or data;
    3 artifact or model mismatch; 4 finished with bad items;
    5 something is missing on this machine; 130 interrupted.
    """


app.command()(demo)
app.command()(methods)
app.command()(inspect)
app.command()(bench)
app.command()(compare)
app.command()(report)
app.command()(fit)
app.command()(calibrate)
app.command()(score)
app.command()(verify)
app.command()(card)
app.command()(train)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    with talking():
        try:
            _command(arguments)
        except BaseException as error:
            code, text = explain(error)
            if text:
                say(f"error: {text}")
            if broken_pipe(error):
                # Python would complain of it once more when it flushes at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return int(code)
    return 0


def _command(arguments: Sequence[str]) -> None:
    command = typer.main.get_command(app)
    try:
        with command.make_context("gradood", list(arguments), obj=tuple(arguments)) as context:
            command.invoke(context)
    finally:
        sys.stdout.flush()  # Here a reader who left early is noticed, at exit it would be too late.
