"""The batches of a run, from any step on."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from gradood.errors import DataError
from gradood.training.distributed import World
from gradood.training.recipe import Recipe
from gradood.training.samples import Samples
from gradood.training.steps import Part, Plan, StepPlan

__all__ = ["Fed", "Feed", "Pool"]


@dataclass(frozen=True, eq=False, slots=True)
class Pool:
    """This process's share of the candidates of a step.

    Attributes:
        x: (n, …).
        start: position of the first candidate of all processes.
    """

    x: Tensor
    start: int


@dataclass(frozen=True, eq=False, slots=True)
class Fed:
    """What one process needs for a step, on the CPU.

    Attributes:
        plan: of the step.
        parts: in order.
        known: images and labels of each part.
        outliers: images of each part, or none if they are to be chosen from `pool`, or not needed.
        pool: candidates, if the recipe clusters.
    """

    plan: StepPlan
    parts: list[Part]
    known: list[tuple[Tensor, Tensor]]
    outliers: list[Tensor]
    pool: Pool | None


class Feed:
    """The batches of one process.

    Args:
        recipe: its batch and sampling.
        plan: all steps.
        known: in-distribution samples.
        outliers: auxiliary samples, or None where the recipe needs none.
        world: the processes.

    Raises:
        DataError: the auxiliary set is smaller than what one step draws from it.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Plan,
        known: Samples,
        outliers: Samples | None,
        world: World,
    ) -> None:
        self._recipe = recipe
        self._plan = plan
        self._known = known
        self._outliers = outliers if recipe.loss.outliers else None
        self._world = world
        self._clusters = self._outliers is not None and recipe.sampling.kind == "cluster-energy"
        per_id = recipe.sampling.candidates_per_id if self._clusters else recipe.batch.aux_per_id
        self._per_id = per_id
        if self._outliers is not None and len(self._outliers) < per_id * recipe.batch.id:
            what = "candidates" if self._clusters else "outliers"
            raise DataError(
                f"the auxiliary set has {len(self._outliers)} samples to train on; one step takes "
                f"{per_id * recipe.batch.id} {what} ({per_id} for each of {recipe.batch.id} known "
                "samples): give more, or a smaller batch."
            )

    def steps(self, numbers: range, *, workers: int = 0) -> Iterator[Fed]:
        """What is needed for the steps of some numbers, one after another."""
        known = self._known.batches(
            (
                range(plan.id_start + part.start, plan.id_start + part.stop)
                for plan, parts in self._planned(numbers)
                for part in parts
            ),
            workers=workers,
        )
        outliers = self._outlier_batches(numbers, workers)
        for plan, parts in self._planned(numbers):
            chosen: list[Tensor] = []
            pool = None
            if outliers is not None and self._clusters:
                pool = Pool(next(outliers)[0], plan.id_start * self._per_id)
            elif outliers is not None:
                chosen = [next(outliers)[0] for _ in parts]
            yield Fed(plan, parts, [next(known) for _ in parts], chosen, pool)

    def at(self, positions: list[int]) -> Tensor:
        """Auxiliary images at given positions."""
        assert self._outliers is not None
        return self._outliers.batch(positions)[0]

    def _planned(self, numbers: range) -> Iterator[tuple[StepPlan, list[Part]]]:
        """Each step, and the parts that are this process's."""
        world, accumulate = self._world, self._recipe.batch.accumulate
        for number in numbers:
            plan = self._plan.step(number)
            yield plan, plan.parts(world.rank, world.size, accumulate)

    def _outlier_batches(
        self, numbers: range, workers: int
    ) -> Iterator[tuple[Tensor, Tensor]] | None:
        if self._outliers is None:
            return None
        positions = self._pools(numbers) if self._clusters else self._others(numbers)
        return self._outliers.batches(positions, workers=workers)

    def _pools(self, numbers: range) -> Iterator[range]:
        """This process's share of the candidates of each step."""
        k, rank, size = self._per_id, self._world.rank, self._world.size
        for plan, _ in self._planned(numbers):
            start, count = plan.id_start * k, plan.id_count * k
            yield range(start + count * rank // size, start + count * (rank + 1) // size)

    def _others(self, numbers: range) -> Iterator[range]:
        """As many outliers for each part as go with its known samples."""
        k = self._per_id
        for plan, parts in self._planned(numbers):
            for part in parts:
                yield range((plan.id_start + part.start) * k, (plan.id_start + part.stop) * k)
