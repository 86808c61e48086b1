"""Representations of a network that follow one another: between blocks, stages or layers."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor

from gradood.errors import TapError
from gradood.evidence import MAP, Activation, gather
from gradood.taps import Layer, Network, Site

__all__ = ["block_outputs", "repeated_blocks", "representations"]


def representations(
    network: Network, names: Sequence[str] | None, probe: Tensor, method: str
) -> tuple[tuple[Site, ...], Site | None]:
    """Where representations that follow one another are seen, and where the last sequence is.

    Of a transformer, the outputs of its blocks; of another network, those of its stages, or of its
    normalization layers, or of the layers that feed a ReLU, where it has no stages.

    Args:
        network: the observed model.
        names: layers whose outputs are meant, in order, or None.
        probe: (batch, …) inputs.
        method: name of the detector.

    Returns:
        The sites; and where a transformer's last block gives a sequence (batch, positions, width),
        of which the logits are made: None where there is none.

    Raises:
        TapError: a name cannot be used, or there are no two such layers.
    """
    blocks = repeated_blocks(network) if network.attends else ()
    outputs = block_outputs(network, blocks, probe)
    last = outputs[-1] if outputs and _is_sequence(network, outputs[-1], probe) else None
    if names is not None:
        sites = tuple(network.layer(name).output for name in names)
    elif len(outputs) > 1:
        sites = outputs
    else:
        sites = tuple(site for stage in network.stages if (site := _end(network, stage.container)))
        layers = (k.output for k in network.hook_layers if k.calls == 1 and k.shape)
        sites = sites if len(sites) > 1 else tuple(layers)
    if len(sites) < 2:
        raise TapError(
            f"{method} reads representations that follow one another, and this model has no two "
            f"blocks, stages or normalization layers. Name some with layers=[…], or leave {method} "
            "out."
        )
    if last is None and network.attends and _is_sequence(network, sites[-1], probe):
        last = sites[-1]
    return sites, last


def repeated_blocks(network: Network) -> tuple[Layer, ...]:
    """The longest run of modules of one class inside one module, each of which holds others.

    Of runs that attend, where there are some: the convolutions before them may be as many.
    """
    names = list(network.layers)
    groups: dict[tuple[str, str], list[Layer]] = {}
    for name, layer in network.layers.items():
        holds = any(other.startswith(f"{name}.") for other in names)
        if name and layer.calls == 1 and holds:
            groups.setdefault((name.rpartition(".")[0], layer.kind), []).append(layer)
    runs = [group for group in groups.values() if len(group) > 1]
    attending = {name for name, layer in network.layers.items() if layer.is_attention}
    runs = [r for r in runs if any(n.startswith(f"{r[-1].name}.") for n in attending)] or runs
    depth = -min((group[0].name.count(".") for group in runs), default=0)
    return tuple(max(runs, key=lambda g: (len(g), depth - g[0].name.count(".")), default=()))


def block_outputs(network: Network, blocks: Sequence[Layer], probe: Tensor) -> tuple[Site, ...]:
    """Where the results of blocks that follow one another are seen.

    What is no tensor, such as the tuple of a block with a cache, is seen where the next layer takes
    it.

    Args:
        network: the observed model.
        blocks: in the order they run.
        probe: (batch, …) inputs.
    """
    if not blocks:
        return ()
    sites = [
        block.output if block.shape else Site(after.name, "input")
        for block, after in pairwise(blocks)
    ]
    last = blocks[-1]
    if last.shape:
        return (*sites, last.output)
    order = list(network.layers)
    later = order[order.index(last.name) + 1 :]
    takers = (Site(n, "input") for n in later if n and not last.name.startswith(f"{n}."))
    inside = [n for n in order if n.rpartition(".")[0] == last.name and network.layers[n].shape]
    found = next((site for site in takers if _is_sequence(network, site, probe)), None)
    if found is None and inside:
        found = network.layers[inside[-1]].output
    return tuple(sites) if found is None else (*sites, found)


def _is_sequence(network: Network, site: Site, probe: Tensor) -> bool:
    """Whether a site holds a sequence (batch, positions, width)."""
    layer = network.layers[site.layer]
    if site.port == "output":
        return len(layer.shape) == 2
    try:
        seen = gather(network, probe[:1], (Activation(site, MAP),)).tensors[0]
    except TapError:  # It takes no tensor.
        return False
    return seen.ndim == 3


def _end(network: Network, container: str) -> Site | None:
    """Where the output of a stage is seen: its own, or that of its last layer with one."""
    usable = [k for k in network.layers.values() if k.calls == 1 and k.shape and k.connected]
    own = [k for k in usable if k.name == container]
    inside = [k for k in usable if k.name.startswith(f"{container}.")]
    found = own or inside[-1:]
    return Site(found[0].name) if found else None
