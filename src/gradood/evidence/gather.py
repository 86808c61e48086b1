"""One look: everything all detectors read, from one forward and one backward per objective."""

from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor

from gradood.errors import TapError
from gradood.evidence._jacobians import jacobian_norms
from gradood.evidence._padded import attended_positions, summarized
from gradood.evidence._per_sample import parameter_norms
from gradood.evidence._perturbed import input_gradients, read_perturbed
from gradood.evidence.content_keys import content_keys
from gradood.evidence.evidence import Evidence, Linear, needs_head
from gradood.evidence.named_reads import Reads
from gradood.evidence.requests import (
    FEATURES,
    INPUT_RANGE,
    KEYS,
    LOGITS,
    Activation,
    FittedObjective,
    Gradient,
    JacobianNorm,
    Objective,
    ParameterNorm,
    Perturbed,
    Read,
)
from gradood.taps import (
    Head,
    HeadReading,
    Inputs,
    Network,
    OverwrittenError,
    Reading,
    Site,
    Tap,
    described,
    positions,
)

__all__ = ["gather"]

_TRIES = 3
"""Of a look in the middle of which another thread changes the model's weights."""


def gather(
    network: Network, x: Inputs, reads: Iterable[Read], labels: Tensor | None = None
) -> Evidence:
    """Read one batch.

    Args:
        network: the observed model.
        x: inputs of at least one row, on the model's device.
        reads: the union of what all detectors ask for.
        labels: (batch,) true classes, passed on.

    Raises:
        TapError: something asked for cannot be read, or the model's weights were changed in the
            middle of each of three tries.
        NotFittedError: a step along what a detector learns, without its state.

    Cost:
        One forward; one truncated backward per distinct objective; `ParameterNorm` and
        `JacobianNorm` passes of their own.
        Each distinct `Perturbation` one more forward; its gradient is taken through the first.
    """
    asked = Reads(reads)
    for _ in range(_TRIES - 1):
        try:
            return _gathered(network, x, asked, labels)
        except OverwrittenError:
            continue
    return _gathered(network, x, asked, labels)


def _gathered(network: Network, x: Inputs, asked: Reads, labels: Tensor | None) -> Evidence:
    wanted = dict.fromkeys(asked)
    steps = input_gradients(network, x, wanted)
    gradients = _by_objective((*wanted, *steps.values()))
    with_head = any(needs_head(read) for read in (*wanted, *steps.values()))
    found: dict[Read, Tensor] = {}
    graphs: dict[Read, Tensor] = {}
    taken: HeadReading | None = None
    mask = attended_positions(x)
    with Tap(network.views) as tap:
        if with_head:
            taken = network.watch_head(tap, x)
        for read in wanted:
            if isinstance(read, Activation):
                tap.value(read.site, _keep(network, read, found, mask))
        for read in _with_graph(gradients):
            tap.value(read.site, _keep_graph(network, read, graphs, mask))
        for site in chain.from_iterable(gradients.values()):
            tap.gradient(site)
        logits = network.logits_of(tap.run(x.clone() if network.overwrites else x))
        if logits.shape[0] != len(x):
            raise TapError(f"the model gave {logits.shape[0]} rows of logits for {len(x)} inputs.")
        graphs[LOGITS] = logits
        if taken is not None:
            graphs[FEATURES] = taken.features(logits)
        for i, (objective, targets) in enumerate(gradients.items()):
            scalar = _scalar(network, objective, graphs)
            receivers = {
                site: _all(network, reads_, found, mask) for site, reads_ in targets.items()
            }
            tap.backward(scalar, receivers, keep=i + 1 < len(gradients))
    found |= read_perturbed(network, x, {s: found[g] for s, g in steps.items()}, wanted)
    if steps:
        found = {read: tensor for read, tensor in found.items() if read in wanted}
    found |= _beside_the_forward(network, x, wanted)
    found[LOGITS] = logits.detach()
    if with_head:
        found[FEATURES] = graphs[FEATURES].detach()
    # One place for all, also of a model spread over several devices; mps has no float64.
    device = torch.device("cpu") if logits.device.type == "mps" else logits.device
    for read, tensor in found.items():
        wide = _widened(read, tensor.to(device))
        if wide is not tensor:
            found[read] = wide
    linear = _linear(network.head, device) if with_head and network.head_found else None
    labels = None if labels is None else labels.to(device)
    classes = 1 if network.link == "none" else logits.shape[1]
    return Evidence(len(x), classes, linear, labels, asked, found)


