"""What the model makes of inputs that were moved along their own gradient."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from gradood.errors import TapError
from gradood.evidence.requests import (
    FEATURES,
    LOGITS,
    Activation,
    Gradient,
    Perturbation,
    Perturbed,
    Read,
)
from gradood.evidence.summaries import MAP
from gradood.taps import INPUT, HeadReading, Network, Reading, Tap

__all__ = ["input_gradients", "perturbed", "read_perturbed"]


def input_gradients(
    network: Network, x: Tensor, reads: Iterable[Read]
) -> dict[Perturbation, Gradient]:
    """The gradient, in the shared forward, that each perturbation asked for follows.

    Args:
        network: the observed model.
        x: (batch, …).
        reads: all that is asked for.

    Raises:
        TapError: there is no such gradient, or `std` does not fit the channels.
        NotFittedError: a `FittedScore` comes without the state of a detector.
    """
    steps = dict.fromkeys(read.perturbation for read in reads if isinstance(read, Perturbed))
    for step in steps:
        if network.opaque is not None:
            raise TapError(
                f"the gradient with respect to the input cannot be taken, as autograd cannot "
                f"follow this model: {network.opaque}. Change the model, or read something else."
            )
        if not x.is_floating_point():
            raise TapError(
                f"the inputs are whole numbers ({x.dtype}), with respect to which there is no "
                "gradient; expected a floating type. Let the model take what follows their "
                "embedding, or read something else."
            )
        channels = x.shape[1] if x.ndim > 1 else 1
        if len(step.std) not in (1, channels):
            raise TapError(
                f"std has {len(step.std)} values, and the inputs have {channels} channels; give "
                "one value, or one per channel."
            )
    return {step: Gradient(step.objective, INPUT, MAP) for step in steps}


def perturbed(x: Tensor, gradient: Tensor, step: Perturbation) -> Tensor:
    """``x + ε · sign(gradient) ⊙ m / std``.

    Which values move does not depend on how the device sorts: of those with equal gradients, the
    first ones do. Where the gradient is NaN, so is the result.

    Args:
        x: (batch, …).
        gradient: of the same shape.
        step: ε, m and std.

    Cost:
        A partial sort of each row if not all values move.
    """
    std = x.new_tensor(step.std, dtype=torch.float64)
    size = (step.epsilon / std).to(x.dtype).reshape(-1, *[1] * (x.ndim - 2))
    moved = gradient.sign() * size
    if step.share < 1:
        moved = moved.where(_chosen(gradient, step), 0)
    return x + moved.masked_fill(gradient.isnan(), torch.nan)


def _chosen(gradient: Tensor, step: Perturbation) -> Tensor:
    flat = gradient.abs().flatten(1) if gradient.ndim > 1 else gradient.abs()[:, None]
    salience = flat if step.pixels == "least" else -flat
    count = max(1, int(flat.shape[1] * step.share))
    # Not kthvalue, which has no deterministic version on CUDA.
    least = salience.topk(count, dim=1, largest=False, sorted=False).values
    last = least.amax(1, keepdim=True)
    below, equal = salience < last, salience == last
    room = count - below.sum(1, keepdim=True)
    return (below | (equal & (equal.cumsum(1, dtype=torch.int32) <= room))).reshape(gradient.shape)


def read_perturbed(
    network: Network, x: Tensor, gradients: Mapping[Perturbation, Tensor], reads: Iterable[Read]
) -> dict[Read, Tensor]:
    """Everything read of perturbed inputs.

    Args:
        network: the observed model.
        x: (batch, …).
        gradients: of each perturbation's objective.
        reads: all that is asked for.

    Returns:
        Logits (batch, classes) and features (batch, width) as the model gives them, and summaries.

    Cost:
        One forward for each perturbation.
    """
    found: dict[Read, Tensor] = {}
    asked = [read for read in reads if isinstance(read, Perturbed)]
    for step, gradient in gradients.items():
        of = {read.what: read for read in asked if read.perturbation == step}
        moved = perturbed(x, gradient, step)
        taken: HeadReading | None = None
        with Tap(network.views) as tap:
            for what, read in of.items():
                if isinstance(what, Activation):
                    tap.value(what.site, _summary(network, what, read, found))
                elif what == FEATURES:
                    taken = network.watch_head(tap, moved)
            logits = network.logits_of(tap.run(moved))
            if taken is not None:
                found[of[FEATURES]] = taken.features(logits)
        if LOGITS in of:
            found[of[LOGITS]] = logits
    return found


def _summary(
    network: Network, what: Activation, read: Perturbed, found: dict[Read, Tensor]
) -> Reading:
    layer = network.layers.get(what.site.layer)
    channels = 1 if layer is None else layer.channels

    def reading(seen: Tensor) -> None:
        found[read] = what.summary.reduce(seen, min(channels, seen.ndim - 1))

    return reading
