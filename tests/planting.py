"""Faults planted in copies of the source, each run in a process of its own.

The checks that a fault names must all fail with it. They are rows of the contract suite's covering
array, golden tests with their arguments, or unit tests. `results` and `searches` load torch once
and fork for every fault; the package itself is imported in the children only.
"""

import gc
import importlib
import json
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path

from faults import PACKAGE, TESTS, Check, Mutation, Result

__all__ = ["UNTOUCHED", "preload", "results", "searches", "untouched"]

UNTOUCHED = "nothing"
_AT_ONCE = 2


def untouched(mutations: Iterable[Mutation]) -> Mutation:
    """No fault, with every check of these."""
    every = {_name(check): check for mutation in mutations for check in mutation.checks}
    return Mutation(UNTOUCHED, "__init__.py", {}, tuple(every.values()))


def results(mutations: Sequence[Mutation]) -> Iterator[Result]:
    """What the checks of each fault say of it."""
    return _in_children(mutations, _run)


def searches(mutations: Sequence[Mutation]) -> Iterator[Result]:
    """The first row of the covering array that each fault breaks, else the first other test.

    The fault's own checks only say where to begin; it need not have any.
    """
    return _in_children(mutations, _search)


def _in_children(
    mutations: Sequence[Mutation], task: Callable[[Mutation, Path], Result]
) -> Iterator[Result]:
    preload()
    todo, running = deque(mutations), deque[_Planted]()
    while todo or running:
        if todo and len(running) < _AT_ONCE:
            running.append(_Planted(todo.popleft(), task))
        else:
            yield running.popleft().result()


def _name(check: Check | str) -> str:
    return check if isinstance(check, str) else check.name


def preload() -> None:
    """Everything slow that the checks import, but nothing of the package, and no thread.

    A fault must be caught by values: shapes are not checked in the copies, which takes longest.
    """
    os.environ |= {"JAXTYPING_DISABLE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    import torch

    for heavy in ("pytest", "hypothesis", "numpy.testing", "safetensors.torch", "jaxtyping"):
        importlib.import_module(heavy)
    for heavy in ("beartype", "sklearn.covariance", "sklearn.metrics", "torch.func", "tqdm"):
        importlib.import_module(heavy)
    importlib.import_module("torch.nn.parallel")
    torch.set_num_threads(1)
    torch.testing.assert_close(torch.zeros(1), torch.zeros(1))
    sys.dont_write_bytecode = True
    gc.freeze()  # Else every child looks through all of this for what is garbage.


class _Planted:
    """A fault in a copy of the package, and a task done with it in a process of its own."""

    def __init__(self, mutation: Mutation, task: Callable[[Mutation, Path], Result]) -> None:
        self._mutation = mutation
        self._folder = tempfile.TemporaryDirectory(prefix="gradood-fault-")
        folder = Path(self._folder.name)
        copy = folder / "gradood"
        shutil.copytree(PACKAGE, copy)  # With what is compiled already, but for the faulty file.
        faulty = copy / mutation.file
        faulty.write_text(mutation.applied(), "utf-8")
        for compiled in (faulty.parent / "__pycache__").glob(f"{faulty.stem}.*"):
            compiled.unlink()
        self._child = os.fork()
        if self._child == 0:
            try:
                log = (folder / "log.txt").open("w")
                with log, redirect_stdout(log), redirect_stderr(log):
                    result = task(mutation, folder)
                (folder / "answer.json").write_text(json.dumps(asdict(result)))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)

    def result(self) -> Result:
        os.waitpid(self._child, 0)
        with self._folder as folder:
            answer = Path(folder) / "answer.json"
            if not answer.exists():
                return Result(self._mutation.name, {}, (), "the process ended without a word")
            given = json.loads(answer.read_text())
        return Result(**{**given, "missed": tuple(given["missed"])})


def _run(mutation: Mutation, folder: Path) -> Result:
    """In the child: the checks of the fault; the package has not been imported yet."""
    _find_first(folder)
    units = tuple(check for check in mutation.checks if isinstance(check, str))
    # Unit tests first: their conftest checks shapes in what is imported after it.
    failed, broken = _units(units) if units else ({}, None)
    if (error := _import(mutation)) is not None:
        return Result(mutation.name, {}, (), error)
    for check in mutation.checks:
        if isinstance(check, Check) and (words := _failure(check.run)) is not None:
            failed[check.name] = words
    _assert_tested(folder)
    missed = tuple(n for n in map(_name, mutation.checks) if n not in failed)
    return Result(mutation.name, failed, missed, broken)


