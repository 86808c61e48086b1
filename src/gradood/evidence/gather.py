"""One look: everything all detectors read, from one forward and one backward per objective."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradood.errors import TapError
from gradood.evidence.keys import content_keys
from gradood.evidence.parameters import parameter_norms
from gradood.evidence.perturbed import input_gradients, read_perturbed
from gradood.evidence.reads import (
    FEATURES,
    INPUT_RANGE,
    KEYS,
    LOGITS,
    Activation,
    Gradient,
    Objective,
    ParameterNorm,
    Perturbed,
    Read,
)
from gradood.taps import Head, Network, Reading, Site, Tap, logits_of, positions

__all__ = ["Evidence", "Linear", "gather"]


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """The head's numbers, as they were when the batch was read.

    Attributes:
        weight: (classes, width).
        bias: (classes,) or None.
    """

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """What was read of one batch; plain tensors without graph.

    Attributes:
        size: number of samples.
        classes: number of classes.
        head: the head's weight and bias, or None if no detector reads features.
        labels: (batch,) int64 true classes, or None.
        reads: what was asked for, in order, repetitions included.
    """

    size: int
    classes: int
    head: Linear | None
    labels: Tensor | None
    reads: tuple[Read, ...]
    _read: dict[Read, Tensor]

    def __getitem__(self, read: Read) -> Tensor:
        return self._read[read]

    @property
    def readings(self) -> tuple[Tensor, ...]:
        """One tensor, the batch first, per request in `reads`."""
        return tuple(self._read[read] for read in self.reads)

    def only(self, reads: tuple[Read, ...]) -> "Evidence":
        """The part of the evidence that one detector asked for."""
        needs_head = any(_needs_head(read) for read in reads)
        found = {read: self._read[read] for read in reads}
        return replace(self, reads=reads, _read=found, head=self.head if needs_head else None)

    @staticmethod
    def joined(parts: Sequence["Evidence"]) -> "Evidence":
        """Several batches, of the same model and reads, as one."""
        first = parts[0]
        if len(parts) == 1:
            return first
        labels = [part.labels for part in parts if part.labels is not None]
        return replace(
            first,
            size=sum(part.size for part in parts),
            labels=torch.cat(labels) if len(labels) == len(parts) else None,
            _read={read: torch.cat([part[read] for part in parts]) for read in first._read},
        )

    @property
    def logits(self) -> Tensor:
        """(batch, classes) in float64."""
        return self._read[LOGITS]

    @property
    def sound(self) -> Tensor:
        """(batch,) bool, whether the model came to an answer: no NaN, and a finite largest logit.

        Where it did not, activations are NaN or infinite, which a score may not show: no NaN counts
        as an active ReLU, and clipping makes an infinity ordinary.
        """
        return self._read[LOGITS].amax(1).isfinite()

    @property
    def features(self) -> Tensor:
        """(batch, width) in float32 or wider."""
        return self._read[FEATURES]

    @property
    def linear(self) -> Linear:
        """The head; reading features guarantees it."""
        assert self.head is not None
        return self.head


def gather(
    network: Network, x: Tensor, reads: Iterable[Read], labels: Tensor | None = None
) -> Evidence:
    """Read one batch.

    Args:
        network: the observed model.
        x: (batch ≥ 1, …) on the model's device.
        reads: the union of what all detectors ask for.
        labels: (batch,) true classes, passed on.

    Raises:
        TapError: something asked for cannot be read.

    Cost:
        One forward; one truncated backward per distinct objective; `ParameterNorm` its own pass.
        Each distinct `Perturbation` one more forward; its gradient is taken through the first.
    """
    asked = tuple(reads)
    wanted = dict.fromkeys(asked)
    steps = input_gradients(network, x, wanted)
    gradients = _by_objective((*wanted, *steps.values()))
    needs_head = any(_needs_head(read) for read in wanted)
    found: dict[Read, Tensor] = {}
    features: list[Tensor] = []
    with Tap(network.views) as tap:
        if needs_head:
            head = network.head
            # A copy: models may go on to change what the head took, such as to normalize it.
            tap.value(head.site, lambda seen: features.append(head.features(seen).clone()))
        for read in wanted:
            if isinstance(read, Activation):
                tap.value(read.site, _keep(network, read, found))
        for targets in gradients.values():
            for site in targets:
                tap.gradient(site)
        logits = logits_of(tap.run(x.clone() if network.overwrites else x))
        if logits.shape[0] != len(x):
            raise TapError(f"the model gave {logits.shape[0]} rows of logits for {len(x)} inputs.")
        last = len(gradients) - 1
        for i, (objective, targets) in enumerate(gradients.items()):
            scalar = objective.of(logits, features[0] if features else None)
            receivers = {site: _all(network, reads_, found) for site, reads_ in targets.items()}
            tap.backward(scalar, receivers, keep=i < last)
    found |= read_perturbed(network, x, {s: found[g] for s, g in steps.items()}, wanted)
    for gradient in set(steps.values()) - wanted.keys():
        del found[gradient]
    for read in wanted:
        if isinstance(read, ParameterNorm):
            found[read] = parameter_norms(
                network.views, x.clone() if network.overwrites else x, read
            )
        elif read == KEYS:
            found[read] = content_keys(x)
        elif read == INPUT_RANGE:
            values = positions(x.float(), min(1, x.ndim - 1))
            found[read] = torch.stack([values.amin(-1), values.amax(-1)], 1)
    found[LOGITS] = logits.detach()
    if needs_head:
        found[FEATURES] = features[0].detach()
    # One place for all, also of a model spread over several devices; mps has no float64.
    device = torch.device("cpu") if logits.device.type == "mps" else logits.device
    found = {read: _widened(read, tensor.to(device)) for read, tensor in found.items()}
    linear = _linear(network.head, device) if needs_head else None
    labels = None if labels is None else labels.to(device)
    return Evidence(len(x), logits.shape[1], linear, labels, asked, found)


def _needs_head(read: Read) -> bool:
    if isinstance(read, Perturbed):
        return read.what == FEATURES
    return read == FEATURES or (isinstance(read, Gradient) and read.objective.features)


def _widened(read: Read, tensor: Tensor) -> Tensor:
    what = read.what if isinstance(read, Perturbed) else read
    if what == FEATURES:
        return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    return tensor.double() if what == LOGITS else tensor


def _linear(head: Head, device: torch.device) -> Linear:
    bias = head.bias
    return Linear(head.weight.to(device), None if bias is None else bias.to(device))


def _by_objective(reads: Iterable[Read]) -> dict[Objective, dict[Site, list[Gradient]]]:
    groups: dict[Objective, dict[Site, list[Gradient]]] = {}
    for read in reads:
        if isinstance(read, Gradient):
            groups.setdefault(read.objective, {}).setdefault(read.site, []).append(read)
    return groups


def _keep(network: Network, read: Activation | Gradient, found: dict[Read, Tensor]) -> Reading:
    layer = network.layers.get(read.site.layer)
    channels = 1 if layer is None else layer.channels

    def reading(tensor: Tensor) -> None:
        dim = min(channels, tensor.ndim - 1)
        found[read] = read.summary.reduce(tensor, dim)

    return reading


def _all(network: Network, reads: list[Gradient], found: dict[Read, Tensor]) -> Reading:
    readings = [_keep(network, read, found) for read in reads]

    def reading(tensor: Tensor) -> None:
        for one in readings:
            one(tensor)

    return reading
