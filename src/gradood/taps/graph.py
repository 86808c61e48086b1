"""What follows what in a network, read from the autograd graph of one observed forward.

Names and classes of modules do not say which ReLU follows a normalization layer: activations are
functional, shared between blocks, in place, or applied to a residual sum. The graph does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from torch import Tensor

from gradood.taps.site import Site

__all__ = [
    "Consumers",
    "Stage",
    "consumers_of",
    "find_stages",
    "goes_to_max_pool",
    "nodes_behind",
    "nodes_between",
    "positive_part",
]

Consumers = Mapping[Any, list[Any]]
"""Graph node → the nodes that take its output."""

_TRANSPARENT = ("AliasBackward", "CloneBackward", "ViewBackward", "UnsafeViewBackward")
_POSITIVE_PART = ("ReluBackward", "ThresholdBackward")


def nodes_behind(result: Tensor) -> Iterator[Any]:
    """Every node of the graph that `result` was computed by, each once, its own first."""
    seen: set[Any] = set()
    stack: list[Any] = [result.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        stack += [parent for parent, _ in node.next_functions]


def consumers_of(result: Tensor) -> Consumers:
    """Every node of the graph behind `result`, with the nodes that take its output."""
    consumers: dict[Any, list[Any]] = {}
    for node in nodes_behind(result):
        for parent, _ in node.next_functions:
            if parent is not None:
                consumers.setdefault(parent, []).append(node)
    return consumers


def _only_consumer(node: Any, consumers: Consumers) -> Any | None:
    """The one node that takes this output, looking through views and clones; None if several."""
    while True:
        takers = consumers.get(node, [])
        if len(takers) != 1:
            return None
        node = takers[0]
        if not node.name().startswith(_TRANSPARENT):
            return node


def positive_part(
    node: Any, consumers: Consumers, ports: Mapping[Any, Site], own: Site
) -> tuple[Site, Any] | None:
    """Where the sign that decides a layer's gradient can be read in the forward pass.

    Args:
        node: the graph node of the layer's output.
        consumers: of the observed forward (`consumers_of`).
        ports: graph node → a site at which its output is visible.
        own: the site of the layer's output.

    Returns:
        A site and the graph node of the ReLU: `own` if the layer's output goes to a ReLU alone;
        the visible result of the ReLU if it goes, alone, into a sum that goes to a ReLU. Otherwise
        None.
    """
    taker = _only_consumer(node, consumers)
    if taker is None:
        return None
    if taker.name().startswith(_POSITIVE_PART):
        return own, taker
    if taker.name().startswith("AddBackward"):
        after = _only_consumer(taker, consumers)
        if after is not None and after.name().startswith(_POSITIVE_PART) and after in ports:
            return ports[after], after
    return None


def goes_to_max_pool(node: Any, consumers: Consumers) -> bool:
    """Whether max pooling alone takes a node's output, so that most positions get no gradient."""
    taker = _only_consumer(node, consumers)
    return taker is not None and taker.name().startswith("MaxPool2D")


def nodes_between(start: Any, consumers: Consumers, stop: Any) -> list[str]:
    """Names of the operations that depend on `start`, up to and without `stop`."""
    names: list[str] = []
    seen: set[Any] = set()
    stack = list(consumers.get(start, []))
    while stack:
        node = stack.pop()
        if node in seen or node is stop:
            continue
        seen.add(node)
        names.append(node.name())
        stack.extend(consumers.get(node, []))
    return names


# -- stages -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """One group of layers.

    Attributes:
        container: the module that holds them.
        layers: names, in the order they ran.
    """

    container: str
    layers: tuple[str, ...]


def find_stages(layers: Sequence[str]) -> tuple[Stage, ...]:
    """Group layers into stages.

    The backbone is the innermost module that holds more than nine tenths of the layers; a stage is
    a child of it that holds at least two.

    Args:
        layers: names of layers, in the order they ran.

    Returns:
        The stages in order; empty if there are fewer than two.
    """
    backbone = _backbone(layers)
    depth = len(backbone.split(".")) if backbone else 0
    inside = [n for n in layers if not backbone or n.startswith(f"{backbone}.")]
    stages: list[Stage] = []
    for container, group in groupby(inside, key=lambda n: ".".join(n.split(".")[: depth + 1])):
        members = tuple(group)
        if len(members) > 1 and members[0] != container:
            stages.append(Stage(container, members))
    return tuple(stages) if len(stages) > 1 else ()


def _backbone(layers: Sequence[str]) -> str:
    prefix = ""
    while layers:
        depth = len(prefix.split(".")) if prefix else 0
        inside = [n for n in layers if not prefix or n.startswith(f"{prefix}.")]
        children = [".".join(n.split(".")[: depth + 1]) for n in inside]
        largest = max(set(children), key=lambda c: (children.count(c), c))
        if largest in layers or children.count(largest) <= 0.9 * len(layers):
            break
        prefix = largest
    return prefix
