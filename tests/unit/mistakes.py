"""Calls by seed, each of which must be answered: by a result, or by an error of the library."""

import random
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gradood.errors import GradoodError

Call = Callable[[random.Random], None]


def check_calls(calls: Sequence[Call], seeds: range) -> None:
    """Fail at the first call that is answered by another error, or by one that says little."""
    for seed in seeds:
        draw = random.Random(seed)
        call = calls[seed % len(calls)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                call(draw)
            except GradoodError as error:
                assert len(str(error)) > 20, f"seed {seed}, {call.__name__}: {error}"
            except Exception as error:
                pytest.fail(f"seed {seed}, {call.__name__}: {type(error).__name__}: {error}")


def pick(draw: random.Random, pool: dict[str, Callable[[], Any]]) -> Any:
    """One of some values, made when it is drawn."""
    return pool[draw.choice(sorted(pool))]()


def option(draw: random.Random, options: dict[str, list[Any]]) -> dict[str, Any]:
    """None, one or two of some options with a value of each."""
    chosen = draw.sample(sorted(options), draw.choice((0, 1, 1, 2)))
    return {name: draw.choice(options[name]) for name in chosen}
