"""The learning rate as a function of the step, with nothing to save."""

from math import cos, pi

from gradood.training.recipe import Schedule

__all__ = ["learning_rate"]


def learning_rate(
    schedule: Schedule, lr: float, *, step: int, total: int, steps_per_epoch: int
) -> float:
    """The rate of one step.

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
