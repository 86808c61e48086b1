"""Planted faults: small changes of the source, and the checks that must fail with them."""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PACKAGE", "TESTS", "Check", "Mutation", "Result", "contract", "golden"]

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "src" / "gradood"


@dataclass(frozen=True)
class Check:
    """A check by name, run where a faulty copy is what `import gradood` finds.

    Attributes:
        name: in words.
        run: raises where the check fails.
        row: variant, network and check, if it is one of the contract suite.
    """

    name: str
    run: Callable[[], object]
    row: tuple[str, str, str] | None = None


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
    """A row of the contract suite; it must be in the covering array, which a test holds."""
    row = (variant, network, check)

    def run() -> None:
        from covering import run_row

        run_row(row)

    return Check(f"{check} of {variant} on {network}", run, row)


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
