"""A benchmark spread over workers: each runs whole networks, and the driver joins their parts."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, redirect_stderr
from dataclasses import dataclass, replace
from functools import partial
from typing import final

from gradood._engine.progress import progress_bar
from gradood._io.arguments import instance
from gradood.artifact.fingerprint import fingerprint
from gradood.bench import Outcome, Settings, run, select
from gradood.bench.entries import LoadedEntry, open_entry
from gradood.bench.runner import NetworkRun, run_network
from gradood.scale._environment import host
from gradood.scale._pools import Place, pool_on
from gradood.scale._tasks import Task
from gradood.scale._worker import PoolOf, Runner, answered
from gradood.scale.devices import Devices
from gradood.scale.subject import check_same

__all__ = ["BenchWork", "bench", "benched"]


def bench(
    settings: Settings,
    *,
    command: str = "",
    told: Callable[[str], None] = lambda line: None,
    cluster: Place | None = None,
) -> Outcome:
    """Compare methods on several networks, each of which one worker runs as a whole.

    Scores and figures are those of `gradood.bench.run` to the last bit, given as many threads. One
    network is run by one worker, however many there are.

    Args:
        settings: as for `gradood.bench.run`; files are at the same paths on every machine, and
            relative ones below the same folder.
        command: how to do the same again, for the record.
        told: called with a line of progress.
        cluster: None for one that is started on this machine; `Devices` take no Ray, and go before
            the settings' device.

    Raises:
        ConfigError, UnknownNameError: a setting is wrong.
        DataError: data is absent, broken, not as the suite says, or has labels that the model does
            not know.
        TapError: a model cannot be read.
        ModelMismatchError: a worker has another model.
        OSError: no cluster, no room in it, or a machine that lacks data or versions.
        ModuleNotFoundError: Ray is not installed.

    Cost:
        This process opens every network, and holds all scores.
    """
    instance(settings, Settings, "settings", "gradood.bench.Settings(…)")
    if isinstance(cluster, Devices):
        settings = replace(settings, device=cluster.kind)
    return benched(settings, command, told, pool_on(cluster))


def benched(
    settings: Settings, command: str, told: Callable[[str], None], pool_of: PoolOf
) -> Outcome:
    """The same, by workers.

    Args:
        settings: see `bench`.
        command: likewise.
        told: likewise.
        pool_of: gives the workers.

    Raises:
        GradoodError: see `bench`.
    """
    return run(settings, command=command, told=told, networks=partial(_spread, told, pool_of))


@final
@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class BenchWork:
    """What workers need to run networks.

    Attributes:
        settings: of the run.
        models: digest of each network's fingerprint.
        rows: of each network, name of a set → rows of its data sets.
        folder: that relative paths are below.
    """

    settings: Settings
    models: tuple[str, ...]
    rows: tuple[Mapping[str, tuple[int, ...]], ...]
    folder: str

    @property
    def device(self) -> str:
        """Where the models run."""
        return self.settings.device

    @property
    def pieces(self) -> int:
        """See `gradood.scale._worker.Work`."""
        return len(self.models)

    def on(self, device: str) -> "BenchWork":
        """See `gradood.scale._worker.Work`."""
        return replace(self, settings=replace(self.settings, device=device))

    def opened(self) -> Runner:
        """See `gradood.scale._worker.Work`."""
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise OSError(
                f"a worker on {host()} is refused, as it has no folder {self.folder!r}, which the "
                "driver's relative paths are in; start the command in a folder that all have."
            ) from error
        return _NetworkRunner(self)


@final
class _NetworkRunner:
    """Runs networks."""

    def __init__(self, work: BenchWork) -> None:
        self._work = work
        self._selection = select(work.settings.methods, work.settings.options)

    def run(self, task: Task) -> NetworkRun:
        work, place = self._work, task.index
        with redirect_stderr(io.StringIO()):  # The driver shows how far the work is.
            entry = open_entry(work.settings.contenders[place], work.settings)
            check_same("model", work.models[place], fingerprint(entry.subject.model).digest)
            _check_rows(work.rows[place], _rows(entry))
            return run_network(entry, work.settings, self._selection, lambda line: None)


def _spread(
    told: Callable[[str], None],
    pool_of: PoolOf,
    settings: Settings,
    entries: Sequence[LoadedEntry],
) -> list[NetworkRun]:
    """The part of each network, in their order."""
    work = BenchWork(
        settings=settings,
        models=tuple(fingerprint(one.subject.model).digest for one in entries),
        rows=tuple(map(_rows, entries)),
        folder=os.getcwd(),
    )
    tasks = [Task(n, range(n, n + 1)) for n in range(len(entries))]
    found: dict[int, NetworkRun] = {}
    with (
        pool_of(work) as pool,
        progress_bar(len(tasks), "bench", "network") as bar,
        closing(answered(pool, tasks)) as done,
    ):
        for task, answer in done:
            found[task.index] = answer.value
            told(f"{entries[task.index].model.run}: done")
            bar.update()
    return [found[task.index] for task in tasks]


def _rows(entry: LoadedEntry) -> dict[str, tuple[int, ...]]:
    return {name: tuple(map(len, parts)) for name, parts in entry.parts.items()}


def _check_rows(
    driver: Mapping[str, tuple[int, ...]], worker: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse a machine whose data sets have other sizes."""
    differing = [name for name in driver if driver[name] != worker.get(name)]
    if differing:
        raise OSError(
            f"a worker on {host()} is refused, as it has other data: {', '.join(differing)} of "
            "other sizes than the driver's. Put the same data at the same path on all machines."
        )
