"""Exit codes, and the one line that an error becomes: in the words of the shell."""

import os
import re
import traceback
from collections.abc import Mapping
from enum import IntEnum

import typer

from gradood.errors import ArtifactError, GradoodError, ModelMismatchError, ParityError, suggest

__all__ = ["Exit", "PHRASES", "Unavailable", "broken_pipe", "explain", "in_shell_words"]

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


def explain(error: BaseException, options: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code for an error, and its line for stderr; empty if there is nothing to say.

    Args:
        error: that ended the command.
        options: argument → option of the command, for `in_shell_words`.
    """
    if isinstance(error, typer.Exit):
        return error.exit_code, ""
    if broken_pipe(error):
        return Exit.BROKEN_PIPE, ""
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Exit.INTERRUPTED, "interrupted"
    code, text = _known(error)
    if isinstance(error, GradoodError):
        text = in_shell_words(text, options)
    if os.environ.get("GRADOOD_TRACEBACK") == "1":
        traceback.print_exception(error)
    return code, " ".join(text.split())


def broken_pipe(error: BaseException) -> bool:
    """Whether the reader of the output has closed it; rich turns that into SystemExit."""
    return isinstance(error, BrokenPipeError) or (
        isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)
    )


def _known(error: BaseException) -> tuple[int, str]:
    if isinstance(error, _UsageError):
        return Exit.USAGE, _usage(error)
    if isinstance(error, ParityError):
        return Exit.GATE_FAILED, str(error)
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


PHRASES: tuple[tuple[str, str], ...] = (
    # Calls.
    (r"call monitor\.calibrate\(held_out, fpr=0\.05\) first\. .*", "run gradood calibrate first."),
    (r": monitor\.fit\(loader\)", " by gradood fit"),
    (r"\((--resume), fit\(resume=True\)\)", r"(\1)"),
    (r"(--force) \(Details\(force=True\)\)", r"\1"),
    (r"\((--[\w%-]+), TrainingData\.[\w%]+\)", r"(\1)"),
    # What the model returns.
    (r"with output=(?=[,.])", "with --output"),
    (r"such as output=", "such as --output="),
    # Arguments of what a command calls.
    (r"with allow_overlap='reason'", "with --allow-overlap REASON"),
    (r" of those of fit=", " of those of --training"),
    (r"in fit= too", "in --training too"),
    (r"fit= with data to fit on", "--training with data to fit on"),
    (r"or leave fit= out", "or leave --training out"),
    (r"by detectors='(.*?)' alone", r"by --methods \1, and then gradood calibrate,"),
    (r"load with override='the reason'", "give --override REASON"),
    (r"with one detector; give several, or None", r"with one detector; give several, or leave it "
     r"out"),
    (r"or use per_class=False", "or leave out --per-class"),
    (r"Set Preprocess\(resize=…, crop=…\)(, or batch_size=1)?", "Set --resize and --crop"),
    (r"or the model's num_classes", "or --num-classes"),
    (
        r"Name the layer with Monitor\(model, …, head='module\.name'\), or with "
        r"features='module\.name'",
        "Name the layer with --head, or with --features",
    ),
    # Columns, and labels: the shell takes them where there are some.
    (r"Name another with image_column", "Name another with --image-column"),
    (
        r"Rows of other inputs are read with preprocess=, such as gradood\.data\.TokenInput",
        "Rows of other inputs are named by --text-column, --input-column or --feature-columns",
    ),
    (
        r"name another with label_column, or pass labeled=False",
        "or name another with --label-column",
    ),
    (r"Leave that row out, or pass labeled=False", "Leave that row out"),
    (r"Leave those rows out, or pass labeled=False", "Leave those rows out"),
    (r" Without labels, pass labeled=False\.", ""),
    (r"Pass labeled=False to take all without labels, .*", "Move one of the two elsewhere."),
    # Options of methods.
    (r"^(\S+) reads (.*)Name some with layers=\[…\]", r"\1 reads \2Name some with --option "
     r"\1.layers=A,B"),
    (r"^(\S+) with dimension=(.*), or dimension='auto'", r"\1 with dimension=\2, or --option "
     r"\1.dimension=auto"),
    (r"Leave parameters=None for", "Leave out the option parameters for"),
    (r"^(gradpca .*)use output='sum'", r"\1use --option gradpca.output=sum"),
    (r"^(grood .*)Name early_layer=…", r"\1Name --option grood.early_layer=LAYER"),
    (r"^(grood .*)ood_prototype='class-mean'", r"\1--option grood.ood_prototype=class-mean"),
    (r"^(grood .*)or bank='all'", r"\1or --option grood.bank=all"),
    (r"^(open-max .*)or samples='all'", r"\1or --option open-max.samples=all"),
    (r"^(gaia-z .*)[uU]se path='auto' or 'backward'", r"\1use --option gaia-z.path=auto"),
    (r"^(line .*)give clip as a number", r"\1give --option line.clip=NUMBER"),
    (r"^(line .*)clip='auto'", r"\1--option line.clip=auto"),
    (r"^(vra .*)give a higher eta_beta", r"\1give a higher --option vra.eta_beta"),
)  # fmt: skip
"""What the library says (a regular expression), and what the shell says instead."""

_PHRASES = tuple((re.compile(said, re.DOTALL), shell) for said, shell in PHRASES)


def in_shell_words(text: str, options: Mapping[str, str] | None = None) -> str:
    """A message of the library as a user of the shell needs it.

    Args:
        text: as an error or a warning says it.
        options: argument → option of the command that runs, such as ``fpr`` → ``--fpr``; an
            argument that the text begins with, or gives a value to, is named so.

    >>> in_shell_words("mode='pack'; expected 'marginal' or 'pac'.", {"mode": "--mode"})
    "--mode='pack'; expected 'marginal' or 'pac'."
    """
    for said, shell in _PHRASES:
        text = said.sub(shell, text)
    for argument, option in (options or {}).items():
        text = re.sub(rf"(?<![\w.\-]){argument}(?==)|^{argument}(?= is )", option, text)
    return text
