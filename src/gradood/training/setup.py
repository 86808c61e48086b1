"""All that is checked and found out before the first step."""

import logging
import warnings

from torch import nn

from gradood.engine.binding import observed
from gradood.errors import GradoodWarning
from gradood.taps import device_of, unwrap
from gradood.training.batches import Feed
from gradood.training.class_overlap import overlapping
from gradood.training.data import Material, TrainingData
from gradood.training.distributed import World
from gradood.training.engine import Run
from gradood.training.margins import resolved
from gradood.training.recipe import Recipe
from gradood.training.refusals import (
    check_model,
    check_single_row,
    check_twice_differentiable,
)
from gradood.training.steps import Plan

__all__ = ["prepared", "warn_of_overlap"]

_SHOWN = 12
_log = logging.getLogger(__name__)


def prepared(
    model: nn.Module, recipe: Recipe, material: Material, data: TrainingData, world: World
) -> Run:
    """What the engine works on.

    Args:
        model: as given, wrappers and all; left as it was.
        recipe: margins may be ``"auto"``.
        material: the samples.
        data: that these came from.
        world: the processes.

    Raises:
        ConfigError: the model cannot be trained by this recipe.
        DataError: the data does not fit the model or the recipe.
        TapError: the model cannot be read.
    """
    check_model(model, recipe)
    material.check_alike()
    module = unwrap(model)
    example = material.example().to(device_of(module))
    network = observed(module, example)
    check_twice_differentiable(module, example, recipe)
    if recipe.loss.outliers and world.leads:
        warn_of_overlap(data)
    plan = Plan(
        samples=len(material.known),
        batch=recipe.batch.id,
        epochs=recipe.schedule.epochs,
        steps=recipe.schedule.steps,
    )
    rows = 1 + (recipe.batch.aux_per_id if recipe.loss.outliers else 0)
    if rows * plan.smallest_part(world.size, recipe.batch.accumulate) == 1:
        check_single_row(module, example, recipe)
    feed = Feed(recipe, plan, material.known, material.outliers, world)
    looks = recipe.sampling.kind == "cluster-energy" or recipe.loss.virtual is not None
    if looks:
        _ = network.head  # Raises here if there is none, and not after an hour.
    return Run(
        recipe=resolved(recipe, module, material.known, material.outliers, world),
        plan=plan,
        feed=feed,
        world=world,
        classes=network.classes,
        network=network if looks else None,
    )


def warn_of_overlap(data: TrainingData) -> None:
    """Warn of classes in both sets, by name; or say that this could not be told."""
    ours, theirs = data.names()
    if ours is None or theirs is None:
        which, option = ("known", "id") if ours is None else ("auxiliary", "aux")
        _log.warning(
            "whether known classes are among the outliers was not checked, as the %s classes have "
            "no names; give them (--%s-classes, TrainingData.%s_classes).",
            which,
            option,
            option,
        )
        return
    pairs = overlapping(ours, theirs)
    if pairs:
        shown = ", ".join(f"{a!r} ({b!r})" for a, b in pairs[:_SHOWN])
        more = f" and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
        warnings.warn(
            f"{len(pairs)} auxiliary classes look like known ones: {shown}{more}. Training would "
            "call known things unknown; leave these out of the auxiliary set.",
            GradoodWarning,
            stacklevel=2,
        )
