"""Representations of a network that follow one another: between blocks, stages or layers."""

from collections.abc import Sequence
from itertools import pairwise

from gradood.errors import TapError
from gradood.taps import Layer, Network, Site

__all__ = ["block_outputs", "repeated_blocks", "representations"]


def representations(
    network: Network, names: Sequence[str] | None, method: str
) -> tuple[tuple[Site, ...], Site | None]:
    """Where representations that follow one another are seen, and where they are last seen.

    Of a transformer, the outputs of its blocks; of another network, those of its stages, or of its
    normalization layers, or of the layers that feed a ReLU, where it has no stages.

    Args:
        network: the observed model.
        names: layers whose outputs are meant, in order, or None.
        method: name of the detector.

    Returns:
        The sites, and that of the last block of a transformer: where the logits tell which
        positions of a sequence they are made of; None for other networks.

    Raises:
        TapError: a name cannot be used, or there are no two such layers.
    """
    blocks = block_outputs(network, repeated_blocks(network)) if network.attends else ()
    if names is not None:
        sites = tuple(network.layer(name).output for name in names)
        return sites, blocks[-1] if blocks else _last_sequence(network, sites)
    if len(blocks) > 1:
        return blocks, blocks[-1]
    stages = tuple(site for stage in network.stages if (site := _end(network, stage.container)))
    if len(stages) > 1:
        return stages, _last_sequence(network, stages)
    layers = tuple(k.output for k in network.hook_layers if k.calls == 1 and k.shape)
    if len(layers) > 1:
        return layers, _last_sequence(network, layers)
    raise TapError(
        f"{method} reads representations that follow one another, and this model has no two "
        f"blocks, stages or normalization layers. Name some with layers=[…], or leave {method} out."
    )


def repeated_blocks(network: Network) -> tuple[Layer, ...]:
    """The longest run of modules of one class inside one module, each of which holds others."""
    names = list(network.layers)
    groups: dict[tuple[str, str], list[Layer]] = {}
    for name, layer in network.layers.items():
        holds = any(other.startswith(f"{name}.") for other in names)
        if name and layer.calls == 1 and holds:
            groups.setdefault((name.rpartition(".")[0], layer.kind), []).append(layer)
    runs = [group for group in groups.values() if len(group) > 1]
    depth = -min((group[0].name.count(".") for group in runs), default=0)
    return tuple(max(runs, key=lambda g: (len(g), depth - g[0].name.count(".")), default=()))


def block_outputs(network: Network, blocks: Sequence[Layer]) -> tuple[Site, ...]:
    """Where the results of blocks that follow one another are seen.

    What is no tensor, such as the tuple of a block with a cache, is seen where the next layer takes
    it.
    """
    sites = [
        block.output if block.shape else Site(after.name, "input")
        for block, after in pairwise(blocks)
    ]
    if not blocks:
        return ()
    last = blocks[-1]
    if last.shape:
        return (*sites, last.output)
    order = list(network.layers)
    later = order[order.index(last.name) + 1 :]
    leaves = (n for n in later if n and not any(other.startswith(f"{n}.") for other in order))
    after = next(leaves, None)
    return tuple(sites) if after is None else (*sites, Site(after, "input"))


def _end(network: Network, container: str) -> Site | None:
    """Where the output of a stage is seen: its own, or that of its last layer with one."""
    usable = [k for k in network.layers.values() if k.calls == 1 and k.shape and k.connected]
    own = [k for k in usable if k.name == container]
    inside = [k for k in usable if k.name.startswith(f"{container}.")]
    found = own or inside[-1:]
    return Site(found[0].name) if found else None


def _last_sequence(network: Network, sites: Sequence[Site]) -> Site | None:
    """The last site, if it holds a sequence of tokens (batch, positions, width)."""
    layer = network.layers.get(sites[-1].layer)
    tokens = network.attends and layer is not None and len(layer.shape) == 2
    return sites[-1] if tokens else None
