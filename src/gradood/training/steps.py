"""Which samples each step takes: a pure function of the step, so that a run can begin anywhere."""

from dataclasses import dataclass

__all__ = ["Part", "Plan", "StepPlan"]


@dataclass(frozen=True, slots=True)
class Part:
    """What one process computes at once.

    Attributes:
        start: first known sample of the part within its step.
        stop: after the last.
        share: of the step's known samples; 0 for a part that only keeps others company.
    """

    start: int
    stop: int
    share: float


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One optimizer step, over all processes.

    Attributes:
        step: from 0, counted over the whole run.
        epoch: from 0.
        id_start: position of its first known sample.
        id_count: known samples; the last step of an epoch may have fewer than the others.
    """

    step: int
    epoch: int
    id_start: int
    id_count: int

    def parts(self, rank: int, world: int, accumulate: int) -> list[Part]:
        """What one of several processes computes, in its order.

        The parts of all processes in the order of their ranks are the step; each is computed with
        as many outliers per known sample. A process for which nothing is left repeats the first
        sample with no weight, as the others wait for it.

        Args:
            rank: of the process, from 0.
            world: number of processes.
            accumulate: parts for each.
        """
        pieces = world * accumulate
        edges = [self.id_count * i // pieces for i in range(pieces + 1)]
        found = []
        for i in range(rank * accumulate, (rank + 1) * accumulate):
            start, stop = edges[i], edges[i + 1]
            if start < stop:
                found.append(Part(start, stop, (stop - start) / self.id_count))
            elif world > 1:
                found.append(Part(0, 1, 0.0))
        return found


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of a run.

    Attributes:
        samples: known samples in an epoch; every one is used in each epoch.
        batch: known samples in a step.
        epochs: at most.
        steps: at most, or None.
    """

    samples: int
    batch: int
    epochs: int
    steps: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        """The last of them may be smaller."""
        return -(-self.samples // self.batch)

    @property
    def total(self) -> int:
        """Steps of the run."""
        total = self.steps_per_epoch * self.epochs
        return total if self.steps is None else min(total, self.steps)

    def step(self, number: int) -> StepPlan:
        """A step by its number from 0."""
        epoch, inside = divmod(number, self.steps_per_epoch)
        start = inside * self.batch
        return StepPlan(
            step=number,
            epoch=epoch,
            id_start=epoch * self.samples + start,
            id_count=min(self.batch, self.samples - start),
        )

    def smallest_part(self, world: int, accumulate: int) -> int:
        """Known samples in the smallest part that any process computes at once."""
        last = min(self.steps_per_epoch, self.total) - 1
        parts = [
            part
            for number in (0, last)
            for rank in range(world)
            for part in self.step(number).parts(rank, world, accumulate)
        ]
        return min(part.stop - part.start for part in parts)

    def ends_epoch(self, number: int) -> bool:
        """Whether the epoch, or the run, ends with this step."""
        return (number + 1) % self.steps_per_epoch == 0 or number + 1 == self.total
