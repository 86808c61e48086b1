"""The command line, ``gradood``: the one place that talks, and that needs ``gradood[cli]``."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: without the program's name; None for those of this process.
    """
    try:
        from gradood.cli._app import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gradood"):
            raise
        print(
            f"error: the command line needs {error.name}, which is not installed: "
            "pip install 'gradood[cli]'.",
            file=sys.stderr,
        )
        return 5
    return run(sys.argv[1:] if arguments is None else arguments)