def _beside_the_forward(network: Network, x: Inputs, wanted: Iterable[Read]) -> dict[Read, Tensor]:
    """Readings of the inputs themselves, and those that take a pass of their own."""
    found: dict[Read, Tensor] = {}
    for read in wanted:
        if isinstance(read, ParameterNorm):
            inputs = x.clone() if network.overwrites else x
            found[read] = parameter_norms(network, inputs, read)
        elif isinstance(read, JacobianNorm):
            found[read] = jacobian_norms(network, x.clone() if network.overwrites else x, read)
        elif read == KEYS:
            found[read] = content_keys(x)
        elif read == INPUT_RANGE:
            found[read] = _input_range(x)
    return found


def _input_range(x: Inputs) -> Tensor:
    if not isinstance(x, Tensor):
        raise TapError(
            f"the range of the input is that of a single tensor; this model takes {described(x)}."
        )
    values = positions(x.float(), min(1, x.ndim - 1))
    return torch.stack([values.amin(-1), values.amax(-1)], 1)


def _widened(read: Read, tensor: Tensor) -> Tensor:
    what = read.what if isinstance(read, Perturbed) else read
    if what == FEATURES:
        return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    return tensor.double() if what == LOGITS else tensor


def _linear(head: Head, device: torch.device) -> Linear:
    weight, bias = head.linear()
    return Linear(weight.to(device), None if bias is None else bias.to(device))


_Objectives = dict[Objective | FittedObjective, dict[Site, list[Gradient]]]


def _by_objective(reads: Iterable[Read]) -> _Objectives:
    groups: _Objectives = {}
    for read in reads:
        if isinstance(read, Gradient):
            groups.setdefault(read.objective, {}).setdefault(read.site, []).append(read)
    return groups


def _with_graph(objectives: Iterable[Objective | FittedObjective]) -> Iterable[Activation]:
    """The activations that a gradient is taken through."""
    fitted = (one.score.reads for one in objectives if isinstance(one, FittedObjective))
    return dict.fromkeys(r for reads in fitted for r in reads if isinstance(r, Activation))


def _scalar(
    network: Network, objective: Objective | FittedObjective, graphs: dict[Read, Tensor]
) -> Tensor:
    """An objective's sum over the rows, with its graph."""
    if isinstance(objective, Objective):
        return objective.of(graphs[LOGITS], graphs.get(FEATURES))
    device = graphs[LOGITS].device
    # As wide as evidence is: what was learned was learned from that.
    with torch.autocast(device.type, enabled=False):
        readings: dict[Read, Tensor] = {
            read: _widened(read, graphs[read]) for read in objective.score.reads
        }
        head = _linear(network.head, device) if objective.features else None
        classes = graphs[LOGITS].shape[1]
        return objective.of(Evidence.of(readings, classes=classes, head=head)).sum()


def _keep(
    network: Network,
    read: Activation | Gradient,
    found: dict[Read, Tensor],
    mask: Tensor | None,
    *,
    graph: bool = False,
) -> Reading:
    layer = network.layers.get(read.site.layer)
    channels = 1 if layer is None else layer.channels

    def reading(tensor: Tensor) -> None:
        dim = min(channels, tensor.ndim - 1)
        found[read] = summarized(read.summary, tensor, dim, mask, graph=graph)

    return reading


def _keep_graph(
    network: Network, read: Activation, graphs: dict[Read, Tensor], mask: Tensor | None
) -> Reading:
    if read.summary.with_graph is None:
        raise TapError(
            f"the summary {read.summary.name!r} at {read.site} has no gradient to step along; take "
            "one with a with_graph, such as MEAN."
        )
    return _keep(network, read, graphs, mask, graph=True)


def _all(
    network: Network, reads: list[Gradient], found: dict[Read, Tensor], mask: Tensor | None
) -> Reading:
    readings = [_keep(network, read, found, mask) for read in reads]

    def reading(tensor: Tensor) -> None:
        for each in readings:
            each(tensor)

    return reading
