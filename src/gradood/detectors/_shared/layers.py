"""Which layers a detector reads when the user names none."""

from collections.abc import Collection, Sequence

from gradood.detectors.base import require
from gradood.errors import TapError
from gradood.taps import Layer, Network, Site

__all__ = [
    "attention_caveat",
    "early_blocks",
    "early_layers",
    "hook_layers",
    "inner_layers",
    "last_norms",
    "one_logit",
    "recorded_layers",
    "require_names",
]

_BLOCKS = 12
"""Of layers that are tried where no default is a cut."""
_STATISTICS = 1 << 21
"""Of classes × channels, whose ranges for ten powers take 160 MB."""


def require_names(
    layers: Sequence[str] | None, expected: str = "module names", *, least: int = 0
) -> None:
    """Check the option `layers` of a detector.

    Args:
        layers: as given; None is allowed.
        expected: in words.
        least: names at least.

    Raises:
        ConfigError: it is no sequence of names, or has too few.
    """
    if layers is None:
        return
    several = isinstance(layers, Collection) and not isinstance(layers, str)
    named = several and len(layers) >= least and all(isinstance(name, str) for name in layers)
    require(named, "layers", layers, expected)


def hook_layers(network: Network, names: Sequence[str] | None, method: str) -> tuple[Layer, ...]:
    """The layers a GAIA score watches: those named, else every normalization layer.

    A network without normalization is watched at the linear and convolution layers that feed a
    ReLU alone.

    Raises:
        TapError: a name cannot be used, the network has neither, or no gradients.
    """
    if network.opaque is not None:
        raise TapError(
            f"{method} reads gradients, and autograd cannot follow this model: {network.opaque}. "
            f"Change the model, or leave {method} out."
        )
    if names is not None:
        return tuple(network.layer(name) for name in names)
    layers = tuple(layer for layer in network.hook_layers if layer.calls == 1 and layer.shape)
    if not layers:
        raise TapError(
            f"{method} reads gradients at normalization layers, or at layers that feed a ReLU; "
            f"this model has neither. Name some with layers=[…], or leave {method} out."
        )
    return layers


def one_logit(network: Network, method: str) -> tuple[str, ...]:
    """A caveat for scores of softmax probabilities, on models with one logit."""
    if network.classes > 1:
        return ()
    return (
        f"{method} is the same for every input here: the model has one logit, whose softmax is 1; "
        "wrap the model so that it returns a logit per class, such as (0, z).",
    )


def attention_caveat(network: Network, method: str) -> tuple[str, ...]:
    """A caveat for scores that grow with the length of the features, on vision transformers."""
    if not (network.attends and network.has_attention):
        return ()
    return (
        f"{method} was measured below chance on ViT-B/16, whose features are signed and "
        "normalized; on other transformers it was above: hold it against outliers of your own.",
    )


