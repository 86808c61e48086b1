"""A classifier as observed: its head, its layers, and what each of them feeds."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gradood.errors import TapError, suggest
from gradood.taps.arguments import Inputs
from gradood.taps.attended import attended
from gradood.taps.graph import Stage
from gradood.taps.head import Head, linear_weight
from gradood.taps.head_reading import HeadReading
from gradood.taps.isolation import device_of, left_as_found
from gradood.taps.site import Site
from gradood.taps.tap import Tap
from gradood.taps.view import Views
from gradood.taps.wrap import Link, Output, logits_of

__all__ = [
    "LastMap",
    "Layer",
    "Network",
]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it ran.

    Attributes:
        name: module name.
        kind: class name.
        calls: how often it ran in one forward.
        shape: of its output without the batch; empty if that is no tensor.
        channels: dimension of the channels in its output, batch included.
        norm: whether it normalizes.
        output: the site of what it computes (the input of its activation, if it holds one).
        positive: the site whose sign decides the gradient at `output`; the input of a max pooling
            layer if only the positions that it selects count; None if nothing does.
        connected: whether the logits depend on its output; taken for granted where no graph says.
    """

    name: str
    kind: str
    calls: int
    shape: tuple[int, ...]
    channels: int
    norm: bool
    output: Site
    positive: Site | None
    connected: bool = True

    @property
    def is_attention(self) -> bool:
        """Whether it is called attention by its class."""
        kind = self.kind.lower()
        return "attention" in kind or "attn" in kind


