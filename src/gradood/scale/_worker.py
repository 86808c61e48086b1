"""A worker: checks that its machine is like the driver's, opens the work, and does tasks.

Nothing here knows how a worker is reached. Answers are plain values or a `Failure`, since an
exception of a library may not be readable on another machine.
"""

import builtins
import os
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch

from gradood import errors
from gradood.scale._environment import differences, environment, hardware, host
from gradood.scale._tasks import Pool, Task, completed

__all__ = ["Answer", "Failure", "PoolOf", "Runner", "Work", "Worker", "answered"]


class Runner(Protocol):
    """Work that was opened on a machine."""

    def run(self, task: Task) -> Any:
        """What comes of a task."""
        ...


class Work(Protocol):
    """What workers do; sent to each once."""

    @property
    def device(self) -> str:
        """Where the model runs."""
        ...

    @property
    def pieces(self) -> int:
        """Tasks that it is done in: no more workers are of use."""
        ...

    def on(self, device: str) -> "Work":
        """The same with the model elsewhere."""
        ...

    def opened(self) -> Runner:
        """The work, with model and files opened here.

        Raises:
            OSError: this machine does not have what the driver has.
            GradoodError: the model is another one.
        """
        ...


PoolOf = Callable[[Work], AbstractContextManager[Pool]]
"""From work to the workers that do it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An exception in words.

    Attributes:
        kind: name of its class.
        text: its message.
    """

    kind: str
    text: str

    @staticmethod
    def of(error: BaseException) -> "Failure":
        """An exception; of those with further arguments, the class above."""
        if isinstance(error, errors.BadRowError):
            return Failure("DataError", str(error))
        known = isinstance(error, errors.GradoodError | OSError | ImportError | MemoryError)
        kind = type(error).__name__
        if not known or _class(kind) is RuntimeError:
            oom = kind == "OutOfMemoryError"
            return Failure("MemoryError" if oom else "RuntimeError", f"{kind}: {error}")
        return Failure(kind, str(error))

    def error(self) -> Exception:
        """The exception again."""
        return _class(self.kind)(self.text)


def _class(kind: str) -> type[Exception]:
    found = getattr(errors, kind, None) or getattr(builtins, kind, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else RuntimeError


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What came of a task.

    Attributes:
        value: of the work.
        hardware: that it was done on; see `gradood.scale._environment.hardware`.
        notes: kind and text of each warning.
    """

    value: Any
    hardware: Mapping[str, Any]
    notes: tuple[tuple[str, str], ...] = ()


@final
class Worker:
    """One worker; its methods are called one at a time."""

    def __init__(self) -> None:
        self._runner: Runner | None = None
        self._hardware: Mapping[str, Any] = {}

    def open(
        self, work: Work, driver: Mapping[str, str], threads: int, path: Sequence[str]
    ) -> Failure | None:
        """Check the machine, and open the work.

        Args:
            work: to do.
            driver: `environment` of the driver.
            threads: that torch is to use.
            path: folders that the driver imports from.
        """
        differing = differences(driver, environment())
        if differing:
            return Failure(
                "OSError",
                f"a worker on {host()} is refused, as scores would differ: "
                f"{'; '.join(differing)}. Install the same versions on all machines.",
            )
        sys.path.extend(folder for folder in path if folder not in sys.path)
        torch.set_num_threads(threads)
        failed = self._attempted(lambda: self._open(work))
        if failed is None or "a worker" in failed.text:
            return failed
        return Failure(failed.kind, f"a worker on {host()} could not begin: {failed.text}")

    def run(self, task: Task) -> "Answer | Failure":
        """What comes of a task."""
        return self._attempted(lambda: self._run(task))

    def _open(self, work: Work) -> None:
        self._runner = work.opened()
        self._hardware = hardware(work.device) | {"pid": os.getpid()}

    def _run(self, task: Task) -> Answer:
        assert self._runner is not None
        with errors.noted_warnings() as notes:
            value = self._runner.run(task)
        said = tuple((kind.__name__, message) for message, kind in notes)
        return Answer(value, self._hardware, said)

    @staticmethod
    def _attempted(step: Callable[[], Any]) -> Any:
        try:
            return step()
        except Exception as error:
            return Failure.of(error)


def answered(pool: Pool, tasks: Iterable[Task]) -> Generator[tuple[Task, Answer]]:
    """Each task with its answer; what workers warned of is said here, each text once.

    Args:
        pool: see `completed`.
        tasks: likewise.
    """
    heard: set[str] = set()
    with closing(completed(pool, tasks)) as done:
        for task, answer in done:
            for kind, text in answer.notes:
                if text not in heard:
                    heard.add(text)
                    errors.warn_caller(text, getattr(errors, kind))
            yield task, answer