def inner_layers(network: Network) -> tuple[tuple[Layer, ...], bool]:
    """GAIA-A's inner layers, and whether its last map is the pooled output rather than the map.

    Networks that normalize inside their last stage (ResNet): the last two stages, and the map.
    Networks with a final normalization after it: DenseNet, the last stage and the final
    normalization, and the map; GroupNorm networks (BiT), the last stage, pooled; others (WRN), all
    layers, pooled. Transformers: the last two stages, pooled. Networks without stages: the later
    half of the layers, and the map.
    """
    layers = hook_layers(network, None, "gaia-a")
    names = {layer.name for layer in layers}
    # A stage may hold only layers that run twice, which cannot be read.
    stages = [held for stage in network.stages if (held := names.intersection(stage.layers))]
    if len(stages) < 2:
        return layers[len(layers) // 2 :], False
    last = max(i for i, layer in enumerate(layers) if layer.name in stages[-1])
    final = layers[last + 1 :]
    ending = tuple(layer for layer in layers if layer.name in stages[-1])
    two = tuple(layer for layer in layers if layer.name in stages[-1] | stages[-2])
    if network.attends:
        return two, True
    if not final:
        return two, False
    if network.concatenates:
        return ending + final, False
    if all(layer.kind.startswith("Group") for layer in ending):
        return ending, True
    return layers, True


def last_norms(network: Network, method: str) -> tuple[Layer, ...]:
    """The last three normalization layers, or layers that feed a ReLU where there are none.

    Of transformers, the last one inside each of the last three blocks, or stages of blocks: what
    comes after them normalizes what the features are taken from.

    Raises:
        TapError: the network has neither, or no gradients.
    """
    layers = hook_layers(network, None, method)
    if not network.attends:
        return layers[-3:]
    names = {layer.name: layer for layer in layers}
    stages = [[names[n] for n in stage.layers if n in names] for stage in network.stages]
    return tuple(inside[-1] for inside in stages if inside)[-3:] or layers[-3:]


def early_layers(network: Network) -> tuple[Site, ...]:
    """Where GROOD may mix activations, best first: the outputs of the stages, the first one first.

    Networks without stages: the outputs of the layers in the first half, a quarter of the way
    first.
    """
    names = [k.name for k in network.layers.values() if k.calls == 1 and k.shape and k.connected]
    found: list[str] = []
    for stage in network.stages[:-1]:
        inside = [n for n in names if n.startswith(f"{stage.container}.")]
        found += [n for n in names if n == stage.container] or inside[-1:]
    if not network.stages:
        leaves = [n for n in names if not any(m.startswith(f"{n}.") for m in names)]
        quarter = len(leaves) // 4
        found = leaves[quarter : max(quarter + 1, len(leaves) // 2)]
    return tuple(Site(name) for name in found)


def early_blocks(network: Network) -> tuple[Site, ...]:
    """Where GROOD may mix if no default will do: the first layers that hold others, in order."""
    names = [k.name for k in network.layers.values() if k.calls == 1 and k.shape and k.connected]
    blocks = [n for n in names if n and any(m.startswith(f"{n}.") for m in names)]
    return tuple(Site(name) for name in blocks[: max(1, len(blocks) // 2)][:_BLOCKS])


def recorded_layers(network: Network, names: Sequence[str] | None, method: str) -> tuple[Site, ...]:
    """Where Gram matrices are taken: the layers named, else outputs of blocks of the stages.

    Of each stage the last block's output and those at one and two thirds; of a stage that is no
    sequence of blocks, and of all where blocks have so many channels that their statistics would
    take much memory, the stage's own. Networks without stages: the normalization layers, or the
    layers that feed a ReLU; where there are neither, all layers that hold no others, but the head.

    Raises:
        TapError: a name cannot be used, or there is no layer to read.
    """
    if names is not None:
        return tuple(network.layer(name).output for name in names)
    usable = {
        k.name: k for k in network.layers.values() if k.calls == 1 and k.shape and k.connected
    }
    ends: list[str] = []
    blocks: list[str] = []
    for stage in network.stages:
        inside = [n for n in usable if n.startswith(f"{stage.container}.")]
        end = [stage.container] if stage.container in usable else inside[-1:]
        ends, blocks = ends + end, blocks + (_blocks(stage.container, inside) or end)
    channels = sum(usable[n].shape[usable[n].channels - 1] for n in blocks)
    if ends:
        chosen = blocks if channels * network.classes <= _STATISTICS else ends
        return tuple(Site(name) for name in chosen)
    found = [layer for layer in network.hook_layers if layer.name in usable]
    if not found:
        head = network.head.layer if network.head_found else ""
        leaves = (n for n in usable if not any(m.startswith(f"{n}.") for m in usable))
        found = [usable[n] for n in leaves if n not in ("", head)]
    if not found:
        raise TapError(
            f"{method} reads layers inside the model, and none that runs once gives a tensor. Name "
            f"some with layers=[…], or leave {method} out."
        )
    return tuple(layer.output for layer in found)


def _blocks(container: str, inside: Sequence[str]) -> list[str]:
    """Three blocks of a stage, evenly spaced up to its last; none if it is no sequence of blocks.

    Args:
        container: of the stage.
        inside: names of the layers that it holds, in the order they ran.
    """
    children = [container]
    while len(children) == 1:
        depth = len(children[0].split(".")) + 1
        below = [n for n in inside if n.startswith(f"{children[0]}.")]
        children = list(dict.fromkeys(".".join(n.split(".")[:depth]) for n in below))
    if not children or not all(
        c in inside and any(n.startswith(f"{c}.") for n in inside) for c in children
    ):
        return []
    count = len(children)
    return list(dict.fromkeys(children[max(0, third * count // 3 - 1)] for third in (1, 2, 3)))
