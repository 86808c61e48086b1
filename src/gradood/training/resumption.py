"""Going on with a run: what is saved of it, and whether it is the same."""

import logging
from pathlib import Path
from typing import Any

from gradood.errors import ConfigError, DataError
from gradood.io.tables import from_table, to_table
from gradood.training.checkpoint import Saved, save
from gradood.training.data import Material
from gradood.training.distributed import World
from gradood.training.engine import Engine
from gradood.training.randomness import load_random_state, random_state
from gradood.training.recipe import Recipe
from gradood.training.state import State

__all__ = ["continued", "restore", "write"]

_PROSE = frozenset({"summary", "paper", "deviations"})
"""Parts of a recipe that say what it is, and change nothing that is computed."""
_log = logging.getLogger(__name__)


def write(path: Path, engine: Engine, state: State, asked: Recipe, material: Material) -> None:
    """Save a checkpoint; every process must call it, and the first writes.

    Args:
        path: the file.
        engine: all that changes.
        state: where the run is.
        asked: the recipe before margins were found.
        material: for the numbers of samples.
    """
    world = engine.run.world
    tensors = engine.tensors() | {f"meter.{n}": t for n, t in state.meter.tensors().items()}
    for name, tensor in random_state(engine.device).items():
        every = world.all(tensor.to(engine.device))
        tensors |= {f"rng.{rank}.{name}": every[rank] for rank in range(len(every))}
    if world.leads:
        document = {
            "format": 1,
            "asked": to_table(asked),
            "recipe": to_table(engine.run.recipe),
            "data": material.counts,
            "world": world.size,
            **state.document(),
        }
        save(path, tensors, document)
    world.wait()


def continued(saved: Saved, recipe: Recipe, material: Material, world: World) -> Recipe:
    """The recipe of the run that is resumed, with the margins that were found.

    Raises:
        ConfigError: the run was begun with another recipe; names what differs.
        DataError: it was begun on other data.
    """
    before, now = (
        {key: value for key, value in table.items() if key not in _PROSE}
        for table in (saved.document["asked"], to_table(recipe))
    )
    changed = _differences(before, now)
    if changed:
        raise ConfigError(
            f"the run in the folder was begun with another recipe: {'; '.join(changed[:4])}. "
            "Resume it with its own, or start another in a new folder."
        )
    if saved.document["data"] != material.counts:
        raise DataError(
            f"the run in the folder was begun on {saved.document['data']} samples; these are "
            f"{material.counts}. Resume it on the same data."
        )
    if saved.document["world"] != world.size:
        _log.warning(
            "the run was begun by %d processes and goes on with %d: not bit for bit the same.",
            saved.document["world"],
            world.size,
        )
    return from_table(Recipe, saved.document["recipe"], "the checkpoint's recipe")


def restore(saved: Saved, engine: Engine) -> State:
    """Put an engine, and the random states, where a checkpoint has them."""
    engine.restore({n: saved.part(n) for n in ("model", "objective", "ema", "optimizer")})
    ours = saved.part(f"rng.{engine.run.world.rank}")
    if ours:
        load_random_state(ours, engine.device)
    return State.of(saved)


def _differences(a: Any, b: Any, where: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = dict.fromkeys((*a, *b))
        return [
            d for k in keys for d in _differences(a.get(k), b.get(k), f"{where}.{k}".strip("."))
        ]
    return [] if a == b else [f"{where} was {a!r}, is {b!r}"]
