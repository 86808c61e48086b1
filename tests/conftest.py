"""What every test shares: one seed, one Hypothesis profile, and the reasons for skipping."""

import gc
import importlib
import logging
import os
import random
from collections.abc import Generator, Iterator
from pathlib import Path

# For processes that tests start, too: on tiny networks a second thread costs more than it brings.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch
from _pytest.doctest import DoctestModule

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GRADOOD_SHARED", ROOT.parent / "shared"))
NO_SHARED = f"needs the real data of {SHARED}, which is absent; GRADOOD_SHARED names another place"

# The same examples in every run, so that a failure is a change of the code. No deadline: the first
# call of a torch operator can take a second on a busy machine.
hypothesis.settings.register_profile("gradood", derandomize=True, deadline=None)
hypothesis.settings.load_profile("gradood")

# The shapes in these signatures are checked in tests only. Takes effect when they are imported.
# Not those of `metrics` whose arguments are refused, in words, by the functions themselves.
_TYPED = [
    "gradood.functional",
    *(f"gradood.metrics.{m}" for m in ("confidence", "counts", "separation")),
]
if not jaxtyping.config.jaxtyping_disable:
    jaxtyping.install_import_hook(_TYPED, "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--full``, which a change need not run."""
    parser.addoption(
        "--full",
        action="store_true",
        help="the full product of the contract suite, and every row of the reference scores",
    )


def has_shared() -> bool:
    """Whether the real images and weights are there."""
    return (SHARED / "data").is_dir() and (SHARED / "weights").is_dir()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images, weights and reference scores; skips where there is none."""
    if not has_shared():
        pytest.skip(NO_SHARED)
    return SHARED


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether to run what a change need not."""
    return request.config.getoption("--full")


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test starts from the same random state, whatever ran before it.

    Where no device is in use, `torch.manual_seed` would note the call and its stack for each kind.
    """
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no other thread ran: pytest-xdist has one that waits for messages."""
    for name in ("isolation", "observe"):
        module = importlib.import_module(f"gradood.taps.{name}")
        monkeypatch.setattr(module, "only_thread", lambda: True)


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Doctests are those of the source; to look for some in every test takes seconds."""
    found = yield
    return [collector for collector in found if not isinstance(collector, DoctestModule)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why; start slow tests first.

    A long test that starts last would keep one worker busy while the others wait.
    """
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    missing = {}
    if not has_shared():
        missing["real"] = pytest.mark.skip(reason=NO_SHARED)
    if not torch.cuda.is_available():
        missing["gpu"] = pytest.mark.skip(reason="needs CUDA")
    for item in items:
        for marker, skip in missing.items():
            if item.get_closest_marker(marker):
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    """What would be done anew for every one of thousands of tests is done once.

    What they are made of is no garbage, so that a collection need not look through it. Pytest adds
    its handlers six times per test to every logger that does not propagate; torch has forty.
    """
    gc.freeze()
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.propagate = True


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Also where another test, or a plugin of pytest that loads torch early, set more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded."""
    return np.random.default_rng(11)
