"""What the model makes of inputs that were moved along their own gradient."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from gradood.errors import TapError
from gradood.evidence._padded import attended_positions, summarized
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
from gradood.taps import (
    INPUT,
    HeadReading,
    Inputs,
    Network,
    Reading,
    Tap,
    left_aligned,
    sequences,
    stepped,
)

__all__ = ["input_gradients", "perturbed", "read_perturbed"]


def input_gradients(
    network: Network, x: Inputs, reads: Iterable[Read]
) -> dict[Perturbation, Gradient]:
    """The gradient, in the shared forward, that each perturbation asked for follows.

    Args:
        network: the observed model.
        x: inputs.
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
        moved = _moved_tensor(x)
        if moved is None:
            kind = x.dtype if isinstance(x, Tensor) else ", ".join(x.leaves)
            raise TapError(
                f"the inputs are whole numbers ({kind}), with respect to which there is no "
                "gradient; expected a floating type. Let the model take what follows their "
                "embedding, or read something else."
            )
        channels = moved.shape[1] if moved.ndim > 1 else 1
        if len(step.std) not in (1, channels):
            raise TapError(
                f"std has {len(step.std)} values, and the inputs have {channels} channels; give "
                "one value, or one per channel."
            )
    return {step: Gradient(step.objective, INPUT, MAP) for step in steps}


def _moved_tensor(x: Inputs) -> Tensor | None:
    """The tensor that a step moves; None where there is none."""
    if isinstance(x, Tensor):
        return x if x.is_floating_point() else None
    name = stepped(x)
    return None if name is None else x.leaves[name]


def perturbed_inputs(x: Inputs, gradient: Tensor, step: Perturbation) -> Inputs:
    """As `perturbed`, of the tensor that a step moves; padding stays as it is.

    Args:
        x: inputs.
        gradient: of that tensor.
        step: ε, m and std.
    """
    if isinstance(x, Tensor):
        return perturbed(x, gradient, step)
    name = stepped(x)
    assert name is not None
    leaf, mask = x.leaves[name], attended_positions(x)
    if mask is None or name not in sequences(x, mask.shape[1]):
        return x.replaced({name: perturbed(leaf, gradient, step)})
    counts = mask.sum(1)
    aligned = left_aligned(gradient, mask)
    moved = leaf.clone()
    for row, count in enumerate(counts.tolist()):
        own = perturbed(leaf[row][mask[row]][None], aligned[row, :count][None], step)
        moved[row, mask[row]] = own[0]
    return x.replaced({name: moved})


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
    network: Network, x: Inputs, gradients: Mapping[Perturbation, Tensor], reads: Iterable[Read]
) -> dict[Read, Tensor]:
    """Everything read of perturbed inputs.

    Args:
        network: the observed model.
        x: inputs.
        gradients: of each perturbation's objective.
        reads: all that is asked for.

    Returns:
        Logits (batch, classes) and features (batch, width) as the model gives them, and summaries.

    Cost:
        One forward for each perturbation.
    """
    found: dict[Read, Tensor] = {}
    asked = [read for read in reads if isinstance(read, Perturbed)]
    mask = attended_positions(x)
    for step, gradient in gradients.items():
        of = {read.what: read for read in asked if read.perturbation == step}
        moved = perturbed_inputs(x, gradient, step)
        taken: HeadReading | None = None
        with Tap(network.views) as tap:
            for what, read in of.items():
                if isinstance(what, Activation):
                    tap.value(
                        what.site,
                        _summary(
                            network, what, mask, lambda seen, read=read: found.update({read: seen})
                        ),
                    )
                elif what == FEATURES:
                    taken = network.watch_head(tap, moved)
            logits = network.logits_of(tap.run(moved))
            if taken is not None:
                found[of[FEATURES]] = taken.features(logits)
        if LOGITS in of:
            found[of[LOGITS]] = logits
    return found


def _summary(
    network: Network, what: Activation, mask: Tensor | None, keep: Callable[[Tensor], None]
) -> Reading:
    layer = network.layers.get(what.site.layer)
    channels = 1 if layer is None else layer.channels

    def reading(seen: Tensor) -> None:
        keep(summarized(what.summary, seen, min(channels, seen.ndim - 1), mask))

    return reading
