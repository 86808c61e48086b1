"""The commands put together, and run: every error ends here, as one line and an exit code."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from typing import Annotated, Any

import typer

import gradood
from gradood.cli._artifact import card, verify
from gradood.cli._bench import bench
from gradood.cli._calibrate import calibrate
from gradood.cli._demo import demo
from gradood.cli._exits import broken_pipe
from gradood.cli._exits import explain as told
from gradood.cli._explain import explain
from gradood.cli._fit import fit
from gradood.cli._graph import export
from gradood.cli._groups import spread
from gradood.cli._methods import inspect, methods
from gradood.cli._output import data, say, talking
from gradood.cli._pack import pack
from gradood.cli._records import compare, report
from gradood.cli._score import score
from gradood.cli._serve import serve
from gradood.cli._train import train
from gradood.cli._triage import triage
from gradood.cli._watch import watch

__all__ = ["app", "run"]

COMMANDS = (
    *(demo, methods, inspect, bench, compare, report),
    *(fit, calibrate, score, explain, triage, watch, serve, export, pack, verify, card, train),
)
"""In the order in which the help lists them."""

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


for command in COMMANDS:
    app.command()(spread(command))


@cache
def _commands() -> Any:
    """Built once: to read every signature takes longer than most commands run."""
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    root = _commands()
    with talking(), _working_folder_importable():
        try:
            _invoke(root, arguments)
        except BaseException as error:
            code, text = told(error, _options(root, arguments))
            if text:
                say(f"error: {text}")
            if broken_pipe(error):
                # Python would complain of it once more when it flushes at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return int(code)
    return 0


def _invoke(root: Any, arguments: Sequence[str]) -> None:
    try:
        with root.make_context("gradood", list(arguments), obj=tuple(arguments)) as context:
            if not arguments:
                with redirect_stdout(sys.stderr):  # Typer prints it, where rich is installed.
                    print(context.get_help())
            root.invoke(context)
    finally:
        sys.stdout.flush()  # Here a reader who left early is noticed, at exit it would be too late.


def _options(root: Any, arguments: Sequence[str]) -> Mapping[str, str]:
    """Argument → option of the command that was called."""
    called = next((root.commands[word] for word in arguments if word in root.commands), None)
    if called is None:
        return {}
    return {
        option.opts[0].removeprefix("--").replace("-", "_"): option.opts[0]
        for option in called.params
        if option.opts[0].startswith("--")
    }


@contextmanager
def _working_folder_importable() -> Iterator[None]:
    """``--model mynet:make`` finds mynet.py in the working folder, after all that is installed."""
    folder = os.getcwd()
    sys.path.append(folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.reverse()
            sys.path.remove(folder)  # The last one, which is ours.
            sys.path.reverse()
