"""Stages: the blocks of layers that a network's author grouped, found from names and call order."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

__all__ = ["Stage", "find_stages"]


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
