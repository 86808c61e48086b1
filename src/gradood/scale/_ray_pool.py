"""Actors of Ray as a pool of workers; every option that matters is set here, on purpose."""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, final

import torch

from gradood._io.optional import optional_module
from gradood.scale._environment import environment
from gradood.scale._tasks import Done, Event, Lost, Ready, Task
from gradood.scale._worker import Failure, Work, Worker
from gradood.scale.cluster import Cluster

__all__ = ["RayPool", "ray_pool"]

_LOG = logging.getLogger(__name__)
_TICK = 1.0
_PROBE_TIMEOUT = 10.0
"""Seconds that a machine may take to accept a connection; Ray itself would try for minutes."""
_OPEN_TIMEOUT = 900.0
"""Seconds that a worker with a place may take to load its model."""
_ENVIRONMENT = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""No other interpreter for actors than the driver's, and no report to anybody."""


@contextmanager
def ray_pool(cluster: Cluster, work: Work) -> Iterator["RayPool"]:
    """Workers of a cluster, which end with the block; Ray too, if it is started here.

    Args:
        cluster: where, and how many.
        work: that they do.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        OSError: the cluster cannot be reached.
    """
    ray = optional_module("ray", "ray", "spreads work", 'pip install "gradood[ray]"')
    started = not ray.is_initialized()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if started:
        _connect(ray, cluster)
    try:
        pool = RayPool(ray, cluster, work)
        try:
            yield pool
        finally:
            pool.close()
    finally:
        if started:
            ray.shutdown()
            _restore(before)


def _connect(ray: Any, cluster: Cluster) -> None:
    """Reach a running cluster, or start one on this machine."""
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "local"
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options = {"include_dashboard": False} if address == "local" else {}
    try:
        _probe(address)
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            **options,
        )
    except Exception as error:  # It has one for each way in which a cluster can be away.
        with suppress(Exception):
            ray.shutdown()
        said = (str(error).strip().splitlines() or [""])[0]
        raise OSError(
            f"no Ray cluster at {address!r}: {type(error).__name__}: {said[:300]}; start one with "
            "ray start --head, or leave the address out to start one on this machine."
        ) from error


