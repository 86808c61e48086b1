"""The list of commands in docs/how-to/command-line.md, from the command line itself.

python docs/commands.py [--check]

Needs the extra cli. Each command has the line that `gradood --help` shows of it.
"""

import re
import sys
from pathlib import Path

import typer

from gradood.cli._app import app

PAGE = Path(__file__).resolve().parent / "how-to" / "command-line.md"
SHOWN = {
    "demo": "[README](../../README.md#see-it-work)",
    "methods": "[the detectors](../detectors.md)",
    "inspect": "[wrap a model](wrap-a-model.md)",
    "bench": "[choose a method](../tutorials/choose.md), [the arena](../arena.md)",
    "compare": "[the arena](../arena.md)",
    "report": "[the arena](../arena.md)",
    "fit": "[below](#fit-calibrate-score), [triage](../triage.md)",
    "calibrate": "[below](#fit-calibrate-score), [thresholds under shift](shift.md)",
    "score": "[deploy and watch](../tutorials/deploy.md)",
    "explain": "[why](../explain.md)",
    "triage": "[triage](../triage.md)",
    "watch": "[below](#watch-a-stream-of-scores), [deploy and watch](../tutorials/deploy.md)",
    "serve": "[serving](../serve.md)",
    "export": "[below](#export)",
    "pack": "[packages and hubs](../hub.md)",
    "verify": "[deploy and watch](../tutorials/deploy.md)",
    "card": "[deploy and watch](../tutorials/deploy.md)",
    "train": "[train with outliers](../tutorials/outliers.md), [training](../training.md)",
}
"""Where a page shows each command at work."""
_OPTION = re.compile(r"--[a-z-]+")
_LIST = re.compile(r"(?<=<!-- commands -->\n).*?(?=<!-- end -->)", re.DOTALL)


def listed() -> dict[str, str]:
    """Each command's line, in the order in which the help has them."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {name: " ".join(c.help.split("\n\n")[0].split()) for name, c in commands.items()}


def table() -> str:
    """The list, as Markdown."""
    lines = {name: _OPTION.sub(r"`\g<0>`", line) for name, line in listed().items()}
    rows = [f"| `{name}` | {line} | {SHOWN[name]} |" for name, line in lines.items()]
    return "\n".join(["| command | what it does | shown |", "|---|---|---|", *rows, ""])


def updated(page: str) -> str:
    """The page with the list of today's commands."""
    return _LIST.sub(lambda _: table(), page)


def main() -> int:
    """Write the list, or with ``--check`` say whether it is today's."""
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return int(updated(page) != page)
    PAGE.write_text(updated(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