@dataclass(frozen=True, slots=True)
class LastMap:
    """The map whose mean over positions is the features.

    Attributes:
        site: where it, or the map before its ReLU, is visible.
        positions: how many positions the mean was taken over on the example.
    """

    site: Site
    positions: int


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier, observed once on an example; the model itself is not changed.

    Attributes:
        module: the unwrapped model; only its `views` are run.
        layers: every layer that ran, by name, in the order of their first call.
        stages: see `find_stages`; of the normalization layers, or else of the hook layers.
        last_map: what is pooled into the features, or None where that is no mean over a map.
        concatenates: whether the last stage concatenates its layers' outputs (DenseNet).
        example: one input (1, …), for shapes and replays.
        classes: number of logits.
        overwrites: whether the model changes the tensor that it is given.
        opaque: why autograd cannot follow the model, or None.
        views: private copies of the module tree, to hook and run.
        output: which item of what the model returns holds the logits; None for the usual ones.
        unmasked: layers with positions that the mask of the inputs says nothing of.
        cautions: why its output may be no logits, such as that it is probabilities.
        link: what makes probabilities of the outputs.
        paired: whether the model gives one logit z, read as the two (0, z).
        input_std: what the preprocessing divided each channel of the input by, or all alike; None
            if nobody said.
    """

    module: nn.Module
    layers: dict[str, Layer]
    stages: tuple[Stage, ...]
    last_map: LastMap | None
    concatenates: bool
    example: Inputs
    classes: int
    overwrites: bool
    opaque: str | None
    views: Views = field(repr=False)
    _head: Head | str = field(repr=False)
    output: Output | None = None
    cautions: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()
    input_std: tuple[float, ...] | None = None
    link: Link = "softmax"
    paired: bool = False

    def logits_of(self, returned: Any) -> Tensor:
        """The logits (batch, classes) in what the model returned.

        Raises:
            TapError: they are not there.
        """
        logits = logits_of(returned, self.output)
        return paired(logits) if self.paired else logits

    @property
    def head(self) -> Head:
        """The verified head.

        Raises:
            TapError: none could be verified on the example.
        """
        if isinstance(self._head, str):
            raise TapError(self._head)
        return self._head

    def watch_head(self, tap: Tap, x: Inputs) -> HeadReading:
        """Let a tap note what the head takes; once the logits are known, features are made of it.

        Args:
            tap: on this network, not yet run.
            x: of a batch, that it will be run on.

        Raises:
            TapError: none could be verified on the example.
        """
        head = self.head
        reading = HeadReading(head, attended(x))
        if head.form != "output":
            tap.value(head.site, reading)
        return reading

    @property
    def head_found(self) -> bool:
        """Whether a head was verified, whose weights can be read."""
        return isinstance(self._head, Head) and self._head.form != "named"

    @property
    def features_found(self) -> bool:
        """Whether there are features: what a head takes, or what a named layer gives."""
        return isinstance(self._head, Head)

    @property
    def device(self) -> torch.device:
        """Where the model computes now."""
        return device_of(self.module)

    @property
    def sizes(self) -> dict[str, int]:
        """How many classes, and features where there are any, by name."""
        width = {"features": self.head.width} if self.features_found else {}
        return {"classes": self.classes, **width}

    @property
    def norms(self) -> tuple[Layer, ...]:
        """The normalization layers that the logits depend on, in order."""
        return tuple(layer for layer in self.layers.values() if layer.norm and layer.connected)

    @property
    def hook_layers(self) -> tuple[Layer, ...]:
        """The normalization layers, or, if there are none, the layers that feed a ReLU alone."""
        if self.norms:
            return self.norms
        with left_as_found(self.views) as view:  # as a weight may be computed where it is read
            return tuple(
                layer
                for layer in self.layers.values()
                if layer.positive == layer.output
                and layer.connected
                and linear_weight_or_kernel(
                    view.find(layer.name) or self.module.get_submodule(layer.name)
                )
            )

    @property
    def attends(self) -> bool:
        """Whether this is a transformer-like network: its last normalization is over tokens."""
        return bool(self.norms) and self.norms[-1].kind.endswith(("LayerNorm", "RMSNorm"))

    @property
    def normalizes_input(self) -> bool:
        """Whether the first layer to run is one that subtracts and divides by constants."""
        names = [name for name in self.layers if name]
        first = next((n for n in names if not any(m.startswith(f"{n}.") for m in names)), "")
        return first != "" and self.layers[first].kind == "Normalize"

    @property
    def has_attention(self) -> bool:
        """Whether attention ran, as the classes of its layers are called."""
        return any(layer.is_attention for layer in self.layers.values())

    def layer(self, name: str) -> Layer:
        """The layer of that name.

        Raises:
            TapError: unknown, not run, run more than once, or not giving a tensor.
        """
        layer = self.layers.get(own_name(self.module, name))
        if layer is None:
            known = dict(self.module.named_modules())
            if name in known:
                raise TapError(
                    f"layer {name!r} exists but did not run; {suggest(name, self.layers)}"
                )
            raise TapError(f"no layer {name!r}; {suggest(name, self.layers)}")
        if layer.calls > 1:
            raise TapError(
                f"layer {name!r} runs {layer.calls} times in one forward, so its output is not one "
                f"tensor; {suggest(name, [n for n, k in self.layers.items() if k.calls == 1])}"
            )
        if not layer.shape:
            raise TapError(
                f"layer {name!r} gives no floating tensor with a batch; name one inside it."
            )
        return layer

    def replay(self, site: Site, activations: Tensor) -> Tensor:
        """Features of the rest of the network, run from given activations at `site`.

        Args:
            site: where the network is cut.
            activations: (n, …) as that site holds them.

        Returns:
            (n, width) features, on the model's device.

        Cost:
            One forward per 64 rows.
        """
        parts: list[Tensor] = []
        for rows in activations.split(64):
            x = self.example.to(self.device)[[0] * len(rows)]
            with Tap(self.views) as tap:
                tap.replace(site, rows)
                reading = self.watch_head(tap, x)
                logits = self.logits_of(tap.run(x))
            parts.append(reading.features(logits).detach())
        return torch.cat(parts)


def paired(logits: Tensor) -> Tensor:
    """One logit z as the two (0, z), whose softmax has the sigmoid of z as its second.

    Args:
        logits: (batch, 1).
    """
    return torch.cat([torch.zeros_like(logits), logits], 1)


def own_name(module: nn.Module, name: str) -> str:
    """The name under which a submodule is known, where it is held under several."""
    meant = dict(module.named_modules(remove_duplicate=False)).get(name)
    return next((own for own, child in module.named_modules() if child is meant), name)


def linear_weight_or_kernel(module: nn.Module) -> bool:
    """Whether a layer is linear in its input: a linear layer or a convolution of any size."""
    return isinstance(module, nn.modules.conv._ConvNd) or linear_weight(module) is not None
