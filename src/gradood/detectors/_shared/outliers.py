"""Outliers made from in-distribution data alone, for the detectors that need some."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gradood.detectors._shared.layers import early_blocks, early_layers
from gradood.errors import DataError, TapError
from gradood.evidence import FEATURES, MAP, Activation, gather
from gradood.functional.logits import energy
from gradood.functional.moments import ClassMoments, Extremes
from gradood.functional.samples import Selection
from gradood.taps import Network, Site, described

__all__ = ["EarlyMixing", "find_cut", "input_extremes", "noise_features"]

_BUDGET = 1 << 29
"""Bytes of early class means held; classes beyond it are left out of the mixing."""


@dataclass(frozen=True, eq=False, slots=True)
class EarlyMixing:
    """Early activations of a seeded few samples, and the mean early activation of the classes.

    Where the means of all classes would take more than 512 MB, a seeded part of the classes is
    used, and only samples whose second most likely class is among them.

    Attributes:
        selection: columns ``key``, ``early`` (n, …) and ``second`` (n,), an index into `means`.
        means: early activations, flattened, of the classes used.
    """

    selection: Selection
    means: ClassMoments

    @staticmethod
    def of(early: Tensor, logits: Tensor, labels: Tensor, keys: Tensor, n: int) -> "EarlyMixing":
        """What one batch contributes.

        Args:
            early: (batch, …) activations.
            logits: (batch, classes).
            labels: (batch,) true classes.
            keys: (batch,) content keys.
            n: samples to keep.
        """
        classes = logits.shape[1]
        if classes < 2:
            raise DataError(
                "grood mixes with the second most likely class; the model has one class."
            )
        place = _class_places(classes, early[0].numel(), labels.device)
        second = place[logits.topk(2, 1).indices[:, 1]]
        usable = second >= 0
        selection = Selection.of(n, key=keys[usable], early=early[usable], second=second[usable])
        own = place[labels]
        inside = own >= 0
        means = ClassMoments.of(early[inside].flatten(1), own[inside], int(place.max()) + 1)
        return EarlyMixing(selection, means)

    def merge(self, other: "EarlyMixing") -> "EarlyMixing":
        """Of both sets of samples."""
        return EarlyMixing(self.selection.merge(other.selection), self.means.merge(other.means))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of this state, by name."""
        return {**self.selection.tensors(), **self.means.tensors()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "EarlyMixing":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        means = {name: tensors[name] for name in ("count", "mean") if name in tensors}
        columns = {name: tensor for name, tensor in tensors.items() if name not in means}
        mixing = cls(Selection.from_tensors(columns), ClassMoments.from_tensors(means))
        second = mixing.selection.columns.get("second", means["count"][:0])
        known = bool(((second >= 0) & (second < len(means["count"]))).all())
        if columns.keys() != {"key", "early", "second", "size"} or not known:
            raise DataError("early activations cannot be made of these tensors.")
        return mixing

    def outliers(self, mix: float) -> Tensor:
        """(n, …) mixed early activations.

        Args:
            mix: share of the sample's own activation.

        Raises:
            DataError: no sample's second most likely class occurs in the fit data.
        """
        columns = self.selection.columns
        usable = self.means.count[columns["second"]] > 0
        if not bool(usable.any()):
            raise DataError(
                "grood cannot make synthetic outliers: no fit sample's second most likely class "
                "occurs in the fit data; give samples of more classes, or "
                "ood_prototype='class-mean'."
            )
        early, second = columns["early"][usable], columns["second"][usable]
        other = _settled(self.means.mean[second]).to(early).reshape(early.shape)
        return mix * early + (1.0 - mix) * other


def _settled(values: Tensor) -> Tensor:
    """Float64 values without their last 12 bits, in which the order of a sum shows.

    The mean of a few float32 numbers often lies exactly between two of them, and rounding it to one
    would depend on how the fit was sharded.
    """
    scaled = 4097.0 * values
    return scaled - (scaled - values)


def _class_places(classes: int, elements: int, device: torch.device) -> Tensor:
    """(classes,) index of each class among those used, or −1."""
    used = max(2, min(classes, _BUDGET // (8 * max(1, elements))))
    # On the CPU, whatever the default device is: the same classes everywhere.
    place = torch.full((classes,), -1, dtype=torch.int64, device="cpu")
    generator = torch.Generator("cpu").manual_seed(0)
    chosen = torch.randperm(classes, generator=generator, device="cpu")[:used].sort().values
    place[chosen] = torch.arange(len(chosen), device="cpu")
    return place.to(device)


def find_cut(network: Network, probe: Tensor, name: str | None) -> Site:
    """A layer whose output decides everything after it; verified by a replay.

    Args:
        network: the observed model.
        probe: at least two inputs; the second is replayed from the activations of the third while
            the network runs on another.
        name: the layer to use, or None for the first default that is a cut.

    Raises:
        TapError: the layer is none, or there is none.
    """
    _ = network.head  # Says itself why there is none.
    if name is None:
        sites = early_layers(network)
        sites += tuple(site for site in early_blocks(network) if site not in sites)
    else:
        sites = (network.layer(name).output,)
    rows = probe[1:3].clone()
    for site in sites:
        read = Activation(site, MAP)
        try:
            seen = gather(network, rows, (read, FEATURES))
            replayed = network.replay(site, seen[read])
        except TapError:
            if name is not None:
                raise
            continue
        scale = seen.features.abs().max().clamp_min(1e-6)
        if float((replayed - seen.features).abs().max() / scale) < 1e-3:
            return site
    tried = ", ".join(map(str, sites)) or "none"
    raise TapError(
        f"grood mixes activations at an early layer that everything after it depends on alone; "
        f"tried {tried}. Name early_layer=…, or use ood_prototype='class-mean'."
    )


def input_extremes(ranges: Tensor) -> Extremes:
    """Extremes per input channel of a batch of ranges (batch, 2, channels)."""
    return Extremes(ranges[:, 0].amin(0), ranges[:, 1].amax(0))


def noise_features(network: Network, inputs: Extremes, n: int) -> Tensor:
    """Features (n, width) of the tenth, by highest free energy, of 10 n blurred noise inputs.

    Args:
        network: the observed model.
        inputs: the range of each input channel in the fit data.
        n: how many to keep.
    """
    example = network.example
    if not isinstance(example, Tensor):
        raise TapError(
            f"noise is made for models of a single tensor; this one takes {described(example)}."
        )
    generator = torch.Generator("cpu").manual_seed(0)
    shape = (10 * n, *example.shape[1:])
    noise = torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")
    if noise.ndim == 4:
        kernel = noise.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
        channels = noise.shape[1]
        blur = (kernel[:, None] * kernel).expand(channels, 1, 5, 5)
        padded = F.pad(noise, (2, 2, 2, 2), mode="replicate")
        noise = F.conv2d(padded, blur, groups=channels)
    each = (1, -1) + (1,) * (noise.ndim - 2)
    low, high = inputs.low.cpu().reshape(each), inputs.high.cpu().reshape(each)
    x = (low + noise * (high - low)).to(network.device, example.dtype)
    parts = [gather(network, rows, (FEATURES,)) for rows in x.split(64)]
    features = torch.cat([part.features for part in parts])
    scores = energy(torch.cat([part.logits for part in parts]))
    return features[scores.topk(n).indices]
