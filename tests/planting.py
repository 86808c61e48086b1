"""Plants faults in copies of the source, each in a process of its own, and runs the checks on them.

A fault is a small change of the source; the checks it names must all fail with it. They are named
checks of the contract suite, golden tests with their arguments, or unit tests. `results` loads
torch once and forks for every fault; the package itself is imported in the children only.
"""

import importlib
import inspect
import json
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["PACKAGE", "UNTOUCHED", "Check", "Mutation", "Result", "contract", "golden", "results"]

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "src" / "gradood"
UNTOUCHED = "nothing"
_AT_ONCE = 2


@dataclass(frozen=True)
class Check:
    """A check by name, run where a faulty copy is what `import gradood` finds."""

    name: str
    run: Callable[[], object]


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Attributes:
        name: what is wrong.
        file: inside the package.
        changes: text that occurs there exactly once → what replaces it.
        checks: all of which must fail; a string is a unit test, ``file::function`` under
            ``tests/unit``, at least one case of which must fail.
    """

    name: str
    file: str
    changes: dict[str, str]
    checks: tuple[Check | str, ...]

    def applied(self) -> str:
        """The faulty source."""
        text = (PACKAGE / self.file).read_text("utf-8")
        for old, new in self.changes.items():
            assert text.count(old) == 1, (
                f"{self.name}: {old!r} is {text.count(old)}× in {self.file}"
            )
            text = text.replace(old, new)
        return text


@dataclass(frozen=True)
class Result:
    """What the checks said.

    Attributes:
        name: of the mutation.
        caught: checks that failed → the first line of the reason.
        missed: checks that passed.
        broken: why there is no answer, or None.
    """

    name: str
    caught: dict[str, str]
    missed: tuple[str, ...]
    broken: str | None


def contract(variant: str, network: str, check: str) -> Check:
    """A check of the public contract suite."""

    def run() -> None:
        from variants import VARIANTS

        from gradood.testing import Subject, networks, run_check

        run_check(check, Subject(VARIANTS[variant].make(), networks()[network]))

    return Check(f"{check} of {variant} on {network}", run)


def golden(test: str, **arguments: object) -> Check:
    """A golden test as ``module.function``, both without ``test_``, called with these arguments."""

    def run() -> None:
        import numpy as np

        module, name = test.split(".")
        function = getattr(importlib.import_module(f"test_{module}"), f"test_{name}")
        fixtures = {"rng": np.random.default_rng(11)}
        wanted = inspect.signature(function).parameters
        function(**arguments, **{key: fixtures[key] for key in fixtures if key in wanted})

    return Check(f"{test} {arguments}", run)


def results(mutations: Sequence[Mutation]) -> Iterator[Result]:
    """Of no fault, with every check, to see that they pass; then of each fault with its own."""
    _preload()
    every = tuple({_name(check): check for m in mutations for check in m.checks}.values())
    todo = deque((Mutation(UNTOUCHED, "__init__.py", {}, every), *mutations))
    running: deque[_Planted] = deque()
    while todo or running:
        if todo and len(running) < _AT_ONCE:
            running.append(_Planted(todo.popleft()))
        else:
            yield running.popleft().result()


def _name(check: Check | str) -> str:
    return check if isinstance(check, str) else check.name


def _preload() -> None:
    """Everything slow that the checks import, but nothing of the package, and no thread."""
    import torch

    for heavy in ("pytest", "hypothesis", "numpy.testing", "safetensors.torch", "jaxtyping"):
        importlib.import_module(heavy)
    for heavy in ("beartype", "sklearn.covariance", "sklearn.metrics", "torch.func", "tqdm"):
        importlib.import_module(heavy)
    importlib.import_module("torch.nn.parallel")
    torch.set_num_threads(1)
    torch.testing.assert_close(torch.zeros(1), torch.zeros(1))
    sys.dont_write_bytecode = True


class _Planted:
    """A fault in a copy of the package, whose checks run in a process of their own."""

    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation
        self._folder = tempfile.TemporaryDirectory(prefix="gradood-fault-")
        folder = Path(self._folder.name)
        copy = folder / "gradood"
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / mutation.file).write_text(mutation.applied(), "utf-8")
        self._child = os.fork()
        if self._child == 0:
            try:
                log = (folder / "log.txt").open("w")
                with log, redirect_stdout(log), redirect_stderr(log):
                    result = _run(mutation, folder)
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
    """In the child: the package has not been imported yet."""
    assert not any(name.split(".")[0] == "gradood" for name in sys.modules)
    # First on the path, so that no installed copy, editable or not, is taken instead.
    sys.path[:0] = [str(folder), *(str(TESTS / part) for part in ("contract", "golden"))]
    units = tuple(check for check in mutation.checks if isinstance(check, str))
    # Unit tests first: their conftest checks shapes in what is imported after it.
    failed, broken = _units(units) if units else ({}, None)
    try:
        module = mutation.file.removesuffix(".py").replace("/", ".")
        importlib.import_module(f"gradood.{module}".removesuffix(".__init__"))
    except Exception as error:
        return Result(mutation.name, {}, (), f"the copy cannot be imported: {error!r}")
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ImportWarning)
    for check in mutation.checks:
        if isinstance(check, Check):
            try:
                check.run()
            except (Exception, KeyboardInterrupt) as error:
                words = f"{type(error).__name__}: {error}".strip()
                failed[check.name] = words.splitlines()[0][:200]
    origin = Path(str(sys.modules["gradood"].__file__)).resolve()
    assert origin.is_relative_to(folder.resolve()), f"{origin} was tested, not the copy"
    missed = tuple(n for n in map(_name, mutation.checks) if n not in failed)
    return Result(mutation.name, failed, missed, broken)


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
    import pytest

    failures = _Failures()
    arguments = ["-q", "-p", "no:cacheprovider", "--tb=line", f"--rootdir={TESTS.parent}"]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what is loaded already
    code = int(
        pytest.main([*arguments, *(str(TESTS / "unit" / t) for t in tests)], plugins=[failures])
    )
    found = {test: words for test, words in failures.found.items() if test in tests}
    return found, None if code in (0, 1) else f"pytest ended with {code}"
