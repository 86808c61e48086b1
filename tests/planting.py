"""Plants each fault in a copy of the source and runs the checks that are meant to catch it.

``python tests/planting.py`` prints one line of JSON per fault: the check that caught it, and how.
Each fault has a process of its own, forked before the package was imported anywhere.
"""

import importlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from mutations import MUTATIONS, Check, Mutation

TESTS = Path(__file__).resolve().parent
SOURCE = TESTS.parent / "src"
UNTOUCHED = "nothing"


@dataclass(frozen=True)
class Result:
    """What happened to one mutation: the check that caught it and its message, if any."""

    name: str
    caught_by: str | None
    message: str


def _child(copy: Path, checks: tuple[Check, ...], out: Connection) -> None:
    """Run checks on the copy, in a process that has not imported the package before."""
    sys.path[:0] = [str(copy), *(str(TESTS / part) for part in ("contract", "golden"))]
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ImportWarning)
    caught, message = None, ""
    with open(os.devnull, "w") as sink:
        sys.stderr = sink
        for check in checks:
            try:
                check.run()
            except (Exception, KeyboardInterrupt) as error:
                caught, message = check.name, f"{type(error).__name__}: {error}".strip()
                break
    origin = importlib.import_module("gradood").__file__
    assert origin is not None and Path(origin).is_relative_to(copy), "not the copy was tested"
    out.send((caught, message.splitlines()[0][:200] if message else ""))


def results() -> Iterator[Result]:
    """Plant each fault in turn; first none, with every check, to see that they pass."""
    import torch

    # What every child needs, once; none of it imports the package.
    for heavy in ("pytest", "hypothesis", "numpy.testing", "safetensors.torch", "jaxtyping"):
        importlib.import_module(heavy)
    torch.set_num_threads(1)
    sys.dont_write_bytecode = True
    every = tuple(check for mutation in MUTATIONS for check in mutation.checks)
    untouched = Mutation(UNTOUCHED, "__init__.py", {}, every)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(SOURCE, copy)
        for mutation in (untouched, *MUTATIONS):
            path = copy / "gradood" / mutation.file
            original = text = path.read_text("utf-8")
            for old, new in mutation.changes.items():
                assert old in text, f"{mutation.name}: {mutation.file} has no {old!r} any more"
                text = text.replace(old, new)
            path.write_text(text, "utf-8")
            yield Result(mutation.name, *_run(copy, mutation.checks))
            path.write_text(original, "utf-8")


def _run(copy: Path, checks: tuple[Check, ...]) -> tuple[str | None, str]:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(copy, checks, theirs))
    child.start()
    theirs.close()
    try:
        return ours.recv()
    except EOFError:
        return None, "the process ended without a word"
    finally:
        child.join()


if __name__ == "__main__":
    for result in results():
        print(json.dumps(asdict(result)), flush=True)
