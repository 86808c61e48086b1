"""Run programs of Python, each in a fork of a process that has imported torch and gradood.

    python -W error scripts/programs.py programs.json

The file is a list of [name, file, setup, folder]: what to call it, the program, Python that comes
before it, and where it runs. `scripts/pages.py` writes it. As many run at once as there are cores.
"""

import json
import os
import sys
import tempfile
import time
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import gradood


@cache
def prepared(setup: str) -> dict[str, Any]:
    """The names that a setup defines, in this process, for all that begin with it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(setup, "setup", "exec"), names)
    return names


def start(file: str, setup: str, folder: str, output: int) -> int:
    """Begin a program in a process of its own; its number."""
    os.chdir(folder)
    names = prepared(setup)
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = [file]
        exec(compile(Path(file).read_text(encoding="utf-8"), file, "exec"), names)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(listing: str) -> int:
    """How many failed."""
    failed, running = 0, {}
    todo = json.loads(Path(listing).read_text(encoding="utf-8"))
    while todo or running:
        while todo and len(running) < (os.cpu_count() or 1):
            name, file, setup, folder = todo.pop(0)
            output = tempfile.TemporaryFile()  # noqa: SIM115 - closed when its program ends
            child = start(file, setup, folder, output.fileno())
            running[child] = (name, output, time.monotonic())
        child, status = os.wait()
        name, output, began = running.pop(child)
        ended = "ok" if status == 0 else "FAILED"
        if status:
            failed += 1
            output.seek(0)
            print(output.read().decode(), file=sys.stderr)
        output.close()
        print(f"{name}: {ended} after {time.monotonic() - began:.1f} s", file=sys.stderr)
    return min(failed, 100)


if __name__ == "__main__":
    for module in ("Monitor", "guard", "plots", "metrics"):
        getattr(gradood, module)  # What forks would each import.
    sys.exit(main(sys.argv[1]))
