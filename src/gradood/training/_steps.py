"""Steps of a run: their samples, learning rate and batches, each a function of the step's number.

So a run can begin at any step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi

from torch import Tensor

from gradood.errors import DataError
from gradood.taps import Inputs
from gradood.training._distributed import Processes
from gradood.training._inputs import fills_of
from gradood.training._samples import Samples
from gradood.training.recipe import Recipe, Schedule

__all__ = ["Part", "Step", "StepBatch", "StepBatches", "Steps", "learning_rate"]


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of a step that one process computes in one forward pass.

    Attributes:
        start: first in-distribution sample of the part within its step.
        stop: after the last.
        share: of the step's in-distribution samples; 0 for a padding part, which keeps the
            processes at the same number of forward passes and adds nothing to the loss.
    """

    start: int
    stop: int
    share: float


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step, over all processes.

    Attributes:
        number: from 0, counted over the whole run.
        epoch: from 0.
        id_start: position of its first in-distribution sample.
        id_count: in-distribution samples; the last step of an epoch may have fewer.
    """

    number: int
    epoch: int
    id_start: int
    id_count: int

    def parts(self, rank: int, processes: int, accumulate: int) -> list[Part]:
        """The parts that one process computes, in its order.

        The parts of all processes in the order of their ranks are the step; each is computed with
        as many outliers per in-distribution sample. A process without samples gets padding parts
        of the first sample.

        Args:
            rank: of the process, from 0.
            processes: how many there are.
            accumulate: parts for each process.
        """
        pieces = processes * accumulate
        edges = [self.id_count * i // pieces for i in range(pieces + 1)]
        parts = []
        for i in range(rank * accumulate, (rank + 1) * accumulate):
            start, stop = edges[i], edges[i + 1]
            if start < stop:
                parts.append(Part(start, stop, (stop - start) / self.id_count))
            elif processes > 1:
                parts.append(Part(0, 1, 0.0))
        return parts


@dataclass(frozen=True, slots=True)
class Steps:
    """All steps of a run.

    Attributes:
        samples: in-distribution samples in an epoch; each is used once in each epoch.
        batch: in-distribution samples in a step.
        epochs: at most.
        limit: at most so many steps, or None.
    """

    samples: int
    batch: int
    epochs: int
    limit: int | None = None

    @property
    def per_epoch(self) -> int:
        """Steps of an epoch, of which the last may be smaller."""
        return -(-self.samples // self.batch)

    @property
    def total(self) -> int:
        """Steps of the run."""
        total = self.per_epoch * self.epochs
        return total if self.limit is None else min(total, self.limit)

    def step(self, number: int) -> Step:
        """A step by its number from 0."""
        epoch, index = divmod(number, self.per_epoch)
        start = index * self.batch
        return Step(
            number=number,
            epoch=epoch,
            id_start=epoch * self.samples + start,
            id_count=min(self.batch, self.samples - start),
        )

    def smallest_part(self, processes: int, accumulate: int) -> int:
        """In-distribution samples in the smallest part of any process."""
        last = min(self.per_epoch, self.total) - 1
        parts = [
            part
            for number in (0, last)
            for rank in range(processes)
            for part in self.step(number).parts(rank, processes, accumulate)
        ]
        return min(part.stop - part.start for part in parts)

    def ends_epoch(self, number: int) -> bool:
        """Whether the epoch, or the run, ends with this step."""
        return (number + 1) % self.per_epoch == 0 or number + 1 == self.total


def learning_rate(
    schedule: Schedule, lr: float, *, step: int, total: int, steps_per_epoch: int
) -> float:
    """The learning rate of one step.

    Args:
        schedule: its kind and numbers.
        lr: at the start.
        step: from 0.
        total: steps of the run.
        steps_per_epoch: for milestones.

    >>> [learning_rate(Schedule(lr_min=0.0), 1.0, step=s, total=4, steps_per_epoch=2)
    ...  for s in (0, 2)]
    [1.0, 0.5]
    """
    if step < schedule.warmup:
        return lr * (step + 1) / schedule.warmup
    if schedule.kind == "multi-step":
        passed = sum(step // steps_per_epoch >= milestone for milestone in schedule.milestones)
        return lr * schedule.gamma**passed
    progress = (step - schedule.warmup) / max(total - schedule.warmup, 1)
    return schedule.lr_min + (lr - schedule.lr_min) * (1 + cos(pi * progress)) / 2


@dataclass(frozen=True, eq=False, slots=True)
class StepBatch:
    """The samples of one process for a step, on the CPU.

    Attributes:
        step: whose they are.
        parts: of this process, in order.
        known: images and labels of each part.
        outliers: images of each part; empty if there are none, or they come from `pool`.
        pool: (n, …) this process's share of the candidate outliers, if the recipe clusters.
        pool_start: position of the first candidate of all processes.
    """

    step: Step
    parts: list[Part]
    known: list[tuple[Inputs, Tensor]]
    outliers: list[Inputs]
    pool: Inputs | None = None
    pool_start: int = 0


class StepBatches:
    """The batches of one process, from any step on.

    Args:
        recipe: its batch and sampling.
        steps: all steps.
        known: in-distribution samples.
        outliers: auxiliary samples, or None where the recipe needs none.
        processes: that train together.

    Raises:
        DataError: the auxiliary set is smaller than what one step draws from it.
    """

    def __init__(
        self,
        recipe: Recipe,
        steps: Steps,
        known: Samples,
        outliers: Samples | None,
        processes: Processes,
    ) -> None:
        self._recipe = recipe
        self._steps = steps
        self._known = known
        self._outliers = outliers if recipe.loss.outliers else None
        self._processes = processes
        self.fills = fills_of(known.dataset)
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

    def batches(self, numbers: range, *, workers: int = 0) -> Iterator[StepBatch]:
        """The batches of the steps of some numbers, in order.

        Args:
            numbers: of the steps.
            workers: processes that decode ahead.
        """
        known = self._known.batches(
            (
                range(step.id_start + part.start, step.id_start + part.stop)
                for step, parts in self._partitioned(numbers)
                for part in parts
            ),
            workers=workers,
        )
        outliers = self._outlier_batches(numbers, workers)
        for step, parts in self._partitioned(numbers):
            images: list[Inputs] = []
            pool = None
            if outliers is not None and self._clusters:
                pool = next(outliers)[0]
            elif outliers is not None:
                images = [next(outliers)[0] for _ in parts]
            pool_start = 0 if pool is None else step.id_start * self._per_id
            yield StepBatch(step, parts, [next(known) for _ in parts], images, pool, pool_start)

    def outliers_at(self, positions: list[int]) -> Inputs:
        """Auxiliary images (n, …) at some positions of their order."""
        assert self._outliers is not None
        return self._outliers.batch(positions)[0]

    def _partitioned(self, numbers: range) -> Iterator[tuple[Step, list[Part]]]:
        """Each step, and the parts of this process."""
        processes, accumulate = self._processes, self._recipe.batch.accumulate
        for number in numbers:
            step = self._steps.step(number)
            yield step, step.parts(processes.rank, processes.size, accumulate)

    def _outlier_batches(
        self, numbers: range, workers: int
    ) -> Iterator[tuple[Inputs, Tensor]] | None:
        if self._outliers is None:
            return None
        positions = self._pool_positions if self._clusters else self._outlier_positions
        return self._outliers.batches(positions(numbers), workers=workers)

    def _pool_positions(self, numbers: range) -> Iterator[range]:
        """This process's share of the candidates of each step."""
        k, rank, size = self._per_id, self._processes.rank, self._processes.size
        for step, _ in self._partitioned(numbers):
            start, count = step.id_start * k, step.id_count * k
            yield range(start + count * rank // size, start + count * (rank + 1) // size)

    def _outlier_positions(self, numbers: range) -> Iterator[range]:
        """The outliers of each part, in proportion to its in-distribution samples."""
        k = self._per_id
        for step, parts in self._partitioned(numbers):
            for part in parts:
                yield range((step.id_start + part.start) * k, (step.id_start + part.stop) * k)
