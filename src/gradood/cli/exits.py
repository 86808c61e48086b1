"""Exit codes, and the one line that an error becomes."""

import os
import re
import traceback
from enum import IntEnum

import typer

from gradood.errors import ArtifactError, GradoodError, ModelMismatchError, suggest

__all__ = ["Exit", "Unavailable", "broken_pipe", "explain"]

_COMMAND = re.compile("No such command '(.*?)'")

# Typer has its own exceptions or those of click, by its version; this is the root of either.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    GATE_FAILED = 1
    USAGE = 2
    MISMATCH = 3
    BAD_ITEMS = 4
    ENVIRONMENT = 5
    INTERNAL = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141


class Unavailable(Exception):
    """This machine lacks a device or a package, or cannot write a file."""


def explain(error: BaseException) -> tuple[int, str]:
    """The exit code for an error, and its line for stderr; empty if there is nothing to say."""
    if isinstance(error, typer.Exit):
        return error.exit_code, ""
    if broken_pipe(error):
        return Exit.BROKEN_PIPE, ""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Exit.INTERRUPTED, "interrupted"
    code, text = _known(error)
    if os.environ.get("GRADOOD_TRACEBACK") == "1":
        traceback.print_exception(error)
    return code, " ".join(text.split())


def broken_pipe(error: BaseException) -> bool:
    """Whether whoever read our output has had enough; rich turns that into SystemExit."""
    return isinstance(error, BrokenPipeError) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)
    )


def _known(error: BaseException) -> tuple[int, str]:
    if isinstance(error, _UsageError):
        return Exit.USAGE, _usage(error)
    if isinstance(error, ArtifactError | ModelMismatchError):
        return Exit.MISMATCH, str(error)
    if isinstance(error, GradoodError):
        return Exit.USAGE, str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        first = (str(error).splitlines() or [""])[0]
        return Exit.ENVIRONMENT, f"out of memory; try a smaller --batch-size. {first}"
    if isinstance(error, Unavailable | ImportError | OSError):
        return Exit.ENVIRONMENT, str(error)
    return (
        Exit.INTERNAL,
        f"{type(error).__name__}: {error} (unexpected; GRADOOD_TRACEBACK=1 shows where)",
    )


def _usage(error: Exception) -> str:
    """The parser's words, with ours for a misspelt option or command."""
    option = getattr(error, "option_name", None)
    near = getattr(error, "possibilities", None)
    text = getattr(error, "format_message", error.__str__)()
    context = getattr(error, "ctx", None)
    missed = _COMMAND.match(text)
    if option and near:
        text = f"no such option {option}; {suggest(option, near)}"
    elif missed:
        commands = getattr(getattr(context, "command", None), "commands", {})
        text = f"no such command {missed[1]!r}; {suggest(missed[1], commands)}"
    path = getattr(context, "command_path", "gradood")
    return f"{text[:1].lower()}{text[1:].rstrip('.')} (see {path} --help)"
