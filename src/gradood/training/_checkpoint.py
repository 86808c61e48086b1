"""Checkpoints of a run: file format, state, and the checks before a run is resumed.

A checkpoint is one safetensors file with strict JSON in its metadata and a SHA-256 over both. It is
replaced as a whole, and nothing in it is pickled.
"""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gradood._io.atomic import replace
from gradood._io.hashing import little_endian
from gradood._io.records import decode, to_plain
from gradood.errors import ArtifactError, ConfigError, DataError
from gradood.training._distributed import Processes
from gradood.training._engine import Engine, optimizer_state
from gradood.training._logs import Meter
from gradood.training._randomness import load_random_state, random_state
from gradood.training._validation import Scores
from gradood.training.data import DataSplit, different_data
from gradood.training.recipe import Recipe

__all__ = ["Saved", "State", "digest", "load", "restore", "resumed", "save", "write"]

_DOCUMENT, _SEAL = "gradood_training", "sha256"
_DESCRIPTION = frozenset({"summary", "paper", "deviations"})
"""Options of a recipe that change nothing that is computed."""
_RESTART = "Start the run again in another folder."
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class Saved:
    """Content of a checkpoint.

    Attributes:
        tensors: by name, on the CPU.
        document: plain JSON.
    """

    tensors: dict[str, Tensor]
    document: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with ``prefix.``, without it."""
        start = f"{prefix}."
        return {n[len(start) :]: t for n, t in self.tensors.items() if n.startswith(start)}


class State:
    """State of a run beside its tensors: steps done, validations, means since the last log.

    Args:
        before: measures of the starting network.
        origin: fingerprints of data and starting weights; empty if unknown.
    """

    def __init__(self, before: Scores, origin: Mapping[str, Any]) -> None:
        self.before = before
        self.last = before
        self.origin = origin
        self.step = 0
        self.best = math.inf
        self.worse = 0
        self.stopped = False
        self.meter = Meter()

    @staticmethod
    def of(saved: Saved) -> "State":
        """The state in a checkpoint."""
        document = saved.document
        state = State(Scores(**document["before"]), document.get("origin", {}))
        state.last = Scores(**document["last"])
        state.step, state.worse = document["step"], document["worse"]
        state.best = math.inf if document["best"] is None else document["best"]
        state.stopped = document["stopped"]
        state.meter.restore(saved.part("meter"))
        return state

    def record(self, scores: Scores, *, patience: int | None) -> bool:
        """Record a validation; whether it is the best so far.

        The measure is FPR95, and without outliers the error rate.

        Args:
            scores: of the current network.
            patience: validations without a better one before the run stops; None for any number.
        """
        self.last = scores
        value = 1 - scores.accuracy if scores.fpr95 is None else scores.fpr95
        better = value < self.best
        self.best, self.worse = (value, 0) if better else (self.best, self.worse + 1)
        self.stopped = patience is not None and self.worse >= patience
        return better

    def document(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "before": asdict(self.before),
            "last": asdict(self.last),
            "origin": dict(self.origin),
            "step": self.step,
            "best": None if math.isinf(self.best) else self.best,
            "worse": self.worse,
            "stopped": self.stopped,
        }


def save(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write a checkpoint as a whole; after a kill, the one before is in its place.

    Args:
        path: the file.
        tensors: by name.
        document: plain JSON values.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
    """
    # Tied weights share memory, which safetensors refuses.
    copies = {n: t.detach().cpu().contiguous().clone() for n, t in sorted(tensors.items())}
    text = json.dumps(document, sort_keys=True, allow_nan=False)
    content = safetensors.torch.save(copies, {_DOCUMENT: text, _SEAL: digest(copies, text)})
    expected = hashlib.sha256(content).digest()

    def verify(file: BinaryIO) -> None:
        if hashlib.sha256(file.read()).digest() != expected:
            raise OSError(f"{str(path)!r} reads back otherwise than it was written.")

    replace(path, [content], verify)


def load(path: Path) -> Saved:
    """Read a checkpoint.

    Raises:
        ArtifactError: it is absent, damaged, or no checkpoint of this library.
    """
    if not path.is_file():
        raise ArtifactError(f"no checkpoint at {str(path)!r}; start the run without --resume.")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(
            f"{str(path)!r} cannot be read as a checkpoint: {error}; it is damaged. {_RESTART}"
        ) from error
    if (text := metadata.get(_DOCUMENT)) is None:
        what = "no checkpoint of a training run; expected one that gradood wrote."
        raise ArtifactError(f"{str(path)!r} is {what}")
    if digest(tensors, text) != metadata.get(_SEAL):
        raise ArtifactError(
            f"{str(path)!r} does not match its SHA-256; it is damaged or was changed. {_RESTART}"
        )
    return Saved(tensors, json.loads(text))


def digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 over names, types, shapes and values of tensors, and a text."""
    total = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        if tensor.numel():
            total.update(little_endian(tensor))
    return total.hexdigest()


def write(path: Path, engine: Engine, state: State, requested: Recipe, split: DataSplit) -> None:
    """Save the checkpoint of a run; every process must call it, and the first writes.

    Args:
        path: the file.
        engine: its tensors.
        state: of the run.
        requested: the recipe before ``"auto"`` margins were resolved.
        split: for the numbers of samples.
    """
    processes = engine.run.processes
    tensors = engine.tensors() | {f"meter.{n}": t for n, t in state.meter.tensors().items()}
    for name, tensor in random_state(engine.device).items():
        states = processes.stacked(tensor.to(engine.device))
        tensors |= {f"rng.{rank}.{name}": states[rank] for rank in range(len(states))}
    if processes.leads:
        document = {
            "format": 1,
            "asked": to_plain(requested),
            "recipe": to_plain(engine.run.recipe),
            "data": split.counts,
            "world": processes.size,
            **state.document(),
        }
        save(path, tensors, document)
    processes.barrier()


def resumed(
    saved: Saved, recipe: Recipe, split: DataSplit, processes: Processes, origin: Mapping[str, Any]
) -> Recipe:
    """The recipe of the run that is resumed, with its margins resolved.

    Args:
        saved: its checkpoint.
        recipe: as requested now.
        split: of the data given now.
        processes: that train now.
        origin: fingerprints of the data and the weights given now.

    Raises:
        ConfigError: the run was begun with another recipe; names what differs.
        DataError: it was begun on other data; says what differs.
    """
    before, now = (
        {key: value for key, value in table.items() if key not in _DESCRIPTION}
        for table in (saved.document["asked"], to_plain(recipe))
    )
    changed = _differences(before, now)
    if changed:
        raise ConfigError(
            f"the run in the folder was begun with another recipe: {'; '.join(changed[:4])}. "
            "Resume it with its own, or start another in a new folder."
        )
    if (counts := saved.document["data"]) != split.counts:
        raise DataError(
            f"the run in the folder was begun on {counts} samples; these are {split.counts}. "
            "Resume it on the same data."
        )
    begun = saved.document.get("origin", {})  # Absent from checkpoints of earlier versions.
    other = different_data(begun["data"], origin["data"]) if begun else []
    if other:
        raise DataError(
            f"the run in the folder was begun on other data: these are {' and '.join(other)}. "
            "Resume it on the same data, or start another in a new folder."
        )
    if begun and begun["weights"] != origin["weights"]:
        _log.warning("the weights of the given model are replaced by those of the checkpoint.")
    if saved.document["world"] != processes.size:
        text = "the run was begun by %d processes and goes on with %d: not bit for bit the same."
        _log.warning(text, saved.document["world"], processes.size)
    return decode(Recipe, saved.document["recipe"], "the checkpoint's recipe")


def restore(saved: Saved, engine: Engine) -> State:
    """Set an engine, and the random states, to those of a checkpoint.

    Raises:
        ConfigError: the checkpoint is of another model; nothing is changed then.
    """
    parts = {name: saved.part(name) for name in ("model", "objective", "ema", "optimizer")}
    _check_same_model(engine.model.state_dict(), parts["model"])
    _check_same_parameters(engine.optimizer, optimizer_state(parts["optimizer"]))
    state = State.of(saved)
    engine.restore(parts, step=state.step)
    generators = saved.part(f"rng.{engine.run.processes.rank}")
    if generators:
        load_random_state(generators, engine.device)
    return state


def _check_same_model(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    """Refuse weights of other names, shapes or types."""
    old, new = ({n: tuple(t.shape) for n, t in state.items()} for state in (before, now))
    then, types = ({n: t.dtype for n, t in state.items()} for state in (before, now))
    if changed := _differences(old, new) or _differences(then, types):
        raise ConfigError(
            f"the run in the folder trains another model: {'; '.join(changed[:4])}. Resume it with "
            "its own, or start another in a new folder."
        )


def _check_same_parameters(
    optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]
) -> None:
    """Refuse an optimizer state of other parameters, such as after some were frozen."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state.items():
        shapes = {tuple(value.shape) for value in values.values() if value.ndim}
        if index >= len(parameters) or shapes - {tuple(parameters[index].shape)}:
            raise ConfigError(
                "the run in the folder trains other parameters of this model; expected the same "
                "to require grad as when it was begun."
            )


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = dict.fromkeys((*a, *b))
        pairs = ((a.get(k), b.get(k), f"{path}.{k}".strip(".")) for k in keys)
        return [difference for pair in pairs for difference in _differences(*pair)]
    return [] if a == b else [f"{path} was {a!r}, is {b!r}"]