def _probe(address: str) -> None:
    """See whether anybody listens at ``host:port``; other addresses are left to Ray.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if host and port.isascii() and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE_TIMEOUT):
            pass


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    """Give signals back what Ray took; only the main thread may."""
    with suppress(ValueError):
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)


@dataclass(eq=False, slots=True)
class _Place:
    """Room for one worker, which stays when a worker ends.

    Attributes:
        group: Ray's placement group.
        taken: whether it was given room.
    """

    group: Any
    taken: bool = False


@dataclass(eq=False, slots=True)
class _Actor:
    """A worker.

    Attributes:
        handle: Ray's.
        place: its room.
        since: when it was started.
        opened: whether it can take tasks.
        busy: whether it has one.
    """

    handle: Any
    place: _Place
    since: float = field(default_factory=time.monotonic)
    opened: bool = False
    busy: bool = False


@final
class RayPool:
    """Actors, at most one task at each; see `gradood.scale._tasks.Pool`.

    Neither actors nor tasks are ever tried again by Ray, whose own limit is infinite: the driver's
    loop counts.
    """

    def __init__(self, ray: Any, cluster: Cluster, work: Work) -> None:
        self._ray = ray
        self._cluster = cluster
        self._threads = cluster.threads or torch.get_num_threads()
        self._need = {"CPU": self._threads}
        if torch.device(work.device).type == "cuda":
            self._need["GPU"] = 1
        self._actor = ray.remote(Worker)
        self._work = ray.put(work)
        self._actors: dict[int, _Actor] = {}
        self._refs: dict[Any, int] = {}
        self._free: list[_Place] = []
        self._started = 0
        self._living = time.monotonic()
        for _ in range(min(cluster.actors or self._room(), max(1, work.pieces))):
            group = ray.util.placement_group([dict(self._need)])
            self._free.append(_Place(group))

    @property
    def idle(self) -> Sequence[int]:
        return [number for number, actor in self._actors.items() if actor.opened and not actor.busy]

    def give(self, worker: int, task: Task) -> None:
        actor = self._actors[worker]
        actor.busy = True
        self._refs[actor.handle.run.remote(task)] = worker

    def event(self) -> Event:
        while True:
            self._fill_places()
            event = self._next() if self._refs else self._pause()
            if event is not None:
                return event
            self._check_time()

    def replace(self) -> None:
        """A place that lost its worker is filled again by `event`."""

    def close(self) -> None:
        """End all actors, and give their room back."""
        for actor in self._actors.values():
            with suppress(Exception):
                self._ray.kill(actor.handle)
        for place in [*self._free, *(actor.place for actor in self._actors.values())]:
            with suppress(Exception):
                self._ray.util.remove_placement_group(place.group)
        self._actors.clear()
        self._refs.clear()

    def _room(self) -> int:
        """How many workers the cluster has room for."""
        rooms = (
            min(int(node["Resources"].get(name, 0) // need) for name, need in self._need.items())
            for node in self._ray.nodes()
            if node["Alive"]
        )
        return max(1, sum(rooms))

    def _fill_places(self) -> None:
        """Start a worker in each place that has room and none."""
        for place in tuple(self._free):
            place.taken = place.group.wait(timeout_seconds=0.01)
            if place.taken:
                self._free.remove(place)
                self._start(place)

    def _start(self, place: _Place) -> None:
        strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        handle = self._actor.options(
            num_cpus=self._need["CPU"],
            num_gpus=self._need.get("GPU", 0),
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=strategy(place.group),
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(self._threads)}},
        ).remote()
        number = self._started
        self._started += 1
        self._actors[number] = _Actor(handle, place)
        path = [folder or os.getcwd() for folder in sys.path]
        opened = handle.open.remote(self._work, environment(), self._threads, path)
        self._refs[opened] = number

    def _pause(self) -> None:
        time.sleep(_TICK / 10)

    def _next(self) -> Event | None:
        ready, _ = self._ray.wait(list(self._refs), num_returns=1, timeout=_TICK)
        if not ready:
            return None
        number = self._refs.pop(ready[0])
        actor = self._actors[number]
        try:
            answer = self._ray.get(ready[0])
        except self._ray.exceptions.RayTaskError as error:
            raise RuntimeError(f"a worker could not answer: {error}") from error
        except self._ray.exceptions.RayError as error:
            del self._actors[number]
            with suppress(Exception):
                self._ray.kill(actor.handle)
            self._free.append(actor.place)
            return Lost(number, _said(error))
        if isinstance(answer, Failure):
            raise answer.error()
        self._living = time.monotonic()
        if actor.opened:
            actor.busy = False
            return Done(number, answer)
        actor.opened = True
        return Ready(number)

    def _check_time(self) -> None:
        """Refuse to wait for ever: for room, or for a model to be loaded."""
        now = time.monotonic()
        if any(actor.opened for actor in self._actors.values()):
            self._living = now
        if not self._actors and now - self._living > self._cluster.start_timeout:
            raise OSError(self._lack())
        for number, actor in self._actors.items():
            if not actor.opened and now - actor.since > _OPEN_TIMEOUT:
                raise TimeoutError(
                    f"worker {number} did not load its model within {_OPEN_TIMEOUT:g} seconds; "
                    "look into the logs of the cluster, in /tmp/ray/session_latest/logs."
                )

    def _lack(self) -> str:
        """What is missing, in words."""
        total, free = self._ray.cluster_resources(), self._ray.available_resources()
        held = ", ".join(
            f"{name} {total.get(name, 0):g} ({free.get(name, 0):g} free)" for name in ("CPU", "GPU")
        )
        need = " and ".join(f"{count:g} {name}" for name, count in self._need.items())
        return (
            f"no node had room for a worker within {self._cluster.start_timeout:g} seconds: it "
            f"needs {need}, and the cluster has {held}. Take fewer threads (OMP_NUM_THREADS), "
            "another --device, or a larger cluster; what is finished is kept."
        )


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join([type(error).__name__, *lines])[:300]