def _search(mutation: Mutation, folder: Path) -> Result:
    """In the child: rows of the covering array until one fails, else golden and unit tests."""
    _find_first(folder)
    if (error := _import(mutation)) is not None:
        return Result(mutation.name, {"import": error}, (), None)
    from covering import run_row

    for row in _rows_by_relevance(mutation):
        if (words := _failure(lambda row=row: run_row(row))) is not None:
            _assert_tested(folder)
            return Result(mutation.name, {"contract" + repr(row): words}, (), None)
    os.environ["PYTHONPATH"] = str(folder)  # for tests that start processes
    failed, broken = _pytest(["-x", "-m", "not real", str(TESTS / "golden"), str(TESTS / "unit")])
    _assert_tested(folder)
    return Result(mutation.name, failed, () if failed else ("everything",), broken)


def _rows_by_relevance(mutation: Mutation) -> list[tuple[str, str, str]]:
    """The covering array, first what resembles the fault's own checks or concerns its file."""
    from covering import covering_array
    from variants import VARIANTS

    own = [check.row for check in mutation.checks if isinstance(check, Check) and check.row]
    module = "gradood." + mutation.file.removesuffix(".py").replace("/", ".")
    concerned = {n for n, v in VARIANTS.items() if type(v.make()).__module__ == module}
    concerned |= {row[0] for row in own}

    def distance(row: tuple[str, str, str]) -> tuple[bool, bool, bool]:
        return row not in own, row[2] not in {r[2] for r in own}, row[0] not in concerned

    return sorted(covering_array(), key=distance)


def _find_first(folder: Path) -> None:
    """Make the copy what `import gradood` finds, whatever is installed, editable or not."""
    assert not any(name.split(".")[0] == "gradood" for name in sys.modules)
    sys.path[:0] = [str(folder), *(str(TESTS / part) for part in ("contract", "golden"))]


def _import(mutation: Mutation) -> str | None:
    """Import the changed module; the error in words if it cannot be."""
    try:
        module = mutation.file.removesuffix(".py").replace("/", ".")
        importlib.import_module(f"gradood.{module}".removesuffix(".__init__"))
    except Exception as error:
        return f"the copy cannot be imported: {error!r}"
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ImportWarning)
    # As for all tests: published settings on the few samples of a test.
    for said in (".* looks further than a class reaches", "line with clip=.*says little here"):
        warnings.filterwarnings("ignore", said)
    return None


def _failure(run: Callable[[], object]) -> str | None:
    """The first line of why it failed, or None."""
    try:
        run()
    except (Exception, KeyboardInterrupt) as error:
        words = f"{type(error).__name__}: {error}".strip()
        return words.splitlines()[0][:200]
    return None


def _assert_tested(folder: Path) -> None:
    origin = Path(str(sys.modules["gradood"].__file__)).resolve()
    assert origin.is_relative_to(folder.resolve()), f"{origin} was tested, not the copy"


class _Failures:
    """A pytest plugin that notes which tests fail."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            test = report.nodeid.split("[")[0].removeprefix("tests/unit/")
            crash = getattr(report.longrepr, "reprcrash", None)
            words = str(getattr(crash, "message", report.longrepr)).splitlines()
            self.found[test] = words[0][:200] if words else ""


def _units(tests: Sequence[str]) -> tuple[dict[str, str], str | None]:
    """Which unit tests fail, and whether pytest itself did."""
    failed, broken = _pytest([str(TESTS / "unit" / test) for test in tests])
    return {test: words for test, words in failed.items() if test in tests}, broken


def _pytest(arguments: Sequence[str]) -> tuple[dict[str, str], str | None]:
    """Which tests fail, and whether pytest itself did."""
    import pytest

    failures = _Failures()
    options = ["-q", "-p", "no:cacheprovider", "--tb=line", f"--rootdir={TESTS.parent}"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what is loaded already
    code = int(pytest.main([*options, *arguments], plugins=[failures]))
    return failures.found, None if code in (0, 1) else f"pytest ended with {code}"
